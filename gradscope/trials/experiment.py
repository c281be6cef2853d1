"""The course of a trial: a training without a change, its diagnosis, the candidates beside both controls, the verdict."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gradscope.diagnosis import diagnose
from gradscope.errors import ProgramError
from gradscope.records import Diagnosis
from gradscope.signals import Signals
from gradscope.store import read_run, resolve_run
from gradscope.trials import keep
from gradscope.trials.candidates import Candidate, NotTried, choose, sick
from gradscope.trials.job import NO_CHANGE, RANDOM_CHANGE, REPEAT, Course, Job, Result
from gradscope.trials.notes import notes
from gradscope.trials.outcome import Outcome, judge
from gradscope.trials.pool import LocalPool, Pool
from gradscope.trials.processes import Limits, last_line
from gradscope.trials.progress import Progress
from gradscope.trials.report import TrialReport
from gradscope.trials.statistics import MOST_SEEDS
from gradscope.trials.status import Noted

_REPEATED = 10  # steps of the second run of one seed: a program that does not repeat itself shows it early
_RECORDED = 100  # steps of a run that are recorded in full at most: enough for every rule, whatever --steps
_LONGEST_FIRST = 3600.0  # seconds of the first run, when no limit is given: nothing is known of the program yet
_TIMES, _SLACK = 10.0, 60.0  # the limit of the others: so many times what the first took, and so many seconds
_GRAVE = ("broken", "unhealthy", "watch", "not-enough-data", "healthy")


@dataclass(frozen=True)
class Subject:
    """What is tried: a program as typed, or a pickled callable."""

    name: str
    command: str  # that repeats the trial
    program: tuple[str, ...] = ()
    pickled: bytes = b""
    directory: str = ""
    search: tuple[str, ...] = ()


@dataclass(frozen=True)
class Options:
    """How it is tried; see `trial` for the words."""

    steps: int = 100
    seeds: int = 5
    remedies: tuple[str, ...] = ()
    jobs: int | None = None
    time_limit: float | None = None
    memory_limit: int | None = None
    run: str | os.PathLike[str] | None = None
    run_dir: str | os.PathLike[str] | None = None
    on: str | None = None

    def check(self) -> None:
        """Refuses what makes no sense.

        Raises:
            ProgramError: what was expected, and what came.
        """
        for name, least, most in (("steps", 2, 10**9), ("seeds", 1, MOST_SEEDS)):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ProgramError(f"{name} must be from {least} to {most:,}; it is {value}.")
        if self.jobs is not None and self.jobs < 1:
            raise ProgramError(f"jobs must be 1 or more; it is {self.jobs}.")
        for name in ("time_limit", "memory_limit"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ProgramError(f"{name} must be more than 0; it is {value}.")


class Experiment:
    """One trial. A class because every phase adds to the same results."""

    def __init__(self, subject: Subject, options: Options, progress: Progress) -> None:
        options.check()
        self.subject, self.options = subject, options
        self.results: dict[tuple[str, int], Result] = {}
        self.planned = 0
        self.model: int | None = None
        self.interrupted = False
        self.started = time.monotonic()
        self.pool = _pool(options.on, subject)
        self.pool.at_once = options.jobs or 1
        self.limits = Limits(options.time_limit or _LONGEST_FIRST, options.memory_limit)
        self.own_run = options.run is None
        if options.run is None:
            self.run_folder = Path(options.run_dir).resolve() if options.run_dir else _new_run(subject.name)
        else:
            self.run_folder = Path(resolve_run(str(options.run)))
            keep.refuse_live(self.run_folder)
        self.folder = keep.new_folder(self.run_folder)
        self.progress = Noted(progress, self.folder, options.remedies, options.steps, options.seeds)
        self.pickled = ""
        if subject.pickled:
            file = self.folder / "train.pkl"
            file.write_bytes(subject.pickled)
            self.pickled = str(file)

    def run(self) -> TrialReport:
        """Tries, stores and reports.

        Raises:
            ProgramError: the training crashes without a change, or no training was seen.
            NothingToTry: it is sick, and nothing that could be tried acts from outside.
        """
        try:
            with self.pool:
                report = self._run()
            self.progress.end("interrupted" if report.interrupted else "ended", report.headline)
            return report
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            self.progress.end("interrupted" if interrupted else "failed", str(error) or type(error).__name__)
            raise
        finally:
            self.progress.close()
            keep.tidy(self.folder)

    def _run(self) -> TrialReport:
        base = self._first()
        run, diagnosis, signals = self._diagnosis(base)
        if not sick(diagnosis):
            return self._report(run, f"{diagnosis.headline} There is nothing to try.", (), ())
        candidates, not_tried = choose(diagnosis, signals, self.options.remedies)
        self._set_limits(base)
        self._controls_and(candidates)
        outcomes = self._judge(candidates)
        together = None if self.interrupted else _together(outcomes)
        if together is not None:
            self.progress.say(f"none was enough: trying {together.arm} together")
            self._do([self._job(together.arm, seed, together) for seed in range(self.options.seeds)])
            candidates = (*candidates, together)
            outcomes = self._judge(candidates)
        treated = "; ".join(dict.fromkeys(each.message for each in sick(diagnosis) if _treats(candidates, each.rule)))
        return self._report(run, treated, outcomes, not_tried)

    # phases

    def _first(self) -> Course:
        """The training as it is, with seed 0."""
        self._do([self._job(NO_CHANGE, 0)])
        if self.interrupted:
            raise KeyboardInterrupt
        result = self.results[NO_CHANGE, 0]
        if result.state not in ("done", "ended early", "diverged"):
            said = last_line(self._job(NO_CHANGE, 0), 12)
            raise ProgramError(
                f"the training without a change did not get through its first {self.options.steps:,} steps "
                f"({result.state}{': ' + result.why if result.why else ''}), so that nothing can be compared with it."
                + (f" It said last:\n{said}" if said else "")
            )
        if not result.courses:
            raise ProgramError(
                f"no training was seen in {self.subject.name}: {result.why or 'no model took an optimizer step'}. "
                "A trial needs a program that trains a torch model in its own process."
            )
        self.model = self._gravest(result.courses)
        return result.courses[self.model]

    def _gravest(self, courses: Sequence[Course]) -> int:
        """The number of the model to treat: the one of the run that was named, or the sickest."""
        if not self.own_run:
            wanted = read_run(self.run_folder).info.model
            return next((number for number, course in enumerate(courses) if course.model == wanted), 0)
        return min(range(len(courses)), key=lambda number: _GRAVE.index(courses[number].verdict))

    def _diagnosis(self, base: Course) -> tuple[Path, Diagnosis, Signals]:
        folder = Path(base.run) if self.own_run else self.run_folder
        recorded = read_run(folder)
        signals = Signals(recorded)
        return folder, diagnose(recorded, signals), signals

    def _set_limits(self, base: Course) -> None:
        """What the first run took says what the others may take."""
        first = self.results[NO_CHANGE, 0].seconds
        seconds = self.options.time_limit or _TIMES * (first if math.isfinite(first) else 0.0) + _SLACK
        self.pool.at_once = self.options.jobs or self.pool.room(not base.device.startswith("cpu"))
        memory = self.pool.memory()
        share = None if memory is None else memory // self.pool.at_once
        self.limits = Limits(seconds, self.options.memory_limit or share)

    def _begin(self, job: Job) -> Result | None:
        """Says that a job begins, or, where another seed has shown that its remedies cannot act here, that at once."""
        for (arm, _), result in list(self.results.items()):
            if job.treatments and arm == job.arm and result.state == "not applicable":
                return result
        self.progress.began(job)
        return None

    def _controls_and(self, candidates: Sequence[Candidate]) -> None:
        """Seed by seed, so that an interruption leaves whole pairs."""
        avoid = tuple(dict.fromkeys(remedy for each in candidates for remedy in each.remedies))
        jobs = [replace(self._job(REPEAT, 0), steps=min(_REPEATED, self.options.steps))]
        for seed in range(self.options.seeds):
            if seed:
                jobs.append(self._job(NO_CHANGE, seed))
            jobs += [self._job(each.arm, seed, each) for each in candidates]
            jobs.append(replace(self._job(RANDOM_CHANGE, seed), random_avoids=avoid))
        self._do(jobs)

    def _job(self, arm: str, seed: int, candidate: Candidate | None = None) -> Job:
        first = arm == NO_CHANGE and seed == 0 and self.own_run
        job = Job(
            arm, seed, self.options.steps, str(self.folder), "",
            program=self.subject.program,
            pickled=self.pickled,
            directory=self.subject.directory,
            search=self.subject.search,
            treatments=candidate.treatments if candidate else (),
            model=self.model,
            every=math.ceil(self.options.steps / _RECORDED),
            threads=max(1, (os.cpu_count() or 1) // self.pool.at_once),
            keeps_run=first,
        )  # fmt: skip
        run = self.run_folder if first else keep.child_run(self.folder, job.name)
        return replace(job, run=str(run))

    def _do(self, jobs: list[Job]) -> None:
        self.planned += len(jobs)
        self.progress.plan(len(jobs), self.pool.at_once)

        def done(job: Job, result: Result) -> None:
            self.results[job.arm, job.seed] = result
            keep.discard(result, job)
            self.progress.done(job, result)

        try:
            self.pool.run(jobs, self.limits, self._begin, done)
        except KeyboardInterrupt:
            self.interrupted = True
            self.progress.say("interrupted: what is done is kept")

    def _judge(self, candidates: Sequence[Candidate]) -> tuple[Outcome, ...]:
        seeds = range(self.options.seeds)
        outcomes = [judge(each, self.results, seeds, self.options.steps, self.model) for each in candidates]
        return tuple(sorted(outcomes, key=lambda outcome: outcome.rank))

    def _report(
        self, run: Path, headline: str, outcomes: tuple[Outcome, ...], not_tried: tuple[NotTried, ...]
    ) -> TrialReport:
        report = TrialReport(
            _short(run), self.subject.command, headline, self.options.steps, self.options.seeds, outcomes, not_tried,
            notes(self.results, outcomes, self.options.seeds, self.options.steps, self.model),
            len(self.results), self.planned, time.monotonic() - self.started, self.interrupted,
        )  # fmt: skip
        if self.interrupted:
            said = f"Interrupted: {report.done} of {report.planned} runs are done."
            report = replace(report, notes=(said, *report.notes))
        keep.store_results(self.folder, self.results, report.to_document())
        keep.store_events(run, [each.to_event(self.subject.command) for each in outcomes if each.effect != "unknown"])
        return report


def _pool(engine: str | None, subject: Subject) -> Pool:
    if engine is None:
        return LocalPool()
    from gradscope.trials.ray_pool import RayPool

    return RayPool(engine, subject.directory, subject.program)


def _together(outcomes: Sequence[Outcome]) -> Candidate | None:
    """The two best at once, where none made the sickness go in every seed."""
    if any(outcome.seeds and outcome.gone == outcome.seeds for outcome in outcomes):
        return None
    able = [outcome.candidate for outcome in outcomes if outcome.state in ("measured", "diverged")]
    return able[0].together_with(able[1]) if len(able) >= 2 else None


def _treats(candidates: Sequence[Candidate], rule: str) -> bool:
    return any(candidate.rule == rule for candidate in candidates)


def _new_run(name: str) -> Path:
    """A folder in `runs/` that does not exist yet."""
    stem = Path("runs").resolve() / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    number = 1
    while (folder := stem if number == 1 else stem.with_name(f"{stem.name}-{number}")).exists():
        number += 1
    return folder


def _short(folder: Path) -> Path:
    """As short as it can be typed from here."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
