"""What every rule promises: its cases, its page, its thresholds, and that odd runs do it no harm."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from gradscope.catalogue import rules
from gradscope.records import SEVERITIES, STEP, SUMMARY_ROW, Check, Finding, Run, RunInfo
from gradscope.rules import Case, Rule
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Signals

# The ids that the design promises: users write them into their scripts.
RULES = [
    *("vanishing-gradient", "exploding-gradient", "non-finite", "saturated-activation", "dead-units"),
    *("untrained-parameter", "poor-initialization", "learning-rate-too-high", "learning-rate-too-low"),
    *("gradient-spike", "accumulating-gradient", "output-loss-mismatch", "unscaled-data", "precision-loss"),
    *("normalization-fault", "dropout-fault", "vanishing-through-time", "representation-collapse", "loss-stalled"),
    "unequal-replicas",
]
CAUSES = [
    *("activation-saturates", "activation-contracts", "activation-expands", "init-too-small", "init-too-large"),
    "symmetric-init",
    *("depth-without-skip", "long-backprop-chain", "learning-rate-too-high", "learning-rate-too-low"),
    *("gradient-not-zeroed", "unscaled-input", "unscaled-target", "loss-mismatch", "output-activation"),
    *("loss-reduction", "norm-at-init", "no-clipping", "precision", "detached", "frozen", "not-in-optimizer"),
    *("dead-path", "weight-growth", "post-norm-without-warmup", "attention-logit-growth"),
    *("unsynchronised-ranks", "regularization-too-strong"),
]
HEADINGS = ("Why it hurts:", "When it is harmless:", "How it is measured:", "What to do:")

ALL_RULES = [pytest.param(rule, id=identity) for identity, rule in rules().items()]
ALL_CASES = [
    pytest.param(rule, case, id=f"{identity}: {case.title}")
    for identity, rule in rules().items()
    for case in rule.cases()
]


def findings(rule: Rule, run: Run) -> list[Finding]:
    """What a rule finds in a run that it can judge."""
    signals = Signals(run)
    return [] if rule.applies(signals) is not None else list(rule.check(signals))


@pytest.mark.parametrize(("rule", "case"), ALL_CASES)
def test_a_rule_finds_exactly_what_its_case_says(rule: Rule, case: Case) -> None:
    """A case with layers makes the rule name these and no others; one without layers leaves it quiet."""
    found = findings(rule, case.run)
    assert {layer for finding in found for layer in finding.layers} == set(case.layers)
    assert bool(found) == bool(case.layers)


@pytest.mark.parametrize("rule", ALL_RULES)
def test_a_rule_has_cases_of_both_kinds(rule: Rule) -> None:
    """Each rule shows where it fires and where it must stay quiet."""
    kinds = [bool(case.layers) for case in rule.cases()]
    assert True in kinds
    assert False in kinds
    titles = [case.title for case in rule.cases()]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(("rule", "case"), ALL_CASES)
def test_what_a_rule_finds_is_complete(rule: Rule, case: Case) -> None:
    """A finding says the rule's id, how bad, when, a sentence, evidence, and causes by confidence with their reasons."""
    for finding in findings(rule, case.run):
        assert finding.rule == rule.id
        assert finding.severity in SEVERITIES
        assert 0 <= finding.first_step <= finding.last_step <= case.run.steps["step"][-1]
        assert finding.message[0] == finding.message[0].upper()
        assert not finding.message.endswith(".")
        assert "\n" not in finding.message
        assert finding.evidence
        assert finding.causes
        assert {cause.id for cause in finding.causes} <= set(CAUSES)
        assert len({cause.id for cause in finding.causes}) == len(finding.causes)
        confidences = [cause.confidence for cause in finding.causes]
        assert confidences == sorted(confidences, reverse=True)
        assert all(0 < confidence <= 1 for confidence in confidences)
        assert all(cause.explanation and not cause.explanation.endswith(".") for cause in finding.causes)
        assert finding.suggestions == ()  # the diagnosis attaches them


@pytest.mark.parametrize("rule", ALL_RULES)
def test_a_rule_has_its_page(rule: Rule) -> None:
    """The docstring is the rule's page, with the fixed headings in their order."""
    page = rule.page()
    assert page.startswith(f"{rule.id}\n{'=' * len(rule.id)}\n\nFlags ")
    places = [page.index(heading) for heading in HEADINGS]
    assert places == sorted(places)
    sections = [
        page[start:end] for start, end in zip(places, [*places[1:], page.index("\n\nThresholds:")], strict=True)
    ]
    assert all(len(section.split()) > 8 for section in sections)
    assert all(f"    {source}" in page for source in rule.sources)
    assert all(
        f"    {name} = {threshold.value:g} ({threshold.unit})" in page for name, threshold in rule.thresholds().items()
    )


