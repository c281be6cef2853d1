from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradscope.comparison import Comparison, Side, compare, difference, to_document
from gradscope.comparison.difference import (
    BOTH_BROKEN,
    DIFFERS,
    NOT_IN_BOTH,
    ONLY_A_BROKEN,
    ONLY_A_ZERO,
    ONLY_B_BROKEN,
    ONLY_B_ZERO,
)
from gradscope.diagnosis import diagnose
from gradscope.records import Cause, Finding, OptimizerInfo, Run, SourceFile
from gradscope.rules.handwritten import run
from gradscope.signals import Signals


class Gain:
    """The backward gain of layers, as the map reads it."""

    @staticmethod
    def rows(signals: Signals) -> list[int]:
        return signals.layers

    @staticmethod
    def values(signals: Signals) -> Any:
        return signals.backward_gain

    @staticmethod
    def non_finite(signals: Signals) -> Any:
        return signals.non_finite("activation_gradient")


GAIN = Gain()
NAN = float("nan")


def side(name: str, made: Run, findings: tuple[Finding, ...] | None = None) -> Side:
    """A run with its own diagnosis, or with findings of your choice."""
    made = replace(made, info=replace(made.info, id=name))
    diagnosis = diagnose(made)
    return Side(name, made, diagnosis if findings is None else replace(diagnosis, findings=findings))


def finding(rule: str, layers: tuple[str, ...], cause: str = "", severity: Any = "warning") -> Finding:
    """A finding with one cause."""
    causes = (Cause(cause, 0.9, ""),) if cause else ()
    return Finding(rule, severity, layers, 0, 7, f"{rule} in {layers}", causes=causes)


def numbers(comparison: Comparison) -> tuple[list[str], list[tuple[str, str]], list[str]]:
    """The findings' numbers: of A only, of both, of B only."""
    return (
        [line.number for line in comparison.only_a],
        [(pair.a.number, pair.b.number) for pair in comparison.both],
        [line.number for line in comparison.only_b],
    )


SICK, WELL = run({"a": 1e-9, "b": 1e-4, "c": 1.0}), run({"a": 0.5, "b": 0.7, "c": 1.0})


def test_a_sickness_of_one_run_is_only_there() -> None:
    """What only A has is listed as A's, and B's list is empty."""
    found = compare(side("sick", SICK), side("well", WELL))
    assert (len(found.only_a), found.both, found.only_b) == (1, (), ())
    assert found.only_a[0].rule == "vanishing-gradient"
    assert (found.a.verdict, found.b.verdict) == ("unhealthy", "healthy")


def test_findings_are_one_by_rule_cause_and_overlapping_layers() -> None:
    """Another rule, another cause or other layers make another finding."""
    of_a = (
        finding("vanishing-gradient", ("a", "b"), "activation-contracts"),
        finding("dead-units", ("a",), "init-too-small"),
        finding("loss-stalled", ("a",), "frozen"),
    )
    of_b = (
        finding("loss-stalled", ("c",), "frozen"),
        finding("dead-units", ("a",), "weight-growth"),
        finding("vanishing-gradient", ("b", "c"), "activation-contracts"),
    )
    found = compare(side("x", WELL, of_a), side("y", WELL, of_b))
    assert numbers(found) == (["F2", "F3"], [("F1", "F3")], ["F1", "F2"])


def test_a_finding_has_one_partner_the_one_that_shares_most_layers() -> None:
    """Two findings of one rule are not both the same as one of the other run; without layers the rule decides."""
    of_a = (finding("dead-units", ("a", "b", "c")), finding("dead-units", ("a",)), finding("gradient-spike", ()))
    of_b = (finding("dead-units", ("a",)), finding("gradient-spike", ("a",)))
    found = compare(side("x", WELL, of_a), side("y", WELL, of_b))
    assert numbers(found) == (["F1"], [("F2", "F1"), ("F3", "F2")], [])


def test_exchanging_the_runs_exchanges_the_lists() -> None:
    """[27] A and B exchanged: the lists, the settings and the medians are exchanged, nothing else changes."""
    one, two = side("sick", SICK), side("well", WELL)
    there, back = compare(one, two), compare(two, one)
    assert (there.only_a, there.only_b) == (back.only_b, back.only_a)
    assert [(s.name, s.a, s.b) for s in there.settings] == [(s.name, s.b, s.a) for s in back.settings]
    assert [pair.decades for pair in there.layers] == [-pair.decades for pair in back.layers]
    assert (there.layers_only_a, there.layers_only_b) == (back.layers_only_b, back.layers_only_a)


