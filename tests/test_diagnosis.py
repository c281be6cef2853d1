"""From a run to its diagnosis: verdict, headline, order, what follows from what, and what could not be seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gradscope.catalogue import rules
from gradscope.diagnosis import MOST_SUGGESTIONS, _leads, _ranked, diagnose
from gradscope.records import SEVERITIES, STEP, SUMMARY_ROW, Cause, Check, Finding, NotObserved, Run, RunInfo, Severity
from gradscope.rules.handwritten import run as by_hand
from gradscope.store import read_run
from tests.conftest import write_run

NAN = math.nan
FINE = {"a": 0.8, "b": 0.9, "c": 1.0}
GROWS = [1.0, 1e4, 1e8, 1e12, 1e16, 1e20, 1e24, 1e28]
LATE = [1.0, 1.0, 1.0, 1.0, NAN, NAN, NAN, NAN]

RUNS: dict[str, Callable[[], Run]] = {
    "healthy": lambda: by_hand(FINE, loss=1.0),
    "vanishing": lambda: by_hand({"a": 1e-9, "b": 1e-4, "c": 1.0}, kinds={"b": "Sigmoid"}, loss=2.3),
    "sigmoids": lambda: by_hand(
        {f"{kind}{i}": 0.25 ** (6 - i + (kind == "layer")) for i in range(7) for kind in ("layer", "act")}
        | {"head": 1.0},
        kinds={f"act{i}": "Sigmoid" for i in range(7)},
    ),
    "a little vanishing": lambda: by_hand({"a": 1e-4, "b": 0.5, "c": 1.0}),
    "vanished for a while": lambda: by_hand({"a": [1e-9] * 4 + [1.0] * 4, "c": 1.0}),
    "exploding": lambda: by_hand({"a": 1e6, "b": 1e3, "c": 1.0}),
    "exploding until broken": lambda: by_hand(
        {"a": [1e6] * 4 + [NAN] * 4, "b": 1.0}, activation={"b": LATE}, loss=LATE
    ),
    "broken": lambda: by_hand(FINE, activation={"b": LATE}, loss=LATE),
    "forgotten": lambda: by_hand(FINE, optimized={"b.weight": False}),
    "two sicknesses": lambda: by_hand({"a": 1e-9, "b": 1.0, "c": 1.0}, optimized={"b.weight": False}),
    "one step": lambda: by_hand(FINE, steps=1),
    "nothing": lambda: Run(RunInfo("a", "Net", 0.0), np.zeros(0, STEP), np.zeros((0, 0)), np.zeros(0, SUMMARY_ROW)),
}


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("healthy", "healthy"),
        ("vanishing", "unhealthy"),
        ("a little vanishing", "watch"),
        ("vanished for a while", "healthy"),
        ("exploding", "unhealthy"),
        ("exploding until broken", "broken"),
        ("broken", "broken"),
        ("forgotten", "watch"),
        ("one step", "not-enough-data"),
        ("nothing", "not-enough-data"),
    ],
)
def test_the_verdict_follows_the_worst_finding(name: str, verdict: str) -> None:
    """NaN now: broken. An error: unhealthy. A warning: watch. Notes alone: healthy. Too few steps: not-enough-data."""
    assert diagnose(RUNS[name]()).verdict == verdict


def test_a_sickness_is_said_before_there_is_enough_data() -> None:
    """What is found already outweighs what could not be judged yet."""
    diagnosis = diagnose(by_hand({"a": 1e6, "b": 1.0}, steps=2))
    assert diagnosis.verdict == "unhealthy"
    assert "needs-data" in {check.outcome for check in diagnosis.passed}


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_too_few_steps_are_no_health(steps: int) -> None:
    """Until every rule had its steps a run is not healthy; the headline says what is missing."""
    diagnosis = diagnose(by_hand(FINE, steps=steps) if steps else RUNS["nothing"]())
    assert diagnosis.verdict == "not-enough-data"
    waiting = sum(check.outcome == "needs-data" for check in diagnosis.passed)
    said = f"{waiting} of {len(rules())} checks wait for more steps: {steps} recorded so far."
    assert diagnosis.headline == said
    assert f"needs {3 - steps} more recorded step" in " ".join(check.reason for check in diagnosis.passed)


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
def test_every_rule_is_accounted_for(run: Callable[[], Run]) -> None:
    """Each rule has either found something, passed, or says why it could not look."""
    diagnosis = diagnose(run())
    found = {finding.rule for finding in diagnosis.findings}
    checked = [check.rule for check in diagnosis.passed]
    assert sorted([*found, *checked]) == sorted(rules())
    assert all(bool(check.reason) == (check.outcome != "passed") for check in diagnosis.passed)


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
def test_the_same_run_gets_the_same_diagnosis(run: Callable[[], Run]) -> None:
    """Nothing in a diagnosis depends on chance or on what was diagnosed before."""
    assert diagnose(run()) == diagnose(run())


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
def test_a_run_read_from_disk_gets_the_same_diagnosis(run: Callable[[], Run], tmp_path: Path) -> None:
    """Saving a run and reading it again changes nothing."""
    assert diagnose(read_run(write_run(run(), tmp_path / "run"))) == diagnose(run())


# the headline


def test_the_headline_says_what_where_and_since_when() -> None:
    """One sentence about the first finding."""
    assert diagnose(RUNS["vanishing"]()).headline.startswith("Gradients vanish before ")
    assert diagnose(RUNS["vanishing"]()).headline.endswith(", since step 0.")
    assert diagnose(RUNS["broken"]()).headline == "Loss is NaN since step 4; it began in the activation of b."


def test_the_headline_says_how_it_ended() -> None:
    """A growth that ended in NaN: both are said, the cause first."""
    headline = diagnose(RUNS["exploding until broken"]()).headline
    assert headline.startswith("Gradients explode")
    assert headline.endswith("since step 0. Loss is NaN since step 4.")


def test_the_headline_of_health_says_for_how_long() -> None:
    """A healthy run is told by its steps; what was only noted is counted."""
    assert diagnose(by_hand(FINE, steps=1200)).headline == "No sickness found in 1,200 steps."
    assert diagnose(RUNS["vanished for a while"]()).headline == "No sickness found in 8 steps. 1 note."


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
def test_the_headline_is_one_line(run: Callable[[], Run]) -> None:
    """It begins like a sentence and ends with a full stop."""
    headline = diagnose(run()).headline
    assert headline[0] == headline[0].upper()
    assert headline.endswith(".")
    assert "\n" not in headline
    assert ".." not in headline


# order


def test_a_consequence_hangs_under_what_leads_to_it() -> None:
    """NaN that comes after an explosion follows from it, comes right behind it, and needs no cure of its own."""
    first, second = diagnose(RUNS["exploding until broken"]()).findings
    assert (first.rule, first.follows) == ("exploding-gradient", None)
    assert (second.rule, second.follows) == ("non-finite", "exploding-gradient")
    assert first.suggestions
    assert second.suggestions == ()


def test_what_comes_later_is_no_cause() -> None:
    """A gradient that explodes after the first NaN did not lead to it: both stand for themselves."""
    late = [1.0] * 5 + [1e6] * 3
    run = by_hand({"a": late, "b": 1.0}, activation={"b": [NAN] + [1.0] * 7}, loss=[NAN] + [1.0] * 7)
    assert {finding.follows for finding in diagnose(run).findings} == {None}


def test_a_gradient_that_vanished_altogether_is_still_a_vanishing_one() -> None:
    """Where the gradient fades until float32 holds no more of it, the exact zeros are the end of the fading."""
    run = by_hand({"a": 0.0, "b": 1e-40, "c": 1e-3, "d": 1.0}, gradient={"a.weight": 0.0, "b.weight": 1e-43})
    first, second = diagnose(run).findings
    assert (first.rule, first.layers, first.follows) == ("vanishing-gradient", ("b",), None)
    assert (second.rule, second.layers, second.follows) == ("untrained-parameter", ("a",), "vanishing-gradient")


def test_what_the_optimizer_was_not_given_explains_no_gradient() -> None:
    """A forgotten parameter and a vanishing gradient are two sicknesses: the worse one leads."""
    first, second = diagnose(RUNS["two sicknesses"]()).findings
    assert (first.rule, first.follows) == ("vanishing-gradient", None)
    assert (second.rule, second.follows) == ("untrained-parameter", None)


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
def test_the_worst_comes_first(run: Callable[[], Run]) -> None:
    """Findings that lead come by severity, then by when they began."""
    leading = [finding for finding in diagnose(run()).findings if finding.follows is None]
    places = [(-SEVERITIES.index(finding.severity), finding.first_step) for finding in leading]
    assert places == sorted(places)


def found(rule: str, cause: str, first_step: int = 0, severity: Severity = "error") -> Finding:
    """A finding of a rule."""
    why = (Cause(cause, 0.9, "a reason"),)
    return Finding(rule, severity, ("a",), first_step, 9, "Something", causes=why)


@pytest.mark.parametrize(
    ("root", "others"),
    [
        (
            found("accumulating-gradient", "gradient-not-zeroed", 1),
            [found("learning-rate-too-high", "learning-rate-too-high", 0), found("non-finite", "no-clipping", 5)],
        ),
        (
            found("unscaled-data", "unscaled-input", 0, "warning"),
            [found("dead-units", "dead-path", 2), found("loss-stalled", "dead-path", 8)],
        ),
        (
            found("learning-rate-too-high", "learning-rate-too-high", 3),
            [
                found("exploding-gradient", "learning-rate-too-high", 3),
                found("dead-units", "learning-rate-too-high", 4),
                found("untrained-parameter", "dead-path", 5),
            ],
        ),
        (
            found("exploding-gradient", "init-too-large"),
            [
                found("learning-rate-too-high", "learning-rate-too-high"),
                found("poor-initialization", "init-too-large"),
                found("saturated-activation", "init-too-large"),
            ],
        ),
        (
            found("poor-initialization", "symmetric-init"),
            [found("vanishing-gradient", "init-too-small"), found("loss-stalled", "symmetric-init", 7)],
        ),
        (
            found("vanishing-gradient", "activation-contracts"),
            [found("untrained-parameter", "dead-path"), found("representation-collapse", "activation-contracts")],
        ),
    ],
    ids=lambda item: item.rule if isinstance(item, Finding) else "",
)
def test_one_sickness_is_one_story(root: Finding, others: list[Finding]) -> None:
    """However the findings of one sickness are ordered, the first link of the chain leads and all others follow it."""
    for findings in ([root, *others], [*others, root]):
        leading, *following = _ranked(findings)
        assert (leading.rule, leading.follows) == (root.rule, None)
        assert {finding.follows for finding in following} == {root.rule}
        assert len(following) == len(others)


def test_a_consequence_of_a_consequence_follows_the_root() -> None:
    """A loss that stalls for layers that died for a step too long hangs under the learning rate."""
    findings = [
        found("loss-stalled", "dead-path", 9),
        found("dead-units", "learning-rate-too-high", 4),
        found("learning-rate-too-high", "learning-rate-too-high", 2),
    ]
    assert [finding.follows for finding in _ranked(findings)] == [None, *["learning-rate-too-high"] * 2]


def test_a_note_leads_to_nothing() -> None:
    """What is harmless by itself is not the reason for what is not."""
    findings = [found("gradient-spike", "no-clipping", 1, "note"), found("loss-stalled", "learning-rate-too-low", 5)]
    assert {finding.follows for finding in _ranked(findings)} == {None}


def test_no_two_rules_are_each_others_reason() -> None:
    """Whatever the causes, of two findings of one step one leads to the other at most."""
    causes = ("init-too-large", "symmetric-init", "learning-rate-too-high", "dead-path")
    findings = [found(rule, cause) for rule in rules() for cause in causes]
    both = [(a.rule, b.rule) for a in findings for b in findings if _leads(a, b) and _leads(b, a)]
    assert both == []


# suggestions


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
def test_each_finding_gets_a_few_remedies(run: Callable[[], Run]) -> None:
    """At most four, each once, the best fitting first."""
    for finding in diagnose(run()).findings:
        names = [suggestion.remedy for suggestion in finding.suggestions]
        assert len(names) == len(set(names)) <= MOST_SUGGESTIONS
        assert bool(names) == (finding.follows is None)


@pytest.mark.parametrize(
    ("run", "first"),
    [
        (RUNS["sigmoids"], "activation-swap"),
        (lambda: by_hand({"a": 1e-9, "b": 1e-4, "c": 1.0}), "initialization"),
        (RUNS["exploding"], "initialization"),
        (RUNS["forgotten"], "add-to-optimizer"),
    ],
    ids=["sigmoids", "weights too small", "weights too large", "forgotten"],
)
def test_the_remedy_fits_the_likeliest_cause(run: Callable[[], Run], first: str) -> None:
    """The first suggestion cures what the first cause names."""
    assert diagnose(run()).findings[0].suggestions[0].remedy == first


# what was not seen


def test_what_the_recorder_could_not_see_is_passed_on() -> None:
    """The run's own list comes first in the diagnosis."""
    run = by_hand(FINE)
    missing = NotObserved("encoder", "inside a compiled region")
    assert diagnose(replace(run, info=replace(run.info, not_observed=(missing,)))).not_observed == (missing,)


