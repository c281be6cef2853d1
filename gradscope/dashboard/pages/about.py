"""The run info: how a run was made and watched, what it cost, and what nobody saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from dash import Dash, Output, html
from dash.development.base_component import Component
from flask import Response

from gradscope.dashboard import ids
from gradscope.dashboard.address import Address
from gradscope.dashboard.learning.examples import EXAMPLE
from gradscope.dashboard.live import Area, Outputs, Page, View
from gradscope.dashboard.pages.checks import unseen
from gradscope.dashboard.parts.run_facts import NEVER_SEEN, Facts, as_text, commands, sections
from gradscope.dashboard.runs import Runs, Snapshot
from gradscope.errors import GradScopeError
from gradscope.store import part_folders
from gradscope.store.schema import RUN_FILE

_PACKAGED = (
    "This run is a packaged example: it came with GradScope, cut down to be small, and is no training of yours. This "
    "command makes a whole one from the same script."
)
ID = {part: ids.of("about", part) for part in ("name", "again", "facts", "unseen", "text")}


def layout(runs: Runs, address: Address) -> list[Component]:
    """The frame, with what can be taken away."""
    file = f"/run/{quote(address.run or '', safe='')}/{RUN_FILE}"
    return [
        html.H1(["Run info ", html.Span(id=ID["name"], className="dimmed")]),
        html.Div(
            [
                html.Button("Copy all as text", className="button", **_copies(ID["text"])),
                html.A(f"Download {RUN_FILE}", href=file, download=RUN_FILE, className="button download"),
                html.Span("", className="copied dimmed", role="status"),
            ],
            className="about-tools",
        ),
        html.Div(
            [
                html.Div(id=ID["again"], className="wide"),
                html.Div(id=ID["facts"], style={"display": "contents"}),
                html.Div(id=ID["unseen"], className="wide"),
                html.Section(
                    [
                        html.H2("What GradScope cannot see"),
                        html.P("In any training, whatever is recorded:", className="dimmed"),
                        html.Ul([html.Li(text) for text in NEVER_SEEN]),
                    ],
                    className="card wide",
                ),
            ],
            className="about",
        ),
        html.Pre(id=ID["text"], hidden=True),
    ]


def _copies(target: str) -> dict[str, Any]:
    """Makes a button copy the text of another component, see assets/runs.js."""
    return {"data-copies": target}


def areas(view: View) -> dict[str, Area]:
    """All of it is drawn from the run."""
    return {"facts": Area([view.versions], lambda: _draw(view))}


def _draw(view: View) -> Outputs:
    snapshot = view.snapshot
    facts = sections(snapshot, view.runs.folder(snapshot.name))
    return {
        "name": snapshot.name,
        "again": _again(snapshot),
        "facts": [_section(each) for each in facts],
        "unseen": unseen(snapshot.diagnosis.not_observed),
        "text": as_text(facts),
    }


def _again(snapshot: Snapshot) -> Component | None:
    """The command that trains again under observation; of a packaged run the one that trains its demo."""
    packaged = snapshot.name.startswith(EXAMPLE)
    lines = (f"gradscope demo {snapshot.name.removeprefix(EXAMPLE)}",) if packaged else commands(snapshot.run.info)
    if not lines:
        return None
    name = ids.of("about", "command")
    title = "Train it yourself" if packaged else "Train again"
    return html.Section(
        [
            html.Div(
                [html.H2(title), html.Button("Copy", className="button", **_copies(name))],
                className="figure-head",
            ),
            *([html.P(_PACKAGED, className="dimmed")] if packaged else []),
            html.Pre("\n".join(lines), id=name),
        ],
        className="card",
    )


def _section(facts: Facts) -> Component:
    rows: list[Component] = []
    for row in facts.rows:
        remark = html.Span(row.remark, className="dimmed") if row.remark else None
        rows += [html.Dt(row.name), html.Dd([row.value, remark])]
    return html.Section([html.H2(facts.title), html.Dl(rows, className="facts")], className="card", key=facts.title)


def register(app: Dash, runs: Runs) -> None:
    """Serves a run's `run.json`."""

    def run_file(name: str) -> Response:
        content = run_json(runs, name)
        if content is None:
            return Response("There is no such run here.\n", 404, mimetype="text/plain")
        attached = {"Content-Disposition": f"attachment; filename={RUN_FILE}"}
        return Response(content, mimetype="application/json", headers=attached)

    app.server.add_url_rule(f"/run/<name>/{RUN_FILE}", "run_file", run_file)


def run_json(runs: Runs, name: str) -> bytes | None:
    """A run's `run.json` as it is on disk; None where there is none, or where it is a link to what is elsewhere."""
    try:
        part = part_folders(runs.folder(name))[0]
        if isinstance(part.location, Path) and not _inside(part.location / RUN_FILE, Path(runs.location)):
            return None
        return part.read(RUN_FILE)
    except (GradScopeError, OSError, IndexError):
        return None


def _inside(file: Path, folder: Path) -> bool:
    return file.resolve().is_relative_to(folder.resolve())


OUTPUTS = {name: Output(component, "children") for name, component in ID.items()}
PAGE = Page("about", "Run info", OUTPUTS, layout, areas, register=register, shows_empty_runs=True)
