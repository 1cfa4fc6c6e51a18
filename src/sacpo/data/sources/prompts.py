"""Lists of prompts: {prompt, category, kind, ...}, HarmBench's and Do-Not-Answer's tables, and XSTest.

Source: https://github.com/centerforaisafety/HarmBench, https://github.com/Libr-AI/do-not-answer,
https://github.com/paul-rottger/xstest
"""

from __future__ import annotations

from sacpo.data.records import Kind, Message, Record
from sacpo.data.sources.chat import messages_of, prompt_of, with_system
from sacpo.data.sources.format import Format
from sacpo.data.sources.rows import Row, missing_column
from sacpo.plain import JsonObject
from sacpo.recipe.schema import SourceSpec

COLUMNS = ("prompt", "category", "id", "kind", "cluster", "context", "system", "input")
XSTEST_COLUMNS = ("prompt", "type", "label", "id")
NAMES = {
    "prompt": ("prompt", "Behavior", "question", "instruction"),
    "category": ("category", "SemanticCategory", "types_of_harm"),
    "id": ("id", "BehaviorID"),
    "context": ("context", "ContextString"),
}
KINDS = [kind.value for kind in Kind if kind.value]


def read(row: Row, spec: SourceSpec, as_: str | None) -> list[Record]:
    """Return a row's prompt; a context text stands before it, as in HarmBench: "CONTEXT\\n\\n---\\n\\nPROMPT".

    Below an `instruction` stands its `input`; the text in `system` stands before all.

    A row's own `kind` wins over the recipe's. Its `id` is kept in `meta`: prompt ids are content hashes.

    Raises:
        DataError: A field is missing or not as the format says.
    """
    field = _known_name(row, "prompt") or next((name for name in NAMES["prompt"] if name in row.data), "")
    if not field:
        raise missing_column(row.place, "prompt", list(row.data))
    fields: JsonObject = {"category": _text(row, "category"), "meta": _meta(row)}
    if row.has("cluster"):
        fields["cluster"] = str(row.value("cluster"))
    if row.optional_text("kind"):
        if row.value("kind") not in KINDS:
            raise row.error("unknown kind of prompt", "kind", row.value("kind"), KINDS)
        fields["kind"] = Kind(row.value("kind"))
    context = _text(row, "context")
    if isinstance(row.value(field), list):
        if context:
            raise row.error("a context beside messages has no place", "context", context, "nothing: put it into one")
        return [prompt_of(row, with_system(row, messages_of(row, row.value(field), field)), spec, field, **fields)]
    text, below = row.text(field), row.optional_text("input") if field == "instruction" else ""
    text = f"{text}\n\n{below}" if below else text
    messages = (Message("user", f"{context}\n\n---\n\n{text}" if context else text),)
    return [prompt_of(row, with_system(row, messages), spec, field, **fields)]


def read_xstest(row: Row, spec: SourceSpec, as_: str | None) -> list[Record]:
    """Return a row's prompt: borderline where its label is safe, restricted where it is unsafe (a contrast).

    A file without `label` has it in its types: those of unsafe prompts begin with "contrast_".

    Raises:
        DataError: A field is missing or not as the format says.
    """
    kind_of = {"safe": Kind.BORDERLINE, "unsafe": Kind.RESTRICTED}
    category = row.text("type")
    label = row.text("label") if row.has("label") else "unsafe" if category.startswith("contrast") else "safe"
    if label not in kind_of:
        raise row.error("bad label in 'label'", "label", label, [*kind_of])
    messages = (Message("user", row.text("prompt")),)
    return [prompt_of(row, messages, spec, "prompt", category=category, kind=kind_of[label], meta=_meta(row))]


def _known_name(row: Row, canonical: str) -> str:
    return next((name for name in NAMES[canonical] if row.has(name)), "")


def _text(row: Row, canonical: str) -> str:
    name = _known_name(row, canonical)
    return row.optional_text(name) if name else ""


def _meta(row: Row) -> JsonObject:
    name = _known_name(row, "id")
    return {"source": row.source, **({"id": str(row.value(name))} if name else {})}


FORMATS = {
    "prompts": Format("prompts", read, COLUMNS),
    "xstest": Format("prompts", read_xstest, XSTEST_COLUMNS),
}