def test_what_was_set_differently_is_listed_first() -> None:
    """Optimizer, options, rates, versions, model and layers of another kind; what is alike follows."""
    other = run(
        {"a": 0.5, "b": 0.7, "c": 1.0}, kinds={"b": "Tanh"}, optimizer="Adam", info={"versions": {"torch": "2"}}
    )
    other = replace(other, learning_rates=np.full((8, 1), 0.1))
    found = compare(side("x", WELL), side("y", other))
    differing = {(s.group, s.name): (s.a, s.b) for s in found.differing}
    assert differing[("optimizer", "optimizer")] == ("SGD", "Adam")
    assert differing[("learning rate", "first")] == ("0.01", "0.1")
    assert differing[("model", "b")] == ("Linear", "Tanh")
    assert differing[("versions", "torch")] == ("none", "2")
    assert ("optimizer", "lr") not in differing
    assert list(found.settings[: len(differing)]) == list(found.differing)


def test_layers_that_changed_alike_are_one_setting() -> None:
    """Twenty activations that were swapped are said once, with how many."""
    names = {f"layers.{i}": 1.0 for i in range(6)}
    tanh = run(names, kinds=dict.fromkeys(names, "Tanh"))
    relu = run(names, kinds=dict.fromkeys(names, "ReLU"))
    kinds = [s for s in compare(side("x", tanh), side("y", relu)).differing if s.group == "model"]
    assert [(s.name, s.a, s.b) for s in kinds] == [("layers.0, layers.1 and 4 more", "Tanh", "ReLU")]


def test_options_of_several_optimizers_keep_apart() -> None:
    """Two optimizers are numbered, so that the options of one do not hide the other's."""
    two = (OptimizerInfo("SGD", {"lr": 0.1}), OptimizerInfo("Adam", {"lr": 0.2}))
    made = replace(WELL, info=replace(WELL.info, optimizers=two))
    said = {s.name: s.b for s in compare(side("x", WELL), side("y", made)).settings}
    assert (said["lr 1"], said["lr 2"], said["optimizer 2"]) == ("0.1", "0.2", "Adam")


def with_source(made: Run, path: str, text: str) -> Run:
    """The run with one file of its program."""
    return replace(made, info=replace(made.info, sources=(SourceFile(path, text),)))


def test_the_lines_of_the_program_that_differ_are_shown() -> None:
    """A file is found again in another folder by its name; a program of one file is compared whatever its name."""
    before, after = with_source(WELL, "/one/train.py", "a\nb\n"), with_source(WELL, "/two/train.py", "a\nc\nd\n")
    (change,) = compare(side("x", before), side("y", after)).sources
    assert (change.name, change.removed, change.added) == ("train.py", 1, 2)
    assert "-b" in change.diff.splitlines()
    assert "+c" in change.diff.splitlines()
    assert compare(side("x", before), side("y", before)).sources == ()
    renamed = with_source(WELL, "/two/other.py", "a\nb\n")
    assert compare(side("x", before), side("y", renamed)).sources[0].name == "train.py → other.py"


def test_the_difference_is_b_minus_a_in_decades() -> None:
    """[27] The map holds log10 of B over A, and is negated exactly when the runs are exchanged."""
    one, two = Signals(SICK), Signals(WELL)
    there, back = difference(one, two, GAIN), difference(two, one, GAIN)
    assert there.layers == ("a", "b", "c")
    np.testing.assert_allclose(there.decades[:, 0], [np.log10(0.5 / 1e-9), np.log10(0.7 / 1e-4), 0.0], rtol=1e-6)
    np.testing.assert_array_equal(there.decades, -back.decades)
    assert there.layers == back.layers


@pytest.mark.parametrize("by", ["step", "share", "time"])
def test_the_map_is_negated_whatever_the_alignment(by: str) -> None:
    """[27] Runs of different lengths with noise, aligned by step, share or time: exchanged, every cell is negated."""
    noise = np.random.default_rng(0)

    def noisy(steps: int) -> Signals:
        return Signals(run({name: list(10 ** noise.normal(size=steps)) for name in "ab"}, steps=steps))

    one, two = noisy(1300), noisy(700)
    there, back = difference(one, two, GAIN, by), difference(two, one, GAIN, by)
    assert there.decades.shape[1] <= 1001
    np.testing.assert_array_equal(there.decades, -back.decades)
    np.testing.assert_array_equal(there.at, back.at)


def test_only_common_steps_are_aligned_by_step_and_all_by_share() -> None:
    """A run of 8 and one of 4 steps have 4 steps in common; by share both are compared from start to end."""
    long, short = Signals(run({"a": 1.0, "b": 1.0}, steps=8)), Signals(run({"a": 10.0, "b": 1.0}, steps=4))
    by_step = difference(long, short, GAIN)
    assert by_step.at.tolist() == [0, 1, 2, 3]
    by_share = difference(long, short, GAIN, "share")
    assert by_share.at[0] == 0
    assert by_share.at[-1] == pytest.approx(1.0)
    assert (by_share.states == DIFFERS).all()


