"""What stands on the page when there is nothing to draw: why, and what to do next."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.parts.aria import aria

_RECORD = """import gradscope

scope = gradscope.watch(model, optimizer)   # before the training loop"""


def notice(title: str, text: str, code: str = "") -> Component:
    """A card with a title, a reason and, perhaps, code to copy."""
    return html.Div(
        [html.H2(title), html.P(text), html.Pre(html.Code(code)) if code else None],
        className="card notice",
    )


def no_run(folder: str) -> Component:
    """For a folder without runs."""
    return notice(
        "No run here yet",
        f"{folder} holds no recorded training. Start one as below; it appears here by itself.",
        _RECORD,
    )


def no_step(run: str, age: str) -> Component:
    """For a run without steps, on a page that needs some."""
    return html.Div(
        [html.H1(f"{run} has no step yet"), no_step_yet(age)],
        className="problem",
    )


def no_step_yet(age: str) -> Component:
    """What to check when no step comes."""
    return notice(
        "What to check",
        f"The run has no step yet; it was last written {age} ago. The first numbers appear when the optimizer's first "
        "step closes. If the training has moved on, check that it steps the optimizer that was given to watch().",
    )


def problem(title: str, text: str) -> Component:
    """Instead of a page that cannot be shown: what happened, and what to do."""
    hint = "Nothing was changed on disk. Choose another run, or record the training again."
    return html.Div(
        [
            html.H1([html.Span("▲ ", className="tone-error", **aria(hidden="true")), title]),
            notice("What happened", f"{text} {hint}"),
        ],
        className="problem",
    )
