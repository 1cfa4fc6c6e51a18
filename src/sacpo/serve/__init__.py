"""Local pages: a small server for one person on this machine, shared by labelling and talking."""

from sacpo.serve.server import HOSTS, LocalServer, Reply, Route, check_host, ended_politely

__all__ = ["HOSTS", "LocalServer", "Reply", "Route", "check_host", "ended_politely"]
