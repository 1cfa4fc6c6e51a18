"""`kind: llm`: language models behind endpoints, by a rubric; the whole run shares one store of verdicts."""

from __future__ import annotations

from sacpo.judging.kinds import Parts
from sacpo.judging.llm.judge import LlmJudgeConfig
from sacpo.judging.llm.panel import Panel
from sacpo.judging.llm.specs import asking_of
from sacpo.judging.question import Judge


def make(parts: Parts) -> Judge:
    """Return the panel of a criterion."""
    spec, bench = parts.spec, parts.bench
    assert parts.rubric is not None and bench.store is not None
    return Panel(
        [LlmJudgeConfig(judge, parts.rubric) for judge in spec.judges],
        bench.store,
        asking=asking_of(spec, bench.budget),
        spent=bench.spent,
        progress=bench.progress,
    )
