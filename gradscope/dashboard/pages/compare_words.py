"""What the comparison says in words and tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

import dash_mantine_components as dmc
from dash import html
from dash.development.base_component import Component

from gradscope.comparison import Comparison, FindingLine, FindingPair, LayerPair, Setting, SideWords, SourceChange
from gradscope.dashboard.address import Address
from gradscope.dashboard.history import recorded_steps
from gradscope.dashboard.parts import verdict
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.parts.notice import notice
from gradscope.dashboard.parts.tag import severity_tag
from gradscope.dashboard.runs import Snapshot
from gradscope.dashboard.wording import ABSENT, decades, number, step, where
from gradscope.records import SEVERITIES, Diagnosis
from gradscope.reports.words import count

_MOST_LAYERS = 100  # of the table of layers


def title(found: Comparison) -> str:
    """One sentence: how many findings come and go from A to B."""
    gone, new, both = len(found.only_a), len(found.only_b), len(found.both)
    if not gone and not new:
        shared = f"the same {count(both, 'finding')}" if both else "no finding"
        return f"A and B have {shared}"
    parts = [
        f"{count(amount, 'finding')} {said}" for amount, said in ((gone, "only in A"), (new, "only in B")) if amount
    ]
    return " and ".join(parts) + (f", {both} in both" if both else "")


def missing_words(address: Address, names: list[str]) -> Component:
    """Why there is nothing to compare, and what to do."""
    if len(names) < 2:
        return notice(
            "One run is not enough to compare",
            f"{'Only one run is' if names else 'No run is'} here. Record another one into the same folder, "
            "for example with another learning rate; this page compares them when it appears.",
        )
    gone = [name for name in (address.a, address.b) if name and name not in names]
    text = f"No run named {' or '.join(map(repr, gone))} is here: it was moved, renamed or deleted." if gone else ""
    return notice("Choose two runs", f"{text} Choose A and B above.".strip())


def excerpt_notes(snapshots: Sequence[Snapshot]) -> list[str]:
    """Which of A and B are too large to be read whole, and what of the comparison rests on a part of their steps."""
    notes = []
    for letter, snapshot in zip("AB", snapshots, strict=False):
        if snapshot.is_excerpt:
            read, every = len(snapshot.signals.steps), len(recorded_steps(snapshot.signals))
            left = f" {math.ceil(snapshot.left / 2**20):,} MB are not looked at yet." if snapshot.left else ""
            notes.append(
                f"{letter} is judged from an excerpt, {read:,} of its {every:,} recorded steps: the run is larger than the "
                "memory that this page takes. The first and the newest steps are among them, those where something "
                f"happened, and some of the others; its findings and layers below, and the map, are of these.{left}"
            )
    return notes


def verdict_cards(found: Comparison, a: Diagnosis, b: Diagnosis) -> list[Component]:
    """Both verdicts side by side."""
    return [_verdict_card("A", found.a, a), _verdict_card("B", found.b, b)]


def _verdict_card(letter: str, side: SideWords, diagnosis: Diagnosis) -> Component:
    if side.loss is None:
        loss = "no loss recorded"
    else:
        said = f"{number(side.loss)} at step {step(side.loss_step)}"
        loss = f"NaN or Inf at the end; last finite {said}" if side.loss_is_broken else f"{said}, the last"
    steps = "no step" if side.last_step is None else f"steps {step(side.first_step)} to {step(side.last_step)}"
    return html.Section(
        [
            html.P(
                [html.Strong(f"{letter} "), html.A(side.name, href=Address("overview", side.name).href), f" · {steps}"],
                className="compare-name",
            ),
            html.P(verdict.badge(diagnosis), className="verdict-word"),
            html.P(side.headline, className="compare-headline"),
            html.P(f"Loss {loss}", className="dimmed"),
        ],
        className=verdict.verdict_tone(diagnosis),
        **aria(label=f"Run {letter}"),
    )


def settings_card(found: Comparison) -> list[Component]:
    """What was set differently, then what was not, then the program's lines."""
    differing = found.differing
    alike = [setting for setting in found.settings if not setting.differs]
    head = html.H2(f"What was set differently: {len(differing)} of {count(len(found.settings), 'setting')}")
    parts: list[Component] = [head]
    if differing:
        parts.append(_settings(differing))
    else:
        parts.append(html.P("Nothing that GradScope records of the set-up differs.", className="dimmed"))
    parts += [_source(change) for change in found.sources]
    if alike:
        summary = html.Summary(f"{count(len(alike), 'setting')} alike")
        parts.append(html.Details([summary, _settings(tuple(alike))]))
    return parts


