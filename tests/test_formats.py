"""The formats of a report: all of them say the same, each is valid for those who read it, and names stay text."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from jsonschema import Draft4Validator, Draft202012Validator, FormatChecker
from junitparser import Failure, JUnitXml, Skipped
from markdown_it import MarkdownIt
from xmlschema import XMLSchema

from gradscope.catalogue import rules
from gradscope.cli._formats import Judged, text_of
from gradscope.cli.demo import demos
from gradscope.dashboard.learning.examples import example_folder
from gradscope.diagnosis import diagnose
from gradscope.errors import RunNotFound
from gradscope.patches.edit import unified_diff
from gradscope.records import STEP, SUMMARY_ROW, Check, Diagnosis, NotObserved, Place, Run, RunInfo, Site, Suggestion
from gradscope.reports import document, json_text, junit, markdown, sarif, terminal
from gradscope.reports.baseline import fingerprint
from gradscope.reports.envelope import Document, error_document
from gradscope.reports.gate import gate
from gradscope.reports.locations import file_from, locations
from gradscope.reports.look import Look
from gradscope.reports.sarif_fix import replacements
from gradscope.reports.schema import schema_text
from gradscope.rules.handwritten import run as by_hand
from gradscope.store import read_run
from tests.format_readers import READERS, Facts

NAN = math.nan
EMPTY = Run(RunInfo("empty", "Net", 0.0), np.zeros(0, STEP), np.zeros((0, 0)), np.zeros(0, SUMMARY_ROW))
BROKEN = by_hand({"a": 1e-9, "b": [1e-4] * 7 + [NAN], "c": 1.0}, loss=[2.3] * 7 + [NAN])
HEALTHY = by_hand({"a": 0.5, "b": 1.0}, loss=0.3)
EXAMPLES = sorted(demos())
SCHEMAS = Path(__file__).parent / "schemas"
JENKINS = XMLSchema(SCHEMAS / "jenkins-junit.xsd")
REPORT = Draft202012Validator(json.loads(schema_text()))
SARIF = Draft4Validator(
    json.loads((SCHEMAS / "sarif-2.1.0-rtm.5.json").read_text()),
    format_checker=FormatChecker(),
)


def example(name: str) -> Run:
    """A run that is packaged with GradScope: a real training."""
    folder = example_folder(f"example:{name}")
    assert folder is not None
    return read_run(folder.location)


def told(run: Run, diagnosis: Diagnosis | None = None) -> Document:
    """What JSON gives back of a run's report."""
    page = document(run, diagnosis or diagnose(run), "runs/one")
    content: Document = json.loads(json_text.render(page))
    return content


def rendered(run: Run, name: str) -> str:
    """The report in a format, as the command line makes it."""
    diagnosis = diagnose(run)
    page = document(run, diagnosis, "runs/one")
    if name == "terminal":
        return terminal.render(page, Look(10_000))
    options = type("Options", (), {"format": name, "output": Path("x"), "color": "never"})
    return text_of(Judged("runs/one", run, diagnosis, page), page, options)  # type: ignore[arg-type]


# the same facts


def _in_terminal(facts: Facts) -> Facts:
    """A terminal tells of notes no more than their line where graver findings stand beside them."""
    grave = {number: each for number, each in facts.findings.items() if each.severity != "note"}
    return facts._replace(findings=grave or facts.findings)


@pytest.mark.parametrize("name", [*EXAMPLES, "broken"])
def test_all_formats_say_the_same(name: str) -> None:
    """Verdict, sentence, numbers, counts, and of each finding its rule, severity, step, worst layer and first cure."""
    run = BROKEN if name == "broken" else example(name)
    facts = READERS["json"](rendered(run, "json"))
    assert facts.verdict == diagnose(run).verdict
    for format_name, read in READERS.items():
        expected = _in_terminal(facts) if format_name == "terminal" else facts
        assert read(rendered(run, format_name)) == expected, format_name


