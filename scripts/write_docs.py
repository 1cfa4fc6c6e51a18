"""Write the pages of docs/ that follow from the code: recipe.md and results.md."""

from __future__ import annotations

from pathlib import Path

from sacpo.align.defaults import with_defaults
from sacpo.recipe.document import recipe_document
from sacpo.report.document import results_document

DOCS = Path(__file__).parents[1] / "docs"

(DOCS / "recipe.md").write_text(recipe_document(with_defaults({})), encoding="utf-8")
(DOCS / "results.md").write_text(results_document(), encoding="utf-8")
