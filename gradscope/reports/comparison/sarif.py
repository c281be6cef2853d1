"""A comparison of two runs as SARIF 2.1.0: the findings of B against the baseline A, and those of A that are gone."""

from __future__ import annotations

import json
import uuid
from typing import Any

from gradscope.reports import sarif
from gradscope.reports.comparison.words import differing, last_loss
from gradscope.reports.envelope import Document

_SIDES = ("name", "id", "folder", "model", "verdict", "headline", "first_step", "last_step", "loss")


def render(document: Document, a: Document, b: Document, root: str = "") -> str:
    """One SARIF log with one run, in ASCII, ending in a line end.

    Each result says its `baselineState`: "new" is in B only, "unchanged" in both, "updated" in both with another
    severity, "absent" in A only.

    Args:
        document: what `comparison_document` gave.
        a, b: the reports of both runs, what `reports.document` gave.
        root: the repository's folder; files are named from there.
    """
    before, log = (json.loads(sarif.render(report, root)) for report in (a, b))
    run = log["runs"][0]
    state = {line["number"]: "new" for line in document["only_b"]}
    state |= {pair["b"]["number"]: _kept(pair) for pair in document["both"]}
    gone = {line["number"] for line in document["only_a"]}
    results = [{**each, "baselineState": state[_number(each)]} for each in run["results"]]
    results += [
        _known_rule({**each, "baselineState": "absent"}, run)
        for each in before["runs"][0]["results"]
        if _number(each) in gone
    ]
    run["results"] = results
    run["automationDetails"] = {"id": "gradscope/compare/", "guid": _guid(document["b"])}
    run["baselineGuid"] = _guid(document["a"])
    run["properties"] = _properties(document)
    return json.dumps(log, indent=2, allow_nan=False) + "\n"


def _kept(pair: Document) -> str:
    return "unchanged" if pair["a"]["severity"] == pair["b"]["severity"] else "updated"


def _number(result: dict[str, Any]) -> str:
    """The finding's number in its own run."""
    return str(result["properties"]["number"])


def _known_rule(result: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """A result of the other log, whose rules may be in another order."""
    described = run["tool"]["driver"]["rules"]
    places = {rule["id"]: place for place, rule in enumerate(described)}
    name = result["ruleId"]
    if name not in places:
        described.append({"id": name, "name": "".join(part.capitalize() for part in name.split("-"))})
        places[name] = len(described) - 1
    return {**result, "ruleIndex": places[name]}


def _guid(side: Document) -> str:
    """A run's name for ever: the same for the same run."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"gradscope:{side['id']}"))


def _properties(document: Document) -> dict[str, Any]:
    sides = {
        letter: {**{name: document[letter][name] for name in _SIDES}, "loss_text": last_loss(document[letter])}
        for letter in "ab"
    }
    return {
        "conclusion": document["conclusion"],
        **sides,
        "settings": differing(document),
        "notes": document["notes"],
    }
