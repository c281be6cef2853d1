"""The report as one plain document: what the other formats render and `-f json` prints.

JSON knows no NaN. A number that is none is null here, and a key beside it says which and why: `"loss": null` comes
with `"loss_words": "NaN"`. A list with such places has one object beside it, `"values_words": {"3": "NaN or Inf"}`,
keyed by position. A null without words does not occur.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gradscope.numerals import non_finite_word
from gradscope.records import SEVERITIES, Check, Diagnosis, Finding, Run, RunInfo
from gradscope.reports.benchmark import Rate, rate_of_cause
from gradscope.reports.envelope import Document, envelope
from gradscope.reports.locations import locations
from gradscope.reports.numbers import Count, HeadlineNumbers, Latest, headline_numbers
from gradscope.reports.strips import Strip, strips
from gradscope.signals import Signals


def document(run: Run, diagnosis: Diagnosis, folder: Path | str | None = None) -> Document:
    """Everything that a report says, as dicts, lists, strings and numbers that JSON can hold.

    Args:
        run: what was recorded.
        diagnosis: what `diagnosis.diagnose` said of it.
        folder: where the run is; the report names it and the command that opens it.
    """
    signals = Signals(run)
    return {
        **envelope(),
        "run": _run(run, len(signals.steps), folder),
        "verdict": diagnosis.verdict,
        "headline": diagnosis.headline,
        "numbers": _numbers(headline_numbers(run, signals)),
        "findings": [
            {**finding_document(f"F{position}", finding), "locations": locations(run.info, finding)}
            for position, finding in enumerate(diagnosis.findings, 1)
        ],
        "counts": _counts(diagnosis),
        "checks": {
            "passed": [check.rule for check in diagnosis.passed if check.outcome == "passed"],
            "needs_data": _reasons(diagnosis.passed, "needs-data"),
            "not_applicable": _reasons(diagnosis.passed, "not-applicable"),
            "could_not_run": _reasons(diagnosis.passed, "could-not-run"),
        },
        "not_observed": [{"what": missing.what, "why": missing.why} for missing in diagnosis.not_observed],
        "strips": [_strip(strip) for strip in strips(signals, diagnosis)],
        "next_command": f"gradscope dashboard {shlex.quote(str(folder))}" if folder else "gradscope dashboard runs",
    }


def _run(run: Run, recorded: int, folder: Path | str | None) -> Document:
    info: RunInfo = run.info
    seen = [int(run.steps["step"][end]) for end in (0, -1)] if len(run.steps) else []
    return {
        "id": info.id,
        "model": info.model,
        "folder": str(folder) if folder else "",
        "state": info.state,
        "created": info.created,
        **_number("ended", info.ended, "not ended"),
        "script": info.script,
        "directory": info.directory,
        "device": info.device,
        "ranks": info.world_size,
        "parallel": info.parallel,
        "criterion": info.criterion,
        "optimizers": [encode({"kind": each.kind, "options": each.options}) for each in info.optimizers],
        "versions": info.versions,
        "steps": seen[1] - seen[0] + 1 if seen else 0,  # rows of old ones may have been thinned
        "recorded_steps": recorded,
        **_number("first_step", seen[0] if seen else None),
        **_number("last_step", seen[1] if seen else None),
    }


def _numbers(numbers: HeadlineNumbers) -> Document:
    return {
        "loss": _latest(numbers.loss),
        "gradient_norm": _latest(numbers.gradient_norm),
        "non_finite_tensors": _count(numbers.non_finite_tensors),
        "healthy_layers": _count(numbers.healthy_layers),
        "overhead": _number("share", numbers.overhead),
    }


def _latest(latest: Latest) -> Document:
    return {
        **_number("value", latest.value),
        **_number("step", latest.step),
        **_number("last_finite", latest.last_finite),
        **_number("last_finite_step", latest.last_finite_step),
    }


def _count(count: Count) -> Document:
    return {"number": count.number, "of": count.of}


def _number(name: str, value: float | None, absent: str = "not recorded") -> Document:
    if value is None:
        return {name: None, f"{name}_words": absent}
    if not math.isfinite(value):
        return {name: None, f"{name}_words": non_finite_word(value)}
    return {name: value}


def finding_document(number: str, finding: Finding) -> Document:
    """One finding as a part of the document, without its places in the program."""
    return {
        "number": number,
        "rule": finding.rule,
        "severity": finding.severity,
        "message": finding.message,
        "follows": finding.follows or "",
        "layers": list(finding.layers),
        "first_step": int(finding.first_step),
        "last_step": int(finding.last_step),
        "evidence": [
            {
                "name": evidence.name,
                **_number("value", float(evidence.value)),
                "unit": evidence.unit,
                **_number("threshold", evidence.threshold, "none"),
                "healthy": evidence.healthy,
            }
            for evidence in finding.evidence
        ],
        "causes": [
            {
                "id": cause.id,
                **_number("confidence", float(cause.confidence)),
                "explanation": cause.explanation,
                **_measured(rate_of_cause(finding, place)),
            }
            for place, cause in enumerate(finding.causes)
        ],
        "suggestions": [
            {
                "remedy": suggestion.remedy,
                "title": suggestion.title,
                "why": suggestion.why,
                "code": suggestion.code,
                "location": suggestion.location or "",
                "patch": suggestion.patch,
                "basis": suggestion.basis,
                "needs_edit": suggestion.needs_edit,
                "effect": str((suggestion.trial or {}).get("effect", "")),
                "trial": encode(suggestion.trial or {}),
            }
            for suggestion in finding.suggestions
        ],
    }


def _measured(rate: Rate | None) -> Document:
    """How often a cause was right in the benchmark, where that is known."""
    return {} if rate is None else {"benchmark": {"named_first": rate.first, "right": rate.right}}


def _counts(diagnosis: Diagnosis) -> dict[str, int]:
    severities = [finding.severity for finding in diagnosis.findings]
    outcomes = [check.outcome.replace("-", "_") for check in diagnosis.passed]
    return {
        **{severity: severities.count(severity) for severity in reversed(SEVERITIES)},
        **{outcome: outcomes.count(outcome) for outcome in ("passed", "needs_data", "not_applicable", "could_not_run")},
    }


def _reasons(checks: Iterable[Check], outcome: str) -> list[dict[str, str]]:
    return [{"rule": check.rule, "reason": check.reason} for check in checks if check.outcome == outcome]


def _strip(strip: Strip) -> Document:
    words = {str(place): word for place, word in enumerate(strip.words) if word}
    content: Document = {
        "layer": strip.layer,
        "quantity": "backward gain",
        "steps": list(strip.steps),
        "values": list(strip.values),
    }
    return {**content, "values_words": words} if words else content


def encode(value: Any) -> Any:
    """Any nest of dicts, lists and plain or numpy numbers as JSON can hold it; see the top of this file."""
    if isinstance(value, dict):
        encoded: Document = {}
        for key, item in value.items():
            encoded[str(key)] = encode(item)
            words = _words(item)
            if words:
                encoded[f"{key}_words"] = words
        return encoded
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if hasattr(value, "tolist"):  # numpy, both arrays and scalars
        return encode(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def _words(item: object) -> str | dict[str, Any]:
    """The words that belong beside an encoded item; empty when it needs none."""
    if hasattr(item, "tolist"):
        item = item.tolist()
    if item is None:
        return "none"
    if isinstance(item, float) and not math.isfinite(item):
        return non_finite_word(item)
    if isinstance(item, (list, tuple)):
        return {str(place): words for place, each in enumerate(item) if (words := _words(each))}
    return ""
