"""`sacpo judge` by language models: two answer files of any form, panels, estimates, budgets, keys, people."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from endpoint import KEY_VARIABLE, Endpoint, Fault, completion, sign_of

from sacpo import api
from sacpo.cli import main
from sacpo.cli.stats import stats_command
from sacpo.data.records import Verdict, read_jsonl
from sacpo.errors import DataError, RecipeError, RunError
from sacpo.judging import Store
from sacpo.judging.people.items import read_items
from sacpo.stats.estimate import Estimate

N = 12
SECRET = "sk-test-9b1deb4d3b7d"
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """AlpacaEval's form and a JSON-lines form, in different orders; the model's answers are longer."""
    rows = [{"instruction": f"task {i}", "output": f"long answer {i} {'x' * i}", "generator": "new"} for i in range(N)]
    (tmp_path / "new.json").write_text(json.dumps(rows))
    other = [{"prompt": f"task {i}", "completion": f"short {i}"} for i in reversed(range(N))]
    (tmp_path / "old.jsonl").write_text("".join(json.dumps(row) + "\n" for row in other))
    return tmp_path


@pytest.fixture
def command(files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(files)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sacpo", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return (0 if code is None else int(code), *capsys.readouterr())

    return run


def judging(body: dict[str, Any], attempt: int) -> str:
    """One judge finds task i's long answer better where i is even, the other one always names the first."""
    text, sign = body["messages"][1]["content"], sign_of(body)
    if "animal_abuse" in text:
        return f"VERDICT {sign}: {'unsafe; self_harm' if 'task 3' in text else 'safe'}"
    if body["model"] == "first":
        return f"VERDICT {sign}: 9 2"
    short, task = (re.search(form, text) for form in (r"short \d", r"task (\d+)"))
    assert short and task
    long_first, even = text.index("long answer") < short.start(), int(task[1]) % 2 == 0
    return f"VERDICT {sign}: {'8 4' if long_first == even else '4 8'}"


def asked_of(url: str, *more: str) -> tuple[str, ...]:
    files = ("judge", "new.json", "--baseline", "old.jsonl", "--out", "out")
    return (*files, "--base-url", url, "--api-key-env", "", "--rubric", "helpfulness", "--setting", "retries=1", *more)


def test_a_panel_judges_two_files_and_a_judge_that_names_the_first_is_exposed(command: Command, files: Path) -> None:
    with Endpoint(judging) as server:
        code, out, _ = command(*asked_of(server.url, "--llm", "good", "--llm", "first", "--rubric", "safety"))
        assert (code, len(server.bodies)) == (0, 2 * (2 * N + N))
    measures = json.loads((files / "out" / "measures.json").read_text())
    assert [*measures] == ["new"]
    own = measures["new"]["judges"]["helpfulness"]
    assert {name: one["metrics"]["win_rate"]["value"] for name, one in own.items()} == {"first": 0.5, "good": 0.5}
    assert (own["first"]["by_order"]["ab"]["value"], own["good"]["by_order"]["ab"]["value"]) == (1.0, 0.5)
    assert measures["new"]["metrics"]["unsafe_rate"]["value"] == 1 / N
    assert "names the answer shown first whatever it is" in out
    again = stats_command([files / "out"])
    (found,) = again["sets"]
    assert found["reliability"][0]["longer_share"]["n"] == 2 * N  # lengths are known without more options
    chosen = api.select(
        [files / "out"],
        constraints=[{"metric": "unsafe_rate", "at_most": 0.1}],
        objective={"metric": "win_rate", "criterion": "helpfulness"},
    )
    assert chosen["chosen"] == "new"


def test_what_could_not_be_read_is_asked_again_when_told_to(command: Command, files: Path) -> None:
    mended = False

    def judge(body: dict[str, Any], attempt: int) -> str:
        return judging(body, attempt) if mended else "well, both are nice"

    with Endpoint(judge) as server:
        line = asked_of(server.url, "--llm", "good")
        code, _, said = command(*line)
        assert (code, "no verdict of a judge could be read" in said) == (2, True)
        assert f"good on helpfulness: {2 * N} no_verdict" in said and "--ask-again" in said
        mended, asked = True, len(server.bodies)
        code, _, said = command(*line, "--ask-again", "--max-requests", "0")  # loses nothing
        assert (code, "the budget is spent" in said) == (2, True)
        assert command(*line)[0] == 2
        assert len(server.bodies) == asked  # unreadable replies are verdicts, too, and were paid for
        assert json.loads((files / "out" / "judging.json").read_text())["unparsed"] == {"no_verdict": 2 * N}
        assert command(*line, "--ask-again")[0] == 0
    assert json.loads((files / "out" / "judging.json").read_text())["unparsed"] == {}


