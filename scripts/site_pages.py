"""A hook of mkdocs: pages of the repository's root become pages of the site, and links between both kinds are kept.

README.md is the site's first page. A page of docs/ says `../ARCHITECTURE.md`, a page of the root `docs/lora.md`. Python
files that pages link to become pages with their source.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    ".agents/skills/sacpo/SKILL.md": "skill.md",
    **{name: name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")},
}
FILES = ("LICENSE", "CITATION.cff")
"""Files that pages link to, copied as they are."""
LINK = re.compile(r"\]\(((?!https?://|#)[^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the root's pages and files."""
    for name, place in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, place, content=LINK.sub(_from_root, text)))
    for name in FILES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    for name in _sources():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, f"{name}.md", content=f"# {name}\n\n~~~python\n{text}~~~\n"))
    return files


def _sources() -> list[str]:
    """Return the Python files that pages of docs/ link to."""
    pages = [page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md"))]
    found = {target.removeprefix("../") for page in pages for target in LINK.findall(page)}
    return sorted(target for target in found if target.startswith("src/") and target.endswith(".py"))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links of docs/ to the root's pages at their places in the site."""
    return LINK.sub(_from_docs, markdown) if page.file.src_uri not in PAGES.values() else markdown


def _from_root(found: re.Match[str]) -> str:
    target = found.group(1)
    return f"]({target.removeprefix('docs/') if target.startswith('docs/') else _moved(target)})"


def _from_docs(found: re.Match[str]) -> str:
    target = found.group(1)
    return f"]({_moved(target.removeprefix('../'))})" if target.startswith("../") else found.group(0)


def _moved(target: str) -> str:
    name, mark, anchor = target.partition("#")
    return PAGES.get(name, f"{name}.md" if name.endswith(".py") else name) + mark + anchor
