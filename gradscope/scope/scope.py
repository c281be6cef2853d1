"""`Scope`: a training that is being recorded, as its user holds it."""

from __future__ import annotations

import os
import random
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import torch

from gradscope import beside
from gradscope.alerts import Handler
from gradscope.diagnosis import diagnose
from gradscope.notices import in_a_line, say
from gradscope.recorder import Recorder
from gradscope.records import Diagnosis, NotObserved
from gradscope.reports.document import document
from gradscope.scope.lookout import Lookout
from gradscope.store.bounded import BoundedReader

Loss = TypeVar("Loss", bound=torch.Tensor)


def _nobody() -> None:
    """Judges no run, and brings no losses."""


class Scope:
    """A training that is being recorded and can be asked how it is. Made by `watch`; a context manager.

    Attributes:
        run_dir: the folder that the run is recorded into; None when GRADSCOPE=off.
    """

    def __init__(self, recorder: Recorder | None, run_dir: Path | None) -> None:
        self.run_dir = run_dir
        self._at = run_dir and Path(os.path.abspath(run_dir))  # wherever the program goes from here
        self._recorder = recorder
        self._reader: BoundedReader | None = None
        self._lookout: Callable[[], Lookout | None] = _nobody
        self._untold: list[NotObserved] = []  # what the lookout said when the run was closed
        self._stop_hearing: Callable[[], None] = _nobody  # where its losses come from by themselves

    def _look_out(
        self, handlers: Sequence[Handler], overhead: float, optimizers: Sequence[torch.optim.Optimizer]
    ) -> None:
        """Has the run judged while it grows, for these handlers; call it once the recorder's hooks are on."""
        if handlers and self._recorder is not None and self.run_dir is not None and self._at is not None:
            lookout = Lookout(self._recorder, handlers, self._at, self.run_dir, overhead, self._end)
            lookout.listen(optimizers)
            # the optimizers' hooks own it: a handler may hold the model, and scopes are held as long as that lives
            self._lookout = weakref.ref(lookout) if optimizers else lambda: lookout

    def _passing(self) -> None:
        """Lets the run be judged, in a call of the user's from which an error may come."""
        lookout = self._lookout()
        if lookout is not None:
            lookout.passing()

    def loss(self, loss: Loss) -> Loss:
        """Takes the loss that `backward` will be called on and hands it back unchanged."""
        if self._recorder is not None:
            if getattr(loss, "requires_grad", False):  # one of a validation says nothing of the others
                self._hear(_nobody)
            self._recorder.loss(loss)
            self._passing()
        return loss

    def _hear(self, stop: Callable[[], None]) -> None:
        """Somebody brings the losses by themselves: `stop` ends that, once the user hands one over or the run ends."""
        self._stop_hearing()
        self._stop_hearing = stop

    def log(self, name: str, value: float) -> None:
        """Writes down a value of your own, such as a validation loss."""
        if self._recorder is None:
            return
        try:
            number = float(value)
        except Exception:  # torch has errors of its own for a tensor of several numbers
            say(f"gradscope: scope.log({name!r}) expected one number; it got {value!r:.80}")
            return
        self._recorder.log(name, number)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Sees nothing inside the `with` block: for probing or validation with gradients."""
        if self._recorder is None:
            yield
            return
        self._recorder.pause(True)
        try:
            yield
        finally:
            self._recorder.pause(False)

    def step(self) -> None:
        """Closes a step, in a loop without a torch optimizer."""
        if self._recorder is not None:
            self._recorder.step()
            self._passing()

    def diagnose(self) -> Diagnosis:
        """What GradScope says of the training so far. May wait for the device."""
        if self._recorder is None or self._at is None:
            return Diagnosis("not-enough-data", "GradScope is off (GRADSCOPE=off in the environment).")
        self._recorder.flush()
        if self._reader is None:
            self._reader = BoundedReader(self._at)
        run = self._reader.read().run
        failure = self._recorder.failure
        if failure is not None:  # said here too, because a full disk may have kept it from the run
            said = [missing for missing in run.info.not_observed if "recording stopped" not in missing.why]
            missing = NotObserved("everything after the last recorded step", f"recording stopped: {failure}")
            run = replace(run, info=replace(run.info, not_observed=(*said, missing)))
        lookout, diagnosis = self._lookout(), diagnose(run)
        untold = lookout.not_observed() if lookout is not None else self._untold
        return replace(diagnosis, not_observed=(*diagnosis.not_observed, *untold)) if untold else diagnosis

    def report(self) -> str:
        """The full report as text, as `gradscope report` prints it."""
        state = random.getstate()
        from gradscope.reports.terminal import render  # brings rich, 2 MB that a training need not hold

        random.setstate(state)  # which draws a number when it is imported
        diagnosis = self.diagnose()
        if self._reader is None:
            return str(diagnosis)
        return render(document(self._reader.read().run, diagnosis, self.run_dir))

    def show(self) -> None:
        """Shows the dashboard inside a notebook, started when it is needed; elsewhere prints the report."""
        if self._at is not None:
            beside.show(self._at, self.report, self._repr_html_)

    def _repr_html_(self) -> str:
        """The diagnosis, as a notebook shows it at the end of a cell."""
        return self.diagnose()._repr_html_()

    def close(self) -> None:
        """Ends recording: every hook goes, the run stays."""
        self._end("closed")

    def _end(self, reason: str) -> None:
        lookout, self._lookout = self._lookout(), _nobody
        self._hear(_nobody)
        try:
            if lookout is not None:
                lookout.finish()
                self._untold = lookout.not_observed()
        except Exception as error:  # whatever it is, the user's program is not to end by it
            say(f"gradscope: the run was not judged at its end: {in_a_line(error)}")
        finally:
            if self._recorder is not None:
                self._recorder.close(reason)

    def __enter__(self) -> Scope:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end("closed" if error is None else in_a_line(error))
