"""The published JSON Schemas of what `-f json` prints."""

from __future__ import annotations

from typing import Literal

from gradscope.packaged import packaged

Kind = Literal["report", "comparison"]


def schema_text(kind: Kind = "report") -> str:
    """A schema as it is packaged: of a report, a checked one or an error, or of a comparison or an error.

    Example:
        >>> import json
        >>> json.loads(schema_text())["$schema"]
        'https://json-schema.org/draft/2020-12/schema'
    """
    return packaged(f"schemas/{kind}.schema.json").read_text(encoding="utf-8")
