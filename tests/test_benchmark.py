"""How often the cause that is named first was right: measured by the zoo, packaged, and said beside a confidence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gradscope.diagnosis import diagnose
from gradscope.records import Cause, Finding
from gradscope.reports import benchmark, document, terminal
from gradscope.reports.benchmark import NOTE, Benchmark, Rate, rate_of, rate_of_cause, read_benchmark
from gradscope.reports.html import render
from gradscope.reports.html.data import page_data
from gradscope.rules.handwritten import run as by_hand
from tests.test_rules import CAUSES, RULES
from tests.test_zoo_tools import RESULTS, RIGHT, WELL, WRONG
from tests.zoo.animals import PROGRAMS, by_id
from tests.zoo.benchmark import FILE, benchmark_document, write_benchmark
from tests.zoo.judge import Said
from tests.zoo.tally import Result

SICK = by_hand({"a": 1e-9, "b": 1e-4, "c": 1.0}, loss=2.3)
CAUSE = diagnose(SICK).findings[0].causes[0].id
SAID = f"right in 47 of the 50 benchmark trainings where it was named first; {NOTE}"


def _result(name: str, kind: str, end: Said) -> Result:
    moments = (Said("start", "healthy"), Said("middle", "healthy"), end)
    return Result(by_id(name), 0, WELL, kind, moments, {})  # type: ignore[arg-type]


# the measurement


def test_the_zoo_counts_what_is_named_first() -> None:
    """Right and wrong of the sick are counted by rule and cause; those that are neither sick nor healthy are left out."""
    content = benchmark_document(RESULTS, "2026-11-29")
    assert content["named"] == [{"rule": "r", "cause": "c", "first": 2, "right": 1}]
    assert (content["sick"], content["healthy"], content["left_out"], content["trainings"]) == (3, 1, 1, 4)
    assert (content["date"], content["programs"], content["seeds"]) == ("2026-11-29", 5, 1)


def test_a_cause_of_a_healthy_training_is_wrong() -> None:
    """A false alarm names a cause of what is not there, so it counts against that cause, whatever it was judged as."""
    content = benchmark_document([_result("S-mse", "healthy", RIGHT), _result("S-rate-low", "sick", RIGHT)], "")
    assert content["named"] == [{"rule": "r", "cause": "c", "first": 2, "right": 1}]


def test_alarms_without_a_cause_are_not_counted() -> None:
    """Where no cause was named, none was right or wrong."""
    content = benchmark_document([_result("S-rate-low", "sick", replace(WRONG, cause=""))], "")
    assert (content["named"], content["trainings"]) == ([], 1)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """The table's file gives the rates, those of one cause under several rules added up, and the day of the measurement."""
    other = replace(RIGHT, rule="another")
    file = tmp_path / "benchmark.json"
    write_benchmark([*RESULTS, _result("S-rate-low", "sick", other)], file)
    table = read_benchmark(file)
    assert table is not None
    assert table.causes == {"c": Rate(3, 2)}
    assert (table.sick, table.healthy) == (4, 1)
    assert table.date == json.loads(file.read_text())["date"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"date": "x", "sick": 1, "healthy": 1, "named": [{"cause": "c"}]}']
)
def test_a_table_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    """Without a whole table nothing is said, and nothing breaks."""
    file = tmp_path / "benchmark.json"
    file.write_text(text)
    assert read_benchmark(file) is None
    assert read_benchmark(tmp_path / "gone.json") is None


def test_the_packaged_table_is_of_this_zoo() -> None:
    """The table that is packaged was measured over every program, names rules and causes that exist, and counts soundly."""
    content = json.loads(FILE.read_text(encoding="utf-8"))
    assert content["programs"] == len(PROGRAMS)
    assert content["trainings"] + content["left_out"] == content["programs"] * content["seeds"]
    assert content["sick"] + content["healthy"] == content["trainings"]
    assert {each["rule"] for each in content["named"]} <= set(RULES)
    assert {each["cause"] for each in content["named"]} <= set(CAUSES)
    assert all(0 <= each["right"] <= each["first"] and each["first"] > 0 for each in content["named"])
    assert sum(each["first"] for each in content["named"]) <= content["trainings"]
    packaged = benchmark.benchmark()
    assert packaged is not None
    assert packaged == read_benchmark(FILE)


# what is said of it


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of the test's own: what is packaged changes with every measurement."""
    monkeypatch.setattr(benchmark, "benchmark", lambda: Benchmark("2026-11-29", 60, 40, {CAUSE: Rate(50, 47)}))


@pytest.mark.usefixtures("measured")
def test_every_format_says_how_often_a_cause_was_right() -> None:
    """The document holds the two numbers, the terminal and the page say them in words, beside the leading cause alone."""
    diagnosis = diagnose(SICK)
    content = document(SICK, diagnosis)
    first, *others = content["findings"][0]["causes"]
    assert first["benchmark"] == {"named_first": 50, "right": 47}
    assert not [cause for cause in others if "benchmark" in cause]
    expected = f"{SAID[0].upper()}{SAID[1:]}."
    assert " ".join(terminal.render(content).split()).count(expected) == 1
    assert render(page_data(SICK, diagnosis)).count(expected) == 1


def test_of_a_cause_that_was_never_named_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """No table, and no row in it: the key is not there, and neither are the words."""
    for table in (None, Benchmark("2026-11-29", 60, 40, {"another": Rate(50, 47)})):
        monkeypatch.setattr(benchmark, "benchmark", lambda table=table: table)
        content = document(SICK, diagnose(SICK))
        assert "benchmark" not in content["findings"][0]["causes"][0]
        assert "benchmark" not in terminal.render(content)
        assert rate_of(CAUSE) is None


@pytest.mark.usefixtures("measured")
def test_only_what_was_measured_has_a_rate() -> None:
    """Measured is the first cause of what leads: a consequence, a note and a second cause have no rate."""
    causes = (Cause(CAUSE, 0.9, "a"), Cause(CAUSE, 0.1, "b"))
    finding = Finding("vanishing-gradient", "error", (), 0, 1, "m", (), causes)
    assert rate_of_cause(finding, 0) == Rate(50, 47)
    assert rate_of_cause(finding, 1) is None
    assert rate_of_cause(replace(finding, severity="note"), 0) is None
    assert rate_of_cause(replace(finding, follows="dead-units"), 0) is None
