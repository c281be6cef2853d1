"""Tries what is suggested for a sick program: trains it again with each remedy, and with a random change beside.

What a trial would choose is judged: of the first three suggestions that can act from outside, and of the best two together
where the sickness stays with each, the one whose loss ends lowest. It cures when the error goes at least nine tenths of the
way to that of the healthy twin.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import partial
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
        gone: whether the rule that was treated finds nothing any more.
    """

    remedy: str
    acted: bool
    changes: str
    error: float = math.nan
    loss: float = math.nan
    gone: bool = False


@dataclass(frozen=True)
class Cure:
    """What was tried on one sick program in one seed: the suggestions in their order, and a random change."""

    tried: tuple[Attempt, ...]
    random: Attempt

    @property
    def chosen(self) -> Attempt | None:
        """What a trial would put first; None where nothing could act from outside."""
        acted = [attempt for attempt in self.tried if attempt.acted]
        return min(acted, key=_loss, default=None)

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
    rule, doses = suggested(read(place))
    attempt = partial(_attempt, program, seed, place / "cures", rule)
    tried = [attempt(name, [(name, dose)]) for name, dose in doses.items()]
    acted = sorted((each for each in tried if each.acted), key=_loss)
    if len(acted) > 1 and not any(each.gone for each in acted):
        both = [each.remedy for each in acted[:2]]
        tried.append(attempt(" + ".join(both), [(name, doses[name]) for name in both]))
    chance: list[tuple[str, dict[str, Any]]] = []

    def by_chance(model: nn.Module, optimizers: list[Optimizer]) -> list[tuple[str, dict[str, Any]]]:
        chance[:] = draw(seed, model, optimizers, avoid=list(doses), count=1)
        return chance

    cure = Cure(tuple(tried), attempt("random change", by_chance))
    (place / "cures.json").write_text(json.dumps(asdict(cure)), encoding="utf-8")
    return cure


def suggested(run: Run) -> tuple[str, dict[str, dict[str, Any]]]:
    """The rule of the leading finding, and its first suggestions, each with its dose."""
    signals = Signals(run)
    serious = [finding for finding in diagnose(run, signals).findings if finding.severity != "note"]
    if not serious:
        return "", {}
    first = [suggestion.remedy for suggestion in serious[0].suggestions[:MOST]]
    return serious[0].rule, {name: remedies()[name].dose(serious[0], signals) for name in first}


def _attempt(program: Program, seed: int, places: Path, rule: str, name: str, doses: Any) -> Attempt:
    said: list[str] = []

    def treat(model: nn.Module, optimizers: list[Optimizer]) -> None:
        for remedy, dose in doses(model, optimizers) if callable(doses) else doses:
            said.append(f"{remedy}: {remedies()[remedy].apply(model, optimizers, **dose)}")

    try:
        outcome = train(program, seed, places / name, treat=treat)
    except NotApplicable as error:
        return Attempt(name, False, str(error))
    findings = diagnose(read(places / name)).findings
    gone = all(finding.rule != rule or finding.severity == "note" for finding in findings)
    return Attempt(name, True, "; ".join(said), outcome.error, outcome.last_loss, gone)


def _loss(attempt: Attempt) -> float:
    """What a trial orders by: diverged is last."""
    return attempt.loss if math.isfinite(attempt.loss) else math.inf
