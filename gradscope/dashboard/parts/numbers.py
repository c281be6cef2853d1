"""The five numbers under the verdict."""

from __future__ import annotations

from dash import html

from gradscope.dashboard.address import Address
from gradscope.reports.cards import Card as Card
from gradscope.reports.cards import cards as cards
from gradscope.reports.metrics import DEFAULT_METRIC

_METRICS = {"Gradient norm": "gradient-norm"}  # that a card's number is about, where it is not the default


def draw_cards(shown: tuple[Card, ...], address: Address) -> list[html.Div]:
    """The cards as a description list's items; those with a metric lead to its timeline."""
    return [
        html.Div(
            [
                html.Dt(html.A(card.label, href=_leads_to(card, address))),
                html.Dd(card.value, className=f"number tone-{card.tone}" if card.tone else "number"),
                html.Dd(card.note, className="dimmed"),
            ],
            className="card number-card",
        )
        for card in shown
    ]


def _leads_to(card: Card, address: Address) -> str:
    if card.label == "Recording overhead":
        return address.of_run("about").href
    return address.of_run("timeline", metric=_METRICS.get(card.label, DEFAULT_METRIC)).href
