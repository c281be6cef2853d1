"""The report as JSON text."""

from __future__ import annotations

import json

from gradscope.reports.envelope import Document


def render(document: Document) -> str:
    """The document as JSON, in ASCII so that every stream carries it whole, ending in a line end.

    Example:
        >>> print(render({"verdict": "healthy"}), end="")
        {
          "verdict": "healthy"
        }
    """
    return json.dumps(document, indent=2, allow_nan=False) + "\n"
