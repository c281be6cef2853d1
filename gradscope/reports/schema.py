"""The published JSON Schema of what `-f json` prints."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

FILE = Path("assets") / "schemas" / "report.schema.json"


def schema_text() -> str:
    """The schema as it is packaged, of a report, of a checked one and of an error.

    Example:
        >>> import json
        >>> json.loads(schema_text())["$schema"]
        'https://json-schema.org/draft/2020-12/schema'
    """
    package = Path(str(files("gradscope")))
    places = (package / FILE, package.parent / FILE)  # of a wheel, of the checkout
    return next(place for place in places if place.is_file()).read_text(encoding="utf-8")
