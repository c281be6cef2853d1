"""The pages of docs/, built from what the code says of itself: `make docs` writes them, a test holds them to it.

prose.py      docstrings as Markdown
rules.py      a page for each sickness
remedies.py   a page for each cure
commands.py   a page for each command
api.py        a page for each module whose names are public
"""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def pages() -> dict[str, str]:
    """All pages: path below docs/ -> text."""
    from tests.docs import api, commands, remedies, rules

    parts = {
        "Sicknesses": rules.pages(),
        "Cures": remedies.pages(),
        "Commands": commands.pages(),
        "Python": api.pages(),
    }
    index = "# GradScope, page by page\n\nBuilt from the code by `make docs`; the [README](../README.md) comes first.\n"
    index += "\nTHEORY T1 and the like are closed forms; `tests/test_theory*.py` hold the numbers to them.\n"
    for title, found in parts.items():
        lines = [f"- [`{Path(path).stem}`]({path}): {page.summary}" for path, page in found.items()]
        index += f"\n## {title}\n\n" + "\n".join(lines) + "\n"
    return {"README.md": index} | {path: page.text for found in parts.values() for path, page in found.items()}


def write(folder: Path = DOCS) -> None:
    """Writes all pages and takes away those that nothing stands for any more."""
    wanted = pages()
    for file in folder.rglob("*.md"):
        if str(file.relative_to(folder)) not in wanted:
            file.unlink()
    for path, text in wanted.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