def _settings(settings: tuple[Setting, ...]) -> Component:
    head = html.Thead(html.Tr([html.Th(text, scope="col") for text in ("Setting", "A", "B")]))
    rows = [
        html.Tr(
            [
                html.Th([html.Span(f"{setting.group}: ", className="dimmed"), setting.name], scope="row"),
                html.Td(setting.a, className="mono"),
                html.Td(setting.b, className="mono"),
            ]
        )
        for setting in settings
    ]
    table = html.Table([head, html.Tbody(rows)], className="table compare-settings")
    return html.Div(table, className="table-frame")


def _source(change: SourceChange) -> Component:
    said = f"{change.name}: {count(change.removed, 'line')} of A, {count(change.added, 'line')} of B differ"
    if not change.diff:
        where_from = "A" if change.removed else "B"
        return html.P(f"{change.name}: recorded with {where_from} only, or too long to compare line by line.")
    code = html.Pre([_diff_line(line) for line in change.diff.splitlines()], className="compare-diff", tabIndex=0)
    return html.Details([html.Summary(said), code])


def _diff_line(line: str) -> Component:
    kind = {"+": "added", "-": "removed", "@": "place"}.get(line[:1], "kept")
    return html.Span(f"{line}\n", className=f"diff-{kind}")


def findings_columns(found: Comparison) -> list[Component]:
    """Findings of A only, of both, of B only."""
    return [
        _column("Only in A", "gone in B", [_finding(line, found.a.name) for line in found.only_a]),
        _column("In both", "same rule, cause and layers", [_both(pair, found) for pair in found.both]),
        _column("Only in B", "new in B", [_finding(line, found.b.name) for line in found.only_b]),
    ]


def _column(head: str, help_text: str, items: list[Component]) -> Component:
    listed = html.Ul(items, className="plain") if items else html.P("None.", className="dimmed")
    heading = html.H2([f"{head}: {len(items)} ", html.Span(f"· {help_text}", className="dimmed")])
    return html.Div([heading, listed], className="card")


def _finding(line: FindingLine, run: str) -> Component:
    return html.Li(_line(line, [_link(line, run)]))


def _both(pair: FindingPair, found: Comparison) -> Component:
    links: list[Component | str] = [_link(pair.a, found.a.name, "A "), " · ", _link(pair.b, found.b.name, "B ")]
    return html.Li(_line(pair.a, links))


def _link(line: FindingLine, run: str, letter: str = "") -> Component:
    href = Address("finding", run, finding=line.number).href
    return html.A(f"{letter}{line.number} since step {step(line.first_step)}", href=href)


def _line(line: FindingLine, links: list[Component | str]) -> list[Component]:
    severity = next(each for each in SEVERITIES if each == line.severity)
    return [
        html.P([severity_tag(severity), " ", *links], className="finding-head"),
        html.P(line.message, className="compare-message"),
        html.P(where(line.layers, 2), className="mono dimmed")
        if line.layers
        else html.P(line.rule, className="dimmed"),
    ]


def layers_card(found: Comparison) -> Component:
    """The medians of the layers' gains as a table, and the layers of one run only."""
    parts: list[Component] = [html.Summary("The layers as a table")]
    if found.layers:
        shown = sorted(found.layers, key=_distance)[:_MOST_LAYERS] if len(found.layers) > _MOST_LAYERS else found.layers
        cut = (
            f" The {_MOST_LAYERS} of {len(found.layers):,} that differ most." if len(shown) < len(found.layers) else ""
        )
        body = [[pair.layer, *(_decade(value) for value in (pair.gain_a, pair.gain_b, pair.decades))] for pair in shown]
        data = {"head": ["Layer", "A", "B", "B − A"], "body": body}
        words = f"Backward gain, log₁₀, median over the recorded steps.{cut}"
        parts.append(html.P(words, className="dimmed"))
        parts.append(html.Div(dmc.Table(data=data, className="compare-layers"), className="table-frame", tabIndex=0))
    for letter, names in (("A", found.layers_only_a), ("B", found.layers_only_b)):
        if names:
            more = f" and {len(names) - 40:,} more" if len(names) > 40 else ""
            said = [html.Strong(f"{count(len(names), 'layer')} only in {letter}: ")]
            parts.append(html.P([*said, html.Span(", ".join(names[:40]) + more, className="mono")]))
    return html.Details(parts, className="card")


def _distance(pair: LayerPair) -> float:
    return math.inf if math.isnan(pair.decades) else -abs(pair.decades)


def _decade(value: float) -> str:
    return ABSENT if math.isnan(value) else decades(value)
