"""Trials without a process: statistics, candidates, and what is said of results written by hand."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gradscope.diagnosis import diagnose
from gradscope.errors import NothingToTry, ProgramError, UnknownId
from gradscope.numerals import number
from gradscope.records import Event, Finding, Run, Suggestion
from gradscope.reports import document, terminal
from gradscope.reports import trial as trial_text
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Signals
from gradscope.store import read_run
from gradscope.trials import keep, seeding
from gradscope.trials.candidates import Candidate, NotTried, choose
from gradscope.trials.experiment import Options, _together
from gradscope.trials.job import NO_CHANGE, RANDOM_CHANGE, REPEAT, Course, Job, Result, Seen, Treatment
from gradscope.trials.notes import notes
from gradscope.trials.outcome import Outcome, judge
from gradscope.trials.report import TrialReport
from gradscope.trials.statistics import _T_975, compare, interval, sign_flip_p
from tests.conftest import SaveRun

NAN, INF = float("nan"), float("inf")
SICK = by_hand({"a": 1e-9, "b": 0.5, "c": 1.0}, loss=2.3)

# statistics


@pytest.mark.parametrize("seeds", [1, 2, 3, 5, 8])
def test_all_pairs_lower_gives_the_smallest_p(seeds: int) -> None:
    """When each of K pairs is lower, one flip of 2^K is as extreme: p = 2^-K."""
    assert sign_flip_p(-np.arange(1.0, seeds + 1)) == 0.5**seeds


def test_no_difference_is_no_evidence() -> None:
    """When the pairs are equal, all flips are alike: p = 1."""
    assert sign_flip_p(np.zeros(5)) == 1.0


def test_the_p_is_that_of_counting_all_flips() -> None:
    """The exact p agrees with going through every sign pattern one by one, ties counted."""
    generator = np.random.default_rng(0)
    for seeds in (1, 2, 3, 4, 6):
        for _ in range(5):
            apart = np.round(generator.normal(-0.3, 1.0, seeds), 1)  # rounded: ties happen
            patterns = list(itertools.product((-1, 1), repeat=seeds))
            sums = [math.fsum(sign * abs(each) for sign, each in zip(signs, apart, strict=True)) for signs in patterns]
            as_low = [total for total in sums if total <= math.fsum(apart) + 1e-9]
            assert sign_flip_p(apart) == len(as_low) / len(patterns)


def test_under_no_effect_p_is_honest() -> None:
    """Without an effect, p <= 0.05 happens in at most 5 % of trials."""
    generator = np.random.default_rng(1)
    found = [sign_flip_p(generator.normal(0, 1, 6)) for _ in range(2000)]
    assert np.mean(np.array(found) <= 0.05) <= 0.06


def test_a_diverged_candidate_is_worse_than_any_loss() -> None:
    """One divergence outweighs all that the other seeds gained; a diverged control is beaten by any loss."""
    assert compare(np.array([0.1, 0.1, INF]), np.ones(3)).p > 0.5
    assert compare(np.ones(3), np.full(3, INF)).p == 0.125
    assert compare(np.full(3, INF), np.full(3, INF)).p == 1.0


def test_a_pair_of_which_one_says_nothing_is_left_out() -> None:
    """NaN is a training that was not run, not one that was bad."""
    found = compare(np.array([1.0, 2.0, 3.0]), np.array([2.0, NAN, 6.0]))
    assert (found.pairs, found.p) == (2, 0.25)
    empty = compare(np.array([NAN]), np.array([1.0]))
    assert (empty.pairs, empty.lower) == (0, False)
    assert math.isnan(empty.p)


def test_losses_are_compared_as_ratios_unless_one_is_not_positive() -> None:
    """The effect is the geometric mean of the ratios; of losses that may be negative, the mean difference."""
    assert compare(np.array([1.0, 4.0]), np.array([2.0, 2.0])).effect == pytest.approx(1.0)
    found = compare(np.array([-1.0, 1.0]), np.array([2.0, 2.0]))
    assert (found.ratio, found.effect) == (False, -2.0)


def test_the_interval_is_students() -> None:
    """The table is Student's quantile, so that 95 % of intervals from a normal distribution hold its mean."""
    stats = pytest.importorskip("scipy.stats")
    np.testing.assert_allclose(_T_975, stats.t.ppf(0.975, np.arange(1, 20)), rtol=5e-5)
    generator = np.random.default_rng(2)
    ends = [interval(generator.normal(1.0, 2.0, 5))[1:] for _ in range(2000)]
    assert np.mean([low <= 1.0 <= high for low, high in ends]) == pytest.approx(0.95, abs=0.015)


