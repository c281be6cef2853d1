"""The report as SARIF 2.1.0, the format in which code scanners tell their results."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from gradscope.catalogue import rules
from gradscope.reports.baseline import fingerprint
from gradscope.reports.envelope import Document
from gradscope.reports.finding_markdown import finding_lines, plain
from gradscope.reports.gate import spared
from gradscope.reports.locations import file_from
from gradscope.reports.sarif_fix import replacements
from gradscope.reports.words import basis, harmless, sentence

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
FINGERPRINT = "gradscopeFinding/v1"
_WITH_LINES = ("text", "markdown")
_MOST_LAYERS = 100  # more say nothing in an issue, and viewers have their limits


def render(document: Document, root: str = "") -> str:
    """The report as one SARIF log with one run, in ASCII, ending in a line end.

    Args:
        document: of a run.
        root: the repository's folder; files are named from there.

    Example:
        >>> from gradscope.diagnosis import diagnose
        >>> from gradscope.reports import document
        >>> from gradscope.rules.handwritten import run
        >>> sick = run({"a": 1e-9, "b": 1.0}, loss=2.3)
        >>> log = json.loads(render(document(sick, diagnose(sick))))
        >>> [result["ruleId"] for result in log["runs"][0]["results"]]
        ['vanishing-gradient']
    """
    described = _rules(document)
    places = {rule["id"]: place for place, rule in enumerate(described)}
    run = {
        "tool": {"driver": {"name": "GradScope", "version": document["gradscope"], "rules": described}},
        "invocations": [_invocation(document)],
        "automationDetails": {"id": "gradscope/"},
        "columnKind": "utf16CodeUnits",
        "results": [_result(finding, document, places, root) for finding in document["findings"]],
        "properties": {
            name: document[name]
            for name in ("verdict", "headline", "run", "numbers", "counts", "check")
            if name in document
        },
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [_shown(run)]}
    return json.dumps(log, indent=2, allow_nan=False) + "\n"


def _shown(value: Any, name: str = "") -> Any:
    """The same with nothing in its texts that could steer who reads them; messages and code have lines."""
    if isinstance(value, Mapping):
        return {harmless(key): _shown(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_shown(each) for each in value]
    return harmless(value, keep="\n\t" if name in _WITH_LINES else "") if isinstance(value, str) else value


def _rules(document: Document) -> list[dict[str, Any]]:
    """All rules that there are, and those of the document that are none of ours."""
    known = rules()
    found = {finding["rule"] for finding in document["findings"]} - set(known)
    return [_rule(name, known.get(name)) for name in (*known, *sorted(found))]


def _rule(name: str, rule: Any) -> dict[str, Any]:
    title = "".join(part.capitalize() for part in name.split("-"))
    if rule is None:
        return {"id": name, "name": title}
    page = rule.page()
    return {
        "id": name,
        "name": title,
        "shortDescription": {"text": sentence(rule.summary)},
        "fullDescription": {"text": _escaped(page.split("\n\n")[1].replace("\n", " "))},
        "help": {"text": _escaped(page, keep="\n"), "markdown": _page_markdown(page)},
    }


def _page_markdown(page: str) -> str:
    """A rule's page: its paragraphs, and as code what is laid out in lines."""
    title, _, *paragraphs = page.split("\n\n")[0].split("\n") + page.split("\n\n")[1:]
    parts = [f"# {plain(title)}"]
    for paragraph in paragraphs:
        head, _, rest = paragraph.partition("\n")
        if rest.startswith("    "):
            lines = [line.strip() for line in re.sub(r"\n {8}", ": ", rest).split("\n")]
            parts.append("\n".join([f"**{plain(head)}**", "", *(f"- {plain(line)}" for line in lines)]))
        else:
            parts.append(plain(paragraph.replace("\n", " ")))
    return "\n\n".join(parts)


