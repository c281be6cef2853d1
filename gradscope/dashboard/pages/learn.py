"""The lessons: an index with the glossary, and a page for each basic with a recorded run behind it."""

from __future__ import annotations

from dash import Dash, Output, html
from dash.development.base_component import Component
from flask import Response

from gradscope.dashboard import ids
from gradscope.dashboard.address import Address
from gradscope.dashboard.learning.examples import EXAMPLE, examples
from gradscope.dashboard.learning.pictures import PICTURES, draw
from gradscope.dashboard.learning.topics import TOPICS
from gradscope.dashboard.live import Area, Page, View
from gradscope.dashboard.pages.learn_index import draw_index
from gradscope.dashboard.pages.learn_run import draw_run, no_recording, own_run
from gradscope.dashboard.pages.learn_topic import draw_topic
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.runs import Runs

ID = {part: ids.of("learn", part) for part in ("lesson", "run")}


def layout(runs: Runs, address: Address) -> list[Component]:
    """The text, at once; the run beside it comes when it was read."""
    return [
        html.Div(
            [
                html.Article(_lesson(address), id=ID["lesson"], className="lesson"),
                html.Aside([], id=ID["run"], className="lesson-run", **aria(label="A recorded run")),
            ],
            className="learn",
        )
    ]


def _lesson(address: Address) -> list[Component]:
    topic = TOPICS.get(address.topic or "")
    return draw_index(address.topic) if topic is None else draw_topic(topic)


def areas(view: View) -> dict[str, Area]:
    """The text changes with the address, the run with the run."""
    topic = TOPICS.get(view.address.topic or "")
    drawn = {"lesson": Area([view.address.topic], lambda: {"lesson": _lesson(view.address)})}
    if topic is None:
        return {**drawn, "run": Area([], lambda: {"run": []})}
    if not view.snapshots:
        return {**drawn, "run": Area([topic.id], lambda: {"run": no_recording(topic)})}
    return {**drawn, "run": Area([topic.id, view.versions], lambda: {"run": draw_run(topic, view.snapshot)})}


def reads(runs: Runs, address: Address) -> tuple[str, ...]:
    """The run of the lesson's demo: one of this folder where there is one, else the one that comes with GradScope."""
    topic = TOPICS.get(address.topic or "")
    if topic is None:
        return ()
    packaged = f"{EXAMPLE}{topic.demo}" if topic.demo in examples() else None
    found = own_run(runs, topic.demo) or packaged
    return (found,) if found else ()


def register(app: Dash, runs: Runs) -> None:
    """Serves the pictures."""

    def serve_picture(name: str, scheme: str) -> Response:
        if name not in PICTURES or scheme not in ("light", "dark"):
            return Response("There is no such picture.\n", 404, mimetype="text/plain")
        return Response(draw(name, scheme), mimetype="image/svg+xml", headers={"Cache-Control": "max-age=3600"})

    app.server.add_url_rule("/learn/picture/<name>-<any(light, dark):scheme>.svg", "learn_picture", serve_picture)


OUTPUTS = {name: Output(component, "children") for name, component in ID.items()}
PAGE = Page("learn", "Learn", OUTPUTS, layout, areas, reads, register, shows_empty_runs=True)
