"""[24] Names come from the user's code: whatever they hold, each format shows it as text and nothing more."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from junitparser import JUnitXml
from markdown_it import MarkdownIt

from gradscope.records import (
    Cause,
    Check,
    Diagnosis,
    Evidence,
    Finding,
    NotObserved,
    Place,
    Severity,
    Suggestion,
)
from gradscope.reports import document, github, json_text, junit, markdown, sarif
from gradscope.reports.baseline import baseline_text
from gradscope.reports.envelope import Document
from gradscope.reports.gate import conclusion, gate
from gradscope.reports.words import harmless
from gradscope.rules.handwritten import run as by_hand
from tests.test_formats import SARIF, faults

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
NAMES = (
    "<img src=x onerror=alert(1)>",
    "</script></summary></details><script>alert(1)</script>",
    "]]><!-- & &amp; -->",
    "layer." * 50 + "größe",
    "a\n::error::b\r::stop-commands::c",
    "::set-output name=a::b",
    "x,line=1,title=y::z",
    "%0A::error::b%25",
    "[click](http://example.org) ![p](http://example.org/p.png) {0}",
    "a`b``c | d ``` e",
    "# 1. - > *x* _y_ ~z~ $m$ \\",
    "@everyone #12",
    "\u202eabc\u200b\x00\x1b[31m\ufffe",
    "\ud800",
)
OUR_TAGS = {"h2", "p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"} | {
    *("details", "summary", "strong", "code", "pre"),
}


def page_of(name: str) -> Document:
    """A document in which everything that a user can name has this name."""
    found = tuple(
        Finding(
            "dead-units",
            severity,
            (name, f"{name}.weight"),
            0,
            7,
            name,
            (Evidence(name, 1.0, name, 1.0, name),),
            (Cause("symmetric-init", 0.9, name),),
            (Suggestion("initialization", name, name, name, f"{name}.py:3: {name}", {"outcome": name}, patch=name),),
        )
        for severity in SEVERITIES
    )
    info = {
        **{"id": name, "model": name, "script": f"{name}.py", "command": (f"{name}.py",), "directory": "/home/user"},
        **{"versions": {name: name}, "places": (Place("class", f"/home/user/{name}.py", 3, name),)},
    }
    run = by_hand({name: 1e-9, "b": 1.0}, kinds={name: name}, optimizer=name, criterion=name, info=info)
    checks = (Check("loss-stalled", "needs-data", name), Check("unscaled-data", "could-not-run", name))
    diagnosis = Diagnosis("unhealthy", name, found, checks, (NotObserved(name, name),))
    return gate(document(run, diagnosis, name.replace("\x00", "")), "error", {"F3": name}, {})


def steers(text: str) -> list[str]:
    """The characters of a text that could steer who reads it."""
    return [
        char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn") and char not in "\n\t"
    ]


class _Tags(HTMLParser):
    """What a browser would find in a page: its tags with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[tuple[str, tuple[tuple[str, str | None], ...]]] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add((tag, tuple(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_markdown_shows_names_as_text(name: str) -> None:
    """No tag, link, picture or mention comes from a name, no folded part is ended by one, and it is shown whole."""
    text = markdown.render(page_of(name))
    read = _Tags(MarkdownIt("commonmark").enable("table").render(text))
    attributes = {("details", (("open", None),)), ("code", (("class", "language-diff"),))}
    assert {tag for tag, found in read.tags if not found} <= OUR_TAGS
    assert {(tag, found) for tag, found in read.tags if found} <= attributes
    assert read.text.count(harmless(name)) >= 10
    assert steers(text) == []
    assert re.findall(r"@(?!<!-- -->)\w", re.sub(r"(`+)(?:.|\n)*?\1", "", text)) == []


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_sarif_shows_names_as_text(name: str) -> None:
    """The log is valid, its addresses are, no text steers, and a link of a name is none."""
    text = sarif.render(page_of(name), "/home/user")
    log = json.loads(text)
    SARIF.validate(log)
    assert text.isascii()
    (run,) = log["runs"]
    for result in run["results"]:
        place = result["locations"][0]
        assert place["logicalLocations"][0]["fullyQualifiedName"] == harmless(name)
        assert re.fullmatch(r"[\w%.~/-]+", place["physicalLocation"]["artifactLocation"]["uri"], re.ASCII)
        assert not re.search(r"(?<!\\)\[[^\]]*\]\(|(?<!\{)\{\d", result["message"]["text"])

    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [each for item in value.items() for part in item for each in texts(part)]
        return [each for part in value for each in texts(part)] if isinstance(value, list) else [str(value)]

    assert [each for each in texts(log) if steers(each)] == []


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_junit_shows_names_as_text(name: str) -> None:
    """The XML is well-formed whatever a name holds, has no element of a name, and shows it."""
    text = junit.render(page_of(name))
    assert text.isascii()
    root = ElementTree.fromstring(text)
    ours = {"testsuites", "testsuite", "properties", "property", "testcase", "failure", "skipped", "system-out"}
    assert {element.tag for element in root.iter()} <= ours
    (suite,) = JUnitXml.fromstring(text.encode("utf-8"))
    assert {each.name: each.value for each in suite.properties()}["headline"] == harmless(name)
    assert harmless(name) in next(case for case in suite if case.name == "dead-units").result[0].text
    assert steers("".join(root.itertext())) == []


def unescaped(text: str) -> str:
    """What GitHub shows of an escaped text."""
    codes = {"%25": "%", "%0A": "\n", "%0D": "\r", "%3A": ":", "%2C": ","}
    return re.sub("|".join(codes), lambda found: codes[found[0]], text)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_github_gets_no_command_from_a_name(name: str) -> None:
    """Each finding that counts is one line with one command, whose file, line and title are ours."""
    text = github.render(page_of(name), "/home/user")
    lines = text.removesuffix("\n").split("\n")
    pattern = r"::(error|warning|notice) file=([^,:\r\n]*),line=(\d+),title=([^,:\r\n]*)::([^\r\n]*)"
    read = [re.fullmatch(pattern, line) for line in lines]
    assert [each and each[1] for each in read] == ["error", "warning"]  # the note is muted
    for each in filter(None, read):
        assert (each[3], unescaped(each[4])) == ("3", "GradScope dead-units")
        assert unescaped(each[2]) == harmless(os.path.normpath(f"{name}.py"))
        assert harmless(name) in unescaped(each[5])
    assert steers(text) == []


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_the_document_of_hostile_names_is_valid(name: str) -> None:
    """JSON keeps every name as it is, inside the schema, in ASCII; so does a baseline."""
    page = page_of(name)
    text = json_text.render(page)
    assert text.isascii()
    assert faults(json.loads(text)) == []
    assert json.loads(text)["findings"][0]["layers"][0] == name
    kept = baseline_text(page["findings"])
    assert kept.isascii()
    assert name in next(iter(json.loads(kept)["findings"].values()))["layers"]


def test_a_report_among_commands_is_no_command() -> None:
    """Between the two lines that stop and start commands stands the whole report; their word is never the same."""
    text = f"{conclusion(page_of(NAMES[5]))}\n::error::x\n"
    first, *between, last, end = github.quietly(text).split("\n")
    token = first.removeprefix("::stop-commands::")
    assert ("\n".join(between) + "\n", last, end) == (text, f"::{token}::", "")
    assert len(token) == 32
    assert token not in github.quietly(text)