@pytest.mark.parametrize("rule", ALL_RULES)
def test_a_rule_says_where_its_numbers_are_from(rule: Rule) -> None:
    """Each threshold is a positive number with its unit and its source or calibration; the rule has sources."""
    assert rule.thresholds()
    for threshold in rule.thresholds().values():
        assert 0 < threshold.value < math.inf
        assert threshold.unit
        assert threshold.source
    assert rule.sources
    assert all(rule.sources)


@pytest.mark.parametrize("rule", ALL_RULES)
def test_a_rule_is_named_after_its_sickness(rule: Rule) -> None:
    """A rule's id is one that the design promises, its file is named after it, and one line sums it up."""
    assert rule.id in RULES
    assert type(rule).__module__ == f"gradscope.rules.{rule.id.replace('-', '_')}"
    assert rule.summary.endswith(".")
    assert len(rule.summary) <= 80


@pytest.mark.parametrize("rule", ALL_RULES)
def test_a_rule_waits_for_the_steps_it_needs(rule: Rule) -> None:
    """With fewer recorded steps than it needs a rule says how many are missing."""
    steps = rule.needs_steps - 1
    run = by_hand({"a": 1.0, "b": 1.0}, steps=max(steps, 1))
    if steps == 0:
        run = Run(RunInfo("a", "Net", 0.0), np.zeros(0, STEP), np.zeros((0, 0)), np.zeros(0, SUMMARY_ROW))
    assert rule.applies(Signals(run)) == Check(rule.id, "needs-data", "needs 1 more recorded step")
    assert rule.applies(Signals(by_hand({"a": 1.0, "b": 1.0}, steps=rule.needs_steps))) is None


def odd_runs() -> Iterator[tuple[str, Run]]:
    """Runs that no rule was written for."""
    chain = {"a": 1.0, "b": 1.0, "c": 1.0}
    yield "one layer", by_hand({"a": 1.0})
    yield (
        "everything NaN",
        by_hand(dict.fromkeys(chain, math.nan), activation=dict.fromkeys(chain, math.nan), loss=math.nan),
    )
    yield (
        "everything Inf",
        by_hand(dict.fromkeys(chain, math.inf), activation=dict.fromkeys(chain, math.inf), loss=math.inf),
    )
    yield (
        "everything zero",
        by_hand(dict.fromkeys(chain, 0.0), activation=dict.fromkeys(chain, 0.0), loss=0.0, scale=0.0),
    )
    yield "loss without gradients", by_hand(chain, loss=1.0, scale=0.0)
    yield "negative loss", by_hand(chain, loss=-3.0)
    run = by_hand(chain)
    yield "no head", replace(run, info=replace(run.info, heads=()))
    yield "no links", replace(run, info=replace(run.info, links=()))
    yield "no optimizer", replace(run, info=replace(run.info, optimizers=()), learning_rates=np.zeros((8, 0)))
    yield "rows without steps", replace(run, steps=run.steps[:0])
    parameters = [i for i, site in enumerate(run.info.sites) if site.role == "parameter"]
    yield "only parameters", replace(run, summaries=run.summaries[np.isin(run.summaries["site"], parameters)])
    yield "no parameters", replace(run, summaries=run.summaries[~np.isin(run.summaries["site"], parameters)])
    losses = [1.0, math.inf, -math.inf, math.nan, 1e300, 0.0, -1.0, 1.0]
    yield "a wild loss", by_hand(chain, loss=losses, update={"a.weight": math.inf, "b.weight": math.nan})


@pytest.mark.parametrize("rule", ALL_RULES)
@pytest.mark.parametrize("run", [pytest.param(run, id=title) for title, run in odd_runs()])
def test_odd_runs_do_no_harm(rule: Rule, run: Run) -> None:
    """A rule never raises and never warns, whatever was recorded, and gives no NaN for a number."""
    for finding in findings(rule, run):
        said = f"{finding} {finding.causes} {finding.evidence}"
        assert rule.id == "non-finite" or not re.search(r"\bnan\b", said, re.IGNORECASE)
