"""The tags of severity and of effect: a shape and a word, never a colour alone."""

from __future__ import annotations

from dash import html

from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.wording import SEVERITY_WORDS
from gradscope.records import Severity, Suggestion
from gradscope.reports.words import EFFECTS, SHAPES, tried


def severity_tag(severity: Severity) -> html.Span:
    """`▲ Error`."""
    return html.Span(
        [html.Span(SHAPES[severity][0], **aria(hidden="true")), f" {SEVERITY_WORDS[severity]}"],
        className=f"severity tone-{severity}",
    )


def effect_tag(suggestion: Suggestion) -> html.Span:
    """`✓ measured on this training` or `✗ tried, did not help` where a trial of this run is on record, else `estimate`."""
    if suggestion.trial is None:
        return html.Span("estimate", className="tag tag-estimate", title="Not tried on this training yet")
    effect = str(suggestion.trial.get("effect", "helped"))
    shape = EFFECTS.get(effect, EFFECTS["helped"])[0]
    kind = "failed" if effect == "failed" else "measured"
    title = str(suggestion.trial.get("outcome", "Tried on this training, beside controls"))
    return html.Span(f"{shape} {tried(effect)}", className=f"tag tag-{kind}", title=title)
