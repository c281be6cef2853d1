"""What can be done with a finding itself: copy a link to it, copy it as Markdown, mute it with a reason."""

from __future__ import annotations

import time

import dash_mantine_components as dmc
from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.mutes import why_not_kept
from gradscope.dashboard.parts.copying import copy_button, link_button
from gradscope.dashboard.parts.finding_view import FindingView
from gradscope.dashboard.wording import duration
from gradscope.reports.finding_markdown import finding_markdown

REASON = {"type": "finding-reason", "of": "mute"}  # ids as patterns: they are there only while a finding is shown
MUTE = {"type": "finding-mute", "do": "mute"}
UNMUTE = {"type": "finding-mute", "do": "unmute"}


def actions(view: FindingView) -> list[Component]:
    """The buttons, and what is said of a mute."""
    text = finding_markdown(view.number, view.finding, view.snapshot.name)
    page = view.address.of_run("finding", finding=view.number)
    buttons: list[Component] = [link_button(), copy_button(text, "Copy as Markdown")]
    if view.address.page != "finding":
        buttons.insert(0, html.A("Open as a page", href=page.href, className="button"))
    return [html.Div(buttons, className="finding-buttons"), _mute(view)]


def _mute(view: FindingView) -> Component:
    missing = why_not_kept(view.folder)
    if view.mute is not None:
        reason = f": {view.mute.reason}" if view.mute.reason else ", no reason was given"
        said = html.Span(f"Muted {duration(time.time() - view.mute.time)} ago{reason}. ")
        button = html.Button("Unmute", id=UNMUTE, n_clicks=0, type="button", className="button")
        return html.P([said, html.Span(missing, className="dimmed") if missing else button], className="muted-said")
    if missing:
        return html.Details([html.Summary("Mute …"), html.P(f"This cannot be kept: {missing}")], className="mute")
    field = dmc.TextInput(
        id=REASON, label="Why it may be left out of the list", value="", size="sm", className="reason"
    )
    button = html.Button("Mute", id=MUTE, n_clicks=0, type="button", className="button")
    note = html.P("It is kept in the run's folder. It comes back when it gets graver.", className="dimmed")
    return html.Details(
        [html.Summary("Mute …"), html.Div([field, button], className="mute-form"), note], className="mute"
    )
