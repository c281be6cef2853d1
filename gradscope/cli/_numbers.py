"""Whole numbers as options: what is refused says what was expected."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable


def whole(least: int = 0, most: int | None = None) -> Callable[[str], int]:
    """What reads a whole number from what was typed, for argparse.

    Example:
        >>> whole(1, 20)("5")
        5
    """
    bounds = f"of {least:,} or more" if most is None else f"from {least:,} to {most:,}"

    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or int(text) < least or (most is not None and int(text) > most):
            raise ArgumentTypeError(f"expected a whole number {bounds}, got {text}")
        return int(text)

    return read
