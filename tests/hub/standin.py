"""A local stand-in of the hub's endpoint, as far as a push asks it: repositories, large files, commits.

    python standin.py FOLDER [--die-in N]

It prints its port. What arrives lies in FOLDER, so that another one can go on; with `--die-in N` it dies in the middle
of the N-th large file. It knows one token.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "hf_standin_token_0123456789"
MISSING = {"X-Error-Code": "RepoNotFound"}


class Hub(BaseHTTPRequestHandler):
    folder: Path
    die_in: int

    def log_message(self, *_: Any) -> None:
        pass

    def note(self, *words: object) -> None:
        with (self.folder / "requests.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(words) + "\n")

    def say(self, status: int, data: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def allowed(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self.body()
        self.say(401, {"error": "Invalid username or password."})
        return False

    def repository(self, kind: str, name: str) -> Path:
        return self.folder / "repositories" / kind / name

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        if not self.allowed():
            return
        if parts[0] == "api" and parts[1] in ("models", "datasets"):
            place = self.repository(parts[1], "/".join(parts[2:4]))
            if not (place / ".repository").is_file():
                self.say(404, {"error": "Repository not found"}, MISSING)
                return
            self.say(
                200, {"id": "/".join(parts[2:4]), "sha": "0" * 40, **json.loads((place / ".repository").read_text())}
            )
            return
        self.say(404, {"error": self.path})

    def do_POST(self) -> None:
        if not self.allowed():
            return
        parts, body = self.path.partition("?")[0].strip("/").split("/"), self.body()
        self.note("POST", self.path.partition("?")[0])
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            kind = "datasets" if asked.get("type") == "dataset" else "models"
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else f"ada/{asked['name']}"
            place = self.repository(kind, name)
            if place.is_dir():
                self.say(409, {"error": "You already created this model repo", "url": f"http://hub/{name}"})
                return
            place.mkdir(parents=True)
            private = asked.get("visibility") == "private" or bool(asked.get("private"))
            (place / ".repository").write_text(json.dumps({"private": private}))
            self.say(200, {"url": f"http://{self.headers['Host']}/{name}", "name": name})
        elif self.path == "/api/validate-yaml":
            self.say(200, {"errors": [], "warnings": []})
        elif "preupload" in parts:
            files = [
                {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith("safetensors") else "regular",
                 "shouldIgnore": False, "oid": None}
                for file in json.loads(body)["files"]
            ]  # fmt: skip
            self.say(200, {"files": files})
        elif parts[-1] == "batch":
            self.say(200, {"transfer": "basic", "objects": [self.large(one) for one in json.loads(body)["objects"]]})
        elif "commit" in parts:
            self.commit(self.repository(parts[1], "/".join(parts[2:4])), body)
        else:
            self.say(404, {"error": self.path})

    def large(self, asked: dict[str, Any]) -> dict[str, Any]:
        if (self.folder / "large" / asked["oid"]).is_file():
            return asked
        return {**asked, "actions": {"upload": {"href": f"http://{self.headers['Host']}/large/{asked['oid']}"}}}

    def do_PUT(self) -> None:
        oid, size = self.path.rpartition("/")[2], int(self.headers["Content-Length"])
        self.note("PUT", oid)
        begun = sum(1 for line in (self.folder / "requests.jsonl").read_text().splitlines() if '"PUT"' in line)
        if begun == self.die_in:
            self.rfile.read(size // 2)
            until = time.monotonic() + 30
            while len(self.arrived()) < self.die_in - 1 and time.monotonic() < until:  # they are sent side by side
                time.sleep(0.01)
            os._exit(9)
        data = self.rfile.read(size)
        (self.folder / "large").mkdir(exist_ok=True)
        half = self.folder / f"{oid}.half"
        half.write_bytes(data)
        half.rename(self.folder / "large" / oid)
        self.say(200, {})

    def arrived(self) -> list[Path]:
        return [*(self.folder / "large").glob("*")]

    def commit(self, place: Path, body: bytes) -> None:
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                data = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                data = (self.folder / "large" / value["oid"]).read_bytes()
            else:
                continue
            file = place / value["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        name = place.relative_to(self.folder / "repositories").as_posix().removeprefix("models/")
        url = f"http://{self.headers['Host']}/{name}/commit/{'1' * 40}"
        self.say(200, {"success": True, "commitOid": "1" * 40, "commitUrl": url})


if __name__ == "__main__":
    Hub.folder = Path(sys.argv[1])
    Hub.die_in = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    Hub.folder.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    print(server.server_address[1], flush=True)
    server.serve_forever()
