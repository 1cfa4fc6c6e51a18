"""What would come to light late is looked at before the first stage: keys, endpoints, models, files."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from sacpo import run
from sacpo.errors import DataError, MachineError, ModelError, RecipeError, RunError, UserError
from sacpo.judging.preflight import preflight
from sacpo.recipe import Recipe, parse_recipe
from sacpo.recipe.notices import unchecked
from sacpo.recipe.schema import JudgeSpec
from sacpo.recipe.schema.evaluate import CertifySpec, LabelsSpec

KEY = "sk-the-key-of-this-test-0123456789"


class Server(ThreadingHTTPServer):
    """Answers (method, last part of the path) with a status and a body, and counts what it was asked."""

    def __init__(self, replies: dict[tuple[str, str], tuple[int, Any]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies, self.asked, self.bodies = replies, [], []  # type: ignore[var-annotated]
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> Server:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(("GET", self.path, self.headers.get("Authorization")))
        self._reply(*self.server.replies.get(("GET", "models"), (404, {})))

    def do_POST(self) -> None:
        self.server.asked.append(("POST", self.path, self.headers.get("Authorization")))
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._reply(*self.server.replies.get(("POST", "completions"), (404, {})))

    def _reply(self, status: int, body: Any) -> None:
        raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args: object) -> None: ...


def listing(*names: str) -> tuple[int, Any]:
    return 200, {"object": "list", "data": [{"id": name} for name in names]}


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for name in ("pairs", "tuning"):
        Path(f"{name}.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield


def recipe(judge: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    base = {"config": {"model_type": "llama"}, "tokenizer": {"kind": "bpe", "datasets": ["pairs"]}, "device": "cpu"}
    return parse_recipe(
        {
            "name": "r",
            "base": base,
            "data": {"pairs": {"format": "preference", "path": "pairs.jsonl"}},
            "prompts": {"tuning": {"role": "tuning", "format": "prompts", "path": "tuning.jsonl"}},
            "evaluate": {"judges": {} if judge is None else {"helpfulness": judge}},
            **changes,
        }
    )


def llm(url: str, **settings: Any) -> dict[str, Any]:
    return {"kind": "llm", "panel": {"model": "wise", "base_url": url, "api_key_env": "", **settings}}


def test_nothing_is_paid_where_the_endpoint_lists_its_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", KEY)
    with Server({("GET", "models"): listing("other", "wise")}) as server:
        panel = [
            {"model": "wise", "name": name, "base_url": server.url, "api_key_env": "MY_API_KEY", "seed": seed}
            for seed, name in enumerate("ab")
        ]
        assert preflight(recipe({"kind": "llm", "panel": panel})) == []
        assert server.asked == [("GET", "/v1/models", f"Bearer {KEY}")]


@pytest.mark.parametrize("models", [(404, {}), (405, {}), (501, "no"), listing("other")], ids=lambda m: str(m[0]))
def test_one_token_is_asked_where_the_list_does_not_say(models: tuple[int, Any]) -> None:
    with Server({("GET", "models"): models, ("POST", "completions"): (200, {"choices": []})}) as server:
        assert preflight(recipe(llm(server.url, extra={"top_k": 1}))) == []
        (body,) = server.bodies
        assert (body["model"], body["max_tokens"], body["top_k"]) == ("wise", 1, 1)


def test_an_endpoint_that_complains_of_the_question_is_alive() -> None:
    with Server({("POST", "completions"): (400, {"error": "use max_completion_tokens"})}) as server:
        assert preflight(recipe(llm(server.url))) == []


@pytest.mark.parametrize("models", [(200, {"data": []}), (200, "<html>"), (503, {}), (429, {})])
def test_what_could_not_be_checked_is_said(models: tuple[int, Any]) -> None:
    with Server({("GET", "models"): models}) as server:
        (text,) = preflight(recipe(llm(server.url)))
        assert "judge wise: whether" in text
        assert "has the model wise" in text
        assert server.bodies == []


def test_a_model_that_the_endpoint_does_not_have() -> None:
    with (
        Server({("GET", "models"): listing("other"), ("POST", "completions"): (404, {"error": "no wise"})}) as server,
        pytest.raises(RunError, match="knows no such model") as caught,
    ):
        preflight(recipe(llm(server.url)))
    assert caught.value.allowed == ["other"]
    assert "no wise" in str(caught.value.do)


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_is_not_shown(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", KEY)
    with (
        Server({("GET", "models"): (status, {"error": f"{KEY} is wrong"})}) as server,
        pytest.raises(RunError, match="refuses the key") as caught,
    ):
        preflight(recipe(llm(server.url, api_key_env="MY_API_KEY")))
    assert KEY not in str(caught.value)
    assert "MY_API_KEY" in str(caught.value)


def test_a_key_that_is_missing() -> None:
    with pytest.raises(RunError, match="key is missing") as caught:
        preflight(recipe(llm("http://127.0.0.1:1/v1", api_key_env="NO_SUCH_API_KEY")))
    assert caught.value.value == "NO_SUCH_API_KEY"


def test_an_endpoint_that_is_dead() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(RunError, match="no connection to the endpoint") as caught:
        preflight(recipe(llm(f"http://127.0.0.1:{port}/v1")))
    assert str(port) in str(caught.value.where)


def test_a_port_that_no_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match="port that no machine has"):
        recipe(llm("http://127.0.0.1:99999/v1"))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:99999/v1")
    with pytest.raises(
        RunError, match="OPENAI_BASE_URL is no plain address of an endpoint: it has a port that no machine has"
    ):
        preflight(recipe(llm("")))


def write_model(folder: Path, kind: str, labels: int = 1) -> Path:
    config = LlamaConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        vocab_size=16,
        num_labels=labels,
        architectures=[kind],
    )
    LlamaForSequenceClassification(config).save_pretrained(folder)
    saved = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**saved, "architectures": [kind]}))
    return folder


@pytest.mark.parametrize(
    ("kind", "labels", "words"),
    [
        ("LlamaForCausalLM", 1, "no sequence classifier"),
        ("LlamaForSequenceClassification", 3, "one logit"),
        ("LlamaForSequenceClassification", 1, ""),
        ("LlamaForScore", 1, ""),
    ],
)
def test_a_reward_model_is_a_classifier_with_one_logit(kind: str, labels: int, words: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    judge = {"kind": "reward-model", "model": str(write_model(tmp_path / "m", kind, labels))}
    if not words:
        assert preflight(recipe(judge)) == []
        return
    with pytest.raises(ModelError, match=words) as caught:
        preflight(recipe(judge))
    assert caught.value.where == "evaluate.judges.helpfulness.model"


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"evaluate": {"judges": {"h": {"kind": "reward-model", "model": "./nowhere"}}}}, ModelError, "no such folder"),
        ({"base": {"model": "./nowhere", "device": "cpu"}}, ModelError, "no such folder"),
        ({"base": {"model": "pairs.jsonl", "device": "cpu"}}, ModelError, "not a file"),
        ({"data": {"pairs": {"format": "preference", "path": "absent.jsonl"}}}, DataError, "no such file"),
        (
            {"prompts": {"t": {"role": "tuning", "format": "prompts", "path": "absent.jsonl"}}},
            DataError,
            "no such file",
        ),
    ],
)
def test_places_are_looked_at(changes: dict[str, Any], error: type[UserError], words: str) -> None:
    with pytest.raises(error, match=words):
        preflight(recipe(**changes))


def test_a_reward_model_of_true_labels_is_looked_at_before_and_not_at_the_certificate() -> None:
    given = recipe()
    judge = JudgeSpec(kind="reward-model", model="./nowhere", unsafe_below=0.0)
    labels = LabelsSpec(n=9, judges={"helpfulness": judge})
    labelled = given.model_copy(update={"certify": CertifySpec(prompts="t", labels=labels)})
    with pytest.raises(ModelError, match="no such folder"):
        preflight(labelled)
    assert preflight(labelled, judges=()) == [], "not where all is judged"
    assert any("./nowhere" in text for text in unchecked(labelled))


def test_a_device_and_an_engine_that_are_not_here() -> None:
    judged = recipe()
    base = judged.base.model_copy(update={"device": "cuda:77"})
    with pytest.raises(MachineError, match="no such device"):
        preflight(judged.model_copy(update={"base": base}))


def test_judges_whose_verdicts_are_there_are_not_asked() -> None:
    dead = recipe(llm("http://127.0.0.1:1/v1"))
    assert preflight(dead, judges=()) == []
    with pytest.raises(RunError):
        preflight(dead, judges=("helpfulness",))


@pytest.mark.skipif(os.environ.get("HF_HUB_OFFLINE") != "1", reason="the hub may be asked")
def test_where_the_hub_cannot_be_asked() -> None:
    data = {"pairs": {"format": "preference", "path": "owner/pairs"}}
    assert preflight(recipe(data=data)) == ["data.pairs: whether the hub has owner/pairs (OfflineModeIsEnabled)"]
    with pytest.raises(ModelError, match="the hub did not answer") as caught:
        preflight(recipe(base={"model": "some-owner/some-model", "device": "cpu", "revision": "v2"}))
    assert caught.value.where == "base.model, some-owner/some-model at v2"


def test_a_run_stops_before_its_first_stage_unless_told_otherwise(tmp_path: Path) -> None:
    dead = recipe(llm("http://127.0.0.1:1/v1"))
    with pytest.raises(RunError, match="no connection"):
        run(dead, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_look_at_the_recipe_alone_says_what_it_did_not_check() -> None:
    judged = recipe(llm("http://127.0.0.1:1/v1"), base={"model": "owner/base"})
    Path("tuning.jsonl").unlink()
    assert unchecked(judged) == [
        "data, which is not here as files: tuning.jsonl",
        "models: owner/base",
        "keys and endpoints: wise at http://127.0.0.1:1/v1",
    ]
