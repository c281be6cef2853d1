"""The lessons' texts as components: `_{…}`, `^{…}`, code in backquotes, `[[term]]` and `[[term|other words]]`."""

from __future__ import annotations

import re

from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.address import Address
from gradscope.dashboard.learning.glossary import find
from gradscope.dashboard.learning.topics import TOPICS
from gradscope.dashboard.parts.term import term

_MARK = re.compile(
    r"_\{(?P<sub>[^{}]*)\}|\^\{(?P<sup>[^{}]*)\}|`(?P<code>[^`]*)`|\[\[(?P<term>[^\]|]*)(?:\|(?P<words>[^\]]*))?\]\]"
)
_INNER_SUB = re.compile(r"([^_]*)_(\w)(.*)")


def rich_text(text: str) -> list[Component | str]:
    """The parts of a text.

    Example:
        >>> rich_text("x^{2}")
        ['x', Sup('2')]
    """
    parts: list[Component | str] = []
    end = 0
    for match in _MARK.finditer(text):
        if match.start() > end:
            parts.append(text[end : match.start()])
        parts.append(_part(match))
        end = match.end()
    return [*parts, text[end:]] if end < len(text) else parts


def _part(match: re.Match[str]) -> Component:
    if match["sub"] is not None:
        return html.Sub(match["sub"])
    if match["sup"] is not None:
        inner = _INNER_SUB.fullmatch(match["sup"])  # e^{z_k}: one level deeper
        return html.Sup([inner[1], html.Sub(inner[2]), inner[3]] if inner else match["sup"])
    if match["code"] is not None:
        return html.Code(match["code"])
    return _link(match["term"], match["words"] or match["term"])


def _link(name: str, words: str) -> Component:
    """A term of the glossary; a lesson by its id or its title."""
    if find(name) is not None:
        return term(name, words)
    topic = next(each for each in TOPICS.values() if name in (each.id, each.title))
    return html.A(words, href=Address("learn", topic=topic.id).href)
