"""The zoo: its quick half is judged here, and what judges it is held to closed forms and to runs made by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gradscope.records import Event
from gradscope.rules.handwritten import run as by_hand
from tests.test_remedies import REMEDIES
from tests.test_rules import CAUSES, RULES
from tests.zoo.animals import PROGRAMS, by_id, find
from tests.zoo.judge import MOMENTS, beginning, judge, label, last_step, read
from tests.zoo.program import Program, first, first_half, hidden, last, of_kind
from tests.zoo.train import Outcome, kept, train

FAST = find(fast=True)
WELL = Outcome(0.1, 0.1, 2.0, 0.1, 100, 1.0)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small matrices are quicker on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# the quick half


@pytest.fixture(scope="module")
def stable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the trained programs are."""
    return tmp_path_factory.mktemp("zoo")


def trained(program: Program, stable: Path) -> Path:
    """The folder of a program's training, trained once."""
    folder = stable / program.id
    if not folder.exists():
        train(program, 0, folder)
    return folder


@pytest.mark.filterwarnings("ignore")  # torch's, about what some programs do on purpose
@pytest.mark.parametrize("program", [pytest.param(each, id=each.id) for each in FAST if not each.sick])
def test_a_healthy_program_is_left_in_peace(program: Program, stable: Path) -> None:
    """A healthy program learns, and at the start, in the middle and at the end there is neither warning nor error."""
    folder = trained(program, stable)
    assert label(program, kept(folder), None) == "healthy"
    assert [said.text for said in judge(program, read(folder)) if said.alarm] == []


@pytest.mark.filterwarnings("ignore")  # torch's, about what some programs do on purpose
@pytest.mark.parametrize("program", [pytest.param(each, id=each.id) for each in FAST if each.sick])
def test_a_sick_program_is_found_with_its_cause(program: Program, stable: Path) -> None:
    """A sick program learns less than its twin; in the end it is found, with a cause and a layer that may be blamed."""
    twin, folder = by_id(program.twin), trained(program, stable)
    assert label(program, kept(folder), kept(trained(twin, stable))) == "sick"
    end = judge(program, read(folder))[-1]
    assert end.alarm
    assert end.cause_right in (True, None), end.text
    assert end.layer_right in (True, None), end.text


# the catalogue


def test_every_program_has_its_own_id() -> None:
    """Ids begin with the letter of their group and are given once."""
    names = [program.id for program in PROGRAMS]
    assert len(set(names)) == len(names)
    assert {program.group for program in PROGRAMS} == set("SCDH")
    assert not any(program.sick for program in PROGRAMS if program.group == "H")


@pytest.mark.parametrize("program", [pytest.param(each, id=each.id) for each in PROGRAMS if each.sick])
def test_a_sick_program_says_what_may_be_said_of_it(program: Program) -> None:
    """It has a healthy twin, and rules, causes and remedies that the design knows."""
    right = program.blame
    assert right is not None
    assert not by_id(program.twin).sick
    assert right.rules
    assert (right.rules - set(RULES), right.causes - set(CAUSES), right.remedies - set(REMEDIES)) == (
        set(),
        set(),
        set(),
    )
    assert bool(right.causes) == bool(right.remedies)


def test_the_published_programs_are_there() -> None:
    """All 48 fixed networks of AutoTrainer with its two bases, the 35 mutations, and the healthy controls 16 to 40."""
    names = [program.id for program in PROGRAMS]
    published = [each for each in PROGRAMS if re.match("C-(circle|blob|mnist|cifar)-", each.id) and each.sick]
    assert len(published) == 50
    assert {f"D{number}" for number in range(1, 36)} <= set(names)
    assert {int(name[1:3]) for name in names if name.startswith("H")} >= set(range(16, 41))


def test_the_quick_half_has_every_kind() -> None:
    """Every rule that a sick program may be found by is in the quick half as well."""
    possible = {rule for program in PROGRAMS if program.blame for rule in program.blame.rules}
    quick = {rule for program in FAST if program.blame for rule in program.blame.rules}
    assert quick == possible


def test_words_choose_programs() -> None:
    """Programs are chosen by how their ids begin, or all of them."""
    assert find() == list(PROGRAMS)
    assert [program.id for program in find("d33,D34")] == ["D33", "D34"]
    with pytest.raises(KeyError):
        by_id("no such program")


# labels and moments


@pytest.mark.parametrize(
    ("error", "twin", "expected"),
    [(0.1, 0.1, "unharmed"), (0.17, 0.1, "unharmed"), (0.18, 0.1, "sick"), (5.0, 0.9, "unharmed"), (0.9, 0.5, "sick")],
)
def test_a_sick_program_is_compared_with_its_twin(error: float, twin: float, expected: str) -> None:
    """It counts where its error is above the twin's by a quarter and 0.05; errors above 1 count as 1."""
    program = by_id("S-rate-low")
    assert label(program, replace(WELL, error=error), replace(WELL, error=twin)) == expected


def test_what_cannot_be_compared_is_taken_at_its_word() -> None:
    """A program that is sick by construction, or whose error is unknown, is sick; a healthy one has to have learned."""
    assert label(by_id("S-double-softmax"), WELL, WELL) == "sick"
    assert label(by_id("S-rate-low"), replace(WELL, error=math.nan), WELL) == "sick"
    healthy = by_id("S-mse")
    assert label(healthy, WELL, None) == "healthy"
    assert label(healthy, replace(WELL, error=math.nan), None) == "healthy"
    assert label(healthy, replace(WELL, error=0.9), None) == "unlearned"
    assert label(healthy, replace(WELL, broke="ValueError"), None) == "unlearned"


def test_a_run_is_cut_at_a_moment() -> None:
    """The start is ten steps, the middle half of them, the end all; steps, rates, summaries and events are cut."""
    whole = replace(by_hand({"a": 1.0}, steps=40), events=(Event(3, 0.0, "value"), Event(30, 0.0, "value")))
    assert [last_step(whole, moment) for moment in MOMENTS] == [9, 19, 39]
    part = beginning(whole, 9)
    assert part.steps["step"].tolist() == list(range(10))
    assert len(part.learning_rates) == 10
    assert part.summaries["step"].max() == 9
    assert part.events == whole.events[:1]
    assert last_step(by_hand({"a": 1.0}, steps=4), "start") == 3


def test_where_a_finding_may_point() -> None:
    """Predicates compare a path, a part of it or what holds it, with the layers in the order in which they run."""
    run = by_hand({"a": 1.0, "b.x": 1.0, "c": 1.0, "d": 1.0})
    layers = [site for site in run.info.sites if site.role == "output" and site.path in ("a", "b.x", "c", "d")]
    assert [first(2)(path, layers) for path in ("a", "b.x", "b", "a.weight", "c", "")] == [True] * 4 + [False] * 2
    assert [last(1)(path, layers) for path in ("d", "c")] == [True, False]
    assert [first_half(path, layers) for path in ("b.x", "c")] == [True, False]
    assert [hidden(path, layers) for path in ("c", "d")] == [True, False]
    assert of_kind(layers[0].kind)("a", layers)
    assert not of_kind("Norm")("a", layers)