def test_one_seed_has_no_interval() -> None:
    """Nothing is invented where nothing can be said."""
    assert interval(np.array([2.0]))[0] == 2.0
    assert all(math.isnan(end) for end in interval(np.array([2.0]))[1:])
    assert all(math.isnan(end) for end in interval(np.array([1.0, INF]))[1:])


# seeds


@pytest.fixture
def _own_seeds() -> Any:
    before = [(module, name, getattr(module, name)) for module, name in seeding._SEEDS]
    yield
    for module, name, seed in before:
        setattr(module, name, seed)


@pytest.mark.usefixtures("_own_seeds")
def test_seed_0_is_the_program_as_it_is_and_the_others_are_others() -> None:
    """A program that seeds itself with 7 gets 7 for number 0 and 2,007 for number 2, by keyword too."""
    seeding.begin(0)
    torch.manual_seed(7)
    assert torch.initial_seed() == 7
    seeding.begin(2)
    torch.manual_seed(7)
    assert torch.initial_seed() == 2007
    torch.random.manual_seed(seed=8)
    assert torch.initial_seed() == 2008
    for seed, draw in ((random.seed, random.random), (np.random.seed, np.random.rand)):
        seed(7)
        shifted = draw()
        (seeding._SEED_PYTHON if seed is random.seed else seeding._SEED_NUMPY)(2007)
        assert draw() == shifted


def test_what_a_remedy_draws_does_not_reach_the_training() -> None:
    """The generators go on as if nothing had been drawn, and what is drawn is the same each time."""
    state, drawn = torch.get_rng_state(), []
    for _ in range(2):
        with seeding.untouched(3):
            drawn.append((torch.rand(1).item(), random.random(), np.random.rand()))
            python = random.getstate()
        assert random.getstate() != python
    assert drawn[0] == drawn[1]
    assert torch.equal(torch.get_rng_state(), state)


# jobs and results as files


def test_a_job_and_its_result_survive_their_files(tmp_path: Path) -> None:
    """What the child reads is what was asked; what the parent reads is what the child found, NaN and Inf included."""
    job = Job(
        "batch-norm", 1, 20, str(tmp_path), "run", ("a.py", "--x"), treatments=(Treatment("warmup", {"steps": 3}),)
    )
    job.save()
    assert Job.load(job.job_file) == job
    course = Course("run", "Net", losses=(1.0, INF), step_seconds=0.5, findings=(Seen("x", "error", ("a",)),))
    result = Result("done", courses=(course,), treatments=job.treatments, seconds=1.0)
    assert Result.from_json(result.to_json()) == result


def test_the_loss_at_the_end_is_the_mean_of_the_last_tenth() -> None:
    """Of 20 steps the last 2; of 5 the last one; Inf when it diverged, NaN when none was seen."""
    course = Course("run", "Net", losses=tuple(float(each) for each in range(20)))
    assert (course.loss_after(20), course.loss_after(5)) == (18.5, 4.0)
    assert (Course("", "", losses=(1.0, NAN)).loss_after(2), Course("", "", losses=(1.0, NAN)).diverged_at) == (INF, 1)
    assert math.isnan(Course("", "").loss_after(2))


