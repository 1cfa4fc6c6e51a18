"""End to end: a server that runs a transformers model and speaks the chat-completions protocol, judging over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from endpoint import judge, questions
from test_recipe_judges import recipe_at, write_pairs
from tiny_models import tiny
from transformers import PreTrainedModel

import sacpo
from sacpo.data.records import Answer, Outcome, Verdict, read_jsonl
from sacpo.judging import Asking, Store, judge_llm, load_rubric
from sacpo.judging.llm.render import messages
from sacpo.judging.question import Question
from sacpo.stats.verdicts import judges, win_rows

CONTEXT = 200
RUBRIC = load_rubric("helpfulness-verdict")


def tokens(chat: list[dict[str, str]]) -> list[int]:
    """The model reads bytes: the last ones of the chat, without the instructions, which are always the same."""
    text = chat[-1]["content"].split("BEGIN ANSWER A")[-1].rsplit("<<<END", 1)[0]
    return list(text.encode())[-CONTEXT:]


@torch.no_grad()
def chosen(model: PreTrainedModel, chat: list[dict[str, str]], allowed: list[str]) -> str:
    """The allowed word to which the model gives the most probability a byte: decoding guided by a schema."""
    prompt = tokens(chat)
    scores = []
    for word in allowed:
        ids = torch.tensor([prompt + list(word.encode())])
        logps = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        scores.append(logps.gather(1, ids[0, len(prompt) :, None]).mean().item())
    return allowed[scores.index(max(scores))]


@torch.no_grad()
def continued(model: PreTrainedModel, chat: list[dict[str, str]], n: int) -> str:
    prompt = torch.tensor([tokens(chat)])
    made = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=n, do_sample=False, pad_token_id=0
    )
    return bytes(made[0, prompt.shape[1] :].tolist()).decode("utf-8", "replace")


@contextmanager
def served(model: PreTrainedModel) -> Iterator[str]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/v1/chat/completions"
            with lock:
                if "response_format" in body:
                    fields = body["response_format"]["json_schema"]["schema"]["properties"]
                    field = "verdict" if "verdict" in fields else "label"
                    said = {field: chosen(model, body["messages"], fields[field]["enum"])}
                    said |= {"categories": []} if "categories" in fields else {}
                    content, reason = json.dumps({"reason": "", **said}), "stop"
                else:
                    content, reason = continued(model, body["messages"], 8), "length"
            usage = {"prompt_tokens": len(tokens(body["messages"])), "completion_tokens": len(content.encode())}
            message = {"role": "assistant", "content": content}
            choice = {"index": 0, "message": message, "finish_reason": reason}
            raw = json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return tiny("llama", vocab_size=256, max_position_embeddings=512, num_hidden_layers=1)


def test_a_real_model_judges_by_schema_and_every_verdict_is_its_own(model: PreTrainedModel, tmp_path: Path) -> None:
    asked = questions(10)
    with served(model) as url, Store(tmp_path / "v") as store:
        panel = [judge(url, "helpfulness-verdict", structured=True, timeout=30)]
        run = judge_llm(panel, asked, store, asking=Asking(concurrency=4))
        assert (run.missing, run.unparsed, run.usage["j"].requests) == ([], {}, 20)
        assert judge_llm(panel, asked, store).verdicts == run.verdicts
    said = {"A": Outcome.WIN, "B": Outcome.LOSS, "tie": Outcome.TIE}
    swapped = {"A": Outcome.LOSS, "B": Outcome.WIN, "tie": Outcome.TIE}
    expected = [
        (said if order == "ab" else swapped)[
            chosen(model, messages(RUBRIC, question, order, structured=True), ["A", "B", "tie"])
        ]
        for question in asked
        for order in ("ab", "ba")
    ]
    assert [verdict.outcome for verdict in run.verdicts] == expected
    (row,) = win_rows(run.verdicts)
    assert (row.win_rate.n, row.win_rate.unparsed) == (10, 0)
    (reliability,) = judges(run.verdicts)
    flips = [first is not second for first, second in zip(expected[::2], expected[1::2], strict=True)]
    assert reliability.flip_rate.value == sum(flips) / 10


def test_a_real_model_that_writes_no_verdict_is_unparsed_everywhere(model: PreTrainedModel, tmp_path: Path) -> None:
    with served(model) as url, Store(tmp_path / "v") as store:
        run = judge_llm(
            [judge(url, "helpfulness-verdict", timeout=30, rereads=1)],
            questions(3),
            store,
            asking=Asking(concurrency=2),
        )
        assert (run.missing, run.unparsed, run.usage["j"].requests) == ([], {"truncated": 6}, 12)
    (row,) = win_rows(run.verdicts)
    assert (row.win_rate.value, row.win_rate.unparsed, row.worst, row.best) == (None, 3, 0, 1)


def test_a_recipe_is_judged_by_a_real_model_to_its_report(model: PreTrainedModel, tmp_path: Path) -> None:
    """Every verdict on the pages is the model's own word, in both orders; labels feed the unsafe rate."""
    with served(model) as url:
        recipe = recipe_at(url, write_pairs(tmp_path / "pairs.jsonl"), structured=True, timeout=60)
        judges = dict(recipe.evaluate.judges)
        judges["helpfulness"] = judges["helpfulness"].model_copy(update={"rubric": "helpfulness-verdict", "repeats": 1})
        evaluate = recipe.evaluate.model_copy(update={"judges": judges})
        run = sacpo.run(recipe.model_copy(update={"evaluate": evaluate}), runs=tmp_path / "runs")
    stages = tmp_path / "runs" / "judged" / "stages"
    told = read_jsonl(stages / "judge" / "H" / "report" / "verdicts.jsonl", Verdict)
    own, other = (
        {a.prompt.id: a for a in read_jsonl(stages / "generate" / name / "report" / "answers.jsonl", Answer)}
        for name in ("H", "sft")
    )
    for verdict in (v for v in told if v.criterion == "helpfulness"):
        question = Question(own[verdict.prompt_id].prompt, own[verdict.prompt_id], other[verdict.prompt_id])
        word = chosen(model, messages(RUBRIC, question, verdict.order, structured=True), ["A", "B", "tie"])
        mine = "A" if verdict.order == "ab" else "B"
        assert verdict.outcome == ("tie" if word == "tie" else "win" if word == mine else "loss")
    assert len([v for v in told if v.criterion == "helpfulness"]) == 2 * 2 * 6
    measures = run.results["measures"]["H"]["report"]
    assert measures["metrics"]["unsafe_rate"]["unparsed"] == 0
    assert measures["outcomes"]["helpfulness"]["unparsed"] == 0
    assert '<h2 id="judges">' in (run.report / "report.html").read_text()
