"""What a child process is asked to do, and what it answers; both as JSON files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

State = Literal[
    "done",
    "ended early",
    "diverged",
    "crashed",
    "not applicable",
    "out of time",
    "out of memory",
    "stopped",  # by Ctrl-C
]
NO_CHANGE, RANDOM_CHANGE, REPEAT = "no change", "random change", "no change, repeated"
WINDOW = 0.1  # share of the steps at the end whose mean loss is compared


@dataclass(frozen=True)
class Treatment:
    """A remedy with its dose."""

    remedy: str
    dose: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One short training: a program or a callable, with a seed and what is to be changed."""

    arm: str  # NO_CHANGE, RANDOM_CHANGE, or the ids of remedies, joined by " + "
    seed: int  # 0 leaves the program's own seeds as they are
    steps: int
    folder: str  # for what is needed on the way: the job, the log, the answer
    run: str  # where it is recorded
    program: tuple[str, ...] = ()  # as typed: ("train.py", "--lr", "0.1") or ("-m", "package.train")
    pickled: str = ""  # or the file of a pickled callable
    directory: str = ""  # where it starts
    search: tuple[str, ...] = ()  # folders that a callable's modules are imported from
    treatments: tuple[Treatment, ...] = ()
    random_avoids: tuple[str, ...] | None = None  # draw a random change that is none of these; None: draw nothing
    random_count: int = 1
    model: int | None = None  # the number of the model to treat, as they begin to train; None: the first to get there
    every: int = 1
    threads: int = 1
    keeps_run: bool = False  # what is recorded stays

    @property
    def name(self) -> str:
        """A short name for its files."""
        return f"{self.arm.replace(',', '').replace(' + ', '+').replace(' ', '-')}-seed{self.seed}"

    @property
    def job_file(self) -> Path:
        """The file that holds this job."""
        return Path(self.folder) / f"{self.name}.job.json"

    @property
    def answer_file(self) -> Path:
        """The file that the child writes its answer to."""
        return Path(self.folder) / f"{self.name}.json"

    @property
    def log_file(self) -> Path:
        """What the child prints."""
        return Path(self.folder) / f"{self.name}.log"

    def save(self) -> None:
        """Writes the job for its child."""
        self.job_file.write_text(json.dumps(asdict(self), default=_plain), encoding="utf-8")

    @classmethod
    def load(cls, file: Path) -> Job:
        """Reads a job that `save` wrote."""
        return cls.from_dict(json.loads(file.read_text(encoding="utf-8")))

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Job:
        """A job from what `asdict` gave, also after a trip through JSON."""
        content["treatments"] = tuple(Treatment(**each) for each in content["treatments"])
        return cls(**_with_tuples(content))


@dataclass(frozen=True)
class Seen:
    """A finding, as far as a comparison needs it."""

    rule: str
    severity: str
    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Course:
    """How the training of one model went."""

    run: str
    model: str  # class name
    device: str = "cpu"
    losses: tuple[float, ...] = ()  # one a step; empty when no loss was seen
    step_seconds: float = float("nan")  # the median, without what the recorder took
    verdict: str = "not-enough-data"
    findings: tuple[Seen, ...] = ()
    waiting: tuple[str, ...] = ()  # rules that had too little to judge by

    @property
    def diverged_at(self) -> int | None:
        """The step from which on every loss is NaN or Inf; None when the last one is finite."""
        wrong = ~np.isfinite(self.losses)
        if not len(wrong) or not wrong[-1]:
            return None
        return int(np.flatnonzero(~wrong)[-1]) + 1 if not wrong.all() else 0

    def loss_after(self, steps: int) -> float:
        """The mean loss of the last tenth of so many steps; Inf when it diverged, NaN when no loss was seen."""
        if self.diverged_at is not None:
            return float("inf")
        window = self.losses[max(0, steps - max(1, round(steps * WINDOW))) : steps]
        return float(np.mean(window)) if len(window) else float("nan")

    def has(self, rule: str) -> bool:
        """Whether the rule found something that is more than a note."""
        return any(seen.rule == rule and seen.severity != "note" for seen in self.findings)


@dataclass(frozen=True)
class Result:
    """What came of a job."""

    state: State
    why: str = ""  # for people: the last line of a traceback, the reason why a remedy cannot act here
    courses: tuple[Course, ...] = ()  # one a model, as they began to train
    changes: tuple[str, ...] = ()  # what the remedies did, in words
    treatments: tuple[Treatment, ...] = ()  # what was applied: of a random change, what was drawn
    seconds: float = float("nan")  # of the whole child

    def course(self, model: int | None) -> Course | None:
        """The training of the model with this number; None when it never began."""
        number = model or 0
        return self.courses[number] if number < len(self.courses) else None

    def to_json(self) -> str:
        """As text; NaN and Infinity are written as Python does."""
        return json.dumps(asdict(self), default=_plain)

    @classmethod
    def from_json(cls, text: str) -> Result:
        """Reads what `to_json` wrote."""
        content = json.loads(text)
        content["courses"] = tuple(_course(each) for each in content["courses"])
        content["treatments"] = tuple(Treatment(**each) for each in content["treatments"])
        return cls(**_with_tuples(content))


def _course(content: dict[str, Any]) -> Course:
    seen = tuple(Seen(each["rule"], each["severity"], tuple(each["layers"])) for each in content.pop("findings"))
    known = {each.name for each in fields(Course)}
    return Course(**_with_tuples({key: value for key, value in content.items() if key in known}), findings=seen)


def _with_tuples(content: dict[str, Any]) -> dict[str, Any]:
    """JSON knows lists only."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}


def _plain(value: Any) -> Any:
    """A numpy number or array, as a dose may hold, as JSON can."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