# outcomes


def _course(loss: float, *found: str, step: float = 1.0) -> Course:
    seen = tuple(Seen(rule, "error") for rule in found)
    return Course("run", "Net", losses=(2.0,) * 18 + (loss,) * 2, step_seconds=step, findings=seen)


CANDIDATE = Candidate("vanishing-gradient", "Use ReLU", (Treatment("activation-swap"),))


def _results(**arms: list[Result | Course]) -> dict[tuple[str, int], Result]:
    names = {"mine": CANDIDATE.arm, "none": NO_CHANGE, "random": RANDOM_CHANGE}
    return {
        (names[arm], seed): each if isinstance(each, Result) else Result("done", courses=(each,), seconds=1.0)
        for arm, them in arms.items()
        for seed, each in enumerate(them)
    }


def _judged(**arms: list[Result | Course]) -> Outcome:
    return judge(CANDIDATE, _results(**arms), range(max(len(each) for each in arms.values())), 20, 0)


SICK_COURSES: list[Result | Course] = [_course(2.3, "vanishing-gradient"), _course(2.2, "vanishing-gradient")] * 3


def test_a_cure_says_so_in_one_sentence() -> None:
    """Gone, the losses of all three after so many steps, and p; the larger p where they differ is not hidden."""
    mine: list[Result | Course] = [_course(0.4, step=1.5)] * 6
    found = _judged(mine=mine, none=SICK_COURSES, random=SICK_COURSES)
    assert found.sentence == (
        "sickness gone in 6 of 6; loss after 20 steps 0.400 against 2.20 (no change) and 2.20 (random change); p = 0.0156"
    )
    assert (found.effect, found.gone, found.gone_random) == ("helped", 6, 0)
    assert (found.step_time, found.step_time_low, found.step_time_high) == (1.5, 1.5, 1.5)
    assert found.no_change.low < found.no_change.effect < found.no_change.high < 1


def test_what_changes_nothing_has_failed() -> None:
    """The same losses and the same sickness: failed, in the same words."""
    found = _judged(mine=SICK_COURSES, none=SICK_COURSES, random=SICK_COURSES)
    assert (found.effect, found.no_change.p) == ("failed", 1.0)
    assert found.sentence.startswith("sickness gone in 0 of 6; loss after 20 steps 2.30 against 2.20")


def test_a_symptom_that_is_gone_is_no_cure_when_the_loss_is_worse() -> None:
    """The sickness is gone in every seed and the loss is higher: failed."""
    worse: list[Result | Course] = [_course(3.0)] * 6
    assert _judged(mine=worse, none=SICK_COURSES, random=SICK_COURSES).effect == "failed"


def test_what_chance_does_as_well_helps_in_part() -> None:
    """A random change that gets as far takes the credit."""
    mine: list[Result | Course] = [_course(0.4)] * 6
    found = _judged(mine=mine, none=SICK_COURSES, random=mine)
    assert (found.effect, found.random.p) == ("partly", 1.0)
    assert found.sentence.endswith("; p = 0.0156 and 1")


def test_a_new_error_is_no_cure() -> None:
    """The treated sickness is gone and another has come: not counted as gone."""
    other: list[Result | Course] = [_course(0.4, "dead-units")] * 6
    assert _judged(mine=other, none=SICK_COURSES, random=SICK_COURSES).gone == 0


def test_a_rule_that_could_not_judge_has_not_acquitted() -> None:
    """Too few steps for the rule: not counted as gone."""
    blind = dataclasses.replace(_course(0.4), waiting=("vanishing-gradient",))
    assert _judged(mine=[blind], none=SICK_COURSES[:1], random=SICK_COURSES[:1]).gone == 0


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (Result("crashed", "ValueError: shapes"), "crashed: ValueError: shapes"),
        (Result("out of time", "stopped after 9 s, its limit"), "out of time: stopped after 9 s, its limit"),
        (Result("diverged", courses=(Course("", "", losses=(1.0, 2.0, NAN, NAN)),)), "diverged at step 2"),
    ],
)
def test_what_goes_wrong_with_a_candidate_is_its_result(result: Result, sentence: str) -> None:
    """A crash, a divergence and a limit are outcomes: failed, and why."""
    found = _judged(mine=[result] * 3, none=SICK_COURSES[:3], random=SICK_COURSES[:3])
    assert (found.effect, found.state, found.sentence) == ("failed", result.state, sentence)


