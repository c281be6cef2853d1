"""Attributes for people who do not see the page."""

from __future__ import annotations

from typing import Any


def aria(**attributes: str) -> dict[str, Any]:
    """`aria-…` attributes as keyword arguments of a component.

    Example:
        >>> aria(live="polite", hidden="true")
        {'aria-live': 'polite', 'aria-hidden': 'true'}
    """
    return {f"aria-{name}": value for name, value in attributes.items()}
