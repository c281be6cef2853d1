"""The index of the lessons, and the glossary below it."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.address import Address
from gradscope.dashboard.figures.lesson_lines import Curves
from gradscope.dashboard.learning.entry import Entry
from gradscope.dashboard.learning.glossary import ENTRIES, anchor
from gradscope.dashboard.learning.pictures import PICTURES
from gradscope.dashboard.learning.topic import GROUPS, Topic
from gradscope.dashboard.learning.topics import TOPICS, grouped
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.parts.term import picture

_PLOT = "#svgView(viewBox(56,18,372,198))"  # the curves of a drawing, without its words


def draw_index(asked: str | None = None) -> list[Component]:
    """The index. `asked`: a lesson that does not exist."""
    missing = [html.P(f"There is no lesson “{asked}”. These are all:", role="status")] if asked else []
    return [
        html.H1("Learn"),
        *missing,
        html.P(
            "How training works and how it fails, one short page each: a formula, a picture that was computed, and a real "
            "recorded run of it that you can open and look through.",
            className="lesson-lead",
        ),
        html.P(
            [
                "New here? Begin with ",
                _link(TOPICS["vanishing"]),
                ", then ",
                _link(TOPICS["skip-connections"]),
                ". A word with a dotted line below it opens what it means; all of them are in the ",
                html.A("glossary", href="/learn#glossary"),
                ".",
            ],
            className="dimmed",
        ),
        html.Div([_group(group, topics) for group, topics in grouped().items()], className="lesson-groups"),
        _glossary(),
    ]


def _link(topic: Topic) -> Component:
    return html.A(topic.title, href=Address("learn", topic=topic.id).href)


def _group(group: str, topics: list[Topic]) -> Component:
    return html.Section(
        [
            html.H2(group),
            html.P(GROUPS[group], className="dimmed"),
            html.Ul([html.Li(_card(topic)) for topic in topics], className="plain lesson-cards"),
        ],
        className="lesson-group",
    )


def _card(topic: Topic) -> Component:
    """The whole card is a link; its picture is there for the eye only."""
    name = topic.pictures[0][0]
    view = _PLOT if isinstance(PICTURES[name].data(), Curves) else ""
    return html.A(
        [
            html.Span(picture(name, view), className="lesson-thumbnail", **aria(hidden="true")),
            html.Span(topic.title, className="lesson-title"),
            html.Span(topic.line, className="dimmed"),
        ],
        href=Address("learn", topic=topic.id).href,
        className="card lesson-card",
    )


def _glossary() -> Component:
    entries = [html.Div(_entry(entry), className="card glossary-entry") for entry in ENTRIES.values()]
    return html.Section(
        [
            html.H2("Glossary", id="glossary"),
            html.P(
                "Three sentences each. The same open wherever a word has a dotted line below it.", className="dimmed"
            ),
            html.Div(entries, className="glossary"),
        ],
        className="lesson-group",
    )


def _entry(entry: Entry) -> list[Component | None]:
    also = f"also: {', '.join(entry.also)}" if entry.also else None
    topic = TOPICS.get(entry.topic)
    return [
        html.H3(entry.word, id=anchor(entry.word)),
        html.P(also, className="dimmed glossary-also") if also else None,
        html.P(" ".join(entry.sentences)),
        html.Details([html.Summary("Picture"), picture(entry.picture)], className="fold"),
        html.P(["Lesson: ", _link(topic)]) if topic else None,
    ]
