"""What every document has around it: its schema, the version that wrote it, and the form that an error has."""

from __future__ import annotations

from typing import Any

from gradscope import __version__

SCHEMA_VERSION = 1  # of the documents; a run on disk has its own

Document = dict[str, Any]


def envelope(**content: Any) -> Document:
    """A document of this content.

    Example:
        >>> list(envelope(verdict="healthy"))
        ['schema_version', 'gradscope', 'verdict']
    """
    return {"schema_version": SCHEMA_VERSION, "gradscope": __version__, **content}


def error_document(error: Exception) -> Document:
    """The document in the place of one that could not be made."""
    return envelope(error={"kind": type(error).__name__, "message": str(error)})