def test_the_runs_that_are_compared_have_something_to_say() -> None:
    """Among them are healthy and broken trainings, several findings at once, notes, and runs without a cure."""
    facts = [READERS["json"](rendered(example(name), "json")) for name in EXAMPLES]
    severities = {each.severity for one in facts for each in one.findings.values()}
    assert {"healthy", "unhealthy", "broken"} <= {
        one.verdict for one in [*facts, READERS["json"](rendered(BROKEN, "json"))]
    }
    assert {"error", "warning"} <= severities
    assert max(len(one.findings) for one in facts) >= 4
    assert {bool(each.cure) for one in facts for each in one.findings.values()} == {True, False}


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_run_without_a_step_has_a_report(name: str) -> None:
    """Every format renders a run in which nothing was recorded."""
    facts = READERS[name](rendered(EMPTY, name))
    assert (facts.verdict, facts.findings, facts.counts[:3]) == ("not-enough-data", {}, (0, 0, 0))


# the published schema of the document


def faults(content: Document) -> list[str]:
    """Where a document is not as its schema says."""
    return [f"{'/'.join(map(str, each.absolute_path))}: {each.message}" for each in REPORT.iter_errors(content)]


def test_the_schema_is_one() -> None:
    """It is valid by the draft that it names."""
    Draft202012Validator.check_schema(json.loads(schema_text()))


@pytest.mark.parametrize("name", EXAMPLES)
def test_reports_of_real_runs_are_valid(name: str) -> None:
    """The documents of all packaged runs, their trials included, are as the schema says."""
    assert faults(told(example(name))) == []


@pytest.mark.parametrize("run", [EMPTY, BROKEN, HEALTHY], ids=["empty", "broken", "healthy"])
def test_reports_of_odd_runs_are_valid(run: Run) -> None:
    """So are those of a run without a step and of a loss that is NaN, checked or not."""
    assert faults(told(run)) == []
    assert faults(gate(told(run), "note", {}, {})) == []


def test_the_document_of_an_error_is_valid() -> None:
    """What is printed in the place of a report is described too."""
    assert faults(error_document(RunNotFound("no run at x"))) == []


def _broken(change: str) -> Document:
    content = told(BROKEN)
    finding = content["findings"][0]
    changes: dict[str, Any] = {
        "no verdict": lambda: content.pop("verdict"),
        "a verdict of its own": lambda: content.update(verdict="bad"),
        "a key of its own": lambda: content.update(more=1),
        "a key of its own in a finding": lambda: finding.update(more=1),
        "a severity of its own": lambda: finding.update(severity="fatal"),
        "a null without words": lambda: content["numbers"]["loss"].pop("value_words"),
        "words without a null": lambda: content["numbers"]["loss"].update(value=1.0),
        "a strip's null without words": lambda: content["strips"][1].pop("values_words"),
        "text for a step": lambda: finding.update(first_step="0"),
        "another version": lambda: content.update(schema_version=2),
        "an error beside a report": lambda: content.update(error={"kind": "x", "message": "y"}),
    }
    changes[change]()
    return content


@pytest.mark.parametrize(
    "change",
    [
        "no verdict",
        "a verdict of its own",
        "a key of its own",
        "a key of its own in a finding",
        "a severity of its own",
        "a null without words",
        "words without a null",
        "a strip's null without words",
        "text for a step",
        "another version",
        "an error beside a report",
    ],
)
def test_a_document_that_is_not_as_promised_is_refused(change: str) -> None:
    """The schema is strict: what is missing, unknown or of another kind is a fault."""
    assert faults(told(BROKEN)) == []
    assert faults(_broken(change)) != []


# SARIF


def results(run: Run, diagnosis: Diagnosis | None = None, root: str = "") -> list[dict[str, Any]]:
    """The results of a run's SARIF log, which is valid."""
    log = json.loads(sarif.render(told(run, diagnosis), root))
    SARIF.validate(log)
    found: list[dict[str, Any]] = log["runs"][0]["results"]
    return found


