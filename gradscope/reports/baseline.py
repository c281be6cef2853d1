"""Findings that are known already: a file of them, beside which only new ones count.

A baseline is JSON, for a repository: by fingerprint, so that it changes only where the findings do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gradscope.errors import BaselineError
from gradscope.records import SEVERITIES, Severity
from gradscope.reports.envelope import Document
from gradscope.reports.gate import at_least

BASELINE_VERSION = 1


def fingerprint(finding: Document) -> str:
    """What stays of a finding from run to run: its rule and its layers, in whatever order; neither steps nor numbers.

    Example:
        >>> one, other = ({"rule": "dead-units", "layers": layers} for layers in (["a", "b"], ["b", "a"]))
        >>> fingerprint(one) == fingerprint(other), len(fingerprint(one))
        (True, 64)
    """
    told = [finding["rule"], *sorted(set(finding["layers"]))]
    return hashlib.sha256(json.dumps(told).encode("ascii")).hexdigest()  # which spells out even lone surrogates


@dataclass(frozen=True)
class Known:
    """One finding of a baseline."""

    rule: str
    severity: Severity
    layers: frozenset[str]

    def holds(self, finding: Document) -> bool:
        """Whether it is this finding: the same rule, some of the same layers, and no graver than it was.

        Some, not all: with another seed a layer more or less lies over a threshold.

        Example:
            >>> known = Known("dead-units", "warning", frozenset({"a", "b"}))
            >>> known.holds({"rule": "dead-units", "severity": "warning", "layers": ["b", "c"]})
            True
        """
        layers = frozenset(finding["layers"])
        same_place = bool(self.layers & layers) or self.layers == layers
        return self.rule == finding["rule"] and same_place and at_least(self.severity, finding["severity"])


def baseline_text(findings: Iterable[Document]) -> str:
    """The baseline of these findings of a document.

    Example:
        >>> print(baseline_text([]).splitlines()[1])
          "schema_version": 1,
    """
    kept = {
        fingerprint(each): {"rule": each["rule"], "severity": each["severity"], "layers": sorted(set(each["layers"]))}
        for each in findings
    }
    content = {"schema_version": BASELINE_VERSION, "kind": "baseline", "findings": dict(sorted(kept.items()))}
    return json.dumps(content, indent=2) + "\n"


def read_baseline(file: Path) -> tuple[Known, ...]:
    """The findings of a baseline.

    Raises:
        BaselineError: it is not there, is none, or is of another version.
    """
    again = f"Write one with `gradscope check RUN --write-baseline {file}`."
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BaselineError(f"cannot read the baseline {file}: {error.strerror}. {again}") from error
    except (ValueError, RecursionError) as error:
        raise BaselineError(f"{file} is no baseline: it is no JSON ({error}). {again}") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != BASELINE_VERSION or content.get("kind") != "baseline":
        came = (
            f"it has version {version}"
            if isinstance(version, int) and version != BASELINE_VERSION
            else "it is other JSON"
        )
        raise BaselineError(f"{file} is no baseline of version {BASELINE_VERSION}: {came}. {again}")
    try:
        return tuple(_known(each) for each in content["findings"].values())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BaselineError(f"the baseline {file} is damaged: one of its findings cannot be read. {again}") from error


def _known(content: Any) -> Known:
    rule, severity, layers = content["rule"], content["severity"], content["layers"]
    if severity not in SEVERITIES or not isinstance(rule, str) or not isinstance(layers, list):
        raise ValueError
    return Known(rule, cast(Severity, severity), frozenset(layers))