def test_two_folders_that_differ_on_what_selection_reads_are_refused(files: Path) -> None:
    """Whichever came last would win. Other metrics may differ: criteria can be judged on sets of their own."""
    for name, rate, tokens in (("a", 0.0, 5.0), ("b", 0.9, 5.0), ("c", 0.0, 7.0)):
        estimates = {"unsafe_rate": rate, "mean_tokens": tokens, "win_rate/help": 0.6}
        metrics = {key: Estimate(value, None, None, 10, 10).to_json() for key, value in estimates.items()}
        (files / name).mkdir()
        (files / name / "measures.json").write_text(json.dumps({"new": {"metrics": metrics}}))
    goal = {"metric": "win_rate", "criterion": "help"}
    bound = [{"metric": "unsafe_rate", "at_most": 0.05}]
    with pytest.raises(RecipeError, match="two folders measure 'unsafe_rate' of 'new', and differ"):
        api.select([files / "a", files / "b"], constraints=bound, objective=goal)
    assert api.select([files / "a", files / "c"], constraints=bound, objective=goal)["chosen"] == "new"
    for value in ("0.9", float("nan"), True):
        broken = json.loads((files / "a" / "measures.json").read_text())
        broken["new"]["metrics"]["unsafe_rate"]["value"] = value
        (files / "a" / "measures.json").write_text(json.dumps(broken))
        with pytest.raises(DataError, match="not the measures"):
            api.select([files / "a"], constraints=bound, objective=goal)


def test_an_estimate_asks_nothing_and_writes_nothing(command: Command, files: Path) -> None:
    with Endpoint(judging) as server:
        line = asked_of(server.url, "--llm", "good", "--price", "1000/0", "--repeats", "2", "--estimate")
        code, out, _ = command(*line, "--json")
        assert (code, server.bodies) == (0, [])
        assert not (files / "out").exists()
        (estimate,) = map(json.loads, out.splitlines())
        assert (estimate["requests"], estimate["kept"]) == (4 * N, 0)
        assert estimate["cost"] == pytest.approx(estimate["prompt_tokens"] / 1000)
        command(*asked_of(server.url, "--llm", "good"))
        after = json.loads(command(*line, "--json")[1])
    assert (after["requests"], after["kept"]) == (2 * N, 2 * N)


def test_a_spent_budget_says_what_is_missing_and_the_same_command_goes_on(command: Command, files: Path) -> None:
    with Endpoint(judging) as server:
        line = asked_of(server.url, "--llm", "good", "--max-requests", "10")
        code, _, said = command(*line)
        assert (code, len(server.bodies)) == (2, 10)
        assert f"{2 * N - 10} of {2 * N} verdicts are missing: the budget is spent" in said
        assert not (files / "out" / "measures.json").exists()
        assert [command(*line)[0], command(*line)[0], len(server.bodies)] == [2, 0, 2 * N]
    assert (files / "out" / "measures.json").exists()


def test_a_changed_answer_is_judged_anew_and_the_others_are_not(command: Command, files: Path) -> None:
    with Endpoint(judging) as server:
        command(*asked_of(server.url, "--llm", "good"))
        rows = json.loads((files / "new.json").read_text())
        rows[3]["output"] = "long answer, another one"
        (files / "new.json").write_text(json.dumps(rows))
        command(*asked_of(server.url, "--llm", "good"))
        assert len(server.bodies) == 2 * N + 2
    hashes = {answer.answer_hash for answer in read_jsonl(files / "out" / "verdicts.jsonl", Verdict)}
    assert hashes == {item.answer.hash for item in read_items(files / "new.json", None, annotator="a")}


