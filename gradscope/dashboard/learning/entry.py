"""What an entry of the glossary is made of."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """One word: three sentences, a picture, and the lesson that says more ("": none)."""

    word: str
    sentences: tuple[str, str, str]
    picture: str
    topic: str = ""
    also: tuple[str, ...] = ()  # other words for it
