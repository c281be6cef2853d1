"""`gradscope compare`: two runs side by side, the same facts in every format, and names stay text."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from jsonschema import Draft4Validator, Draft202012Validator, FormatChecker
from junitparser import Failure, JUnitXml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from torch import nn

import gradscope
from gradscope import numerals
from gradscope.cli import compare, main
from gradscope.cli._bounded_run import BoundedRun, read_bounded
from gradscope.diagnosis import diagnose
from gradscope.errors import RunNotFound
from gradscope.records import STEP, SUMMARY_ROW, Finding, Run, RunInfo
from gradscope.records.words import VERDICT_WORDS
from gradscope.reports import document as report
from gradscope.reports.comparison import html, junit, markdown, sarif, terminal
from gradscope.reports.comparison.map import codes, largest, legend
from gradscope.reports.comparison.words import conclusion
from gradscope.reports.envelope import Document, error_document
from gradscope.reports.level_line import level_line, resampled
from gradscope.reports.look import Look
from gradscope.reports.page_words import VERDICT_SENTENCES
from gradscope.reports.palette_png import MOST, NON_FINITE
from gradscope.reports.schema import schema_text
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Signals
from tests.conftest import SaveRun

ROOT = Path(str(files("gradscope"))).parent
SCHEMA = json.loads(schema_text("comparison"))
COMPARISON = Draft202012Validator(SCHEMA)
SARIF = Draft4Validator(
    json.loads((Path(__file__).parent / "schemas" / "sarif-2.1.0-rtm.5.json").read_text()),
    format_checker=FormatChecker(),
)
WIDE = Look(10_000)
NAN = float("nan")
EMPTY = Run(RunInfo("empty", "Net", 0.0), np.zeros(0, STEP), np.zeros((0, 0)), np.zeros(0, SUMMARY_ROW))
SICK = by_hand({"a": 1e-9, "b": 1e-4, "c": 1.0}, loss=[2.3, 2.29, 2.31, 2.3, 2.3, 2.29, 2.3, 2.3])
WELL = by_hand({"a": 0.5, "b": 0.7, "c": 1.0}, loss=[2.3, 2.0, 1.5, 1.0, 0.7, 0.5, 0.3, 0.2])


def read(run: Run, name: str, findings: tuple[Finding, ...] | None = None) -> BoundedRun:
    """A run as the command has it once it was read, with findings of your choice."""
    run = replace(run, info=replace(run.info, id=name))
    diagnosis, signals = diagnose(run), Signals(run)
    if findings is not None:
        passed = tuple(each for each in diagnosis.passed if each.rule not in {one.rule for one in findings})
        diagnosis = replace(diagnosis, findings=findings, passed=passed)
    return BoundedRun(Path("runs") / name, run, signals, diagnosis, signals.steps)


@cache
def packaged(name: str) -> BoundedRun:
    """A run that comes with GradScope: a real training."""
    return read_bounded(f"zip://{name}::{(ROOT / 'assets' / 'examples' / name).as_posix()}.zip")


def told(a: BoundedRun, b: BoundedRun, by: str = "step") -> Document:
    """What JSON gives back of a comparison."""
    text = json.dumps(compare._document(a, b, compare._sides(a, b), by), allow_nan=False)
    content: Document = json.loads(text)
    return content


def rendered(a: BoundedRun, b: BoundedRun, name: str) -> str:
    """The comparison in a format."""
    page = told(a, b)
    reports = [report(each.run, each.diagnosis, each.folder) for each in (a, b)]
    makers: dict[str, Callable[[], str]] = {
        "terminal": lambda: terminal.render(page, WIDE),
        "json": lambda: json.dumps(page),
        "markdown": lambda: markdown.render(page),
        "html": lambda: html.render(page, compare._map(compare._sides(a, b), page["aligned_by"])),
        "sarif": lambda: sarif.render(page, reports[0], reports[1]),
        "junit": lambda: junit.render(page, reports[1]),
    }
    return makers[name]()


# what each format says, read by a parser of that format


class Told(NamedTuple):
    """A finding as a format tells it."""

    state: str
    severity: str
    message: str


class Facts(NamedTuple):
    """What every format says of two runs."""

    verdicts: tuple[str, ...]
    headlines: tuple[str, ...]
    findings: frozenset[Told]
    settings: frozenset[tuple[str, str]]  # A's and B's value of what differs
    losses: tuple[str, ...]


WORDS = {said: name for name, said in {**VERDICT_WORDS}.items()} | {s: n for n, s in VERDICT_SENTENCES.items()}


def _loss(side: Document) -> str:
    if side["loss"] is None:
        return str(side["loss_words"]) if "loss_words" in side else ""
    said = f"{numerals.number(side['loss'])} at step {side['loss_step']:,}"
    return f"NaN or Inf at the end, last finite {said}" if side["loss_is_broken"] else said


def of_json(text: str) -> Facts:
    """Reads `-f json`."""
    page = json.loads(text)
    states = {"gone": page["only_a"], "new": page["only_b"], "still there": [pair["b"] for pair in page["both"]]}
    return Facts(
        tuple(page[letter]["verdict"] for letter in "ab"),
        tuple(page[letter]["headline"] for letter in "ab"),
        frozenset(Told(state, each["severity"], each["message"]) for state, lines in states.items() for each in lines),
        frozenset((each["a"], each["b"]) for each in page["settings"] if each["differs"]),
        tuple(_loss(page[letter]) for letter in "ab"),
    )


def of_sarif(text: str) -> Facts:
    """Reads SARIF: what became of a finding is its baseline state."""
    (run,) = json.loads(text)["runs"]
    names = {"absent": "gone", "new": "new", "unchanged": "still there", "updated": "still there"}
    told = run["properties"]
    return Facts(
        tuple(told[letter]["verdict"] for letter in "ab"),
        tuple(told[letter]["headline"] for letter in "ab"),
        frozenset(
            Told(names[each["baselineState"]], each["level"], each["message"]["text"].split("\n")[0].rstrip("."))
            for each in run["results"]
        ),
        frozenset((each["a"], each["b"]) for each in told["settings"]),
        tuple(told[letter]["loss_text"] for letter in "ab"),
    )


def of_junit(text: str) -> Facts:
    """Reads JUnit: a new finding fails, one that is still there is known, one that is gone is told."""
    (suite,) = JUnitXml.fromstring(text.encode("utf-8"))
    said = {each.name: each.value for each in suite.properties()}
    findings = []
    for case in suite:
        failing = "; ".join(each.message or "" for each in case.result if isinstance(each, Failure))
        for block in "\n\n".join(filter(None, [case.system_out, *(each.text for each in case.result)])).split("\n\n"):
            if gone := re.fullmatch(r"gone: F\d+ of .*?, (\w+): (.*) \(.*?\)", block):
                findings.append(Told("gone", gone[1], gone[2]))
            elif kept := re.match(r"F\d+ (\w+): (.*)", block):
                findings.append(Told("new" if kept[2] in failing else "still there", kept[1], kept[2]))
    verdicts = [said[f"{letter} verdict"].split(": ", 1) for letter in "AB"]
    settings = (value.split(" -> ") for name, value in said.items() if name.startswith("setting "))
    return Facts(
        tuple(each[0] for each in verdicts),
        tuple(each[1] for each in verdicts),
        frozenset(findings),
        frozenset((a, b) for a, b in settings),
        tuple(said[f"{letter} loss"] for letter in "AB"),
    )


def of_terminal(text: str) -> Facts:
    """Reads a page so wide that nothing wraps."""
    lines = text.split("\n")
    heads = [re.fullmatch(r"[AB] \S (.*?): (.*)", line) for line in lines[:2]]
    rows = [re.split(r" {2,}", line) for line in lines]
    settings = rows[rows.index(["Setting", "A", "B"]) + 1 :] if ["Setting", "A", "B"] in rows else []
    losses = rows[rows.index(["", "A", "B"]) + 1]
    return Facts(
        tuple(WORDS[head[1]] for head in heads if head),
        tuple(head[2] for head in heads if head),
        frozenset(
            Told(row[0], row[2].split()[-1], re.sub(r", since step .*?$", "", row[3]))
            for row in rows
            if row[0] in ("gone", "still there", "new") and len(row) == 5
        ),
        frozenset((row[1], row[2]) for row in settings[: settings.index([""]) if settings else 0]),
        tuple(losses[1:]),
    )


def _tables(rows: list[list[str]]) -> Facts:
    """What tables say; each row begins with its table's head."""
    by_head: dict[str, list[list[str]]] = {}
    for head, *cells in rows:
        by_head.setdefault(head, []).append(cells)
    losses = next(row for row in by_head[" A B"] if row[0] == "last")
    runs = by_head[" Verdict  Run"]
    return Facts(
        tuple(WORDS[row[1][2:]] for row in runs),
        tuple(row[2] for row in runs),
        frozenset(
            Told(row[0], row[2].split()[-1], re.sub(r" \([a-z-]+, since .*\)$", "", row[3]))
            for row in by_head.get("In B Finding Severity What Where", [])
        ),
        frozenset((row[1], row[2]) for row in by_head.get("Setting A B", [])),
        tuple(losses[1:]),
    )


