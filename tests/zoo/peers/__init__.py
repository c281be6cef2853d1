"""Published rule sets, re-implemented from what their papers and sources say, on the traces of the same trainings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gradscope.records import Run
from tests.zoo.judge import MOMENTS, Said, last_step, right_layer, right_remedy
from tests.zoo.peers import autotrainer, deepchecker, deepdiagnosis, sagemaker, umlaut
from tests.zoo.peers.seen import Alarm, Seen, seen
from tests.zoo.program import Program

PEERS: dict[str, Callable[[Seen], Alarm | None]] = {
    "AutoTrainer": autotrainer.alarm,
    "DeepDiagnosis": deepdiagnosis.alarm,
    "UMLAUT": umlaut.alarm,
    "TheDeepChecker": deepchecker.alarm,
    "SageMaker Debugger": sagemaker.alarm,
}


def verdicts(program: Program, folder: Path, run: Run) -> dict[str, tuple[Said, ...]]:
    """What each rule set says of a kept training at the three moments."""
    moments = [(moment, seen(folder, last_step(run, moment))) for moment in MOMENTS]
    return {
        name: tuple(_said(program, run, moment, alarm(part)) for moment, part in moments)
        for name, alarm in PEERS.items()
    }


def _said(program: Program, run: Run, moment: str, alarm: Alarm | None) -> Said:
    if alarm is None:
        return Said(moment, "quiet")
    right = program.blame
    return Said(
        moment,
        "alarm",
        True,
        alarm.symptom,
        alarm.cause,
        alarm.layer or "",
        None if right is None or not right.causes else alarm.cause in right.causes,
        None if alarm.layer is None else right_layer(right, alarm.layer, run),
        alarm.remedies,
        right_remedy(right, alarm.remedies),
        alarm.symptom,
    )