def test_layers_are_aligned_by_name_and_the_others_are_listed() -> None:
    """Layers of one run only are named, not compared."""
    other = run({"a": 0.5, "extra": 0.7, "c": 1.0})
    found = compare(side("x", WELL), side("y", other))
    assert [pair.layer for pair in found.layers] == ["a", "c"]
    assert (found.layers_only_a, found.layers_only_b) == (("b",), ("extra",))
    assert difference(Signals(WELL), Signals(other), GAIN).layers == ("a", "c")


def test_what_is_no_difference_says_why() -> None:
    """NaN in one run or in both, exactly 0 in one, and not recorded are states, never numbers."""
    names = ("a", "b", "c", "d", "e", "f", "head")
    one = run(dict(zip(names, [NAN, 1.0, NAN, 0.0, 1.0, 0.0, 1.0], strict=True)))
    two = run(dict(zip(names, [1.0, NAN, NAN, 1.0, 0.0, 0.0, 1.0], strict=True)))
    states = difference(Signals(one), Signals(two), GAIN).states[:, 0].tolist()
    expected = [ONLY_A_BROKEN, ONLY_B_BROKEN, BOTH_BROKEN, ONLY_A_ZERO, ONLY_B_ZERO, DIFFERS, DIFFERS]
    assert states == expected
    cells = difference(Signals(one), Signals(two), GAIN).decades[:, 0]
    assert np.isnan(cells[:5]).all()
    assert cells[5:].tolist() == [0.0, 0.0]


def test_a_gap_in_the_recording_is_no_difference() -> None:
    """A number holds for twice the usual distance between recorded steps, not for ever."""
    made = run({"a": 1.0, "b": 1.0}, steps=40)
    rows = made.summaries
    gap = replace(made, summaries=rows[(rows["step"] < 10) | (rows["step"] > 30)])
    states = difference(Signals(made), Signals(gap), GAIN).states[0]
    assert states[5] == DIFFERS
    assert states[20] == NOT_IN_BOTH
    assert states[35] == DIFFERS


def test_two_models_without_a_common_layer_have_an_empty_map_and_a_note() -> None:
    """Nothing is compared that has nothing in common, and it is said."""
    other = run({"x": 1.0, "y": 1.0})
    found = compare(side("x", WELL), side("y", other))
    assert found.layers == ()
    assert "no layer of the same name" in found.notes[0]
    assert difference(Signals(WELL), Signals(other), GAIN).decades.shape == (0, 0)


def test_a_run_compared_with_itself_says_so() -> None:
    """The same run twice: nothing differs, and a sentence says why."""
    one = side("sick", SICK)
    found = compare(one, one)
    assert (found.only_a, found.only_b, found.differing) == ((), (), ())
    assert found.notes == ("Both are the same run: nothing can differ.",)


@pytest.mark.parametrize(
    "made",
    [
        run({"a": 1.0}, steps=3),
        run({"a": NAN, "b": NAN}, loss=NAN, steps=3),
        run({"a": 1.0, "b": 1.0}, steps=0),
        run({f"layers.{i}": 1.0 for i in range(3000)}, steps=2),
    ],
    ids=["one layer", "all NaN", "no step", "3,000 layers"],
)
def test_any_run_can_be_compared(made: Run) -> None:
    """One layer, nothing but NaN, no step and 3,000 layers: a comparison and its JSON come out, either way round."""
    other = side("well", WELL)
    for a, b in ((side("odd", made), other), (other, side("odd", made)), (side("odd", made), side("odd2", made))):
        text = json.dumps(to_document(compare(a, b)), allow_nan=False)
        assert json.loads(text)["schema_version"] == 1
        for by in ("step", "share", "time"):
            assert difference(a.signals, b.signals, GAIN, by).decades.dtype == np.float32


def test_the_document_says_what_the_comparison_says() -> None:
    """[27] JSON holds the verdicts, what was set differently, the three lists and each layer's difference."""
    found = compare(side("sick", SICK), side("well", WELL))
    document = to_document(found)
    assert (document["a"]["verdict"], document["b"]["verdict"]) == ("unhealthy", "healthy")
    assert [line["number"] for line in document["only_a"]] == ["F1"]
    assert [s["name"] for s in document["settings"] if s["differs"]] == [s.name for s in found.differing]
    assert document["layers"][0]["decades"] == pytest.approx(np.log10(0.5 / 1e-9))
