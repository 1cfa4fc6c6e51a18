"""The certificate in the program of a run: prompts are checked first, the plan is written, candidates are tested."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sacpo.pipeline.stages.answers import Answers
from sacpo.pipeline.stages.certificate import Certificate, CertificatePlan, CertificationPrompts, Certified, Labels
from sacpo.pipeline.stages.selection import Selection
from sacpo.pipeline.stages.verdicts import Verdicts

if TYPE_CHECKING:
    from sacpo.pipeline.order import Order


def check_certification(run: Order) -> None:
    """See that the certification prompts are enough, before anything is trained."""
    spec = run.recipe.certify
    if spec is None or (wanted := run.wanted) is None:
        return
    tuning = tuple(stage for stage in run.prompts.values() if stage.spec.role == "tuning")
    run.sealed = run.do(CertificationPrompts(wanted, run.prompts[spec.prompts], tuning, (*run.data.values(),)))


def certify(run: Order, selection: Selection | None) -> Certificate | None:
    """Write down the plan, then test candidates on unseen prompts until the first that fails."""
    if run.sealed is None or selection is None:
        return None
    wanted, answers, verdicts = run.sealed.wanted, {}, {}
    labels: dict[str, Labels] = {}
    tuning = {name: tuple(run.verdicts[name][prompts] for prompts in wanted.seen) for name in run.evaluated}
    drawn = 0 if wanted.spec.labels is None else run.seed("labels")
    plan = CertificatePlan(wanted, run.sealed, selection, tuning, {name: run.models[name] for name in tuning}, drawn)
    with run.do.following("the likeliest candidates answer the certification prompts until one fails; the report"):
        planned = run.do.read(plan)
        for name in planned.names:
            answers[name] = run.do(run.answering(name, wanted.spec.prompts))
            verdicts[name] = _judge_sealed(run, name, answers[name], wanted)
            said, truth = run.do.read(verdicts[name]), []
            if (label := _labels(run, name, answers[name], wanted)) is not None:
                labels[name], truth = label, run.do.read(label)
            if planned.fails(wanted.terms(), name, said, truth):
                break
    return run.do(Certificate(plan, answers, verdicts, labels))


def _labels(run: Order, name: str, answers: Answers, wanted: Certified) -> Labels | None:
    spec, prompts = wanted.spec.labels, wanted.spec.prompts
    if spec is None:
        return None
    judges = tuple(run.judge(criterion, judge) for criterion, judge in spec.judges.items())
    kinds = tuple(wanted.terms().kinds)
    return Labels(f"{name}/{prompts}", answers, None, judges, spec.n, kinds, run.seed("labels", name))


def _judge_sealed(run: Order, name: str, answers: Answers, wanted: Certified) -> Verdicts:
    """Return verdicts of the judges that bounds need; beside the baseline's answers where a bound compares."""
    evaluate, prompts = run.recipe.evaluate, wanted.spec.prompts
    compared = any(bound.metric == "win_rate" for bound in wanted.constraints)
    baseline = run.do(run.answering(evaluate.baseline, prompts)) if compared else None
    judges = tuple(run.judge(criterion) for criterion in wanted.judges(evaluate.judges))
    return Verdicts(f"{name}/{prompts}", answers, baseline, judges)
