"""The child process of a trial: one short training, treated or not, stopped at its last step.

    python -m gradscope.trials.child JOB.json

The answer is written beside the job, see `job`. A child whose parent is gone ends itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import numpy as np
import torch
from torch import nn

from gradscope.autowatch import Session, Target, run_program
from gradscope.catalogue import remedies
from gradscope.diagnosis import diagnose
from gradscope.errors import NotApplicable
from gradscope.scope import Scope
from gradscope.signals import Signals
from gradscope.store import RunReader, read_run
from gradscope.trials import seeding
from gradscope.trials.job import Course, Job, Result, Seen, State, Treatment
from gradscope.trials.processes import end_descendants
from gradscope.trials.random_change import draw

_LOOKS = 20  # how often a training is asked whether its loss is still finite
_LOST = 3  # losses in a row that are NaN or Inf: it will not come back
_WARM_UP = 3  # steps that take longer than the others: caches, allocators, our own first look


def main() -> None:
    """Does the job whose file is named on the command line."""
    threading.Thread(target=_end_with_the_parent, args=(os.getppid(),), daemon=True).start()
    _Child(Job.load(Path(sys.argv[1]))).run()


def _end_with_the_parent(parent: int) -> None:
    """A parent that was killed cannot stop its children."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.killpg(0, signal.SIGKILL)  # workers too: a child leads its own group