def test_what_could_not_be_applied_has_not_failed() -> None:
    """It says nothing about the cure: untried, and why."""
    found = _judged(mine=[Result("not applicable", "no ReLU here")] * 3, none=SICK_COURSES[:3], random=SICK_COURSES[:3])
    assert (found.effect, found.state, found.sentence) == ("untried", "not applicable", "no ReLU here")


def test_a_divergence_in_one_seed_is_said_beside_the_others() -> None:
    """Two seeds of three got there: the loss is theirs, and the third is said."""
    lost = Result("diverged", courses=(Course("", "", losses=(1.0, NAN)),))
    found = _judged(mine=[_course(0.4), lost, _course(0.4)], none=SICK_COURSES[:3], random=SICK_COURSES[:3])
    assert found.sentence.startswith("sickness gone in 2 of 3; loss after 20 steps 0.400 against")
    assert found.sentence.endswith("; diverged at step 1 in 1 of 3")


def test_a_program_that_ends_early_is_compared_at_its_last_step() -> None:
    """Losses are compared where both have some."""
    short = dataclasses.replace(_course(0.4), losses=(2.0, 1.0, 0.5))
    found = _judged(mine=[short], none=SICK_COURSES[:1], random=SICK_COURSES[:1])
    assert (found.steps, found.loss, found.loss_no_change) == (3, 0.5, 2.0)


def test_outcomes_are_ranked_by_what_they_did() -> None:
    """The lowest loss leads among those that helped; what failed comes last."""
    mine: dict[str, list[Result | Course]] = {
        "good": [_course(0.4)] * 6, "better": [_course(0.1)] * 6, "failed": SICK_COURSES
    }  # fmt: skip
    found = {name: _judged(mine=each, none=SICK_COURSES, random=SICK_COURSES) for name, each in mine.items()}
    assert sorted(found, key=lambda name: found[name].rank) == ["better", "good", "failed"]


def test_the_two_best_are_tried_together_only_when_none_is_enough() -> None:
    """One that cured every seed is enough; else the first two, as one candidate."""
    cured = _judged(mine=[_course(0.4)] * 6, none=SICK_COURSES, random=SICK_COURSES)
    other = dataclasses.replace(CANDIDATE, title="Clip", treatments=(Treatment("gradient-clipping", {"bound": 1.0}),))
    partly = dataclasses.replace(cured, gone=5)
    second = dataclasses.replace(partly, candidate=other)
    assert _together([cured, second]) is None
    both = _together([partly, second])
    assert both is not None
    assert (both.arm, both.title) == ("activation-swap + gradient-clipping", "Use ReLU, and: Clip")
    assert _together([partly]) is None


# notes


def test_few_seeds_are_said_to_say_little() -> None:
    """With 3 seeds p cannot be below 0.125."""
    found = _judged(mine=[_course(0.4)] * 3, none=SICK_COURSES[:3], random=SICK_COURSES[:3])
    said = notes(_results(none=SICK_COURSES[:3]), [found], 3, 20, 0)
    assert said == ("With 3 seeds p cannot be below 0.125, however large the effect is; 5 seeds reach 0.0312.",)


