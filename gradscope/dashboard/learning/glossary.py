"""The glossary by word; other words for the same, and titles of lessons, are found too."""

from __future__ import annotations

from functools import cache

from gradscope.dashboard.learning.entry import Entry
from gradscope.dashboard.learning.words_of_gradients import GRADIENTS
from gradscope.dashboard.learning.words_of_gradscope import GRADSCOPE

ENTRIES: dict[str, Entry] = {
    entry.word: entry for entry in sorted((*GRADIENTS, *GRADSCOPE), key=lambda each: each.word)
}


def anchor(word: str) -> str:
    """The id of a word's entry on the index page.

    Example:
        >>> anchor("backward gain")
        'backward-gain'
    """
    return word.lower().replace(" ", "-")


@cache
def _by_any_word() -> dict[str, Entry]:
    words = {also.lower(): entry for entry in ENTRIES.values() for also in entry.also}
    return words | {word.lower(): entry for word, entry in ENTRIES.items()}


def find(word: str) -> Entry | None:
    """The entry of a word, in any of its forms; None where there is none.

    Example:
        >>> find("Decades").word
        'decade'
    """
    return _by_any_word().get(word.lower())