class _Child:
    """One training and what is noted of it. A class because hooks write where the end reads."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.begun = 0  # models
        self.scopes: list[
            Scope
        ] = []  # theirs, as they began: when it ends the session forgets those that never stepped
        self.error = ""  # what the program died of
        self.process = os.getpid()
        self.closed: dict[Scope, int] = {}  # steps of each model so far
        self.failed: State = "crashed"  # how it is called when the program dies
        self.say_error = sys.excepthook
        self.changes: list[str] = []
        self.treatments: list[Treatment] = list(job.treatments)
        self.reader: RunReader | None = None
        self.session = Session(
            before_training=self.before_training,
            after_step=self.after_step,
            run_dir=job.run,
            every=job.every,
        )

    def run(self) -> NoReturn:
        """Trains, and answers. Does not come back: what the program leaves behind, such as threads, ends here."""
        seeding.begin(self.job.seed)
        sys.excepthook = self.note_error
        try:
            if self.job.pickled:
                sys.path[:0] = [folder for folder in self.job.search if folder not in sys.path]
                import cloudpickle

                train = cloudpickle.loads(Path(self.job.pickled).read_bytes())
                with self.session:
                    train()
                code = 0
            else:
                code = run_program(Target.parse(self.job.program), self.session)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException as error:
            self.note_error(type(error), error, error.__traceback__)
            code = 1
        if os.getpid() != self.process:  # forked by the program
            os._exit(code)
        self.end("ended early" if code == 0 else self.failed, "" if code == 0 else self.error or f"exit code {code}")

    def note_error(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """Keeps what the program died of, and prints it as Python would."""
        said = "".join(traceback.format_exception_only(kind, error)).strip().splitlines()
        heads = [line for line in said if line.startswith(kind.__name__)]  # a syntax error begins with its line
        self.error = (heads or said or [kind.__name__])[0]
        if isinstance(error, NotApplicable):  # a remedy has met something that it cannot act on
            self.failed, self.error = "not applicable", self._reason(error)
        self.say_error(kind, error, trace)

    def _reason(self, error: NotApplicable) -> str:
        """Why the remedy cannot act, without its name where there is only one."""
        return str(error).removeprefix(f"{self.treatments[0].remedy}: " if len(self.treatments) == 1 else "")

    def before_training(self, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
        """Treats the model whose turn it is."""
        number, self.begun = self.begun, self.begun + 1
        if number != (self.job.model or 0):
            return
        try:
            with seeding.untouched(self.job.seed):
                if self.job.random_avoids is not None:
                    drawn = draw(
                        self.job.seed, model, optimizers, avoid=self.job.random_avoids, count=self.job.random_count
                    )
                    self.treatments = [Treatment(remedy, dose) for remedy, dose in drawn]
                for treatment in self.treatments:
                    applied = remedies()[treatment.remedy].apply(model, optimizers, **treatment.dose)
                    self.changes += applied.changes
        except NotApplicable as error:
            self.end("not applicable", self._reason(error))
        except Exception as error:
            traceback.print_exc()
            self.end("crashed", f"{type(error).__name__} while the change was made: {error}")

    def after_step(self, scope: Scope, steps: int) -> None:
        """Ends a training that has come far enough, or that is lost."""
        self.scopes = list(self.session.scopes)
        self.closed[scope] = steps
        self._end_after_replacement()
        if self.job.model is not None and scope is not self._scope(self.job.model):
            return
        if steps >= self.job.steps:
            self.end("done")
        if steps % max(1, self.job.steps // _LOOKS) == 0 and self._is_lost(scope):
            self.end("diverged")

    def _end_after_replacement(self) -> None:
        """Ends a program whose training goes on with another optimizer or model when those took the steps that were left.

        A new optimizer begins another training, and the one that is looked at never comes to its last step. While nobody
        knows which one that is, a later one gets its chance.
        """
        over = [scope for scope in self.scopes if (it := scope._recorder) and not it.recording and not it.failure]
        if self.job.model is None:
            spent, enough = sum(self.closed.get(scope, 0) for scope in over), 2 * self.job.steps
        else:
            spent, enough = sum(self.closed.values()), self.job.steps
        if spent >= enough and (self.job.model is None or self._scope(self.job.model) in over):
            self.end("ended early", "another optimizer or model took its place, which begins another training")

    def _scope(self, number: int) -> Scope | None:
        return self.scopes[number] if number < len(self.scopes) else None

    def _is_lost(self, scope: Scope) -> bool:
        if scope.run_dir is None:
            return False
        if self.reader is None:
            self.reader = RunReader(scope.run_dir)
        rows = self.reader.read().steps[-_LOST:]
        return len(rows) == _LOST and bool(rows["has_loss"].all()) and not np.isfinite(rows["loss"]).any()

    def end(self, state: State, why: str = "") -> NoReturn:
        """Closes the runs, answers and leaves at once."""
        try:
            for scope in self.scopes:
                scope.close()
            courses = tuple(_course(scope.run_dir) for scope in self.scopes if scope.run_dir is not None)
            mine = courses[self.job.model or 0] if len(courses) > (self.job.model or 0) else None
            if state in ("done", "ended early") and mine is not None and mine.diverged_at is not None:
                state = "diverged"
            why = why or ("" if courses else self.session.missing)
            answer = Result(state, why, courses, tuple(self.changes), tuple(self.treatments))
            fresh = self.job.answer_file.with_suffix(".new")
            fresh.write_text(answer.to_json(), encoding="utf-8")
            os.replace(fresh, self.job.answer_file)
            code = 0
        except BaseException:
            traceback.print_exc()
            code = 1
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the program may have closed it
                stream.flush()
        end_descendants(os.getpid())
        os._exit(code)


def _course(folder: Path) -> Course:
    """What is to be known of a recorded run."""
    run = read_run(folder)
    diagnosis = diagnose(run, Signals(run))
    own = (run.steps["seconds"] - run.steps["recorder_seconds"])[_WARM_UP:]
    own = own[np.isfinite(own) & (own > 0)]
    return Course(
        run=str(folder),
        model=run.info.model,
        device=run.info.device,
        losses=tuple(run.steps["loss"][run.steps["has_loss"]].tolist()),
        step_seconds=float(np.median(own)) if len(own) else float("nan"),
        verdict=diagnosis.verdict,
        findings=tuple(Seen(found.rule, found.severity, found.layers) for found in diagnosis.findings),
        waiting=tuple(check.rule for check in diagnosis.passed if check.outcome == "needs-data"),
    )


if __name__ == "__main__":
    main()
