"""The tags of severity and of effect: a shape and a word, never a colour alone."""

from __future__ import annotations

from dash import html

from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.wording import SEVERITY_WORDS
from gradscope.records import Severity, Suggestion
from gradscope.reports.words import SHAPES, basis


def severity_tag(severity: Severity) -> html.Span:
    """`▲ Error`."""
    return html.Span(
        [html.Span(SHAPES[severity][0], **aria(hidden="true")), f" {SEVERITY_WORDS[severity]}"],
        className=f"severity tone-{severity}",
    )


def effect_tag(suggestion: Suggestion) -> html.Span:
    """What a suggestion rests on: a trial of this run, "estimate", or that it needs the user's edit."""
    trial = suggestion.trial or {}
    shape, said, colour = basis({"basis": suggestion.basis, "effect": trial.get("effect", "")})
    kind = {"green": "measured", "yellow": "measured", "red": "failed"}.get(colour, "estimate")
    title = str(trial.get("outcome") or suggestion.needs_edit or "Not tried on this training yet")
    return html.Span(f"{shape} {said}".strip(), className=f"tag tag-{kind}", title=title)
