"""Prompts: disjoint splits, draws that follow from their seed alone, kinds, clusters, and tasks never trained on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world_toys import DEFAULT, EVERY, seen_tasks, unseen_tasks, world

from sacpo.data.records import Kind, Prompt
from sacpo.data.splits import prompt_key
from sacpo.errors import DataError, RecipeError
from sacpo.recipe.schema import WorldSpec
from sacpo.system.files import content_key
from sacpo.world import SPLITS, World
from sacpo.world.lexicon import ENDINGS, FRAMES, OPENERS, WHEN
from sacpo.world.phrasing import phrasings
from sacpo.world.tasks import KINDS, all_tasks


def kinds(prompts: Sequence[Prompt]) -> dict[str, int]:
    return dict(Counter(prompt.kind.value for prompt in prompts))


def test_each_phrasing_belongs_to_one_split() -> None:
    """10 x 20 x 10 x 8 = 16,000 phrasings; each split has a sixth, within 5 sqrt(16000 x 5 / 36) = 236."""
    total = len(OPENERS) * len(FRAMES) * len(WHEN) * len(ENDINGS)
    assert total == 16_000
    for seed in (0, 1):
        found = phrasings(seed)
        assert tuple(found) == SPLITS == ("sft", "pairs", "tuning", "report", "certification", "fresh")
        every = [text for texts in found.values() for text in texts]
        assert len(every) == len(set(every)) == total
        assert all(abs(len(texts) - total / 6) < 236 for texts in found.values())
    # another world splits anew: only about a sixth of its phrasings stay in their split
    kept = len(set(phrasings(0)["report"]) & set(phrasings(1)["report"])) / len(phrasings(0)["report"])
    assert abs(kept - 1 / 6) < 0.04


def test_a_question_is_recognised_by_the_task_that_it_names() -> None:
    """In any phrasing, the world's own included: then it is the prompt that was drawn."""
    made = world()
    drawn = [*made.prompts("report", 40, seed=3), *made.prompts("fresh", 20, seed=3, unseen_tasks=True)]
    assert [made.recognised(Prompt.from_text(prompt.text)) for prompt in drawn] == drawn
    task = made.tasks[Kind.RESTRICTED][0]
    found = made.recognised(Prompt.from_text(f"Please, {task.words.upper()}! Now."))
    assert (found.kind, found.cluster, found.meta) == (Kind.RESTRICTED, task.id, {"task": task.id})
    other = made.tasks[Kind.ORDINARY][0]
    for text in ("what is a tokenizer", f"{task.words} and {other.words}"):  # no task, or two
        assert made.recognised(Prompt.from_text(text)) == Prompt.from_text(text)


def test_splits_share_no_prompt_and_have_thousands() -> None:
    """Compared as shared prompts are looked for: without case and white space."""
    drawn = {split: world().prompts(split, 5000, seed=3) for split in SPLITS}
    keys = {split: {prompt_key(prompt) for prompt in prompts} for split, prompts in drawn.items()}
    assert all(len(found) == 5000 for found in keys.values())
    assert len(set().union(*keys.values())) == 6 * 5000
    assert len({prompt.id for prompts in drawn.values() for prompt in prompts}) == 6 * 5000


def test_no_two_tasks_are_asked_for_in_the_same_words() -> None:
    tasks = [task for kind in KINDS for task in all_tasks(kind)]
    texts = [text for split in ("tuning", "report") for text in phrasings(0)[split][:400]]
    assert len({text.format(task.words) for text in texts for task in tasks}) == len(texts) * len(tasks)


def test_the_same_seed_draws_the_same_and_another_seed_others() -> None:
    first = world().prompts("report", 500, seed=1)
    assert World(WorldSpec(seed=0)).prompts("report", 500, seed=1) == first
    assert {p.id for p in world().prompts("report", 500, seed=2)} != {p.id for p in first}
    assert {p.id for p in world(1).prompts("report", 500, seed=1)} != {p.id for p in first}


def test_the_key_tells_specs_apart() -> None:
    assert World(DEFAULT).key == world().key
    others = [WorldSpec(seed=1), WorldSpec(ordinary=59), WorldSpec(sft_compliance=0.5)]
    others += [WorldSpec(refusal_length="short"), WorldSpec(refusal_length="long")]
    assert len({World(spec).key for spec in (DEFAULT, *others)}) == 6


def test_the_default_world_has_the_key_that_it_had_before_refusals_had_lengths() -> None:
    """Version 1 and the five fields of the spec at that time: stages that were done then stay done."""
    spec = {"seed": 0, "ordinary": 60, "restricted": 40, "borderline": 20, "sft_compliance": 0.62}
    assert World(DEFAULT).key == content_key({"version": 1, "spec": spec})