def of_markdown(text: str) -> Facts:
    """Reads the tables of Markdown."""
    rows: list[list[str]] = []
    head: list[str] = []
    cells: list[str] = []
    in_body = False
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "tr_open":
            cells = []
        elif token.type == "inline":
            shown = ("text", "code_inline", "text_special")
            cells.append("".join(each.content for each in token.children or () if each.type in shown))
        elif token.type == "thead_close":
            head = cells
        elif token.type in ("thead_open", "tbody_open"):
            in_body = token.type == "tbody_open"
        elif token.type == "tr_close" and in_body:
            rows.append([" ".join(head), *cells])
    return _tables(rows)


class Page(HTMLParser):
    """The texts of a page by the elements that they are in, and its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.tables: list[tuple[str, list[list[str]]]] = []  # class, rows of cells
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append((tag, named))
        if tag == "table":
            self.tables.append((named.get("class") or "", []))
        elif tag == "tr":
            self.tables[-1][1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][1][-1].append("")
        if tag not in ("meta", "br", "path", "line", "img", "source"):
            self.open.append(f"{tag}.{named.get('class') or ''}")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().split(".")[0] == tag

    def handle_data(self, text: str) -> None:
        self.texts.append((" ".join(self.open), text))
        if any(each.startswith(("td.", "th.")) for each in self.open):
            self.tables[-1][1][-1][-1] += text

    def rows(self, table: str) -> list[list[str]]:
        """The cells of the body of the first table of a class."""
        return next((rows[1:] for name, rows in self.tables if name == table), [])


def of_html(text: str) -> Facts:
    """Reads the page."""
    page = Page(text)
    verdicts, headlines, losses = [], [], []
    for place, said in page.texts:
        if "section.verdict" in place and place.endswith("p.verdict-word") and said.strip() in WORDS:
            verdicts.append(WORDS[said.strip()])
        elif "section.verdict" in place and place.endswith("h2."):
            headlines.append(said)
        elif "section.verdict" in place and said.startswith("Loss "):
            losses.append(said.removeprefix("Loss "))
    found = [Told(row[0], row[2].split()[-1].lower(), row[3].split(" · ")[0]) for row in page.rows("found")]
    alike = any(said.startswith("Nothing that GradScope records") for _, said in page.texts)
    settings = [] if alike else page.rows("settings")
    return Facts(
        tuple(verdicts),
        tuple(headlines),
        frozenset(found),
        frozenset((row[1], row[2]) for row in settings),
        tuple(losses),
    )


READERS: dict[str, Callable[[str], Facts]] = {
    "json": of_json,
    "terminal": of_terminal,
    "markdown": of_markdown,
    "html": of_html,
    "sarif": of_sarif,
    "junit": of_junit,
}


def finding(rule: str, severity: Any, layers: tuple[str, ...]) -> Finding:
    """A finding written by hand."""
    return Finding(rule, severity, layers, 0, 7, f"{rule} in {' '.join(layers)}")


DEAD, LOST = "dead-units", "non-finite"
BEFORE = (finding(DEAD, "warning", ("a",)), finding(DEAD, "note", ("b",)), finding(LOST, "error", ("a",)))
AFTER = (finding(DEAD, "error", ("a",)), finding(DEAD, "error", ("c",)), finding("loss-stalled", "note", ()))
DIVERGED = by_hand({"a": 1e-9, "b": 1e-4, "c": 1.0}, loss=[2.3] * 7 + [NAN], optimizer="Adam")
MIXED = read(SICK, "before", BEFORE), read(DIVERGED, "after", AFTER)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[BoundedRun, BoundedRun]:
    """Two short trainings that differ in their learning rate alone: one learns, the other is thrown away."""
    found = []
    for rate in (0.1, 200.0):
        torch.manual_seed(0)
        images = torch.randn(64, 8)
        labels = (images[:, :2].sum(1) > 0).long()
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
        optimizer = torch.optim.SGD(model.parameters(), rate)
        folder = tmp_path_factory.mktemp(f"rate-{rate:g}") / "run"
        with gradscope.watch(model, optimizer, run_dir=folder) as scope:
            for _ in range(30):
                optimizer.zero_grad()
                scope.loss(nn.functional.cross_entropy(model(images), labels)).backward()
                optimizer.step()
        found.append(read_bounded(folder))
    return found[0], found[1]


PAIRS: dict[str, Callable[[], tuple[BoundedRun, BoundedRun]]] = {
    "cured": lambda: (packaged("vanishing_gradient"), packaged("healthy")),
    "fell ill": lambda: (packaged("healthy"), packaged("vanishing_gradient")),
    "another sickness": lambda: (packaged("vanishing_gradient"), packaged("exploding_gradient")),
    "mixed": lambda: MIXED,
    "the same twice": lambda: (read(SICK, "one"), read(SICK, "one")),
    "no common layer": lambda: (read(SICK, "one"), read(by_hand({"x": 1.0, "y": 1.0}, loss=1.0), "two")),
    "an empty one": lambda: (read(EMPTY, "empty"), read(WELL, "well")),
    "two empty ones": lambda: (read(EMPTY, "empty"), read(EMPTY, "empty too")),
    "no loss": lambda: (read(by_hand({"a": 1.0}), "one"), read(by_hand({"a": NAN, "b": NAN}, loss=NAN), "two")),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_all_formats_say_the_same(pair: str) -> None:
    """Both verdicts with their sentences, what became of each finding, what was set differently, and both losses."""
    a, b = PAIRS[pair]()
    facts = of_json(rendered(a, b, "json"))
    assert facts.verdicts == (a.diagnosis.verdict, b.diagnosis.verdict)
    for name, reader in READERS.items():
        assert reader(rendered(a, b, name)) == facts, name


def test_all_formats_say_the_same_of_recorded_trainings(recorded: tuple[BoundedRun, BoundedRun]) -> None:
    """Two real trainings, one changed setting: it is named, and nothing else of the optimizer."""
    facts = of_json(rendered(*recorded, "json"))
    assert ("0.1", "200") in facts.settings
    assert {each.state for each in facts.findings} == {"new"}
    for name, reader in READERS.items():
        assert reader(rendered(*recorded, name)) == facts, name


def test_the_pairs_have_something_to_say() -> None:
    """Among them are findings that are gone, new and still there."""
    a, b = MIXED
    assert {each.state for each in of_json(rendered(a, b, "json")).findings} == {"gone", "new", "still there"}
    a, b = PAIRS["cured"]()
    facts = of_json(rendered(a, b, "json"))
    assert len([each for each in facts.findings if each.state == "gone"]) == 2
    assert len(facts.settings) >= 3


# the published schema of the document


def faults(content: Document) -> list[str]:
    """Where a document is not as its schema says."""
    return [f"{'/'.join(map(str, each.absolute_path))}: {each.message}" for each in COMPARISON.iter_errors(content)]


def test_the_schema_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    """It is valid by the draft that it names."""
    Draft202012Validator.check_schema(SCHEMA)
    with pytest.raises(SystemExit) as ended:
        main(["compare", "--schema"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA


@pytest.mark.parametrize("by", ["step", "share", "time"])
@pytest.mark.parametrize("pair", PAIRS)
def test_documents_are_valid(pair: str, by: str) -> None:
    """Of any two runs, however they are aligned."""
    assert faults(told(*PAIRS[pair](), by)) == []


def test_the_document_of_an_error_is_valid() -> None:
    """What is printed in the place of a comparison is described too."""
    assert faults(error_document(RunNotFound("no run at x"))) == []


CHANGES: dict[str, Callable[[Document], Any]] = {
    "no conclusion": lambda page: page.pop("conclusion"),
    "a key of its own": lambda page: page.update(more=1),
    "a key of its own in a finding": lambda page: page["only_b"][0].update(more=1),
    "a key of its own in a run": lambda page: page["a"].update(more=1),
    "a verdict of its own": lambda page: page["a"].update(verdict="bad"),
    "a severity of its own": lambda page: page["both"][0]["a"].update(severity="fatal"),
    "a null without words": lambda page: page["a"].update(loss=None),
    "words without a null": lambda page: page["layers"][0].update(gain_a_words="not known"),
    "a line's null without words": lambda page: page["loss"]["b"].pop("values_words"),
    "another alignment": lambda page: page.update(aligned_by="epoch"),
    "another version": lambda page: page.update(schema_version=2),
    "an error beside it": lambda page: page.update(error={"kind": "x", "message": "y"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_document_that_is_not_as_promised_is_refused(change: str) -> None:
    """The schema is strict: what is missing, unknown or of another kind is a fault."""
    page = told(*MIXED)
    assert faults(page) == []
    CHANGES[change](page)
    assert faults(page) != []


def _nulls(content: Any, path: str = "") -> list[str]:
    """Where a null has no words beside it."""
    found = []
    if isinstance(content, dict):
        for name, value in content.items():
            found += [f"{path}/{name}"] if value is None and not content.get(f"{name}_words") else []
            if isinstance(value, list):
                words = content.get(f"{name}_words", {})
                found += [f"{path}/{name}/{i}" for i, each in enumerate(value) if each is None and str(i) not in words]
            found += _nulls(value, f"{path}/{name}")
    elif isinstance(content, list):
        found += [each for i, item in enumerate(content) for each in _nulls(item, f"{path}/{i}")]
    return found


@pytest.mark.parametrize("pair", PAIRS)
def test_a_null_has_words(pair: str) -> None:
    """JSON knows no NaN: wherever a number is missing it is said why."""
    assert _nulls(told(*PAIRS[pair]())) == []


# SARIF and JUnit


@pytest.mark.parametrize("pair", PAIRS)
def test_sarif_is_valid_and_names_its_baseline(pair: str) -> None:
    """By the standard's own schema; every result has its state, and rules are found where they are said to be."""
    a, b = PAIRS[pair]()
    log = json.loads(rendered(a, b, "sarif"))
    SARIF.validate(log)
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert all(rules[each["ruleIndex"]]["id"] == each["ruleId"] for each in run["results"])
    assert (run["baselineGuid"] == run["automationDetails"]["guid"]) == (a.run.info.id == b.run.info.id)


