"""Tasks of lm-evaluation-harness asked of a model in this process; where it is not installed these are skipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sacpo.bridges.harness import Asked, ask, load_tasks
from sacpo.data.records import Prompt
from sacpo.data.templates import make_template
from sacpo.errors import DataError
from sacpo.recipe.harness import HarnessSpec
from sacpo.recipe.schema import WorldSpec
from sacpo.system.progress import QUIET
from sacpo.world import World
from sacpo.world.quiz import step_questions

pytest.importorskip("lm_eval")
WORLD = World(WorldSpec(seed=0))
YAML = """\
task: said
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: generate_until
doc_to_text: "{{q}}"
doc_to_target: "{{a}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 4}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    words = len(WORLD.tokenizer())
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=words, max_position_embeddings=96, **sizes)).eval()


def asked(model: Any, spec: HarnessSpec, own: Any = None) -> dict[str, Asked]:
    tokenizer = WORLD.tokenizer()
    return ask(model, tokenizer, make_template("chat", tokenizer), load_tasks(spec, own), spec, QUIET)


def test_the_worlds_task_is_decided_by_log_probs(model: LlamaForCausalLM) -> None:
    """Each choice's log-prob behind the rendered question, computed here one by one."""
    questions = step_questions(WORLD, 12)
    found = asked(model, HarnessSpec(tasks=("world_steps",), batch_size=5), questions)["world_steps"]
    tokenizer = WORLD.tokenizer()
    template = make_template("chat", tokenizer)
    right = []
    for one in questions:
        context = tokenizer.encode(template.render(Prompt.from_text(one["question"])), add_special_tokens=False)
        scores = []
        for choice in one["choices"]:
            said = tokenizer.encode(choice, add_special_tokens=False)
            with torch.no_grad():
                logps = model(torch.tensor([context + said])).logits[0].log_softmax(-1)
            places = range(len(context) - 1, len(context) + len(said) - 1)
            scores.append(sum(float(logps[place, token]) for place, token in zip(places, said, strict=True)))
        right.append(float(scores.index(max(scores)) == one["answer"]))
    assert found.figures["acc"].each == tuple(right)
    assert 0 < sum(right) < 12
    assert found.clusters == tuple(one["cluster"] for one in questions)
    assert found.figures["acc"].higher_is_better is True


def write_task(folder: Path, data: Path, rows: int = 3) -> HarnessSpec:
    folder.mkdir(exist_ok=True)
    data.write_text("".join(json.dumps({"q": f"how do i {i}?", "a": "nothing"}) + "\n" for i in range(rows)))
    (folder / "said.yaml").write_text(YAML.replace("DATA", str(data)))
    return HarnessSpec(tasks=("said",), include_path=str(folder), limit=2, batch_size=2)


def test_a_task_of_local_files_needs_no_network(model: LlamaForCausalLM, tmp_path: Path) -> None:
    found = asked(model, write_task(tmp_path / "tasks", tmp_path / "tasks" / "rows.jsonl"))["said"]
    assert found.n == 2
    assert found.figures["exact_match"].each == (0.0, 0.0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tasks": ("sayd",)}, "knows no such task"),
        ({"include_path": "nowhere"}, "no such folder of tasks"),
    ],
)
def test_what_is_not_there_is_named(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    from sacpo.pipeline.stages.harness import TaskFiles

    spec = write_task(tmp_path / "tasks", tmp_path / "tasks" / "rows.jsonl").model_copy(update=change)
    with pytest.raises(DataError, match=says):
        TaskFiles(spec.include_path).content, load_tasks(spec, None)


def test_data_outside_of_the_folder_are_refused(tmp_path: Path) -> None:
    """Their change would not be seen: the stage counts with the folder's files."""
    spec = write_task(tmp_path / "tasks", tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match="a change of them would not be seen"):
        load_tasks(spec, None)


def test_a_task_that_runs_code_is_refused(tmp_path: Path) -> None:
    spec = write_task(tmp_path / "tasks", tmp_path / "tasks" / "rows.jsonl")
    with (tmp_path / "tasks" / "said.yaml").open("a") as file:
        file.write("unsafe_code: true\n")
    with pytest.raises(DataError, match="runs code that the model writes"):
        load_tasks(spec, None)
