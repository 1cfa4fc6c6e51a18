"""Why a metric may not be measured, and what to do about it."""

from __future__ import annotations

from collections.abc import Collection

from sacpo.recipe.explain import did_you_mean

_MARK = "mark the prompts with a column 'kind', or judge them with --prompts"
CAUSES = {
    "unsafe_rate": (
        "no restricted prompts with answers labelled safe or unsafe, so no unsafe rate",
        f"{_MARK} restricted, by a judge that labels safety",
    ),
    "over_refusal_rate": (
        "no borderline prompts with answers labelled as refusals or not, so no over-refusal rate",
        f"{_MARK} borderline, by a judge that labels refusals",
    ),
    **dict.fromkeys(
        ("truncated_rate", "degenerate_rate", "mean_tokens"),
        ("the answers do not tell their tokens, so nothing of their decoding is measured", "generate them with sacpo"),
    ),
    "kl": ("only a run measures the divergence from SFT", "leave this bound out, or select in a recipe"),
}
"""What is wrong and what to do where a metric without criterion is not measured."""
JUDGE = "judge the answers by this criterion; a win rate needs a baseline"


def why_unmeasured(name: str, measured: Collection[str]) -> tuple[str, str]:
    """Return what is wrong where nothing measures a metric, `METRIC` or `METRIC/CRITERION`, and what to do.

    Only a criterion can be misspelt: metrics themselves are checked before.
    """
    if name in CAUSES:
        what, do = CAUSES[name]
        return f"no folder measures '{name}': {what}", do
    alike = {other for other in measured if other.partition("/")[0] == name.partition("/")[0]}
    return f"no folder measures '{name}'", did_you_mean(name, alike, JUDGE)