@pytest.mark.parametrize("name", EXAMPLES)
def test_sarif_of_real_runs_is_valid(name: str) -> None:
    """By the standard's own schema, as far as it says what a format is; rules are all of ours, with their pages."""
    log = json.loads(rendered(example(name), "sarif"))
    SARIF.validate(log)
    described = log["runs"][0]["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in described] == sorted(rules())
    assert all(rule["help"]["text"].startswith(rule["id"]) and rule["help"]["markdown"] for rule in described)


def test_the_schema_of_sarif_refuses_what_is_none() -> None:
    """The schema that they are held to is not empty."""
    log = json.loads(rendered(BROKEN, "sarif"))
    log["runs"][0]["results"][0]["level"] = "fatal"
    assert not SARIF.is_valid(log)


def test_a_result_is_at_the_line_that_its_cure_changes() -> None:
    """The place is the line of the first patch, named from the root; other cures and the script are related."""
    run = example("vanishing_gradient")
    info, work = run.info, Path("/repository/work")
    sources = tuple(replace(each, path=str(work / each.path)) for each in info.sources)
    places = tuple(replace(each, file=str(work / each.file)) for each in info.places)
    run = replace(run, info=replace(info, directory=str(work), sources=sources, places=places))
    first = results(run, root="/repository")[0]
    place = first["locations"][0]["physicalLocation"]
    assert place == {
        "artifactLocation": {"uri": "work/vanishing_gradient.py"},
        "region": {"startLine": int(told(run)["findings"][0]["suggestions"][0]["location"].split(":")[1])},
    }
    lines = [each["physicalLocation"].get("region") for each in first["relatedLocations"]]
    assert lines[-1] is None  # the script as a whole


def test_a_layer_leads_to_its_class() -> None:
    """Where no cure has a line, the class that the layer is part of has one, the innermost of the user's."""
    info = RunInfo(
        "one",
        "Net",
        0.0,
        sites=(
            Site("", "output", "Net", 3),
            Site("block", "output", "Block", 2),
            Site("block.fc", "output", "Linear", 1),
        ),
        places=(Place("class", "/w/net.py", 3, "Block"), Place("class", "/w/net.py", 9, "Net")),
        directory="/w",
        command=("train.py",),
    )
    finding = replace(diagnose(BROKEN).findings[0], layers=("block.fc.weight", "head"), suggestions=())
    assert [(each["file"], each["line"], each["what"]) for each in locations(info, finding)] == [
        ("net.py", 3, "class Block"),
        ("net.py", 9, "class Net"),
        ("train.py", None, "the script"),
    ]


def test_a_finding_without_a_known_line_has_its_layers() -> None:
    """Where nothing of the program is known, the place is the layer's path alone."""
    (place,) = results(BROKEN)[0]["locations"]
    assert "physicalLocation" not in place
    assert place["logicalLocations"][0] == {"name": "a", "fullyQualifiedName": "a", "kind": "layer"}


def test_a_file_elsewhere_keeps_its_name() -> None:
    """A run that was recorded on another machine names its files from where it ran."""
    assert file_from("/here", "/there", "train.py") == "train.py"
    assert file_from("/here", "", "train.py") == "train.py"
    assert file_from("/here", "/here/a", "../train.py") == "train.py"


def applied(source: str, changes: list[dict[str, Any]]) -> str:
    """A text after the replacements of a fix, made from the end so that lines keep their numbers."""
    lines = source.splitlines(keepends=True)
    for change in reversed(changes):
        region = change["deletedRegion"]
        assert (region["startColumn"], region["endColumn"]) == (1, 1)
        lines[region["startLine"] - 1 : region["endLine"] - 1] = [change.get("insertedContent", {"text": ""})["text"]]
    return "".join(lines)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_fix_does_what_the_patch_does(name: str) -> None:
    """The replacements of each fix, made in the source that ran, give the text that the patch gives."""
    run = example(name)
    sources = {Path(each.path).name: each.text for each in run.info.sources}
    cures = [each for finding in told(run)["findings"] for each in finding["suggestions"] if each["patch"]]
    fixes = [fix for result in results(run) for fix in result.get("fixes", ())]
    assert len(fixes) == len(cures)
    for cure, fix in zip(cures, fixes, strict=True):
        for change in fix["artifactChanges"]:
            file = change["artifactLocation"]["uri"]
            after = applied(sources[file], change["replacements"])
            assert unified_diff(sources[file], after, file) in cure["patch"]


def test_a_patch_that_sarif_cannot_say_is_no_fix() -> None:
    """Other line ends, or none at the end of the file, are left to the diff."""
    assert replacements("--- a\n+++ a\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n") == {}
    assert replacements("--- a\n+++ a\n@@ -1 +1 @@\n-a\r\n+b\r\n") == {}
    assert replacements("") == {}


def test_a_patch_with_invisible_characters_is_no_fix() -> None:
    """They would be spelled out, and so the fix would not be exact."""
    cure = Suggestion("initialization", "x", "y", "", "a.py:1: x", patch="--- a.py\n+++ a.py\n@@ -1 +1 @@\n-a\n+b\n")
    steered = replace(cure, patch=cure.patch.replace("+b", "+b\f"))
    found = replace(diagnose(BROKEN).findings[0], suggestions=(cure, steered))
    assert len(results(BROKEN, Diagnosis("unhealthy", "x", (found,)))[0]["fixes"]) == 1


def test_lines_may_only_go_or_only_come() -> None:
    """A fix may take lines away, and may put some before the first and behind the last."""
    before = "".join(f"{number}\n" for number in range(12))
    for after in (before.replace("3\n4\n", ""), f"x\n{before}y\n", before.replace("1\n", "-- 1\n++ 2\n")):
        assert applied(before, replacements(unified_diff(before, after, "a.py"))["a.py"]) == after


def test_a_fingerprint_outlives_a_run() -> None:
    """It stays when steps, numbers and the order of the layers change, and differs by rule and by layers."""
    finding = told(BROKEN)["findings"][0] | {"layers": ["a", "b"]}
    same = finding | {"layers": ["b", "a"], "first_step": 99, "message": "other", "severity": "note", "evidence": []}
    assert fingerprint(same) == fingerprint(finding)
    assert len({fingerprint(each) for each in (finding, finding | {"rule": "x"}, finding | {"layers": ["a"]})}) == 3
    assert results(BROKEN)[0]["partialFingerprints"] == {
        "gradscopeFinding/v1": fingerprint(told(BROKEN)["findings"][0])
    }


def test_what_could_not_run_or_be_seen_is_a_notification() -> None:
    """SARIF has a place for both, apart from the results."""
    diagnosis = Diagnosis(
        "healthy", "x", (), (Check("dead-units", "could-not-run", "boom"),), (NotObserved("emb", "ints"),)
    )
    log = json.loads(sarif.render(told(HEALTHY, diagnosis)))
    SARIF.validate(log)
    said = log["runs"][0]["invocations"][0]["toolExecutionNotifications"]
    assert [(each["level"], each["message"]["text"]) for each in said] == [
        ("error", "boom"),
        ("note", "Not observed: emb: ints"),
    ]


# JUnit


def suite_of(page: Document, **options: Any) -> Any:
    """The one suite of a report, read as a CI reads it."""
    (suite,) = JUnitXml.fromstring(junit.render(page, **options).encode("utf-8"))
    return suite


def test_each_rule_is_a_test() -> None:
    """What found something grave fails, what could not look is skipped with the reason, the rest passes."""
    checks = (
        Check("loss-stalled", "needs-data", "needs 3 more recorded steps"),
        Check("vanishing-through-time", "not-applicable", "no recurrent module"),
        Check("dead-units", "could-not-run", "boom"),
        Check("dropout-fault", "passed"),
    )
    suite = suite_of(told(BROKEN, replace(diagnose(BROKEN), passed=checks)))
    skipped = {case.name: case.result[0].message for case in suite if case.is_skipped}
    assert skipped == {
        "loss-stalled": "needs data: needs 3 more recorded steps",
        "vanishing-through-time": "not applicable: no recurrent module",
        "dead-units": "could not run: boom",
    }
    failed = [case for case in suite if isinstance(next(iter(case.result), None), Failure)]
    assert [case.name for case in failed] == ["non-finite", "vanishing-gradient"]
    severities = [each.get("value") for each in failed[0]._elem.iter("property") if each.get("name") == "severity"]
    assert severities == ["error"]
    assert (suite.tests, suite.failures, suite.skipped, suite.errors) == (6, 2, 3, 0)


@pytest.mark.parametrize(("fail_on", "failures"), [("error", 0), ("warning", 1), ("note", 2)])
def test_the_threshold_decides_what_fails(fail_on: Any, failures: int) -> None:
    """A finding below it is told in a test that passes."""
    first = diagnose(BROKEN).findings[0]
    found = (replace(first, severity="warning"), replace(first, rule="dead-units", severity="note"))
    suite = suite_of(told(BROKEN, Diagnosis("watch", "x", found)), fail_on=fail_on)
    assert suite.failures == failures
    assert all(case.system_out for case in suite if not case.result)


def test_junit_skips_what_does_not_count() -> None:
    """A finding that is muted is skipped with its reason; what is checked says where the threshold lies."""
    page = gate(told(BROKEN), "error", {"F1": "we know"}, {"F2": "known.json"})
    cases = {case.name: case for case in suite_of(page)}
    reasons = [each.message for case in cases.values() for each in case.result if isinstance(each, Skipped)]
    assert sorted(each for each in reasons if each.startswith("F")) == [
        "F1 is muted: we know",
        "F2 is known from the baseline: known.json",
    ]
    assert suite_of(page).failures == 0


@pytest.mark.parametrize("name", [*EXAMPLES, "broken", "empty"])
def test_junit_is_as_jenkins_says(name: str) -> None:
    """By its schema, but for two things that came after it and that readers know: properties of a test, and the reason
    of a skipped one as its message.
    """
    run = {"broken": BROKEN, "empty": EMPTY}.get(name) or example(name)
    root = ElementTree.fromstring(rendered(run, "junit"))
    JENKINS.validate(_as_it_was(root))
    root[0].append(ElementTree.Element("test"))
    assert not JENKINS.is_valid(_as_it_was(root))


def _as_it_was(root: ElementTree.Element) -> ElementTree.Element:
    for case in root.iter("testcase"):
        for each in case.findall("properties"):
            case.remove(each)
        for each in case.findall("skipped"):
            each.attrib.pop("message", None)
    return root


def test_a_test_is_called_the_same_in_every_run() -> None:
    """A CI follows a test by its name, so that nothing of a single run is in it."""
    again = replace(BROKEN, info=replace(BROKEN.info, id="other", created=1.0))
    one, other = ([(case.classname, case.name) for case in suite_of(told(run))] for run in (BROKEN, again))
    assert one == other


# Markdown


def test_the_first_finding_lies_open() -> None:
    """Findings fold, the first one is open, and each details element is closed."""
    text = markdown.render(told(example("squared_error")))
    assert text.count("<details") == text.count("</details>")
    assert text.count("<details open>") == 1
    assert text.index("<details open>") < text.index("<strong>F2</strong>")


def test_markdown_has_the_patch_as_a_diff() -> None:
    """The lines to change stand in a fence of their own."""
    run = example("vanishing_gradient")
    patch = told(run)["findings"][0]["suggestions"][0]["patch"]
    fences = [each for each in MarkdownIt("commonmark").parse(markdown.render(told(run))) if each.type == "fence"]
    assert (fences[0].info, fences[0].content) == ("diff", patch)