def test_a_program_that_does_not_repeat_itself_is_recognised() -> None:
    """Two runs of one seed differ: from which step on, and by how much."""
    results = _results(none=SICK_COURSES)
    results[REPEAT, 0] = Result("done", courses=(Course("", "", losses=(2.0, 2.0, 2.5)),))
    (said,) = notes(results, [], 6, 20, 0)
    assert said.startswith("The program does not repeat itself: two runs without a change, of the same seed, differ ")
    assert "from step 2 on, by up to 20 % of the loss in 3 steps" in said


def test_seeds_that_are_none_are_recognised() -> None:
    """When the seed changes nothing, its runs are no repetitions."""
    (said,) = notes(_results(none=SICK_COURSES[:1] * 3), [], 3, 20, 0)
    assert said.startswith("All seeds gave the same training")


def test_a_sickness_that_is_not_always_there_and_a_broken_control_are_said() -> None:
    """Both limit what the outcome means."""
    none: list[Result | Course] = [SICK_COURSES[0], _course(2.0), Result("out of memory", "stopped at 9 MiB")]
    found = _judged(mine=[_course(0.4)] * 3, none=none, random=SICK_COURSES[:3])
    said = notes(_results(none=none), [found], 3, 20, 0)
    assert found.no_change.pairs == 2
    assert "Without a change, vanishing-gradient was found in 1 of 2 seeds only." in said
    assert said[-1] == (
        "The control “no change” has no loss in 1 of 3 seeds, which are left out of the comparison with it "
        "(seed 2 out of memory: stopped at 9 MiB)."
    )


# candidates


def test_the_best_suggestions_are_tried_with_the_dose_of_the_run() -> None:
    """Three at most; what needs an edit, and what did not fit in, is listed with the reason."""
    signals = Signals(SICK)
    diagnosis = diagnose(SICK, signals)
    candidates, not_tried = choose(diagnosis, signals)
    assert len(candidates) == 3
    suggested = [each.remedy for each in diagnosis.findings[0].suggestions]
    tried = [each.remedies[0] for each in candidates]
    assert tried == [each for each in suggested if each in tried]
    assert {*tried, *(each.remedy for each in not_tried)} >= set(suggested)


def _needing_an_edit(*names: str) -> tuple[Any, Finding]:
    suggestions = tuple(Suggestion(name, name, "", "") for name in names)
    finding = Finding("output-loss-mismatch", "error", (), 0, 1, "The loss does not fit", suggestions=suggestions)
    return dataclasses.replace(diagnose(SICK), findings=(finding,)), finding


def test_what_needs_an_edit_is_listed_with_the_reason() -> None:
    """A change of loss cannot be made from outside: it is not tried, and that is said."""
    diagnosis, _ = _needing_an_edit("change-loss", "gradient-clipping")
    candidates, not_tried = choose(diagnosis, Signals(SICK))
    assert [each.arm for each in candidates] == ["gradient-clipping"]
    assert (not_tried[0].remedy, not_tried[0].why[:17]) == ("change-loss", "needs your edit: ")


def test_when_all_need_an_edit_there_is_nothing_to_try() -> None:
    """The error says what was found, and of each cure why it was not tried."""
    diagnosis, _ = _needing_an_edit("change-loss")
    with pytest.raises(NothingToTry) as error:
        choose(diagnosis, Signals(SICK))
    said = str(error.value)
    assert said.startswith("output-loss-mismatch was found, and no cure for it can be tried from outside.\n")
    assert "(change-loss) was not tried: needs your edit: " in said


def test_remedies_that_the_user_names_are_tried_instead() -> None:
    """Whatever is suggested; an unknown id is refused with the known ones."""
    candidates, not_tried = choose(diagnose(SICK), Signals(SICK), ["gradient-clipping", "gradient-clipping"])
    assert ([each.arm for each in candidates], not_tried) == (["gradient-clipping"], ())
    with pytest.raises(UnknownId, match="no remedy has the id 'nope'; there are: activation-swap, "):
        choose(diagnose(SICK), Signals(SICK), ["nope"])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"seeds": 0}, "seeds must be from 1 to 20; it is 0."),
        ({"steps": 1}, "steps must be from 2 to 1,000,000,000; it is 1."),
        ({"jobs": 0}, "jobs must be 1 or more; it is 0."),
        ({"time_limit": 0.0}, "time_limit must be more than 0; it is 0.0."),
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any], said: str) -> None:
    """The error says what was expected and what came."""
    with pytest.raises(ProgramError) as error:
        Options(**wrong).check()
    assert str(error.value) == said


