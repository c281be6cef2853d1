"""What stands on the page when there is nothing to draw: why, and what to do next."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

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
        f"{folder} holds no recorded training. Start one as below; this page opens it when it appears.",
        _RECORD,
    )


def no_step(age: str) -> Component:
    """For a run without steps."""
    return notice(
        "What to check",
        f"The run has no step yet; it was last written {age} ago. The first numbers appear when the optimizer's first "
        "step closes. If the training has moved on, check that it steps the optimizer that was given to watch().",
    )
