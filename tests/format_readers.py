"""What each format of a report says, read by a parser of that format, so that all can be held against one another."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any, NamedTuple

from junitparser import JUnitXml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from gradscope import numerals
from gradscope.records.words import VERDICT_WORDS
from gradscope.reports.page_words import VERDICT_SENTENCES

VERDICTS = {said: name for name, said in VERDICT_WORDS.items()}
SENTENCES = {said: name for name, said in VERDICT_SENTENCES.items()}


class Told(NamedTuple):
    """A finding as a format tells it; a first cure of "" where it has none."""

    rule: str
    severity: str
    first_step: int
    layer: str  # the worst
    cure: str  # the title of the first


class Facts(NamedTuple):
    """What every format says of a run."""

    verdict: str
    headline: str
    findings: dict[str, Told]  # by number
    counts: tuple[int, ...]  # errors, warnings, notes, passed checks
    loss: str  # with three digits
    healthy: tuple[int, int]  # layers, of


def of_json(text: str) -> Facts:
    """Reads `-f json`."""
    content = json.loads(text)
    return _of_content(content, content["findings"])


def of_sarif(text: str) -> Facts:
    """Reads SARIF: findings from its results, numbers from the properties of its run."""
    (run,) = json.loads(text)["runs"]
    rules = run["tool"]["driver"]["rules"]
    findings = []
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        layers = [each for place in result["locations"] for each in place.get("logicalLocations", ())]
        tried = re.search(r"^Try: (.*) \([^()]*\)\.$", result["message"]["text"], re.MULTILINE)
        findings.append(
            {
                **result["properties"],
                "rule": result["ruleId"],
                "severity": result["level"],
                "layers": [each["fullyQualifiedName"] for each in layers],
                "suggestions": [{"title": tried[1]}] if tried else [],
            }
        )
    return _of_content(run["properties"], findings)


def _of_content(content: dict[str, Any], findings: list[dict[str, Any]]) -> Facts:
    loss, healthy = content["numbers"]["loss"], content["numbers"]["healthy_layers"]
    return Facts(
        content["verdict"],
        content["headline"],
        {
            each["number"]: Told(
                each["rule"],
                each["severity"],
                each["first_step"],
                each["layers"][0] if each["layers"] else "",
                each["suggestions"][0]["title"] if each["suggestions"] else "",
            )
            for each in findings
        },
        tuple(content["counts"][name] for name in ("error", "warning", "note", "passed")),
        loss["value_words"] if loss["value"] is None else numerals.number(loss["value"]),
        (healthy["number"], healthy["of"]),
    )


def of_junit(text: str) -> Facts:
    """Reads JUnit: findings from what its tests say, numbers from the properties of its suite."""
    (suite,) = JUnitXml.fromstring(text.encode("utf-8"))
    said = {each.name: each.value for each in suite.properties()}
    findings: dict[str, Told] = {}
    passed = 0
    for case in suite:
        told = (case.system_out or "") + "".join(each.text or "" for each in case.result)
        passed += not told and not case.result
        for each in filter(None, told.split("\n\n")):
            number, severity = re.match(r"(F\d+) (\w+): ", each).groups()  # type: ignore[union-attr]
            lines = [line.split(": ", 1) for line in each.split("\n") if not line.startswith(" ")]
            layers = next(rest for label, rest in lines if label == "where")
            step = next(rest for label, rest in lines if label == "when")
            cure = next((rest.rpartition(" (")[0] for label, rest in lines if label == "try"), "")
            findings[number] = Told(case.name, severity, _first(step), _worst(layers), cure)
    severities = [each.severity for each in findings.values()]
    number, of = map(int, said["healthy_layers"].split(" of "))
    loss = said["loss"]
    return Facts(
        said["verdict"],
        said["headline"],
        findings,
        (*map(severities.count, ("error", "warning", "note")), passed),
        numerals.number(float(loss)) if re.match(r"[-\d]", loss) else loss,
        (number, of),
    )


def of_terminal(text: str) -> Facts:
    """Reads a terminal report without colour, wide enough that nothing wraps."""
    lines = text.split("\n")
    verdict, _, headline = lines[0][2:].partition(": ")
    columns, values = lines[3], lines[4]
    loss, healthy = (values[columns.index(name) :].split("  ")[0].strip() for name in ("Loss", "Gain in range"))
    rows = [re.match(r"(F\d+) +[▲■●] (\w+) .* step ([\d,]+)$", line) for line in lines]
    table = {row[1]: (row[2], int(row[3].replace(",", ""))) for row in rows if row}
    findings: dict[str, Told] = {}
    for place, line in enumerate(lines):
        if head := re.fullmatch(r"(F\d+) ([a-z-]+)", line):
            block = "\n".join(lines[place + 1 :]).split("\n\n")[0]
            layers = re.search(r"^    where +(.*)$", block, re.MULTILINE)
            cure = re.search(r"^    try +1\. (.*) \[[^\[\]]*\]$", block, re.MULTILINE)
            assert layers is not None
            findings[head[1]] = Told(head[2], *table[head[1]], _worst(layers[1]), cure[1] if cure else "")
    assert set(findings) == {number for number, (severity, _) in table.items() if severity != "note"} or not table
    return Facts(VERDICTS[verdict], headline, findings, _totals(text), loss, _pair(healthy))


def of_markdown(text: str) -> Facts:
    """Reads Markdown through its tokens."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    headings = [tokens[place + 1] for place, token in enumerate(tokens) if token.type == "heading_open"]
    verdict, _, headline = _text(headings[0])[2:].partition(": ")
    cells = [_text(tokens[place + 1]) for place, token in enumerate(tokens) if token.type == "td_open"][:5]
    findings: dict[str, Told] = {}
    number, paragraphs = "", []
    for token in tokens:
        summary = re.search(r"<summary>([▲■●]) <strong>(F\d+)</strong>", token.content)
        if token.type == "html_block" and summary:
            number, paragraphs = summary[2], []
        elif token.type == "html_block" and "</details>" in token.content and number:
            findings[number] = _finding_of(paragraphs)
            number = ""
        elif token.type == "inline" and number:
            paragraphs.append(token)
    return Facts(VERDICTS[verdict], headline, findings, _totals(text), cells[0].split(" (")[0], _pair(cells[3]))


