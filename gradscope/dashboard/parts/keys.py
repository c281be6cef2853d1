"""The keys of the page, in a dialog."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import html
from dash.development.base_component import Component

from gradscope.dashboard import ids

KEYS = (
    ("/", "Search: jump to a layer, a finding, a step"),
    ("p", "Pause and resume: the page stands still, the recording goes on"),
    ("t", "Light or dark"),
    ("1 2 3", "Map rows by depth, by severity, by onset"),
    ("[ ]", "Previous and next step at which a finding begins"),
    ("← → ↑ ↓", "Move the cell of the map that is open"),
    ("Shift drag", "Timeline: what changed most in these steps"),
    ("↑ ↓", "Layers: the row before or after"),
    ("Esc", "Close what is open"),
    ("?", "This list"),
)


def help_dialog() -> Component:
    """The dialog, closed."""
    rows = [
        html.Tr([html.Th([html.Kbd(key) for key in keys.split()], scope="row"), html.Td(text)]) for keys, text in KEYS
    ]
    dialog: Component = dmc.Modal(
        [
            html.P(
                "The address holds everything that you see: copy it to lead somebody to the same view. "
                "Back undoes the last choice."
            ),
            html.Table(html.Tbody(rows), className="table keys"),
            html.P(["What the words mean: ", html.A("Learn", href="/learn"), "."]),
        ],
        id=ids.HELP,
        title="Keys and help",
        opened=False,
        size="lg",
        transitionProps={"duration": 0},
        closeButtonProps={"aria-label": "Close"},
    )
    return dialog
