"""A page for each sickness: what `gradscope explain` says, and where the rule fires and stays quiet."""

from __future__ import annotations

import inspect

from gradscope.catalogue import rules
from gradscope.rules import Rule
from tests.docs.prose import Page, escaped, markdown, table


def pages() -> dict[str, Page]:
    """Path -> page."""
    return {f"rules/{name}.md": Page(escaped(rule.summary), _page(rule)) for name, rule in rules().items()}


def _page(rule: Rule) -> str:
    thresholds = [
        (f"`{name}`", f"{each.value:g}", escaped(each.unit), escaped(each.source))
        for name, each in rule.thresholds().items()
    ]
    cases = [
        (escaped(case.title), ", ".join(f"`{each}`" for each in case.layers) or "nothing") for case in rule.cases()
    ]
    parts = [
        f"# {rule.id}",
        markdown(inspect.cleandoc(rule.__doc__ or "")),
        f"It can speak after {rule.needs_steps} recorded step{'s' * (rule.needs_steps != 1)}.",
        "## Thresholds",
        table(("name", "value", "unit", "source"), thresholds) if thresholds else "None: what it finds is counted.",
        "## Cases",
        "Runs written by hand, which the tests put to the rule.",
        table(("a run", "what is named"), cases),
        "## Sources",
        "\n".join(f"- {escaped(source)}" for source in rule.sources),
    ]
    return "\n\n".join(parts) + "\n"
