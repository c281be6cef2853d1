"""The list of runs: what a row says, as plain values, and the table that draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.address import Address
from gradscope.dashboard.brief import Brief
from gradscope.dashboard.figures.sparkline import SparklineData, draw_sparkline
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.parts.chip import STALE_AFTER
from gradscope.dashboard.wording import ABSENT, duration
from gradscope.records import SEVERITIES, Severity, VerdictName
from gradscope.reports.loss_line import downsample
from gradscope.reports.words import SHAPES, VERDICT_SEVERITY, VERDICT_WORDS, count

_POINTS = 64  # of a loss line


@dataclass(frozen=True)
class Row:
    """One run of the list.

    Attributes:
        verdict: None while it has not been read, and when it cannot be.
        severities: how many findings of each severity, the worst first, without zeros.
        loss: steps and values of the line.
    """

    name: str
    verdict: VerdictName | None = None
    headline: str = ""
    severities: tuple[tuple[Severity, int], ...] = ()
    steps: int | None = None
    state: str = ""
    started: float | None = None
    loss: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    problem: str = ""

    def matches(self, text: str) -> bool:
        """Whether every word of a filter is in what the row says."""
        verdict = VERDICT_WORDS[self.verdict] if self.verdict else "cannot be read" if self.problem else ""
        said = f"{self.name} {verdict} {self.headline} {self.state} {self.problem}".casefold()
        return all(word in said for word in text.casefold().split())


def row(name: str, brief: Brief, age: float) -> Row:
    """A row from what is known of a run, last written `age` seconds ago."""
    if brief.problem:
        return Row(name, problem=brief.problem, started=brief.started or None)
    steps, values = downsample(np.asarray(brief.loss[0], float), np.asarray(brief.loss[1], float), _POINTS)
    kept = tuple((severity, brief.severities.get(severity, 0)) for severity in reversed(SEVERITIES))
    return Row(
        name,
        brief.verdict,
        brief.headline,
        tuple((severity, number) for severity, number in kept if number),
        brief.steps,
        state_words(brief.state, age),
        brief.started,
        (tuple(steps.tolist()), tuple(values.tolist())),
    )


def state_words(state: str, age: float) -> str:
    """Whether a run still grows: a shape and words."""
    if state == "ended":
        return "✓ ended"
    if state == "stopped":
        return "■ recording stopped"
    return f"○ nothing new for {duration(age)}" if age > STALE_AFTER else "● live"


def draw_table(rows: Sequence[Row], address: Address) -> Component:
    """The rows as a table; the runs that are chosen to be compared are marked."""
    heads = ("Verdict", "Run", "Started", "Steps", "State", "Findings", "Loss", "Compare")
    return html.Table(
        [
            html.Thead(html.Tr([html.Th(head, scope="col", className=f"runs-{head.lower()}") for head in heads])),
            html.Tbody([_row(each, address) for each in rows]),
        ],
        className="table runs",
    )


def _row(each: Row, address: Address) -> html.Tr:
    line = draw_sparkline(_line(each))
    link = html.A(each.name, href=Address("overview", each.name).href, className="runs-name mono")
    said = f"{each.problem} Nothing was changed on disk." if each.problem else each.headline
    return html.Tr(
        [
            html.Td(_verdict(each), className="runs-verdict"),
            html.Th([link, html.Span(said, className="runs-headline")], scope="row", className="runs-run"),
            html.Td(_time(each.started), className="runs-started"),
            html.Td(ABSENT if each.steps is None else f"{each.steps:,}", className="runs-steps"),
            html.Td(each.state or ABSENT, className="runs-state"),
            html.Td(_findings(each), className="runs-findings"),
            html.Td(html.Img(src=line, alt="Loss", className="sparkline") if line else ABSENT, className="runs-loss"),
            html.Td(_choice(each, address), className="runs-compare"),
        ],
        key=each.name,
        className="runs-chosen" if each.name in (address.a, address.b) else "",
    )


def _line(each: Row) -> SparklineData:
    steps, values = np.array(each.loss[0], float), np.array(each.loss[1], float)
    return SparklineData("Loss", steps, values, int(steps[-1]) if len(steps) else 0, flat=1e-12)


def _verdict(each: Row) -> list[Component | str]:
    if each.problem:
        return [html.Span(["▲ Cannot be read"], className="tone-error severity")]
    if each.verdict is None:
        return [html.Span("reading …", className="dimmed")]
    severity = VERDICT_SEVERITY[each.verdict]
    words = f"{SHAPES[severity][0]} {VERDICT_WORDS[each.verdict]}"
    return [html.Span(words, className=f"severity tone-{severity or 'ok'}")]


def _time(started: float | None) -> Component | str:
    if not started:
        return ABSENT
    moment = datetime.fromtimestamp(started).astimezone()
    return html.Time(moment.strftime("%Y-%m-%d %H:%M"), dateTime=moment.isoformat(timespec="seconds"))


def _findings(each: Row) -> list[Component | str]:
    if each.verdict is None:
        return [ABSENT]
    said: list[Component | str] = [
        html.Span(f"{SHAPES[severity][0]} {count(number, severity)}", className=f"tone-{severity}")
        for severity, number in each.severities
    ]
    return said or [html.Span("none", className="dimmed")]


def _choice(each: Row, address: Address) -> list[Component | str]:
    """A link that takes the run into the comparison or out of it; a run that cannot be read has none."""
    if each.problem:
        return [ABSENT]
    place = "A" if each.name == address.a else "B" if each.name == address.b else None
    if place is not None:
        left = address.b if place == "A" else address.a
        target = address.at(a=left, b=None)
        return [
            html.A(f"☑ {place}", href=target.href, **aria(label=f"{place}: take {each.name} out of the comparison"))
        ]
    target = address.at(a=each.name) if address.a is None else address.at(b=each.name)
    return [html.A("☐ choose", href=target.href, **aria(label=f"Choose {each.name} for a comparison"))]