# what is stored and shown


def _event(effect: str, remedies: list[str], **more: Any) -> dict[str, Any]:
    return {
        "rule": "vanishing-gradient", "remedies": remedies, "outcome": f"{effect}!", "effect": effect, "gone": 5, **more
    }  # fmt: skip


def _with(*events: dict[str, Any]) -> Run:
    return dataclasses.replace(SICK, events=tuple(Event(7, 0.0, "trial", each) for each in events))


def test_measured_suggestions_lead_and_failed_ones_come_last() -> None:
    """What a trial measured outranks every estimate; what failed stands at the end; the newest trial counts."""
    before = [each.remedy for each in diagnose(SICK).findings[0].suggestions]
    run = _with(
        _event("helped", [before[0]]), _event("failed", [before[0]]), _event("helped", [before[-1]]),
        _event("helped", ["gradient-clipping"], gone=3),
    )  # fmt: skip
    suggestions = diagnose(run).findings[0].suggestions
    assert [each.remedy for each in suggestions] == [
        before[-1], "gradient-clipping", *before[1:-1], before[0]
    ]  # fmt: skip
    assert [each.trial and each.trial["effect"] for each in suggestions] == [
        "helped", "helped", *[None] * len(before[1:-1]), "failed"
    ]  # fmt: skip


def test_an_outcome_stands_beside_its_remedy_wherever_that_is_suggested() -> None:
    """A trial against another rule's finding measured the whole training: it counts, and says what it was judged by."""
    remedy = diagnose(SICK).findings[0].suggestions[1].remedy
    other = {**_event("helped", [remedy]), "rule": "dead-units", "state": "measured", "loss": 0.4}
    first = diagnose(_with(other)).findings[0].suggestions[0]
    assert (first.remedy, first.basis) == (remedy, "measured")
    assert first.trial == {**other, "outcome": "judged by dead-units: helped!"}
    own = _event("failed", [remedy])
    last = diagnose(_with(own, other)).findings[0].suggestions[-1]
    assert (last.remedy, last.trial) == (remedy, own)  # its own trial counts, older or not


@pytest.mark.parametrize(
    "lacks", [{"loss": None}, {"state": "crashed"}, {"remedies": ["activation-swap", "batch-norm"]}]
)
def test_what_measured_no_loss_of_one_remedy_says_nothing_elsewhere(lacks: dict[str, Any]) -> None:
    """Without a loss, without an end, or tried with another remedy, an outcome stays with the finding it was aimed at."""
    remedy = diagnose(SICK).findings[0].suggestions[1].remedy
    other = {**_event("helped", [remedy]), "rule": "dead-units", "state": "measured", "loss": 0.4, **lacks}
    assert [each.trial for each in diagnose(_with(other)).findings[0].suggestions if each.trial] == []


def test_what_was_tried_together_is_a_suggestion_of_its_own() -> None:
    """Both titles, both codes, one outcome."""
    both = diagnose(_with(_event("helped", ["activation-swap", "batch-norm"]))).findings[0].suggestions[0]
    assert (both.remedy, both.trial is not None) == ("activation-swap + batch-norm", True)
    assert " and: " in both.title