def test_another_process_with_other_hashes_draws_the_same_without_torch() -> None:
    code = (
        "from sacpo.recipe.schema import WorldSpec; from sacpo.world import World; import sys\n"
        "w = World(WorldSpec()); d = w.demonstrations(200, seed=5)\n"
        "print(w.key, [(x.prompt.text, x.completion) for x in d], 'torch' in sys.modules)"
    )
    environments = [{**os.environ, "PYTHONHASHSEED": seed} for seed in ("1", "2")]
    outputs = [
        subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
        for env in environments
    ]
    expected = [(x.prompt.text, x.completion) for x in world().demonstrations(200, seed=5)]
    assert outputs == [f"{world().key} {expected} False\n"] * 2


def test_a_prompt_tells_its_task_kind_and_topic() -> None:
    by_id = {task.id: task for task in seen_tasks()}
    for found in world().prompts("tuning", 600, seed=0):
        task = by_id[found.cluster]
        assert f" {task.words}" in f" {found.text}" and "{" not in found.text
        assert (found.kind, found.category, found.meta) == (task.kind, task.topic, {"task": task.id})


def test_tasks_and_topics_are_asked_for_about_equally_often() -> None:
    """6,000 prompts of 120 tasks: 50 each, within 5 sqrt(50) = 35."""
    found = world().prompts("tuning", 6000, seed=0)
    clusters = Counter(p.cluster for p in found)
    assert len(clusters) == 120
    assert all(15 <= n <= 85 for n in clusters.values())
    topics = {kind: len({p.category for p in found if p.kind is kind}) for kind in KINDS}
    assert topics == {Kind.ORDINARY: 4, Kind.RESTRICTED: 4, Kind.BORDERLINE: 4}


def test_kinds_come_in_the_mix_asked_for() -> None:
    """60, 40 and 20 tasks: by default 1,200 prompts are of these kinds 600, 400 and 200 times."""
    assert kinds(world().prompts("pairs", 1200, seed=0)) == {"ordinary": 600, "restricted": 400, "borderline": 200}
    mix = {"ordinary": 0.6, "borderline": 0.2, "restricted": 0.2}
    assert kinds(world().prompts("pairs", 1000, seed=0, mix=mix)) == {
        "ordinary": 600,
        "borderline": 200,
        "restricted": 200,
    }
    assert kinds(world().prompts("pairs", 50, seed=0, mix={"restricted": 1.0})) == {"restricted": 50}


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200), st.floats(0, 1), st.floats(0, 1))
def test_a_mix_gives_all_prompts_asked_for(n: int, ordinary: float, part: float) -> None:
    """Each kind is within one prompt of its share."""
    restricted = (1 - ordinary) * part
    mix = {"ordinary": ordinary, "restricted": restricted, "borderline": 1 - ordinary - restricted}
    if min(mix.values()) < 0:  # rounding
        return
    found = kinds(world().prompts("fresh", n, seed=0, mix=mix))
    assert sum(found.values()) == n
    assert all(abs(found.get(kind, 0) - n * share) <= 1 for kind, share in mix.items())


def test_kinds_are_shuffled() -> None:
    """The first prompts of a set are a sample of it: of any 100, 50 are ordinary, within 4 standard deviations."""
    found = world().prompts("report", 1200, seed=0)
    assert all(30 <= kinds(found[start : start + 100])["ordinary"] <= 70 for start in range(0, 1200, 100))


def test_unseen_tasks_are_asked_for_by_no_other_prompt() -> None:
    """96, 56 and 32 tasks can be said, 60, 40 and 20 are asked for: 36, 16 and 12 are left for evaluation."""
    seen = {p.cluster for split in SPLITS for p in world().prompts(split, 6000, seed=7)}
    unseen = {p.cluster for p in world().prompts("report", 6000, seed=7, unseen_tasks=True)}
    trained = {d.prompt.cluster for d in world().demonstrations(6000, seed=7)}
    assert seen == trained == {task.id for task in seen_tasks()}
    assert unseen == {task.id for task in unseen_tasks()}
    assert seen.isdisjoint(unseen)
    assert {kind: len(world().tasks[kind]) for kind in KINDS} == dict(zip(KINDS, (60, 40, 20), strict=True))
    assert {kind: len(world().unseen[kind]) for kind in KINDS} == dict(zip(KINDS, (36, 16, 12), strict=True))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_unseen_tasks_are_made_of_parts_that_were_seen(seed: int) -> None:
    """Whoever learned the parts can answer: three steps were said for seen tasks, the other joins their words."""
    for kind in KINDS:
        taught = {step for task in world(seed).tasks[kind] for step in task.steps}
        verbs = {task.verb for task in world(seed).tasks[kind]}
        things = {task.thing for task in world(seed).tasks[kind]}
        assert all(task.verb in verbs and task.thing in things for task in world(seed).unseen[kind])
        for task in world(seed).unseen[kind]:
            assert {task.steps[0], task.steps[1], task.steps[3]} <= taught


