"""Judges a run while it grows, and tells what is new to whoever asked for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gradscope.alerts import Alert, Handler, Stop
from gradscope.catalogue import remedies, rules
from gradscope.diagnosis import diagnose
from gradscope.errors import TrainingUnhealthy
from gradscope.notices import in_a_line, say
from gradscope.recorder import Recorder
from gradscope.recorder.private import after_backward, current_backward, forks
from gradscope.recorder.schedule import FIRST_STEPS
from gradscope.records import Diagnosis, Finding, NotObserved, Run, RunInfo
from gradscope.reports.alert import alert_document, explanation, line
from gradscope.scope.pace import Pace
from gradscope.scope.seen import Seen, event_of
from gradscope.store.bounded import BoundedReader

SHARE = 1 / 3  # of the overhead that a training allows is for judging it, the rest for recording
SLOW = 1.0  # seconds that a handler may take before it is said
FAREWELL = 2.0  # seconds that the end of a run waits for all handlers
_PATIENCE = 8  # steps after an alarm until the step that was recorded because of it is on disk
_SECONDS = 0.5  # of looking at a run that is larger than `store.bounded.MEMORY`, each time


class Lookout:
    """Judges a run after recorded steps, in the thread that trains: no step waits for a device for it.

    Args:
        recorder: of the run.
        handlers: who is told.
        folder: of the run, absolute.
        shown: the same as the user gave it.
        overhead: share of the training's time that watching it may take.
        end: closes the run, with the reason.
    """

    def __init__(
        self,
        recorder: Recorder,
        handlers: Sequence[Handler],
        folder: Path,
        shown: Path,
        overhead: float,
        end: Callable[[str], None],
    ) -> None:
        rules(), remedies()  # imported now and not in a step
        self._recorder, self._handlers, self._folder, self._shown = recorder, handlers, folder, shown
        self._end, self._forks = end, forks()
        self._pace = Pace(overhead * SHARE, FIRST_STEPS, time.perf_counter())
        self._reader: BoundedReader | None = None
        self._run: Run | None = None  # as it was judged last
        self._seen: Seen | None = None
        self._step, self._alarms = recorder.file.step, recorder.schedule.alarms
        self._alarm: tuple[int, int] | None = None  # the step that followed it, and how many were recorded until then
        self._busy = self._over = False
        self._handles: list[Any] = []
        self._stop: TrainingUnhealthy | None = None  # waits until it may be raised
        self._untold: dict[str, str] = {}  # whom a finding did not reach, and why
        self._said: dict[str, str] = {}  # what went wrong, by what it is about; once each
        self._noted: set[str] = set()  # what of that the run knows

    def listen(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Has itself called after each step, once the recorder has closed it."""
        self._handles = [each.register_step_post_hook(self.passing) for each in optimizers]

    def passing(self, *_: Any) -> None:
        """Called in the user's own calls, after an optimizer's step for one: judges when it is time.

        Raises:
            TrainingUnhealthy: a handler asked for it.
        """
        if torch.compiler.is_compiling() or self._busy or not self._recorder.recording:
            return
        step = self._recorder.file.step
        if step != self._step:  # one was closed since
            self._step = step
            self._judge_if_due(step)
        if self._stop is not None:
            self._raise_when_legal()

    def finish(self) -> None:
        """Judges for the last time, and lets handlers end what they are at. Raises nothing of theirs."""
        if self._over or forks() != self._forks:
            return
        self._over = True
        if self._stop is None and not self._busy:
            self._recorder.flush()
            self._judge(self._recorder.file.step)
            self._say_what_came_too_late()
        until = time.monotonic() + FAREWELL
        for handler in self._handlers:
            self._safely(handler, partial(handler.close, max(0.0, until - time.monotonic())))
        self._note_complaints()
        for handle in [] if self._recorder.guard.telling else self._handles:  # torch may be going through them
            handle.remove()

    def not_observed(self) -> list[NotObserved]:
        """Whom findings did not reach, and why."""
        for handler in self._handlers:
            if trouble := _trouble(handler):
                self._untold.setdefault(f"whether {_name(handler)} was told all findings", trouble)
        return [NotObserved(what, why) for what, why in self._untold.items()]

    # judging

    def _judge_if_due(self, step: int) -> None:
        schedule, now = self._recorder.schedule, time.perf_counter()
        if schedule.alarms != self._alarms:
            self._alarms = schedule.alarms
            self._alarm = self._alarm or (step, schedule.recorded)
        if self._alarm is not None:
            since, recorded = self._alarm
            if schedule.recorded == recorded and step < since + _PATIENCE:
                return  # the step that is recorded because of it tells more
            if not self._pace.affords_alarm(now) or self._judge(step, since if step < since + _PATIENCE else 0):
                self._alarm = None
        elif self._pace.due(now, schedule.recorded):
            self._judge(step)

    def _judge(self, step: int, until: int = 0) -> bool:
        """Judges the run, once its step `until` is on disk; says whether it is."""
        if not self._recorder.recording:
            return True
        entered = time.perf_counter()
        self._busy = True
        try:
            alerts = self._new(step, until)
            if alerts is None:
                return False
            self._pace.took(time.perf_counter() - entered, self._recorder.schedule.recorded)
            self._tell(alerts)
            self._note_complaints()
        except Exception as error:
            why = f"the run could not be judged: {in_a_line(error)}"
            self._untold["findings while the training ran"] = why
            self._complain("judging", why)
        finally:
            self._busy = False
            self._recorder.guard.aside += time.perf_counter() - entered
        return True

    def _new(self, step: int, until: int) -> list[Alert] | None:
        """What is new in the run; None: its step `until` is not on disk yet."""
        with np.errstate(all="ignore"):  # whatever the user made of it
            if self._reader is None:
                self._reader = BoundedReader(self._folder)
            run = self._reader.read(_SECONDS).run
            if until and not (len(run.summaries) and run.summaries["step"][-1] >= until):
                return None
            if run is self._run:
                return []
            self._run, diagnosis = run, diagnose(run)
            self._seen = self._seen or Seen(run.events)
            return [
                self._alert(finding, diagnosis, run.info, max(step - 1, 0))
                for finding in self._seen.fresh(diagnosis.findings)
            ]

    def _alert(self, finding: Finding, diagnosis: Diagnosis, info: RunInfo, step: int) -> Alert:
        return Alert(
            finding,
            diagnosis,
            step,
            self._shown,
            line(finding, self._shown),
            explanation(finding, diagnosis, step, self._shown),
            alert_document(finding, diagnosis, info, step, self._shown),
        )

    # telling

    def _tell(self, alerts: Sequence[Alert]) -> None:
        for alert in alerts:
            self._recorder.guard(self._recorder.file.note)("finding", event_of(alert.finding))
        self._recorder.pause(True)  # what a handler does with the model is no part of the training
        self._recorder.guard.telling = True
        try:
            for alert in alerts:
                for handler in self._handlers:
                    self._safely(handler, partial(_tell, handler, alert))
        finally:
            self._recorder.guard.telling = False
            self._recorder.pause(False)

    def _safely(self, handler: Handler, call: Callable[[], None]) -> None:
        entered = time.perf_counter()
        try:
            call()
        except Exception as error:
            if isinstance(handler, Stop) and isinstance(error, TrainingUnhealthy):
                self._stop = self._stop or error
                return
            name = _name(handler)
            self._untold[f"whether {name} was told all findings"] = f"it raised {in_a_line(error)}"
            self._complain(name, f"{name} raised {in_a_line(error)}")
        seconds = time.perf_counter() - entered
        if seconds > SLOW and not self._over:
            name = _name(handler)
            self._complain(f"slow {name}", f"{name} took {seconds:.1f} s, and the training waited for it")

    def _complain(self, about: str, text: str) -> None:
        if about not in self._said:
            self._said[about] = text
            say(f"gradscope: on_finding: {text}. The training goes on.")

    def _note_complaints(self) -> None:
        """Writes into the run what went wrong, each once."""
        for handler in self._handlers:
            if trouble := _trouble(handler):  # it said so itself
                name = _name(handler)
                self._said.setdefault(f"trouble {name}", f"findings do not reach {name}: {trouble}")
        for about in self._said.keys() - self._noted:
            self._noted.add(about)
            self._recorder.guard(self._recorder.file.note)("warning", {"text": f"on_finding: {self._said[about]}"})

    # ending the training

    def _say_what_came_too_late(self) -> None:
        """There is nothing left to end."""
        if self._stop is not None:
            say(line(self._stop.finding, self._shown))

    def _raise_when_legal(self) -> None:
        """Raises at the end of the user's call, which is that to `backward` where the optimizer steps inside of it."""
        if current_backward() >= 0:
            after_backward(self._raise)
            self._busy = True  # once
        else:
            self._raise()

    def _raise(self) -> None:
        error = self._stop
        assert error is not None
        self._end(f'on_finding="raise": {error.finding.rule}')
        raise error.with_traceback(None)


def _tell(handler: Handler, alert: Alert) -> None:
    if handler.wants(alert.finding):
        handler.tell(alert)


def _name(handler: Handler) -> str:
    """Its name; a class of the user's may be unable to say it."""
    try:
        return str(handler)
    except Exception:
        return type(handler).__name__


def _trouble(handler: Handler) -> str:
    """What it says went wrong."""
    try:
        return str(handler.trouble)
    except Exception as error:
        return in_a_line(error)
