"""The report as JUnit XML: each rule is a test, which fails where its finding is grave enough."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import cast
from xml.etree import ElementTree

from gradscope.records import SEVERITIES, Severity
from gradscope.reports.envelope import Document
from gradscope.reports.finding_words import follows, grade, measured, measured_rate, run_facts, seen, where
from gradscope.reports.gate import at_least, spared
from gradscope.reports.words import basis, harmless, sentence

_MOST_LAYERS = 20


def render(document: Document, fail_on: Severity = "error") -> str:
    """The report as one test suite, in ASCII, ending in a line end.

    Args:
        document: of a run; where it was checked, its `check` says what fails.
        fail_on: the least severity that fails a test where it was not.

    Example:
        >>> from gradscope.diagnosis import diagnose
        >>> from gradscope.reports import document
        >>> from gradscope.rules.handwritten import run
        >>> sick = run({"a": 1e-9, "b": 1.0}, loss=2.3)
        >>> suites = ElementTree.fromstring(render(document(sick, diagnose(sick))))
        >>> [case.get("name") for case in suites.iter("testcase") if case.find("failure") is not None]
        ['vanishing-gradient']
    """
    fail_on = cast(Severity, document.get("check", {}).get("fail_on", fail_on))
    cases = _cases(document, fail_on)
    failures, skipped = (str(sum(case.find(name) is not None for case in cases)) for name in ("failure", "skipped"))
    counts = {"tests": str(len(cases)), "failures": failures, "errors": "0"}
    suites = ElementTree.Element("testsuites", {"name": "gradscope", **counts})
    started = datetime.fromtimestamp(document["run"]["created"], timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    suite = ElementTree.SubElement(
        suites, "testsuite", {"name": "gradscope", **counts, "skipped": skipped, "timestamp": started}
    )
    _properties(suite, _facts(document))
    suite.extend(cases)
    ElementTree.indent(suites)
    text = ElementTree.tostring(suites, encoding="us-ascii").decode("ascii")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _facts(document: Document) -> dict[str, str]:
    numbers = document["numbers"]
    loss, norm = numbers["loss"], numbers["gradient_norm"]
    share = numbers["overhead"]["share"]
    return {
        "run": document["run"]["id"],
        "facts": run_facts(document["run"]),
        "verdict": document["verdict"],
        "headline": document["headline"],
        "loss": repr(loss["value"]) if loss["value"] is not None else loss["value_words"],
        "gradient_norm": repr(norm["value"]) if norm["value"] is not None else norm["value_words"],
        **{
            name: f"{numbers[name]['number']} of {numbers[name]['of']}"
            for name in ("non_finite_tensors", "healthy_layers")
        },
        "overhead": repr(share) if share is not None else numbers["overhead"]["share_words"],
        **{
            f"not observed {place}": f"{each['what']}: {each['why']}"
            for place, each in enumerate(document["not_observed"], 1)
        },
        "gradscope": document["gradscope"],
    }


def _cases(document: Document, fail_on: Severity) -> list[ElementTree.Element]:
    """A test for each rule, in order of their ids."""
    cases: dict[str, ElementTree.Element] = {}
    for rule in {finding["rule"] for finding in document["findings"]}:
        findings = [finding for finding in document["findings"] if finding["rule"] == rule]
        cases[rule] = _found(findings, document, fail_on)
    for rule in document["checks"]["passed"]:
        cases[rule] = _case(rule, document)
    for outcome in ("needs_data", "not_applicable", "could_not_run"):
        for check in document["checks"][outcome]:
            cases[check["rule"]] = case = _case(check["rule"], document)
            reason = f"{outcome.replace('_', ' ')}: {check['reason']}".removesuffix(": ")
            ElementTree.SubElement(case, "skipped", {"message": harmless(reason)})
    return [case for _, case in sorted(cases.items())]


def _case(rule: str, document: Document) -> ElementTree.Element:
    name = f"gradscope.{harmless(document['run']['model'])}"  # the same in each run: a CI follows a test by its name
    return ElementTree.Element("testcase", {"classname": name, "name": harmless(rule), "time": "0"})


def _found(findings: Sequence[Document], document: Document, fail_on: Severity) -> ElementTree.Element:
    """The test of a rule that found something: failed, skipped where all of it is spared, else passed with a note."""
    case = _case(findings[0]["rule"], document)
    worst = max((finding["severity"] for finding in findings), key=SEVERITIES.index)
    _properties(case, {"severity": worst, "findings": ", ".join(finding["number"] for finding in findings)})
    why = spared(document)
    counted = [finding for finding in findings if finding["number"] not in why]
    failing = [finding for finding in counted if at_least(finding["severity"], fail_on)]
    told = "\n\n".join(_told(finding, document) for finding in findings)
    if failing:
        message = harmless("; ".join(finding["message"] for finding in failing))
        failure = ElementTree.SubElement(case, "failure", {"message": message, "type": failing[0]["severity"]})
        failure.text = told
        return case
    if not counted:
        reasons = "; ".join(f"{finding['number']} is {why[finding['number']]}" for finding in findings)
        ElementTree.SubElement(case, "skipped", {"message": harmless(reasons)})
    ElementTree.SubElement(case, "system-out").text = told
    return case


def _told(finding: Document, document: Document) -> str:
    """All of a finding, in lines."""
    lines = [
        f"{finding['number']} {finding['severity']}: {finding['message']}",
        f"where: {where(finding['layers'], _MOST_LAYERS)}",
        f"when: {seen(finding, document['run']['last_step'])}",
        *([f"follows: {leading}"] if (leading := follows(finding, document["findings"])) else []),
        *(f"seen: {each['name']}: {measured(each)}" for each in finding["evidence"]),
    ]
    for position, cause in enumerate(finding["causes"]):
        rate = measured_rate(cause)
        lines.append(f"why: {grade(position, cause)}{cause['explanation']}{f' ({rate})' if rate else ''}")
    for each in finding["suggestions"]:
        place = f" At {each['location']}." if each["location"] else ""
        lines += [f"try: {each['title']} ({basis(each)[1]})", f"    {sentence(each['why'])}{place}"]
    return "\n".join(map(harmless, lines))


def _properties(parent: ElementTree.Element, facts: dict[str, str]) -> None:
    properties = ElementTree.SubElement(parent, "properties")
    for name, value in facts.items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": harmless(str(value))})
