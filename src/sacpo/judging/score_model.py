"""Score models of the Safe RLHF project (its reward and cost models), loaded as sequence classifiers.

Their checkpoints are those of a transformer with a head named `score_head`, and of a class that transformers does not
know (`LlamaModelForScore`, `LlamaForScore`, ...). The score is the head's output behind the last token, as a
classifier's logit is, so the head is read under the classifier's name for it.

Source: Dai et al., Safe RLHF, arXiv 2310.12773; hub ids such as PKU-Alignment/beaver-7b-v1.0-cost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PretrainedConfig

from sacpo.errors import ModelError
from sacpo.models.checks import check_place

ENDING = "ForScore"
HEAD, BIAS = {r"^score_head\.": "score."}, "score.bias"


def is_score_model(config: PretrainedConfig) -> bool:
    """Tell whether a configuration is that of a Safe RLHF score model."""
    return any(name.endswith(ENDING) for name in config.architectures or [])


class ScoreModels:
    """Loads a score model as `AutoModelForSequenceClassification` loads a classifier; any other model it loads too."""

    @staticmethod
    def from_pretrained(path: str | Path, **options: object) -> Any:
        """Return the model and its loading info.

        Raises:
            ModelError: The checkpoint has no head, several scores, or normalises them.
        """
        check_place(path)
        asked = {name: options[name] for name in ("revision", "trust_remote_code") if name in options}
        config = AutoConfig.from_pretrained(path, **asked)
        if not is_score_model(config):
            return AutoModelForSequenceClassification.from_pretrained(path, **options)
        _refuse_others(config, path)
        config.num_labels = 1
        plain: Any = AutoModelForSequenceClassification._model_mapping[type(config)]
        model, info = _with_bias(plain).from_pretrained(path, config=config, key_mapping=HEAD, **options)
        lacking = sorted({*info["missing_keys"]} - {BIAS})  # heads without a bias have a zero one
        if lacking:
            raise ModelError(
                "the score model's weights lack tensors, which would be random numbers",
                where=path,
                value=lacking,
                do="copy the whole model again",
            )
        return model, info


def _with_bias(plain: Any) -> Any:
    """Return a classifier's class whose head has a bias."""

    class WithBias(plain):
        def __init__(self, config: PretrainedConfig) -> None:
            super().__init__(config)
            self.score: nn.Linear = nn.Linear(config.get_text_config().hidden_size, 1, bias=True)
            self.post_init()

    WithBias.__name__ = plain.__name__
    return WithBias


def _refuse_others(config: PretrainedConfig, path: str | Path) -> None:
    if getattr(config, "score_dim", 1) != 1:
        raise ModelError(
            "a judge's model gives one score", where=path, value=f"score_dim {config.score_dim}", allowed=1
        )
    if getattr(config, "do_normalize", False):
        raise ModelError(
            "the score model normalises its scores, which is not done here",
            where=f"{path}, do_normalize",
            value=True,
            do="save it with do_normalize: false; the order of the scores stays the same",
        )
