"""The hub is asked once: who does not answer is asked nothing more, and what it lacks is said at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from sacpo.errors import ModelError
from sacpo.judging.preflight import preflight
from sacpo.models.loading import load_tokenizer
from sacpo.recipe import load_recipe
from sacpo.recipe.load import DEMO
from sacpo.system import on_hub

SILENCE = HfHubHTTPError.__bases__[0]
"""What the HTTP library raises without a network; it is no OSError."""


class Hub:
    """A hub that fails in one way, and counts how often it is asked."""

    def __init__(self, failure: Exception) -> None:
        self.failure, self.asked = failure, 0

    def __call__(self) -> Hub:
        return self

    def repo_info(self, *args: object, **options: object) -> None:
        self.asked += 1
        raise self.failure


@pytest.fixture(autouse=True)
def may_ask(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without the tests' own offline mode, as a user's process begins; nothing is sent, for `Hub` stands in."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    on_hub.asked.cache_clear()
    yield
    on_hub.asked.cache_clear()


def hub(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> Hub:
    made = Hub(failure)
    monkeypatch.setattr(on_hub, "HfApi", made)
    return made


def test_who_does_not_answer_is_asked_nothing_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert not issubclass(SILENCE, OSError)
    silent = hub(monkeypatch, SILENCE("[Errno -2] Name or service not known"))
    with caplog.at_level(logging.WARNING), pytest.raises(ModelError, match="the hub did not answer with a tokenizer"):
        load_tokenizer("some-owner/some-model")
    assert constants.HF_HUB_OFFLINE and silent.asked == 1
    assert [record.getMessage() for record in caplog.records if record.name == "sacpo"] == [
        f"the hub does not answer ({SILENCE.__name__}): only its cache is looked into"
    ]
    with pytest.raises(ModelError):
        load_tokenizer("some-owner/another-model")
    assert silent.asked == 1


def test_what_the_hub_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, HFValidationError("no such name"))
    with pytest.raises(ModelError, match="the hub has no such model") as caught:
        load_tokenizer("some-owner/some-modle")
    assert caught.value.where == "some-owner/some-modle" and not constants.HF_HUB_OFFLINE


def test_offline_mode_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    never = hub(monkeypatch, OfflineModeIsEnabled("offline"))
    with pytest.raises(ModelError):
        load_tokenizer("some-owner/some-model")
    assert never.asked == 0


def test_a_run_without_a_network_stops_before_its_first_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, SILENCE("[Errno -2] Name or service not known"))
    changes = ["base.config=null", "base.tokenizer=null", "base.model=some-owner/some-model"]
    with pytest.raises(ModelError, match="the hub did not answer with a model") as caught:
        preflight(load_recipe(DEMO, changes))
    assert caught.value.where == "base.model, some-owner/some-model" and "HF_HUB_OFFLINE=1" in str(caught.value)
