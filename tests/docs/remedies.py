"""A page for each cure: what it does, what it works against, and from where that is known."""

from __future__ import annotations

import inspect

from gradscope.catalogue import remedies
from gradscope.remedies import Remedy
from tests.docs.prose import Page, escaped, markdown, table


def pages() -> dict[str, Page]:
    """Path -> page."""
    return {f"remedies/{name}.md": Page(f"{escaped(each.title)}.", _page(each)) for name, each in remedies().items()}


def _page(remedy: Remedy) -> str:
    cures = [
        (f"`{cause}`", f"{share:g}", ", ".join(f"`{rule}`" for rule in remedy.only_for.get(cause, ())) or "any")
        for cause, share in remedy.cures.items()
    ]
    parts = [
        f"# {remedy.id}",
        f"**{escaped(remedy.title)}.**",
        markdown(inspect.cleandoc(remedy.__doc__ or "")),
        f"It needs your edit: {escaped(remedy.needs_edit)}." if remedy.needs_edit else "`gradscope trial` can try it.",
        "## What it works against",
        table(("cause", "how well, 0 to 1", "in findings of"), cures),
        "## Sources",
        "\n".join(f"- {escaped(source)}" for source in remedy.sources),
    ]
    return "\n\n".join(parts) + "\n"
