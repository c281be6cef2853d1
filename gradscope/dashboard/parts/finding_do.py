"""What to do: each suggestion with its smallest change, what it costs, how it is undone, and what was measured of it."""

from __future__ import annotations

import inspect
import os
import shlex

from dash import html
from dash.development.base_component import Component

from gradscope.catalogue import remedies
from gradscope.dashboard.measuring import Measurement
from gradscope.dashboard.parts.copying import code_block, command_line, diff_block
from gradscope.dashboard.parts.finding_view import FindingView
from gradscope.dashboard.parts.measure_panel import button_id, measure_panel, names_of
from gradscope.dashboard.parts.tag import effect_tag
from gradscope.dashboard.parts.trial_panel import trial_panel
from gradscope.records import Suggestion
from gradscope.reports.words import sentence


def do_section(view: FindingView, found: Measurement | None) -> list[Component]:
    """The section of a finding's page.

    Args:
        view: the finding.
        found: the trial of this run that goes on, or that has something to say.
    """
    heading = view.heading("What to do", id="do", tabIndex=-1)
    finding = view.finding
    if finding.suggestions:
        first, *rest = finding.suggestions
        folded = [_folded(view, each, found) for each in rest]
        more = [view.heading("Other ways", below=1)] if folded else []
        return [heading, _suggestion(view, first, found), *more, *folded]
    if finding.follows is not None:
        return [heading, html.P("Mend what leads to it, see below: this goes with it.")]
    return [heading, html.P("No remedy is known that fits its causes.")]


def _suggestion(view: FindingView, item: Suggestion, found: Measurement | None) -> Component:
    title = html.Div([view.heading(item.title, below=1), effect_tag(item)], className="suggestion-head")
    return html.Div([title, *_body(view, item, found)], className="suggestion", key=item.remedy)


def _folded(view: FindingView, item: Suggestion, found: Measurement | None) -> Component:
    """One that is not the best: open when it is, or was just, measured."""
    mine = found is not None and found.remedies == names_of(item)
    title = html.Summary([html.Strong(item.title), " ", effect_tag(item)])
    body = html.Div(_body(view, item, found))
    return html.Details([title, body], className="suggestion suggestion-folded", open=mine, key=item.remedy)


def _body(view: FindingView, item: Suggestion, found: Measurement | None) -> list[Component]:
    return [
        html.P(item.why),
        *_change(view, item),
        *_costs(item),
        *([trial_panel(item.trial, view.scheme)] if item.trial is not None else []),
        html.Div(measure_panel(view, item, found), id=button_id("panel", item.remedy), className="measure-panel"),
    ]


def _typed(folder: str) -> str:
    """A run's folder as one types it: from here where it lies below."""
    here = f"{os.getcwd()}{os.sep}"
    return folder.removeprefix(here) if folder.startswith(here) else folder


def _change(view: FindingView, item: Suggestion) -> list[Component]:
    """The change of the user's own lines where it is known, else code to paste."""
    if not item.patch:
        place = (
            [html.P(["At ", html.Span(item.location, className="mono")], className="dimmed")] if item.location else []
        )
        code = [code_block(item.code, f"the code of {item.title}")] if item.code else []
        undo = [html.P("To undo it, take these lines out again.", className="dimmed")] if code else []
        return [*place, *code, *undo]
    run = shlex.quote(_typed(str(view.folder.resolved())))
    fix = f"gradscope fix {run} {view.number} --remedy {item.remedy} --apply"
    parts: list[Component] = [
        html.P(["In your program: ", html.Span(item.location or "", className="mono")], className="dimmed"),
        diff_block(item.patch, f"the diff of {item.title}"),
    ]
    if len(names_of(item)) == 1:
        parts += [
            html.P(
                "This command writes it, after a backup; moving the backup in its place undoes it:", className="dimmed"
            ),
            command_line(fix, f"the command that applies {item.title}"),
        ]
    if item.code:
        folded = [html.Summary("The same as code to paste by hand"), code_block(item.code, f"the code of {item.title}")]
        parts.append(html.Details(folded))
    return parts


def costs(item: Suggestion) -> str:
    """What a suggestion's remedies cost and risk, as their own pages say it; "" where they do not."""
    said = []
    for name in names_of(item):
        if name not in remedies():
            continue
        page = " ".join((inspect.getdoc(type(remedies()[name])) or "").split())
        _, found, risks = page.partition("Risks: ")
        if found:
            said.append(sentence(risks))
    return " ".join(said)


def _costs(item: Suggestion) -> list[Component]:
    text = costs(item)
    return [html.P([html.Strong("Cost and risk: "), text])] if text else []
