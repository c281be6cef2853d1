"""What a trial gives: every candidate's outcome, the best first, and everything that limits what it says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradscope.reports.document import encode
from gradscope.reports.envelope import envelope
from gradscope.reports.trial import render
from gradscope.trials.candidates import NotTried
from gradscope.trials.outcome import Outcome


@dataclass(frozen=True)
class TrialReport:
    """The outcomes of a trial.

    Attributes:
        run: the recorded training without a change (or the run that was named); it keeps the outcomes.
        headline: what was treated; that there was nothing to treat, where the training is healthy.
        outcomes: one a candidate, the best first. Those that did not help are there too.
        not_tried: suggestions that were not tried, and why.
        notes: what limits the outcomes: few seeds, a program that does not repeat itself, an interruption.
        done: short trainings that came to an end, of `planned`.
        interrupted: whether Ctrl-C ended it.
    """

    run: Path
    command: str
    headline: str
    steps: int
    seeds: int
    outcomes: tuple[Outcome, ...] = ()
    not_tried: tuple[NotTried, ...] = ()
    notes: tuple[str, ...] = ()
    done: int = 0
    planned: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def best(self) -> Outcome | None:
        """The best outcome; None where none helped."""
        return next((outcome for outcome in self.outcomes if outcome.effect == "helped"), None)

    def to_document(self) -> dict[str, Any]:
        """Everything as dicts, lists, strings and numbers that JSON can hold, see `reports.document`."""
        content = {
            **envelope(),
            "run": str(self.run),
            "command": self.command,
            "headline": self.headline,
            "steps": self.steps,
            "seeds": self.seeds,
            "outcomes": [{"title": each.candidate.title, **each.to_event(self.command)} for each in self.outcomes],
            "not_tried": [
                {"rule": each.rule, "remedy": each.remedy, "title": each.title, "why": each.why}
                for each in self.not_tried
            ],
            "notes": list(self.notes),
            "done": self.done,
            "planned": self.planned,
            "seconds": self.seconds,
            "interrupted": self.interrupted,
        }
        encoded: dict[str, Any] = encode(content)
        return encoded

    def __str__(self) -> str:
        return render(self.to_document()).rstrip("\n")