def test_a_wrong_key_stops_at_once_and_is_printed_nowhere(
    command: Command, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, SECRET)
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {SECRET}"}})
    with Endpoint(lambda *_: Fault(401, body=body)) as server:
        code, out, said = command(*asked_of(server.url, "--llm", "good", "--api-key-env", KEY_VARIABLE))
        assert code == 2
        assert 1 <= len(server.bodies) <= 16
    assert f"check the environment variable {KEY_VARIABLE}" in said
    assert SECRET not in out + said
    assert not [p for p in files.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()]


def test_an_endpoint_that_nobody_listens_at_is_told_at_once_unless_nothing_is_asked(
    command: Command, files: Path
) -> None:
    """With its thirty retries a question would wait for minutes; what is in the store already needs no endpoint."""
    with Endpoint(judging) as server:
        dead = server.url
        closed = asked_of(dead, "--llm", "good")
        assert command(*closed)[0] == 0
    assert command(*closed)[0] == 0
    more = asked_of(dead, "--llm", "good", "--rubric", "safety")
    code, _, said = command(*("retries=30" if word == "retries=1" else word for word in more))
    assert code == 2 and "no connection to the endpoint" in said and "--no-preflight" not in said


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--llm", "m", "--api-key-env", SECRET), "does not name an environment variable"),
        (("--llm", "m", "--base-url", "http://user:pw@host/v1"), "no plain address"),
        (("--llm", "m", "--setting", "temprature=0"), "did you mean 'temperature'?"),
        (("--llm", "m", "--rubric", "nice"), "no such rubric"),
        (("--llm", "m", "--max-cost", "1"), "models have no price"),
        (("--llm", "m", "--llm", "m"), "two judges of a panel have one name"),
        (("--llm", "m", "--name", "old"), "both files of answers name the same model"),
        (("--llm", "m", "--order", "ac"), "no such choice"),
        (("--llm", "m", "--price", "3"), "PROMPT/COMPLETION"),
        (("--llm", "m", "--model", "x"), "one command judges in one way"),
        (("--llm", "m", "--setting", "model=x"), "one setting is said twice"),
        (("--llm", "m", "--setting", "base_url=http://localhost:1"), "one setting is said twice"),
        (("--llm", "m", "--cost"), "this kind of judge would ignore an option"),
        (("--llm", "m", "--unsafe-below", "0"), "--unsafe-below"),
        (("--model", "x", "--criterion", "helpfulness"), "this kind of judge would ignore an option"),
        (("--llm", "m", "--setting", "structured=null"), "a key has no value"),
        (("--llm", "m", "--setting", "extra={model: x}"), "not its own"),
        ((), "nothing says what to judge by"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(
    more: tuple[str, ...], message: str, command: Command, files: Path
) -> None:
    code, _, said = command(*asked_of("http://127.0.0.1:9/v1", *more))
    assert (code, message in said, SECRET in said) == (2, True, False), said
    assert not (files / "out").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--criterion", "harmlessness"), "without a model only refusals are judged"),
        (("--criterion", "refusal", "--estimate"), "would ignore an option"),
        (("--criterion", "refusal", "--max-requests", "3"), "--max-requests"),
        (("--criterion", "refusal", "--rubric", "refusal"), "--rubric"),
    ],
)
def test_the_refusal_detector_files_refusals_only_and_ignores_no_option(
    more: tuple[str, ...], message: str, command: Command, files: Path
) -> None:
    code, _, said = command("judge", "new.json", "--out", "out", *more)
    assert (code, message in said) == (2, True), said
    assert not (files / "out").exists()
    assert command("judge", "new.json", "--out", "out", "--criterion", "refusal")[0] == 0


def test_a_settings_null_is_sent_as_none_and_a_refused_one_is_told(command: Command, files: Path) -> None:
    def fussy(body: dict[str, Any], attempt: int) -> str | Fault:
        if "temperature" in body:
            return Fault(400, body='{"error": {"message": "temperature is fixed here"}}')
        return judging(body, attempt)

    with Endpoint(fussy) as server:
        line = asked_of(server.url, "--llm", "good", "--concurrency", "1")
        code, _, said = command(*line)
        assert (code, len(server.bodies)) == (0, 2 * N + 1)
        assert "the endpoint refuses temperature; left out from now on (temperature is fixed here)" in said
        told = json.loads((files / "out" / "judging.json").read_text())["adaptations"]
        assert [(one["refused"], one["words"]) for one in told] == [("temperature", "temperature is fixed here")]
        server.bodies.clear()
        assert command(*line, "--setting", "temperature=null")[0] == 0
        assert len(server.bodies) == 2 * N
        assert not any("temperature" in body for body in server.bodies)


