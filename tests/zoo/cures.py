"""Tries what is suggested for a sick program: trains it again with each remedy, and with a random change beside.

What a trial would choose is judged: of the first three suggestions that can act from outside, the one whose loss ends
lowest. It cures when the error goes at least nine tenths of the way to that of the healthy twin.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from gradscope.catalogue import remedies
from gradscope.diagnosis import diagnose
from gradscope.errors import NotApplicable
from gradscope.records import Run
from gradscope.signals import Signals
from gradscope.trials.random_change import draw
from tests.zoo.judge import read
from tests.zoo.program import Program
from tests.zoo.train import Outcome, train

MOST = 3  # suggestions that are tried
CURED = 0.9  # of the gap to the healthy twin


@dataclass(frozen=True)
class Attempt:
    """A training with one remedy.

    Attributes:
        changes: what was changed, in words; why it could not act, where it could not.
        error: as in `Outcome`; NaN where the remedy could not act.
        loss: of the last tenth.
    """

    remedy: str
    acted: bool
    changes: str
    error: float = math.nan
    loss: float = math.nan


@dataclass(frozen=True)
class Cure:
    """What was tried on one sick program in one seed: the suggestions in their order, and a random change."""

    tried: tuple[Attempt, ...]
    random: Attempt

    @property
    def chosen(self) -> Attempt | None:
        """What a trial would put first; None where nothing could act from outside."""
        acted = [attempt for attempt in self.tried if attempt.acted]
        return min(acted, key=lambda attempt: attempt.loss if math.isfinite(attempt.loss) else math.inf, default=None)

    @classmethod
    def kept(cls, place: Path) -> Cure:
        """From the file that `try_cures` wrote."""
        content = json.loads(place.read_text(encoding="utf-8"))
        return cls(tuple(Attempt(**each) for each in content["tried"]), Attempt(**content["random"]))


def recovered(attempt: Attempt, sick: Outcome, twin: Outcome) -> float:
    """How far the error went towards the healthy twin's: 0 not at all, 1 all the way, below 0 the other way."""
    before, goal, after = (min(error, 1.0) for error in (sick.error, twin.error, attempt.error))
    gap = before - goal
    return math.nan if not gap > 0 else (before - (1.0 if math.isnan(after) else after)) / gap


def try_cures(program: Program, seed: int, folder: Path) -> Cure:
    """Trains again with what is suggested for the kept training in `folder/ID-SEED`, and keeps what came of it there."""
    place = folder / f"{program.id}-{seed}"
    run = read(place)
    tried = [_attempt(program, seed, place / "cures" / name, name, [(name, dose)]) for name, dose in suggested(run)]
    chance: list[tuple[str, dict[str, Any]]] = []

    def by_chance(model: nn.Module, optimizers: list[Optimizer]) -> list[tuple[str, dict[str, Any]]]:
        chance[:] = draw(seed, model, optimizers, avoid=[attempt.remedy for attempt in tried], count=1)
        return chance

    random = _attempt(program, seed, place / "cures" / "random", "random change", by_chance)
    cure = Cure(tuple(tried), random)
    (place / "cures.json").write_text(json.dumps(asdict(cure)), encoding="utf-8")
    return cure


def suggested(run: Run) -> list[tuple[str, dict[str, Any]]]:
    """The first suggestions of the leading finding, each with its dose."""
    signals = Signals(run)
    serious = [finding for finding in diagnose(run, signals).findings if finding.severity != "note"]
    if not serious:
        return []
    return [
        (suggestion.remedy, remedies()[suggestion.remedy].dose(serious[0], signals))
        for suggestion in serious[0].suggestions[:MOST]
    ]


def _attempt(program: Program, seed: int, place: Path, name: str, doses: Any) -> Attempt:
    said: list[str] = []

    def treat(model: nn.Module, optimizers: list[Optimizer]) -> None:
        for remedy, dose in doses(model, optimizers) if callable(doses) else doses:
            said.append(f"{remedy}: {remedies()[remedy].apply(model, optimizers, **dose)}")

    try:
        outcome = train(program, seed, place, treat=treat)
    except NotApplicable as error:
        return Attempt(name, False, str(error))
    return Attempt(name, True, "; ".join(said), outcome.error, outcome.last_loss)