def _invocation(document: Document) -> dict[str, Any]:
    """That we ran, what of it failed, and what could not be seen."""
    failed = document["checks"]["could_not_run"]
    return {
        "executionSuccessful": True,
        "toolExecutionNotifications": [
            *(
                {
                    "level": "error",
                    "message": {"text": _escaped(each["reason"])},
                    "associatedRule": {"id": each["rule"]},
                }
                for each in failed
            ),
            *(
                {"level": "note", "message": {"text": _escaped(f"Not observed: {each['what']}: {each['why']}")}}
                for each in document["not_observed"]
            ),
        ],
    }


def _result(finding: Document, document: Document, places: Mapping[str, int], root: str) -> dict[str, Any]:
    directory = document["run"]["directory"]
    physical = [_physical(place, directory, root) for place in finding.get("locations", ())]
    layers = [_layer(layer) for layer in finding["layers"][:_MOST_LAYERS]]
    location = {**(physical[0] if physical else {}), **({"logicalLocations": layers} if layers else {})}
    reason = spared(document).get(finding["number"])
    fixes = [fix for each in finding["suggestions"] if (fix := _fix(each, directory, root)) is not None]
    return {
        "ruleId": finding["rule"],
        "ruleIndex": places[finding["rule"]],
        "level": finding["severity"],
        "message": {"text": _message(finding), "markdown": "\n".join(finding_lines(finding))},
        "locations": [location] if location else [],
        **({"relatedLocations": physical[1:]} if physical[1:] else {}),
        "partialFingerprints": {FINGERPRINT: fingerprint(finding)},
        **({"fixes": fixes} if fixes else {}),
        **({"suppressions": [{"kind": "external", "justification": reason}]} if reason else {}),
        "properties": {name: finding[name] for name in ("number", "first_step", "last_step", "follows")},
    }


def _message(finding: Document) -> str:
    said = [finding["message"]]
    if finding["causes"]:
        said.append(f"Why: {finding['causes'][0]['explanation']}")
    if finding["suggestions"]:
        first = finding["suggestions"][0]
        said.append(f"Try: {first['title']} ({basis(first)[1]})")
    return "\n".join(f"{_escaped(line).rstrip('.')}." for line in said)


def _escaped(text: str, keep: str = "") -> str:
    r"""Text that is read as it is where SARIF knows links and places to fill; characters in `keep` steer nobody.

    Example:
        >>> _escaped("[64, 64] [a](b) {0}")
        '[64, 64] \\[a](b) {{0}}'
    """
    text = harmless(text, keep)
    return re.sub(r"\{(\d+)\}", r"{{\1}}", re.sub(r"\[(?=[^\]]*\]\()", r"\\[", text))


def _layer(path: str) -> dict[str, str]:
    name = path or "(model)"
    return {"name": name.rpartition(".")[2] or name, "fullyQualifiedName": name, "kind": "layer"}


def _physical(place: Document, directory: str, root: str) -> dict[str, Any]:
    region = {"region": {"startLine": place["line"]}} if place["line"] else {}
    physical = {"artifactLocation": {"uri": _uri(place["file"], directory, root)}, **region}
    return {"physicalLocation": physical, "message": {"text": _escaped(place["what"])}}


def _uri(file: str, directory: str, root: str) -> str:
    """A file as an address: from the root, else as it was named."""
    path = file_from(root, directory, file)
    named = quote(path.encode("utf-8", "backslashreplace"), safe="/:" if os.path.isabs(path) else "/")
    return f"file://{'' if named.startswith('/') else '/'}{named}" if os.path.isabs(path) else named


def _fix(suggestion: Document, directory: str, root: str) -> dict[str, Any] | None:
    """What a suggestion's patch replaces; None where it has none that can be said exactly."""
    patch = suggestion["patch"]
    files = replacements(patch) if harmless(patch, keep="\n\t") == patch else {}  # else it would be said otherwise
    changes = [
        {"artifactLocation": {"uri": _uri(name, directory, root)}, "replacements": each} for name, each in files.items()
    ]
    return {"description": {"text": _escaped(suggestion["title"])}, "artifactChanges": changes} if changes else None
