"""One lesson: what it is, its picture, how it goes wrong, how GradScope sees it, what to do."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from gradscope.catalogue import remedies, rules
from gradscope.dashboard.address import Address
from gradscope.dashboard.learning.examples import EXAMPLE
from gradscope.dashboard.learning.topic import Topic
from gradscope.dashboard.learning.topics import TOPICS
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.parts.rich_text import rich_text
from gradscope.dashboard.parts.term import picture


def draw_topic(topic: Topic) -> list[Component]:
    """The text of a lesson."""
    first, *others = topic.pictures
    return [
        html.P([html.A("Learn", href="/learn"), f" › {topic.group}"], className="dimmed lesson-path"),
        html.H1(topic.title),
        html.P(topic.line, className="lesson-lead"),
        html.H2("What it is"),
        html.P(rich_text(topic.what[0])),
        html.Div([html.P(rich_text(formula)) for formula in topic.formulas], className="formulas"),
        *(html.P(rich_text(text)) for text in topic.what[1:]),
        _picture(*first),
        *(_picture(*each) for each in others),
        html.H2("How it goes wrong"),
        html.Ul([html.Li(rich_text(text)) for text in topic.wrong]),
        html.H2("How GradScope sees it"),
        html.Ul([_rule(topic, *each) for each in topic.sees], className="plain lesson-rules"),
        html.H2("What to do"),
        html.Ol([_advice(*each) for each in topic.do]),
        _neighbours(topic),
    ]


def _picture(name: str, caption: str) -> Component:
    return html.Figure(
        [picture(name), html.Figcaption(rich_text(caption), className="dimmed")], className="card lesson-figure"
    )


def _rule(topic: Topic, rule: str, looks_at: str) -> Component:
    """What a rule looks at here; its name leads to what came of it in the packaged run."""
    known = rules()[rule]
    checks = Address("checks", f"{EXAMPLE}{topic.demo}").href
    return html.Li(
        [
            html.A(rule, href=f"{checks}#check-{rule}", className="mono"),
            html.Span([": looks at ", *rich_text(looks_at), ". "]),
            html.Span(f"It finds: {known.summary[0].lower()}{known.summary[1:]}", className="dimmed"),
        ]
    )


def _advice(text: str, remedy: str) -> Component:
    known = remedies().get(remedy)
    named = html.Span([" Remedy: ", html.Span(known.id, className="mono")], className="dimmed") if known else None
    return html.Li([*rich_text(text), named])


def _neighbours(topic: Topic) -> Component:
    """The lessons before and after."""
    names = list(TOPICS)
    place = names.index(topic.id)
    links = []
    if place:
        links.append(_neighbour("← ", TOPICS[names[place - 1]], ""))
    if place + 1 < len(names):
        links.append(_neighbour("", TOPICS[names[place + 1]], " →"))
    return html.Nav(links, className="lesson-neighbours", **aria(label="Lessons before and after"))


def _neighbour(before: str, topic: Topic, after: str) -> Component:
    return html.A(f"{before}{topic.title}{after}", href=Address("learn", topic=topic.id).href)
