"""Findings as workflow commands, which GitHub Actions reads from a step's output and shows beside the lines of code."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping

from gradscope.reports.envelope import Document
from gradscope.reports.gate import spared
from gradscope.reports.locations import file_from
from gradscope.reports.words import harmless

_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


def render(document: Document, root: str = "") -> str:
    """One command a line for each finding that is neither muted nor known.

    Args:
        document: of a run.
        root: the repository's folder; files are named from there.

    Example:
        >>> from gradscope.diagnosis import diagnose
        >>> from gradscope.reports import document
        >>> from gradscope.rules.handwritten import run
        >>> sick = run({"a": 1e-9, "b": 1.0}, loss=2.3)
        >>> render(document(sick, diagnose(sick)))[:43]
        '::error title=GradScope vanishing-gradient:'
    """
    skipped = spared(document)
    told = (each for each in document["findings"] if each["number"] not in skipped)
    return "".join(f"{_command(finding, document, root)}\n" for finding in told)


def _command(finding: Document, document: Document, root: str) -> str:
    properties = {}
    place = next(iter(finding.get("locations", ())), None)
    if place is not None:
        properties["file"] = file_from(root, document["run"]["directory"], place["file"])
        if place["line"]:
            properties["line"] = str(place["line"])
    properties["title"] = f"GradScope {finding['rule']}"
    said = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{_COMMANDS[finding['severity']]} {said}::{_data(_message(finding))}"


def _message(finding: Document) -> str:
    said = [finding["message"]]
    if finding["causes"]:
        said.append(f"Why: {finding['causes'][0]['explanation']}")
    if finding["suggestions"]:
        said.append(f"Try: {finding['suggestions'][0]['title']}")
    return "\n".join(f"{harmless(line).rstrip('.')}." for line in said)


def _data(text: str) -> str:
    r"""Text after the last `::` of a command.

    Example:
        >>> _data("100 %\n::error::x")
        '100 %25%0A::error::x'
    """
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Text of a property, which a comma or a colon would end."""
    return _data(harmless(text)).replace(":", "%3A").replace(",", "%2C")


def quietly(text: str) -> str:
    """Text between two commands that make GitHub take no line of it for a command, whatever the user's names say.

    Example:
        >>> quietly("::error::no\\n").splitlines()[1]
        '::error::no'
    """
    token = secrets.token_hex(16)  # nobody can write a name that ends it
    return f"::stop-commands::{token}\n{text}::{token}::\n" if text else ""


def root(environment: Mapping[str, str]) -> str:
    """The repository's folder: what GitHub says, else where we are."""
    return environment.get("GITHUB_WORKSPACE") or os.getcwd()
