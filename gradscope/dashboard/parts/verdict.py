"""The verdict: a word, one sentence, and what to do next."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.address import Address
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.parts.tag import effect_tag
from gradscope.dashboard.wording import VERDICT_SENTENCES
from gradscope.records import Diagnosis
from gradscope.reports.words import SHAPES, VERDICT_SEVERITY, VERDICT_WORDS


def tab_title(diagnosis: Diagnosis) -> str:
    """The browser tab's text: "▲ Broken · gradscope"."""
    return f"{_shape(diagnosis)} {VERDICT_WORDS[diagnosis.verdict]} · gradscope"


def mark(diagnosis: Diagnosis) -> dict[str, str]:
    """The shape and the tone of the verdict, for the tab's icon."""
    return {"shape": _shape(diagnosis), "tone": _tone(diagnosis)}


def badge(diagnosis: Diagnosis) -> list[Component | str]:
    """The verdict in a word, for the header: "▲ Broken"."""
    return [html.Span(_shape(diagnosis), **aria(hidden="true")), f" {VERDICT_WORDS[diagnosis.verdict]}"]


def verdict_tone(diagnosis: Diagnosis) -> str:
    """The class of the verdict's colour."""
    return f"verdict tone-{_tone(diagnosis)}"


def headline(diagnosis: Diagnosis) -> list[Component]:
    """The verdict's word and sentence, announced by screen readers when they change."""
    shape, sentence = html.Span(_shape(diagnosis), **aria(hidden="true")), VERDICT_SENTENCES[diagnosis.verdict]
    return [html.P([shape, " ", sentence], className="verdict-word"), html.H1(diagnosis.headline)]


def next_step(diagnosis: Diagnosis, address: Address) -> list[Component | str]:
    """The first suggestion of the first finding that has one; nothing when there is none."""
    for number, finding in enumerate(diagnosis.findings, 1):
        if finding.suggestions:
            best = finding.suggestions[0]
            return [
                html.Span("Next: ", className="dimmed"),
                html.Strong(best.title),
                " ",
                effect_tag(best),
                html.A(
                    "Show the fix", href=address.at(finding=f"F{number}", layer=None).href + "#do", className="button"
                ),
            ]
    return []


def _tone(diagnosis: Diagnosis) -> str:
    return VERDICT_SEVERITY[diagnosis.verdict] or "ok"


def _shape(diagnosis: Diagnosis) -> str:
    return SHAPES[VERDICT_SEVERITY[diagnosis.verdict]][0]
