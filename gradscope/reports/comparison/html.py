"""A comparison of two runs as one page: a file without a script that loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from gradscope.reports.comparison import words as said
from gradscope.reports.comparison.map import DifferenceMap, chart, legend
from gradscope.reports.envelope import Document
from gradscope.reports.finding_words import where
from gradscope.reports.html.lines import drawing, grid, line, side, step_ticks, value_ticks
from gradscope.reports.html.skeleton import footer, skeleton
from gradscope.reports.html.text import diff, listed, severity_tag, shown
from gradscope.reports.loss_line import scale_of
from gradscope.reports.page_words import VERDICT_SENTENCES

_MOST_LAYERS, _MOST_NAMES = 200, 200
_TONES = {said.GONE: "ok", said.STILL: "warning", said.NEW: "error"}
_STYLE = """\
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 12px; margin-bottom: 12px; }
.pair h2 { margin: 0; font-size: 16px; font-weight: 650; color: var(--text); }
main > h1 { margin-bottom: 12px; } .card > h2:first-child { margin-top: 0; } .list { margin-bottom: 12px; }
.settings td { width: 36%; } .found th, .found td:nth-child(-n + 3) { white-space: nowrap; overflow-wrap: normal; }
td.number { text-align: right; white-space: nowrap; width: 90px; }
.layers th:nth-child(n + 2):nth-child(-n + 4) { text-align: right; }
td.size { min-width: 140px; } td.size > div { height: 10px; background: var(--first-line); }
td.size > .larger { background: var(--second-line); }
.layers-alone { margin-top: 8px; }
@media (max-width: 600px) {
  .pair { grid-template-columns: minmax(0, 1fr); }
  td.number { width: auto; } td.size { min-width: 40px; } .found th, .found td { padding-right: 6px; }
}
"""


def render(document: Document, cells: DifferenceMap | None = None) -> str:
    """The page as text, all names and messages escaped.

    Args:
        document: what `comparison_document` gave.
        cells: what is drawn of both beside it; None: no map.
    """
    body = [
        f"<h1>{shown(document['conclusion'])}</h1>",
        f'<div class="pair">{"".join(_verdict(document, letter) for letter in "ab")}</div>',
        *([listed(document["notes"])] if document["notes"] else []),
        *_settings(document),
        *_findings(document),
        *_losses(document, cells),
        *_layers(document),
        footer(document["gradscope"], [f"Next: <code>{shown(document['next_command'])}</code>."]),
    ]
    title = f"{document['a']['name']} → {document['b']['name']} · gradscope"
    return skeleton(title, body, _STYLE)


def _verdict(document: Document, letter: str) -> str:
    """One run with its verdict."""
    run = document[letter]
    shape, _, severity = said.verdict_of(run)
    return (
        f'<section class="verdict tone-{severity or "ok"}"><p class="verdict-word">{letter.upper()} · '
        f'<span aria-hidden="true">{shape}</span> {VERDICT_SENTENCES[run["verdict"]]}</p>'
        f'<h2>{shown(run["headline"])}</h2><p class="facts dimmed">{shown(said.side_facts(run))}<br>'
        f'<span class="mono">{shown(run["folder"])}</span><br>Loss {shown(said.last_loss(run))}</p></section>'
    )


def _table(head: Sequence[str], rows: Iterable[str], kind: str = "") -> str:
    """A table of rows that are HTML already."""
    columns = "".join(f'<th scope="col">{name}</th>' for name in head)
    return f'<table class="{kind}"><thead><tr>{columns}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _settings(document: Document) -> list[str]:
    """What was set differently and the program's lines; folded, what was set alike."""
    differing = said.differing(document)
    alike = [setting for setting in document["settings"] if not setting["differs"]]
    parts = [f"<h2>{shown(said.settings_title(document))}</h2>"]
    parts += (
        [_setting_table(differing)] if differing else ["<p>Nothing that GradScope records of the set-up differs.</p>"]
    )
    for change in document["sources"]:
        words = shown(said.source_words(change))
        lines = f"<div><pre>{diff(change['diff'])}</pre></div>"
        parts.append(
            f"<details open><summary>{words}</summary>{lines}</details>" if change["diff"] else f"<p>{words}.</p>"
        )
    if alike:
        summary = f"<summary>{len(alike):,} alike</summary>"
        parts.append(f"<details>{summary}<div>{_setting_table(alike)}</div></details>")
    return ['<div class="card">', *parts, "</div>"]


def _setting_table(settings: Sequence[Document]) -> str:
    rows = (
        f'<tr><th scope="row">{shown(said.setting_name(each))}</th>'
        f'<td class="mono">{shown(each["a"])}</td><td class="mono">{shown(each["b"])}</td></tr>'
        for each in settings
    )
    return _table(("Setting", "A", "B"), rows, "settings")


