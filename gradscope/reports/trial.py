"""A trial's report for a terminal: what was tried, what came of it, and what was not tried."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from gradscope import numerals
from gradscope.reports import words
from gradscope.reports.envelope import Document
from gradscope.reports.look import Look
from gradscope.reports.terminal import printed


def render(document: Document, look: Look | None = None) -> str:
    """The report as text, ending in a line end. Without a look: 80 columns, Unicode, no colour.

    Args:
        document: what `TrialReport.to_document` gave, also after a trip through JSON.
        look: how the stream wants it.
    """
    look = look or Look()
    return printed(Group(*_lines(document, look)), look)


def _lines(document: Document, look: Look) -> Iterator[RenderableType]:
    def say(text: str, style: str = "") -> Text:
        text = words.harmless(text)
        return Text(text if look.unicode else words.ascii_only(text), style)

    yield say(document["headline"], "bold")
    if document["planned"]:
        yield say(
            f"{words.count(document['done'], 'run')} of {words.count(document['steps'], 'step')} in "
            f"{document['seconds']:,.0f} s, {words.count(document['seeds'], 'seed')}, beside no change and a random "
            "change.",
            "dim",
        )
    for position, outcome in enumerate(document["outcomes"], 1):
        shape, said, _, style = words.EFFECTS[outcome["effect"]]
        yield Text("")
        remedies = " + ".join(outcome["remedies"])
        yield Text.assemble(
            say(f"{position}. {outcome['title']} ", "bold"), say(f"({remedies}) ", "dim"), say(f"{shape} {said}", style)
        )
        for text, line_style in _said(outcome):
            yield Padding(say(text, line_style), (0, 0, 0, 3))
    for title, items in (
        ("Not tried", [f"{each['title']} ({each['remedy']}): {each['why']}" for each in document["not_tried"]]),
        ("Keep in mind", document["notes"]),
    ):
        if items:
            yield Text("")
            yield say(title, "bold")
        for item in items:
            yield Padding(say(item), (0, 0, 0, 2))
    yield Text("")
    yield Text.assemble(say("Next:  ", "dim"), say(f"gradscope report {document['run']}", "bold"))


def _said(outcome: Document) -> Iterator[tuple[str, str]]:
    """The lines of one outcome."""
    yield words.sentence(outcome["outcome"]), ""
    against = [
        text
        for key, name in (("against_no_change", "without a change"), ("against_random", "of a random change"))
        if (text := _interval(outcome[key], name))
    ]
    if against:
        yield f"Its loss is {', and '.join(against)}.", "dim"
    if outcome["step_time"] is not None:
        yield words.cost_of_a_step(outcome), "dim"
    if outcome["changes"]:
        yield f"Changed: {'; '.join(outcome['changes'])}.", "dim"


def _interval(comparison: Document, name: str) -> str:
    """The typical loss against a control's; nothing where it cannot be said."""
    if comparison["low"] is None or not comparison["pairs"]:
        return ""
    effect, low, high = (numerals.number(comparison[key]) for key in ("effect", "low", "high"))
    if comparison["ratio"]:
        return f"{effect} times that {name} (95 %: {low} … {high})"
    return f"{effect} against that {name} (95 %: {low} … {high})"
