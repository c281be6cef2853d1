"""What is said of a kept training at three moments, and whether that is right."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import gradscope
from gradscope.diagnosis import diagnose
from gradscope.records import Diagnosis, Finding, Run
from gradscope.signals import Signals
from tests.zoo.program import Blame, Program
from tests.zoo.train import Outcome

MOMENTS = ("start", "middle", "end")
START = 10  # steps
Label = Literal["sick", "healthy", "unharmed", "unlearned"]


def beginning(run: Run, last: int) -> Run:
    """What had been recorded of a run when step `last` had closed; facts that have no step are those of the whole run."""
    steps = run.steps[run.steps["step"] <= last]
    return replace(
        run,
        steps=steps,
        learning_rates=run.learning_rates[: len(steps)],
        summaries=run.summaries[run.summaries["step"] <= last],
        events=tuple(event for event in run.events if event.step <= last),
        rank_facts=tuple(fact for fact in run.rank_facts if fact.step <= last),
    )


def last_step(run: Run, moment: str) -> int:
    """The last step that had closed at a moment."""
    end = int(run.steps["step"][-1]) if len(run.steps) else 0
    return {"start": min(START - 1, end), "middle": end // 2, "end": end}[moment]


def label(program: Program, outcome: Outcome, twin: Outcome | None) -> Label:
    """What a program turned out to be in this seed.

    A sick one counts as such when its error is clearly above its twin's: by a quarter and by 0.05 of what a constant
    output has. A healthy one must have learned: an error of at most 0.85.
    """
    if not program.sick:
        return "unlearned" if outcome.broke or outcome.error > 0.85 else "healthy"
    if program.certain or twin is None or math.isnan(outcome.error) or math.isnan(twin.error):
        return "sick"
    return "sick" if min(outcome.error, 1.0) > 1.25 * min(twin.error, 1.0) + 0.05 else "unharmed"


@dataclass(frozen=True)
class Said:
    """What was said at one moment; right or not is None where nobody was asked, or no answer is known.

    Attributes:
        alarm: a warning or an error.
        rule, cause, layer: of the leading finding, "" where there is none.
        remedies: in their order.
        remedy_rank: of the first right one, 1 first; 0: none is right.
        text: the diagnosis in short.
    """

    moment: str
    verdict: str
    alarm: bool = False
    rule: str = ""
    cause: str = ""
    layer: str = ""
    cause_right: bool | None = None
    layer_right: bool | None = None
    remedies: tuple[str, ...] = ()
    remedy_rank: int | None = None
    text: str = ""


def judge(program: Program, run: Run) -> tuple[Said, ...]:
    """Diagnoses a training at the three moments."""
    return tuple(_said(program, moment, beginning(run, last_step(run, moment))) for moment in MOMENTS)


def _said(program: Program, moment: str, run: Run) -> Said:
    try:
        diagnosis = diagnose(run)
    except Exception as error:  # a rule that raises is one mistake more, not the end of the zoo
        return Said(moment, "crash", True, text=f"CRASH {type(error).__name__}: {error}")
    serious = [finding for finding in diagnosis.findings if finding.severity != "note"]
    if not serious:
        return Said(moment, diagnosis.verdict)
    leader, right = serious[0], program.blame
    remedies = tuple(suggestion.remedy for suggestion in leader.suggestions)
    cause = leader.causes[0].id if leader.causes else ""
    layer = leader.layers[0] if leader.layers else ""
    return Said(
        moment,
        diagnosis.verdict,
        True,
        leader.rule,
        cause,
        layer,
        None if right is None or not right.causes else cause in right.causes,
        right_layer(right, layer, run),
        remedies,
        right_remedy(right, remedies),
        _short(diagnosis, leader),
    )


def right_layer(right: Blame | None, layer: str, run: Run) -> bool | None:
    """Whether a layer is one that may be blamed."""
    if right is None or right.layers is None:
        return None
    layers = [run.info.sites[i] for i in Signals(run).layers]
    return layer != "" and right.layers(layer, layers)


def right_remedy(right: Blame | None, remedies: tuple[str, ...]) -> int | None:
    """The place of the first remedy that cures, 1 first; 0 when none does."""
    if right is None or not right.remedies:
        return None
    return next((rank for rank, remedy in enumerate(remedies, 1) if remedy in right.remedies), 0)


def read(folder: Path) -> Run:
    """The run of a kept training."""
    return gradscope.read_run(folder / "run")


def _short(diagnosis: Diagnosis, leader: Finding) -> str:
    others = [finding.rule for finding in diagnosis.findings if finding is not leader]
    more = f" [also {', '.join(others)}]" if others else ""
    cause = f" because {leader.causes[0]}" if leader.causes else ""
    return f"{leader.severity} {leader.rule}: {leader.message}{cause}{more}"