def _findings(document: Document) -> list[str]:
    found = said.findings(document)
    if not found:
        return []
    rows = (
        f'<tr><th scope="row" class="tone-{_TONES[each.state]}">{each.state}</th><td>{said.numbers_of(each)}</td>'
        f"<td>{severity_tag(each.shown['severity'])}</td>"
        f'<td>{shown(each.shown["message"])} <span class="dimmed">· {shown(each.shown["rule"])}, since '
        f'{said.since(each)}</span></td><td class="mono">{shown(where(each.shown["layers"], 5))}</td></tr>'
        for each in found
    )
    return ["<h2>Findings</h2>", _table(("In B", "Finding", "Severity", "What", "Where"), rows, "found")]


def _losses(document: Document, cells: DifferenceMap | None) -> list[str]:
    """Both losses on one axis, told apart by dash as well as by colour; under them the map of B minus A."""
    lines = {letter: document["loss"][letter] for letter in "ab"}
    values = {
        letter: np.array([np.nan if value is None else value for value in each["values"]], np.float64)
        for letter, each in lines.items()
    }
    places = {letter: np.array(each["at"], np.float64) for letter, each in lines.items()}
    scale = scale_of(np.concatenate(list(values.values())))
    if scale is None:
        return ["<h2>Loss</h2>", '<p class="dimmed">No finite loss is recorded of either.</p>']
    by = document["aligned_by"]
    unit = 100.0 if by == "share" else 1.0  # percent have round numbers
    every = unit * np.concatenate(list(places.values()))
    ends = float(every.min()), float(every.max())
    ticks = value_ticks(scale)
    curves = [
        line(unit * places[letter], values[letter], *ends, scale, f"line-{i}") for i, letter in enumerate("ab", 1)
    ]
    last = "; ".join(f"{letter.upper()} {said.last_loss(document[letter])}" for letter in "ab")
    words = f"The loss of A and of B by {said.AXES[by]}: {last}"
    axis = "percent of the training" if by == "share" else said.AXES[by]
    title = "Loss" if cells is None else f"Loss, and {cells.title[0].lower()}{cells.title[1:]}: B minus A"
    under = f"<div></div>{step_ticks(*ends)}" if cells is None else chart(cells, ends, axis, unit)
    scale_words = "" if cells is None else legend(cells)
    return [
        f"<h2>{title}</h2>",
        f'<figure class="card"><div class="chart" style="--names: {9 if cells is None else 18}ch">{side(ticks, "loss")}'
        f'<div class="plot loss">{drawing(grid(ticks) + "".join(curves), words)}</div>{under}'
        f'<div></div><div class="axis-title">{axis}</div></div><figcaption><div class="legend">{_legend(document)}</div>'
        f"{scale_words}</figcaption></figure>",
    ]


def _legend(document: Document) -> str:
    parts = []
    for number, letter in enumerate("ab", 1):
        sample = (
            '<svg class="sample" aria-hidden="true" viewBox="0 0 28 8">'
            f'<path class="line line-{number}" d="M0 4h28"/></svg>'
        )
        parts.append(f"<span>{sample}{letter.upper()} {shown(document[letter]['name'])}</span>")
    shared = said.shared_loss(document)
    if shared is not None:
        at, a, b = shared
        parts.append(f"<span>{at}: A {a}, B {b}</span>")
    return "".join(parts)


def _layers(document: Document) -> list[str]:
    pairs = said.by_distance(document)
    parts = []
    if pairs:
        largest = max(abs(pair["decades"] or 0.0) for pair in pairs) or 1.0
        rows = (_layer(pair, max(largest, 1.0)) for pair in pairs[:_MOST_LAYERS])
        parts += [
            f"<h2>{said.layers_title(document)}</h2>",
            f'<p class="dimmed">{said.GAIN_WORDS}</p>',
            _table(("Layer", "A", "B", "B − A", "Size"), rows, "layers"),
        ]
        if len(pairs) > _MOST_LAYERS:
            parts.append(f'<p class="dimmed">And {len(pairs) - _MOST_LAYERS:,} more, which differ less.</p>')
    for letter in "ab":
        names = document[f"layers_only_{letter}"]
        if names:
            parts.append(f'<p class="layers-alone">{shown(said.alone(names, letter.upper(), _MOST_NAMES))}.</p>')
    return parts


def _layer(pair: Document, largest: float) -> str:
    """A row with a bar, whose direction is said by the sign beside it."""
    cells = "".join(f'<td class="number">{said.decades(pair[name])}</td>' for name in ("gain_a", "gain_b", "decades"))
    difference = pair["decades"] or 0.0
    kind = ' class="larger"' if difference > 0 else ""
    bar = f'<div{kind} style="width: {100 * abs(difference) / largest:.3g}%"></div>'
    return f'<tr><th scope="row" class="mono">{shown(pair["layer"])}</th>{cells}<td class="size">{bar}</td></tr>'