def test_a_finding_that_became_worse_is_updated() -> None:
    """One of both runs is "unchanged" where its severity is the same, else "updated"."""
    states = {
        each["message"]["text"]: each["baselineState"]
        for each in json.loads(rendered(*MIXED, "sarif"))["runs"][0]["results"]
    }
    assert states["dead-units in a."] == "updated"
    same = json.loads(rendered(read(SICK, "one"), read(SICK, "two"), "sarif"))["runs"][0]["results"]
    assert {each["baselineState"] for each in same} == {"unchanged"}


def test_a_rule_fails_for_what_is_new() -> None:
    """JUnit: new findings fail their rule, known ones do not, and those that are gone pass with a word."""
    suites = JUnitXml.fromstring(rendered(*MIXED, "junit").encode())
    cases = {case.name: case for suite in suites for case in suite}
    assert [type(each) for each in cases["dead-units"].result] == [Failure]
    assert cases["dead-units"].result[0].message == "dead-units in c"
    assert cases["dead-units"].system_out == "gone: F2 of before, note: dead-units in b (b)"
    assert not cases["non-finite"].result
    assert cases["non-finite"].system_out == "gone: F3 of before, error: non-finite in a (a)"
    assert [each.message for each in cases["loss-stalled"].result] == ["loss-stalled in "]
    same = JUnitXml.fromstring(rendered(read(SICK, "one"), read(SICK, "two"), "junit").encode())
    assert (same.failures, same.skipped > 0) == (0, True)