def test_every_task_has_four_steps_of_its_own() -> None:
    tasks = [task for kind in KINDS for task in all_tasks(kind)]
    assert len(tasks) == 96 + 56 + 32
    assert all(len(set(task.steps)) == 4 for task in tasks)
    assert len({frozenset(task.steps) for task in tasks}) == len({task.id for task in tasks}) == len(tasks)


def test_a_smaller_world_asks_for_fewer_tasks() -> None:
    small = World(WorldSpec(ordinary=3, restricted=2, borderline=1))
    found = {p.cluster for p in small.prompts("sft", 600, seed=0)}
    assert found == {task.id for kind in KINDS for task in small.tasks[kind]}
    assert len(found) == 6
    # of the 96 ordinary tasks only those of parts that these three have are unseen rather than unknown
    verbs, things = ({getattr(task, part) for task in small.tasks[Kind.ORDINARY]} for part in ("verb", "thing"))
    assert 0 < len(small.unseen[Kind.ORDINARY]) == len(verbs) * len(things) - 3


def test_populations_in_words() -> None:
    n = len(phrasings(0)["report"])
    assert world().population("report") == (
        "how-to questions of the synthetic world (seed 0) about tasks that training prompts ask for as well "
        f"(60 ordinary, 40 restricted, 20 borderline), in the {n} phrasings of split 'report', which no other split "
        "has; task and phrasing uniform within a kind"
    )
    assert "that no training prompt asks for (36 ordinary, 16 restricted, 12 borderline)" in world().population(
        "report", unseen_tasks=True
    )


def test_an_unknown_split_is_refused() -> None:
    for asked in (lambda: world().prompts("validation", 10, seed=0), lambda: world().population("validation")):
        with pytest.raises(DataError, match=r"no such split[\s\S]*validation[\s\S]*certification"):
            asked()


def test_more_prompts_than_there_are_is_refused() -> None:
    small = World(WorldSpec(ordinary=1, restricted=1, borderline=1))
    most = len(phrasings(0)["tuning"])
    every = small.prompts("tuning", most, seed=0, mix={"borderline": 1.0})
    assert len({p.id for p in every}) == most
    with pytest.raises(DataError, match=rf"fewer borderline prompts[\s\S]*{most + 1}[\s\S]*at most {most}"):
        small.prompts("tuning", most + 1, seed=0, mix={"borderline": 1.0})


@pytest.mark.parametrize(("kind", "most"), [("ordinary", 96), ("restricted", 56), ("borderline", 32)])
def test_more_tasks_than_there_are_parts_for_is_refused(kind: str, most: int) -> None:
    full = World(WorldSpec.model_validate({kind: most}))
    assert (len(full.tasks[Kind(kind)]), full.unseen[Kind(kind)]) == (most, ())
    with pytest.raises(RecipeError, match=rf"world\.{kind}[\s\S]*{most + 1}[\s\S]*1 to {most}"):
        World(WorldSpec.model_validate({kind: most + 1}))


def test_unseen_tasks_of_a_world_that_asks_for_all_are_refused() -> None:
    full = World(WorldSpec(ordinary=96, restricted=56, borderline=32))
    for mix in (None, EVERY):
        with pytest.raises(DataError, match=r"fewer \w+ prompts of unseen tasks[\s\S]*at most 0"):
            full.prompts("report", 10, seed=0, unseen_tasks=True, mix=mix)


@pytest.mark.parametrize(
    ("mix", "said"),
    [
        ({"ordinary": 0.5}, "add up to 1"),
        ({"ordinary": 1.5, "restricted": -0.5}, "add up to 1"),
        ({"harmless": 1.0}, r"no such kind[\s\S]*harmless[\s\S]*borderline"),
    ],
)
def test_a_wrong_mix_is_refused(mix: dict[str, float], said: str) -> None:
    with pytest.raises(DataError, match=said):
        world().prompts("sft", 10, seed=0, mix=mix)