def test_undefined_gains_are_said() -> None:
    """Gains that have no value are listed with the reason, never shown as 0."""
    run = by_hand(FINE, scale=[0.0] * 3 + [1.0] * 5)
    why = "the gradient at the output is exactly 0 in 3 of 8 recorded steps"
    assert diagnose(run).not_observed == (NotObserved("backward gains", why),)
    headless = replace(run, info=replace(run.info, heads=()))
    why = "no module with parameters was seen to lead to the loss"
    assert diagnose(headless).not_observed == (NotObserved("backward gains", why),)


def test_a_diagnosis_prints_as_text() -> None:
    """print(diagnosis): the verdict, each finding with its causes and remedies, and what was not seen."""
    text = str(diagnose(RUNS["two sicknesses"]()))
    assert text.startswith("unhealthy: ")
    assert "\n  F1 " in text
    assert "\n     why: " in text
    assert "\n     try: " in text


def test_a_rule_that_fails_hides_nothing_that_others_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said as a check that could not run, with the reason."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(rules()["dead-units"], "applies", fail)
    with pytest.warns(UserWarning, match="dead-units could not run.*please report"):
        diagnosis = diagnose(by_hand({"a": 1e-9, "b": 1.0}))
    assert diagnosis.findings[0].rule == "vanishing-gradient"
    assert Check("dead-units", "could-not-run", "ZeroDivisionError: oh") in diagnosis.passed