# names


HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script></summary></details><script>alert(1)</script>",
    "]]><!-- & &amp; -->",
    "a|b `c` *d* @everyone [x](http://y)",
    "a\u202eb\x00\x1b[31m\nnew line",
    "\ud800",
    "x" * 300,
)


def hostile(name: str) -> tuple[BoundedRun, BoundedRun]:
    """Two runs in which everything that a user can name has this name."""
    made = by_hand({name: 1e-9, "b": 1.0}, kinds={name: name}, optimizer=name, criterion=name, loss=2.0)
    info = replace(made.info, model=name, versions={name: name}, command=(name,))
    one = read(replace(made, info=info), "one", (replace(finding("dead-units", "error", (name,)), message=name),))
    other = read(by_hand({name: 1.0, "c": 1.0}, loss=1.0), "two")
    return replace(one, folder=Path("runs") / name.replace("\x00", "")), other


def _texts(tokens: list[Token]) -> list[Token]:
    """The texts of Markdown in which GitHub looks for mentions."""
    return [child for token in tokens for child in token.children or () if child.type == "text"]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("name_of_format", READERS)
def test_names_stay_text(name_of_format: str, name: str) -> None:
    """[24] Whatever a layer, a class or a path is called, each format shows it as text and nothing more."""
    for a, b in (hostile(name), hostile(name)[::-1]):
        text = rendered(a, b, name_of_format)
        text.encode("utf-8")  # a lone surrogate would not be
        if name_of_format != "json":
            assert not any(char in text for char in "\u202e\x00\x1b\ud800")
        if name_of_format == "html":
            tags = {tag for tag, _ in Page(text).tags}
            assert not tags & {"script", "iframe", "object"}
            assert not any(name.startswith("on") for _, attrs in Page(text).tags for name in attrs)
            pictures = [attrs for tag, attrs in Page(text).tags if tag == "img"]
            assert all((attrs["src"] or "").startswith("data:image/png;base64,") for attrs in pictures)
        elif name_of_format == "markdown":
            tokens = MarkdownIt("commonmark").enable("table").parse(text)
            raw = [each.content for token in tokens for each in [token, *(token.children or ())] if "html" in each.type]
            assert set(re.findall(r"</?(\w+)", "".join(raw))) <= {"details", "summary"}
            assert not any(child.type == "link_open" for token in tokens for child in token.children or ())
            assert not any(re.search(r"@\w", each.content) for each in _texts(tokens))
        elif name_of_format == "sarif":
            SARIF.validate(json.loads(text))
        elif name_of_format == "junit":
            JUnitXml.fromstring(text.encode())