def test_a_report_says_what_was_measured_and_what_failed() -> None:
    """The terminal and JSON carry both."""
    names = [each.remedy for each in diagnose(SICK).findings[0].suggestions]
    run = _with(_event("helped", [names[0]]), _event("failed", ["gradient-clipping"]))
    finding = diagnose(run).findings[0]
    page = document(run, diagnose(run))
    assert page["findings"][0]["suggestions"][0]["trial"]["outcome"] == "helped!"
    assert page["findings"][0]["suggestions"][0]["effect"] == "helped"
    said = " ".join(terminal.render(page).split())
    assert "[measured on this training]" in said
    assert "Helped!." in said
    only_failed = document(run, dataclasses.replace(diagnose(run), findings=(dataclasses.replace(
        finding, suggestions=finding.suggestions[-1:]),)))  # fmt: skip
    assert "[tried, did not help]" in " ".join(terminal.render(only_failed).split())


def test_outcomes_are_stored_as_events_of_the_run(save_run: SaveRun) -> None:
    """A trial adds to a run that has ended, and changes nothing else in it; a trial's folder is no run."""
    folder = save_run()
    before = read_run(folder)
    trials = keep.new_folder(folder)
    outcome = _judged(mine=[_course(0.4)] * 3, none=SICK_COURSES[:3], random=SICK_COURSES[:3])
    keep.store_events(folder, [outcome.to_event("gradscope trial train.py")])
    after = read_run(folder)
    assert (trials.name, keep.new_folder(folder).name) == ("1", "2")
    assert [each.kind for each in after.events[len(before.events) :]] == ["trial"]
    assert after.events[-1].data["outcome"] == outcome.sentence
    assert after.info == before.info
    assert after.summaries.tobytes() == before.summaries.tobytes()
    first = diagnose(after).findings[0].suggestions[0]
    assert (first.remedy, first.trial is not None) == ("activation-swap", True)


def test_a_run_that_is_still_being_recorded_is_refused(save_run: SaveRun) -> None:
    """Two processes cannot write one run."""
    info = dataclasses.replace(SICK.info, state="recording", process=os.getpid())
    folder = save_run(dataclasses.replace(SICK, info=info))
    with pytest.raises(ProgramError, match="is still being recorded by process"):
        keep.refuse_live(folder)


def test_the_reports_text_holds_everything() -> None:
    """The outcomes with their intervals, what was not tried and why, what limits them; through JSON it is the same."""
    good = _judged(mine=[_course(0.4, step=1.5)] * 6, none=SICK_COURSES, random=SICK_COURSES)
    failed = dataclasses.replace(_judged(mine=SICK_COURSES, none=SICK_COURSES, random=SICK_COURSES), changes=("x",))
    report = TrialReport(
        Path("runs/a"), "gradscope trial train.py", "Gradients vanish", 20, 6, (good, failed),
        (NotTried("r", "change-loss", "Change the loss", "needs your edit: no"),), ("Few seeds.",), 24, 24, 9.0,
    )  # fmt: skip
    said = str(report)
    for text in (
        "24 runs of 20 steps in 9 s, 6 seeds, beside no change and a random change.",
        "1. Use ReLU (activation-swap) ✓ helped",
        "Sickness gone in 6 of 6; loss after 20 steps 0.400 against 2.20 (no change)",
        f"Its loss is {number(good.no_change.effect)} times that without a change (95 %: ",
        "A step takes 1.50 times as long (1.50 … 1.50 over the seeds).",
        "2. Use ReLU (activation-swap) ✗ did not help",
        "Changed: x.",
        "Change the loss (change-loss): needs your edit: no",
        "Few seeds.",
        "Next:  gradscope report runs/a",
    ):
        assert text in said
    assert report.best is good
    assert trial_text.render(report.to_document()).rstrip("\n") == said


def test_a_seed_stays_one_that_its_generator_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest seeds of numpy and torch are shifted to other ones that they take; what is no number stays."""
    moved = [seeding._moved(seed, 1000) for seed in (7, np.int64(7), 2**32 - 1, 2**64 - 1, -5, [1, 2], None)]
    assert moved == [1007, 1007, 999, 999, 995, [1, 2], None]