def _finding_of(paragraphs: list[Token]) -> Told:
    facts = paragraphs[0].children or []
    severity, rule, when = facts[0].content.strip(" ·"), facts[1].content, facts[2].content
    where = next((each for each in paragraphs if _text(each).startswith("Where:")), None)
    named = [each.content for each in (where.children or []) if each.type == "code_inline"] if where else []
    cures = [_text(each) for each in paragraphs if _text(each).startswith("Try: ")]
    cure = re.match(r"Try: (.*?) \((?:measured|tried|not|estimate|could)", cures[0])[1] if cures else ""  # type: ignore[index]
    return Told(rule, severity, _first(when.strip(" ·")), named[0] if named else "", cure)


def _text(token: Token) -> str:
    return "".join(
        each.content for each in token.children or [] if each.type in ("text", "code_inline", "text_special")
    )


class _Page(HTMLParser):
    """The text of each element of a page that is asked for: the articles by id, and what has a class."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[tuple[str, str]] = []  # tag, and its id or class
        self.texts: list[tuple[tuple[tuple[str, str], ...], str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag not in ("meta", "img", "source", "br"):
            self.open.append((tag, named.get("id") or named.get("class") or ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((tuple(self.open), data))

    def within(self, *path: tuple[str, str]) -> list[str]:
        """The texts of all places that lie in these elements, in this order."""
        found = []
        for place, text in self.texts:
            elements = iter(place)
            if all(each in elements for each in path) and text.strip():
                found.append(text.strip())
        return found


def of_html(text: str) -> Facts:
    """Reads the page."""
    page = _Page(text)
    findings: dict[str, Told] = {}
    for number in dict.fromkeys(name for place, _ in page.texts for tag, name in place if tag == "article" and name):
        article = ("article", number)
        head = " ".join(page.within(article, ("p", "finding-head"))).split(" · ")
        listed = page.within(article, ("dl", "said"))
        layer = _worst(" ".join(page.within(article, ("span", "mono"))[:1]))
        cure = page.within(article, ("p", "suggestion-head"), ("strong", ""))
        step = next(listed[place + 1] for place, said in enumerate(listed) if said == "When")
        findings[number] = Told(head[2], head[0].split()[-1].lower(), _first(step), layer, cure[0] if cure else "")
    numbers = page.within(("dl", "numbers"))
    loss = numbers[numbers.index("Loss") + 1]
    healthy = numbers[numbers.index("Layers in healthy band") + 1]
    (headline,) = page.within(("h1", ""))
    facts = " ".join(page.within(("p", "facts dimmed")))
    word = " ".join(page.within(("p", "verdict-word"))).split(" ", 1)[1]
    return Facts(SENTENCES[word], headline, findings, _totals(facts), loss, _pair(healthy))


def _first(when: str) -> int:
    return int(re.match(r"step ([\d,]+)", when)[1].replace(",", ""))  # type: ignore[index]


def _worst(layers: str) -> str:
    return "" if layers == "the whole model" else re.split(r", | and \d", layers)[0]


def _pair(healthy: str) -> tuple[int, int]:
    found = re.match(r"([\d,]+) of ([\d,]+)", healthy)
    return (0, 0) if found is None else (int(found[1].replace(",", "")), int(found[2].replace(",", "")))


def _totals(text: str) -> tuple[int, ...]:
    """The counts from "1 error, 2 notes. 17 checks passed"."""
    line = re.search(r"(?:No findings|[\d,]+ (?:error|warning|note)s?[^.]*)\. ([\d,]+) checks? passed", text)
    assert line is not None
    told = re.findall(r"([\d,]+) (error|warning|note)", line[0])
    found = {noun: int(amount.replace(",", "")) for amount, noun in told}
    return (*(found.get(name, 0) for name in ("error", "warning", "note")), int(line[1].replace(",", "")))


READERS = {
    "json": of_json,
    "sarif": of_sarif,
    "junit": of_junit,
    "terminal": of_terminal,
    "markdown": of_markdown,
    "html": of_html,
}
