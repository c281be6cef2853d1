"""Search: jumps to a finding, a layer or a step of the run."""

from __future__ import annotations

from typing import NamedTuple

import dash_mantine_components as dmc
from dash import html
from dash.development.base_component import Component

from gradscope.dashboard import ids
from gradscope.dashboard.address import Address
from gradscope.dashboard.runs import Snapshot
from gradscope.dashboard.wording import layer_label, step

_MOST = 12


class Hit(NamedTuple):
    """A place to jump to."""

    kind: str  # "finding", "layer", "step"
    text: str
    address: Address


def search(snapshot: Snapshot, text: str) -> tuple[Hit, ...]:
    """What a text may mean: a finding's number or words, part of a layer's name or kind, a step."""
    asked, run = text.strip().lower(), Address("overview", snapshot.name)
    hits: list[Hit] = []
    findings = snapshot.diagnosis.findings
    for number, finding in enumerate(findings, 1):
        if asked in f"f{number} {finding.rule} {finding.message}".lower():
            hits.append(Hit("finding", f"F{number} · {finding.message}", run.at(finding=f"F{number}")))
    newest = snapshot.newest_step
    digits = asked.removeprefix("step").strip().replace(",", "")
    if digits.isascii() and digits.isdigit() and newest is not None and int(digits) <= newest:
        hits.append(Hit("step", f"Step {step(int(digits))}", run.at(step=int(digits))))
    if asked:
        sites = (snapshot.signals.sites[site] for site in snapshot.signals.layers)
        names = [(site.name, layer_label(site)) for site in sites if asked in f"{site.name} {site.kind}".lower()]
        names.sort(key=lambda name: (name[0].lower() != asked, not name[0].lower().startswith(asked)))
        hits += [Hit("layer", label, Address("layers", snapshot.name, layer=name)) for name, label in names[:_MOST]]
    return tuple(hits[: 2 * _MOST])


def results(hits: tuple[Hit, ...], text: str) -> list[Component]:
    """The hits as links."""
    if not hits:
        return [html.Li(f"Nothing is called “{text.strip()}”." if text.strip() else "Type a name.", className="dimmed")]
    return [
        html.Li(
            html.A([html.Span(hit.kind, className="dimmed"), f" {hit.text}"], href=hit.address.href, className="hit")
        )
        for hit in hits
    ]


def search_dialog() -> Component:
    """The dialog, closed."""
    dialog: Component = dmc.Modal(
        [
            dmc.TextInput(
                id=ids.SEARCH_TEXT,
                value="",
                debounce=150,
                label="Layer, finding or step",
                placeholder="fc1, F2, 1143 …",
                **{"data-autofocus": True},
            ),
            html.Ul([], id=ids.SEARCH_RESULTS, className="plain hits"),
        ],
        id=ids.SEARCH,
        title="Search this run",
        opened=False,
        transitionProps={"duration": 0},
        closeButtonProps={"aria-label": "Close"},
    )
    return dialog