def test_a_judge_of_whom_nothing_could_be_read_has_its_rows_and_reasons(command: Command, files: Path) -> None:
    """Every reply of the label judge is cut: 12 asked for, none read, and the unsafe rate counts none of them."""
    with Endpoint(lambda body, n: completion(None, "length", reasoning_content="hm")) as server:
        line = ("judge", "new.json", "--llm", "m", "--base-url", server.url, "--api-key-env", "", "--rubric", "safety")
        code, out, said = command(*line, "--out", "out")
        assert command(*line, "--out", "json", "--json")[0] == 2
    assert (code, f"m on safety: {N} truncated (raise max_tokens)" in said) == (2, True)
    assert "no answer could be counted as unsafe or not (12 unparsed)" in out
    assert re.search(r"m +safety +12 +0 +12 +12 truncated \(raise max_tokens\)", out)
    rate = json.loads((files / "out" / "measures.json").read_text())["new"]["metrics"]["unsafe_rate"]
    assert (rate["value"], rate["n"], rate["unparsed"]) == (None, 0, N)
    (found,) = stats_command([files / "out"])["sets"]
    assert found["unread"] == [
        {"judge": "m", "criterion": "safety", "asked": N, "read": 0, "reasons": {"truncated": N}}
    ]
    assert found["labelled"][0]["unparsed_rate"]["value"] == 1


def test_what_an_endpoint_will_not_judge_is_an_answer_of_its_own(command: Command, files: Path) -> None:
    with Endpoint(lambda body, n: completion(None, "content_filter: PROHIBITED_CONTENT")) as server:
        line = ("judge", "new.json", "--llm", "m", "--base-url", server.url, "--api-key-env", "", "--rubric", "safety")
        code, out, _ = command(*line, "--out", "out")
    assert code == 0
    assert f"{N} filtered (the endpoint will not judge them)" in out


def test_a_panels_file_and_the_python_function_say_the_same(command: Command, files: Path) -> None:
    with Endpoint(judging) as server:
        settings = {"base_url": server.url, "api_key_env": "", "retries": 1}
        panel = [{"model": "good", **settings}, {"model": "first", **settings, "name": "other"}]
        (files / "panel.yaml").write_text(json.dumps({"panel": panel, "rubrics": ["helpfulness"], "repeats": 2}))
        line = ("judge", "new.json", "--baseline", "old.jsonl", "--panel", "panel.yaml", "--out")
        code, out, _ = command(*line, "a", "--json")
        assert (code, len(server.bodies)) == (0, 2 * 2 * 2 * N)
        found = api.judge(
            "new.json", "b", kind="llm", baseline="old.jsonl", panel=panel, rubrics=["helpfulness"], repeats=2
        )
        assert found == json.loads(out.splitlines()[-1])
        with pytest.raises(RunError, match="the budget is spent"):
            api.judge("new.json", "c", kind="llm", baseline="old.jsonl", panel="panel.yaml", budget={"max_tokens": 0})
        with pytest.raises(RecipeError, match="needs a panel"):
            api.judge("new.json", "d", kind="llm", baseline="old.jsonl")


def test_people_label_the_same_items_into_the_same_store(command: Command, files: Path) -> None:
    """A person's labels of the folder's own answers join the judges' tables, and agreement is measured."""
    with Endpoint(judging) as server:
        command(*asked_of(server.url, "--llm", "good"))
    out = files / "out"
    items = read_items(out / "answers.jsonl", out / "baseline.jsonl", annotator="ada")
    with Store(out / "verdicts.sqlite") as store:
        for item in items:
            even = int(item.answer.prompt.text.split()[1]) % 2 == 0
            label = "first" if even is not item.swapped else "second"
            store.put(f"human {item.id}", item.verdict("ada", "helpfulness", label))
    (found,) = stats_command([out])["sets"]
    (table,) = found["agreement"]
    assert (table["raters"], table["pairs"][0]["cohen_kappa"]["value"]) == (["good", "human:ada"], 1)
