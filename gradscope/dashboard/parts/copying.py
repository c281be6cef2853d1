"""Text to take along: a button that puts it on the clipboard, code and diffs with one (assets/finding.js does it)."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.parts.aria import aria

_LINE_KINDS = (("---", "file"), ("+++", "file"), ("@@", "place"), ("+", "added"), ("-", "removed"))


def copy_button(text: str, label: str = "Copy", what: str = "") -> Component:
    """A button that copies a text; `what` says of it what stands beside it for those who see."""
    named = aria(label=f"{label} {what}") if what else {}
    return _button(label, {"data-copy": text, **named})


def link_button() -> Component:
    """A button that copies the address of the finding that is shown."""
    return _button("Copy link", {"data-copy-link": "1"})


def _button(label: str, more: dict[str, Any]) -> Component:
    return html.Button(label, type="button", className="button copy", **more)


def code_block(code: str, what: str = "the code") -> Component:
    """Python code with its button."""
    shown = dmc.CodeHighlight(code=code, language="python", withCopyButton=False)
    return html.Div([shown, copy_button(code, what=what)], className="copied-block")


def command_line(command: str, what: str = "the command") -> Component:
    """A command with its button."""
    return html.Div(
        [html.Code(command, className="mono command"), copy_button(command, what=what)], className="copied-line"
    )


def diff_block(patch: str, what: str = "the diff") -> Component:
    """A unified diff with its button; what goes and what comes is told by sign, shade and colour."""
    lines = [
        html.Span(f"{line}\n", className=f"diff-{_kind(line)}") for line in patch.rstrip().expandtabs(4).split("\n")
    ]
    shown = html.Pre(html.Code(lines), className="diff")
    return html.Div([shown, copy_button(patch, what=what)], className="copied-block")


def _kind(line: str) -> str:
    return next((kind for start, kind in _LINE_KINDS if line.startswith(start)), "same")
