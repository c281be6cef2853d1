"""The recorded run beside a lesson: its verdict, its loss, its evidence, its cure, and where to look through it."""

from __future__ import annotations

import numpy as np
from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.address import Address
from gradscope.dashboard.figures.sparkline import SparklineData, draw_sparkline, sparkline_data
from gradscope.dashboard.learning.examples import EXAMPLE
from gradscope.dashboard.learning.topic import Topic
from gradscope.dashboard.parts.numbers import cards
from gradscope.dashboard.parts.rich_text import rich_text
from gradscope.dashboard.parts.tag import effect_tag, severity_tag
from gradscope.dashboard.parts.verdict import headline, verdict_tone
from gradscope.dashboard.runs import Runs, Snapshot
from gradscope.dashboard.wording import number
from gradscope.errors import GradScopeError
from gradscope.records import Evidence, Finding
from gradscope.reports.loss_line import downsample
from gradscope.store import read_info

MOST_RUNS = 40  # the newest, looked at for one of the demo's
MOST_EVIDENCE = 3
_COMMANDS: dict[tuple[str, str], str] = {}  # (where, run) -> the script that it is of; a run keeps it


def own_run(runs: Runs, demo: str) -> str | None:
    """The newest run of this folder that is one of a demo; None where there is none."""
    return next((name for name in runs.names()[:MOST_RUNS] if _script(runs, name) == f"{demo}.py"), None)


def _script(runs: Runs, name: str) -> str:
    """The file name of a run's script; "" where it is not known."""
    key = (str(runs.location), name)
    if key not in _COMMANDS:
        try:
            info = read_info(runs.folder(name).location)
        except (GradScopeError, OSError):
            return ""
        first = info.command[0] if info.command else ""
        _COMMANDS[key] = first.replace("\\", "/").rpartition("/")[2]
    return _COMMANDS[key]


def draw_run(topic: Topic, snapshot: Snapshot) -> list[Component]:
    """A card about a recorded run, drawn from the run."""
    packaged = snapshot.name.startswith(EXAMPLE)
    words, sentence = headline(snapshot.diagnosis)
    return [
        html.Div(
            [
                html.H2("A recorded run"),
                html.P([html.Span(_demo_file(topic), className="mono"), ": ", *rich_text(topic.shows)]),
                html.Div(
                    [words, html.P(getattr(sentence, "children", ""), className="lesson-verdict")],
                    className=verdict_tone(snapshot.diagnosis),
                ),
                _links(snapshot),
                _loss(snapshot),
                _numbers(snapshot),
                *(_finding(snapshot, number, each) for number, each in enumerate(snapshot.diagnosis.findings[:2], 1)),
                html.P(_origin(topic, packaged), className="dimmed lesson-origin"),
            ],
            className="card",
        )
    ]


def no_recording(topic: Topic) -> list[Component]:
    """Where neither the folder nor the installation has a run of the demo."""
    command = html.Code(f"gradscope demo {topic.demo}")
    text = html.P(["There is no recorded run of it here. ", command, " trains one and shows it."])
    return [html.Div([html.H2("A recorded run"), text], className="card")]


def _demo_file(topic: Topic) -> str:
    return f"{topic.demo}.py"


def _origin(topic: Topic, packaged: bool) -> list[Component | str]:
    again = html.Code(f"gradscope demo {topic.demo}")
    if packaged:
        return ["Recorded when GradScope was built, and packaged with it. ", again, " trains it on your machine."]
    other = Address("overview", f"{EXAMPLE}{topic.demo}").href
    return ["A run of this folder. ", html.A("The packaged one", href=other), " · ", again, " trains it anew."]


def _loss(snapshot: Snapshot) -> Component | None:
    """The loss as a line, in decades where it goes through several."""
    steps = snapshot.run.steps[snapshot.run.steps["has_loss"]]
    across, up = downsample(steps["step"], steps["loss"], 96)
    known = up[np.isfinite(up)]
    if not len(known):
        return None
    flat = 0.05 * float(np.abs(known).max())
    if known.min() > 0 and known.max() > 100 * known.min():
        up, flat = np.log10(up), 1.0
    image = draw_sparkline(SparklineData("Loss over all steps", across, up, -1, flat))
    if image is None:
        return None
    first, last = (number(float(each)) for each in (steps["loss"][0], steps["loss"][-1]))
    return html.P(
        [
            "Loss ",
            html.Img(src=image, alt="Loss over all steps", className="sparkline lesson-loss"),
            html.Span(f" {first} → {last} in {len(steps):,} steps", className="dimmed"),
        ],
        className="lesson-line",
    )


def _numbers(snapshot: Snapshot) -> Component:
    """The numbers of the Overview, without the loss, which stands above."""
    recorded = int(snapshot.signals.steps[-1]) if len(snapshot.signals.steps) else None
    shown = cards(snapshot.numbers, recorded)[1:4]
    rows = [
        part
        for card in shown
        for part in (html.Dt(card.label), html.Dd([card.value, html.Span(f" {card.note}", className="dimmed")]))
    ]
    return html.Dl(rows, className="facts")


def _finding(snapshot: Snapshot, place: int, finding: Finding) -> Component:
    """A finding with its evidence, its line and its first cure."""
    href = Address("finding", snapshot.name, f"F{place}").href
    line = sparkline_data(snapshot.signals, finding)
    image = draw_sparkline(line)
    best = finding.suggestions[0] if finding.suggestions else None
    return html.Div(
        [
            html.P(
                [severity_tag(finding.severity), " ", html.A(f"F{place} {finding.rule}", href=href, className="mono")]
            ),
            html.P(finding.message, className="finding-message"),
            html.P(
                [
                    html.Span(line.what, className="dimmed"),
                    " ",
                    html.Img(src=image, alt=line.what, className="sparkline"),
                ],
                className="lesson-line",
            )
            if image
            else None,
            html.Ul(
                [html.Li(_evidence(each)) for each in finding.evidence[:MOST_EVIDENCE]], className="lesson-evidence"
            ),
            html.P(["Cure: ", html.Strong(best.title), " ", effect_tag(best)]) if best else None,
        ],
        className="lesson-finding",
    )


def _evidence(evidence: Evidence) -> str:
    """A number with its name and its healthy range."""
    value = f"{number(evidence.value)} {evidence.unit}".rstrip()
    return f"{evidence.name}: {value}{f' (healthy {evidence.healthy})' if evidence.healthy else ''}"


def _links(snapshot: Snapshot) -> Component:
    """Where to look through the run."""
    address = Address("overview", snapshot.name)
    pages = (("Open the run", address), ("Layers", address.of_run("layers")), ("Checks", address.of_run("checks")))
    return html.P(
        [html.A(title, href=target.href, className="button") for title, target in pages], className="lesson-links"
    )