def test_the_page_runs_nothing_and_loads_nothing() -> None:
    """[26] No script, no address of elsewhere, and a policy that forbids both."""
    page = Page(rendered(*PAIRS["cured"](), "html"))
    policies = [attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    loaded = [attrs[name] or "" for _, attrs in page.tags for name in ("src", "srcset", "href") if name in attrs]
    assert len(loaded) == 2
    assert all(each.startswith("data:image/png;base64,") for each in loaded)


def test_the_map_of_the_page_is_b_minus_a() -> None:
    """[27] Its colours are those of the difference; with the runs exchanged they are mirrored."""
    one = read(by_hand({"a": 1e-3, "b": NAN, "c": 0.0, "d": 1.0}), "one")
    two = read(by_hand({"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0}), "two")
    there = codes(compare._map(compare._sides(one, two), "step"))[:, 0].tolist()
    back = codes(compare._map(compare._sides(two, one), "step"))[:, 0].tolist()
    assert there == [round(MOST * 0.75), NON_FINITE, MOST, round(MOST * 0.5)]
    assert back == [round(MOST * 0.25), NON_FINITE, 0, round(MOST * 0.5)]


def test_a_map_of_many_layers_shows_those_that_differ_most() -> None:
    """A page has room for 300 rows; they stay in forward order, and how many are left out is said."""
    names = [f"l{i}" for i in range(400)]
    one = read(by_hand(dict.fromkeys(names, 1.0), steps=2), "one")
    two = read(by_hand({name: 10.0 if 99 <= i < 399 else 1.0 for i, name in enumerate(names)}, steps=2), "two")
    data = compare._map(compare._sides(one, two), "step")
    assert largest(data).labels == tuple(names[99:399])
    assert "100 more differ less." in legend(data)


# the terminal


def test_the_terminal_page_of_a_cure() -> None:
    """Both verdicts in one line each, then what became of the findings, and so on; the next command last."""
    lines = rendered(*PAIRS["cured"](), "terminal").split("\n")
    assert lines[0].startswith("A ▲ Unhealthy: Gradients vanish before layer 16")
    assert lines[1] == "B ✓ Healthy: No sickness found in 150 steps."
    assert lines[4] == "From A to B 2 findings are gone, none is new and none is still there."
    assert "Layers whose backward gain differs most, of 3 layers that both have" in lines
    assert any(re.fullmatch(r"0 +−10\.17 +\+0\.03 +\+10\.20 +█{10}", line) for line in lines)
    assert any(re.fullmatch(r"at step 149 +2\.2\d +0\.0119", line) for line in lines)
    assert "Notes" in lines
    assert lines[-2].startswith("Next:  gradscope ")


@pytest.mark.parametrize("width", [40, 80, 100])
def test_the_terminal_page_fits_and_can_be_ascii(width: int) -> None:
    """Nothing but code is wider than the stream, and a stream that knows ASCII only gets no more."""
    for pair in PAIRS.values():
        page = told(*pair())
        page["sources"] = []  # code would be cut
        text = terminal.render(page, Look(width, unicode=False))
        assert text.isascii()
        assert max(map(len, text.split("\n"))) <= width
        assert "\x1b[" in terminal.render(page, Look(width, color=True))


def test_the_layers_that_differ_most_come_first() -> None:
    """By the size of the difference, whatever its direction; those that are not known of both come last."""
    one = by_hand({"a": 1.0, "b": 1e-6, "c": 0.0, "d": 1.0, "e": 1.0})
    two = by_hand({"a": 1e-3, "b": 1.0, "c": 1.0, "d": 1.0, "e": 1.0})
    lines = rendered(read(one, "one"), read(two, "two"), "terminal").split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith("Layer "))
    assert [line.split()[0] for line in lines[start + 1 : start + 6]] == ["b", "a", "d", "e", "c"]
    assert lines[start + 5].split()[1:] == ["–", "+0.00", "–"]


def test_a_level_line_shows_how_high_numbers_are() -> None:
    """Between two ends by eighths, gaps as gaps; a line is stretched over its width by its latest number."""
    assert level_line([0, 1, 2, 3, 4, 5, 6, 7, 8, -1, 99], 0, 8) == "▁▂▃▄▅▆▇██▁█"
    assert level_line([1.0, 1.0], 1.0, 1.0) == "▅▅"
    assert level_line([float("nan"), None], 0, 1, "_.-=+*#@") == "  "
    assert resampled([2, 4], [1.0, None], 0, 8, 5) == [None, 1.0, None, None, None]
    assert resampled([], [], 0, 1, 2) == [None, None]


@pytest.mark.parametrize(
    ("gone", "both", "new", "expected"),
    [
        (0, 0, 0, "Neither A nor B has a finding."),
        (0, 2, 0, "A and B have the same 2 findings."),
        (1, 0, 1, "From A to B 1 finding is gone, 1 is new and none is still there."),
        (0, 3, 2, "From A to B no finding is gone, 2 are new and 3 are still there."),
    ],
)
def test_the_conclusion(gone: int, both: int, new: int, expected: str) -> None:
    """What became of the findings, in a sentence."""
    assert conclusion({"only_a": [0] * gone, "both": [0] * both, "only_b": [0] * new}) == expected


# the losses


def test_losses_are_compared_where_both_were() -> None:
    """By step at the last common step, by share at the end of both, by time when the shorter one ended."""
    short = by_hand({"a": 1.0, "b": 1.0}, loss=[4.0, 3.0, 2.0, 1.0], steps=4)
    long = by_hand({"a": 1.0, "b": 1.0}, loss=[8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 0.5])
    a, b = read(short, "short"), read(long, "long")
    assert told(a, b)["loss"]["shared"] == {"at": 3.0, "a": 1.0, "b": 5.0}
    assert told(a, b, "share")["loss"]["shared"] == {"at": 1.0, "a": 1.0, "b": 0.5}
    assert told(b, a)["loss"]["shared"] == {"at": 3.0, "a": 5.0, "b": 1.0}


def test_a_loss_line_is_short_and_keeps_its_extremes() -> None:
    """Of 3,000 steps at most 200 points are kept, a spike among them."""
    loss = [1.0] * 3000
    loss[1234] = 1e6
    made = by_hand({"a": 1.0}, loss=loss, steps=3000)
    line = told(read(made, "one"), read(WELL, "two"))["loss"]["a"]
    assert len(line["at"]) <= 200
    assert max(line["values"]) == 1e6


# the command


def run_command(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Runs `gradscope compare` in this process."""
    code = main(["compare", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_every_format_is_printed(save_run: SaveRun, capsys: pytest.CaptureFixture[str]) -> None:
    """Findings do not change the exit code: a comparison that was made is a success."""
    a, b = save_run(SICK, "a"), save_run(WELL, "b")
    for name, begins in (
        ("terminal", "A ▲"), ("json", "{"), ("markdown", "## From A to B"), ("md", "## From"),
        ("html", "<!DOCTYPE html>"), ("sarif", "{"), ("junit", "<?xml"),
    ):  # fmt: skip
        code, text, error = run_command(capsys, a, b, "-f", name)
        assert (code, error) == (0, "")
        assert text.startswith(begins)
        assert text.endswith("\n")


def test_runs_are_named_as_everywhere(
    save_run: SaveRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of runs is its newest, `runs/latest` a name, a URL is read; runs of one folder have a Compare page."""
    one = save_run(SICK, "runs/one")
    two = save_run(WELL, "runs/two")
    monkeypatch.chdir(one.parent.parent)
    (one.parent / "latest").symlink_to(two.name)
    _, text, _ = run_command(capsys, "runs/one", "runs/latest", "--json")
    page = json.loads(text)
    assert (page["a"]["name"], page["b"]["name"]) == ("one", "two")
    assert (page["a"]["folder"], page["b"]["folder"]) == (str(Path("runs/one")), str(Path("runs/two")))
    assert page["next_command"] == "gradscope dashboard runs"
    _, text, _ = run_command(capsys, f"file://{one}", "runs", "--json")
    assert (json.loads(text)["a"]["name"], json.loads(text)["b"]["name"]) == ("one", "two")


def test_two_folders_of_one_name_are_told_apart(
    save_run: SaveRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then the paths are their names."""
    a, _ = save_run(SICK, "one/run"), save_run(WELL, "two/run")
    monkeypatch.chdir(a.parent.parent)
    _, text, _ = run_command(capsys, "one/run", "two/run", "--json")
    page = json.loads(text)
    assert (page["a"]["name"], page["b"]["name"]) == (str(Path("one/run")), str(Path("two/run")))
    assert page["next_command"] == f"gradscope report {Path('two/run')}"


def test_a_run_that_is_not_there_is_said(save_run: SaveRun, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, with --json in the envelope of every document."""
    code, text, error = run_command(capsys, save_run(), "no/such/run", "--json")
    assert code == 2
    assert "no run at no/such/run" in error
    assert json.loads(text)["error"]["kind"] == "RunNotFound"
    assert faults(json.loads(text)) == []


def test_it_is_aligned_as_asked(save_run: SaveRun, capsys: pytest.CaptureFixture[str]) -> None:
    """`--align share` lays the losses over one another from start to end."""
    a, b = save_run(by_hand({"a": 1.0}, loss=[3.0, 2.0, 1.0], steps=3), "a"), save_run(WELL, "b")
    _, text, _ = run_command(capsys, a, b, "--align", "share")
    assert "by share of the training" in text
    assert "after 100 %" in text


def test_a_run_too_large_for_memory_is_judged_from_a_part(
    save_run: SaveRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What of it was read is said in a note."""
    big = save_run(by_hand({"a": 1e-9, "b": 1.0}, loss=2.3, steps=200), "big")
    monkeypatch.setattr("gradscope.store.bounded.MEMORY", 60_000)
    code, text, _ = run_command(capsys, big, save_run(WELL, "well"), "--json")
    page = json.loads(text)
    assert code == 0
    assert any(re.match(r"A is judged from \d+ of its 200 recorded steps", note) for note in page["notes"])
    assert [line["rule"] for line in page["only_a"]] == ["vanishing-gradient"]
    assert page["a"]["last_step"] == 199


def test_no_torch_is_needed(save_run: SaveRun) -> None:
    """A comparison is read from files: torch and the dashboard's packages stay out."""
    import subprocess

    a, b = save_run(SICK, "a"), save_run(WELL, "b")
    program = (
        "import sys\nfrom gradscope.cli import main\n"
        f"main(['compare', {str(a)!r}, {str(b)!r}, '-f', 'html', '-o', {str(a.parent / 'x.html')!r}])\n"
        "print(*sorted({'torch', 'dash', 'plotly'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr
