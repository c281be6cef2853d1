"""A comparison of two runs as JUnit XML: a rule fails where it finds in B what it does not find in A."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from xml.etree import ElementTree

from gradscope.reports import junit
from gradscope.reports.comparison import words as said
from gradscope.reports.envelope import Document
from gradscope.reports.finding_words import where
from gradscope.reports.gate import gate
from gradscope.reports.words import harmless

_MOST_LAYERS = 20


class _Fact(NamedTuple):
    name: str
    value: str


def render(document: Document, b: Document) -> str:
    """One test suite with a test for each rule, in ASCII, ending in a line end.

    Args:
        document: what `comparison_document` gave.
        b: the report of B, what `reports.document` gave.
    """
    before = document["a"]["name"]
    known = {pair["b"]["number"]: before for pair in document["both"]}
    text = junit.render(gate(b, "note", {}, known))
    suites = ElementTree.fromstring(text)
    suite = suites[0]
    for element in (suites, suite):
        element.set("name", "gradscope compare")
    properties = suite.find("properties")
    if properties is not None:
        for fact in _facts(document):
            values = {"name": harmless(fact.name), "value": harmless(fact.value)}
            ElementTree.SubElement(properties, "property", values)
    for line in document["only_a"]:
        _say_gone(suite, line, document)
    for element in (suites, suite):
        element.set("tests", str(len(suite.findall("testcase"))))
    ElementTree.indent(suites)
    whole = ElementTree.tostring(suites, encoding="us-ascii").decode("ascii")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{whole}\n'


def _facts(document: Document) -> Iterable[_Fact]:
    """Both runs, and what was set differently."""
    yield _Fact("conclusion", document["conclusion"])
    for letter in "ab":
        side = document[letter]
        name = letter.upper()
        yield _Fact(name, said.side_facts(side))
        yield _Fact(f"{name} verdict", f"{side['verdict']}: {side['headline']}")
        yield _Fact(f"{name} loss", said.last_loss(side))
    for setting in said.differing(document):
        yield _Fact(f"setting {said.setting_name(setting)}", f"{setting['a']} -> {setting['b']}")
    for place, note in enumerate(document["notes"], 1):
        yield _Fact(f"note {place}", note)


def _say_gone(suite: ElementTree.Element, line: Document, document: Document) -> None:
    """Tells the rule's test of a finding that only A has."""
    case = next((each for each in suite.iter("testcase") if each.get("name") == harmless(line["rule"])), None)
    if case is None:
        names = {
            "classname": f"gradscope.{harmless(document['b']['model'])}",
            "name": harmless(line["rule"]),
            "time": "0",
        }
        case = ElementTree.SubElement(suite, "testcase", names)
    out = case.find("system-out")
    if out is None:
        out = ElementTree.SubElement(case, "system-out")
    told = (
        f"gone: {line['number']} of {document['a']['name']}, {line['severity']}: {line['message']} "
        f"({where(line['layers'], _MOST_LAYERS)})"
    )
    out.text = "\n\n".join(filter(None, [out.text, harmless(told)]))
