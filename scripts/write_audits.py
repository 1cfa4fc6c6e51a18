"""Write docs/data-audits.md: the audits of the real sets in the folder that SACPO_DATA names."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from sacpo.audit import audit_preferences, audit_prompts
from sacpo.audit.tables import preference_tables, prompt_tables, render
from sacpo.data.records import write_jsonl
from sacpo.redteam import CATEGORIES, make_prompts

PAGE = Path(__file__).parents[1] / "docs" / "data-audits.md"
PKU = (
    "pku_saferlhf/safety_pairs_train.jsonl",
    "pku_saferlhf/safety_pairs_test.jsonl",
    "pku_saferlhf/dual_labels_32.jsonl",
)
PAIRS = (
    "pandalm/testset-v1.json",
    "hh_rlhf/harmless-base-test.jsonl.gz",
    "llama_factory/dpo_en_demo.json",
    "llama_factory/kto_en_demo.json",
)
PROMPTS = (
    "prompts/saferlhf_redteam_83.json",
    "prompts/beavertails_evaluation_700.json",
    "prompts/harmbench_behaviors_text_all.csv",
    "do_not_answer/prompts.csv",
    "xstest/prompts.csv",
    "prompts/alpacaeval_helpful_base_129.json",
)
OWN = 12
"""Prompts of each category from the templates."""
INTRODUCTION = """# Audits of real data

`scripts/write_audits.py` writes this page with `sacpo data audit` and `sacpo redteam audit`; no text of the sets is in
it. What the columns mean is in [auditing.md](auditing.md); `sacpo redteam make` is the default set of
[redteam.md](redteam.md). The sets are extracts: the published counts of
PKU-SafeRLHF's 73,907 training rows (30,438 pairs of safe answers, 10,813 mixed, 32,656 of unsafe ones) can only be
checked on the whole file: `sacpo data audit PKU-Alignment/PKU-SafeRLHF-30K --against pku-saferlhf-train`.
"""


def page(data: Path) -> str:
    """Return the page.

    Args:
        data: The folder with the sets.
    """
    parts = [INTRODUCTION]
    for title, names, form in (("PKU-SafeRLHF", PKU, "pku-safe-rlhf"), ("Other preference sets", PAIRS, None)):
        found = audit_preferences([str(data / name) for name in names], format=form)
        parts.append(f"## {title}\n\n" + render(preference_tables(found), markdown=True))
    with TemporaryDirectory() as folder:
        own = Path(folder) / "sacpo redteam make.jsonl"
        write_jsonl(own, make_prompts(CATEGORIES, OWN, seed=0))
        found = audit_prompts([*(str(data / name) for name in PROMPTS), str(own)])
    parts.append("## Prompt sets\n\n" + render(prompt_tables(found), markdown=True))
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(Path(os.environ["SACPO_DATA"])), encoding="utf-8")
