"""Talking to a model, or to any model of a path: a local page, or a terminal.

Nothing but `talk` needs torch.
"""

from sacpo.chat.of_models import setting_of_models
from sacpo.chat.of_run import is_run, setting_of_run
from sacpo.chat.setting import Setting

__all__ = ["Setting", "is_run", "setting_of_models", "setting_of_run"]
