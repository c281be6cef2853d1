"""The verdict: a word, one sentence, and what to do next."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from gradscope.dashboard import ids
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.parts.tag import effect_tag
from gradscope.dashboard.wording import VERDICTS
from gradscope.records import Diagnosis


def tab_title(diagnosis: Diagnosis) -> str:
    """The browser tab's text: "▲ Broken · gradscope"."""
    shape, word, _, _ = VERDICTS[diagnosis.verdict]
    return f"{shape} {word} · gradscope"


def verdict_tone(diagnosis: Diagnosis) -> str:
    """The class of the verdict's colour."""
    return f"verdict tone-{VERDICTS[diagnosis.verdict][3]}"


def headline(diagnosis: Diagnosis) -> list[Component]:
    """The verdict's word and sentence, announced by screen readers when they change."""
    shape, _, sentence, _ = VERDICTS[diagnosis.verdict]
    return [
        html.P([html.Span(shape, **aria(hidden="true")), " ", sentence], className="verdict-word"),
        html.H1(diagnosis.headline, id=ids.HEADLINE),
    ]


def next_step(diagnosis: Diagnosis) -> list[Component | str]:
    """The first suggestion of the first finding that has one; nothing when there is none."""
    for number, finding in enumerate(diagnosis.findings, 1):
        if finding.suggestions:
            best = finding.suggestions[0]
            return [
                html.Span("Next: ", className="dimmed"),
                html.Strong(best.title),
                " ",
                effect_tag(best),
                html.Button("Show the fix", id=ids.opener(f"F{number}", "verdict"), className="button", n_clicks=0),
            ]
    return []
