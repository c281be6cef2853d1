"""Measures a suggestion: runs `gradscope trial` on a run as a child process, at most one at a time for a run.

How far it has come is in a file that the trial itself keeps, so that a page that is loaded anew, and a server that was
started again, still know. Nothing but the command that the run remembers is run, with remedies that GradScope knows.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from gradscope.catalogue import remedies
from gradscope.errors import ProgramError
from gradscope.records import RunInfo
from gradscope.store.folders import Folder, LocalFolder
from gradscope.store.trial_status import TRIALS, TrialStatus, read_trial_statuses

STEPS, SEEDS = 100, 5  # as the trial itself has them
_PATIENCE = 10.0  # seconds that a trial may take to end its own children and store what it has
_BORN_TOGETHER = 300.0  # seconds between a trial's process and its first word: torch may load slowly
LOG_FILE = "last.log"  # beside the trials: what the one that was started last has said

State = Literal["starting", "running", "stopping", "ended", "interrupted", "failed", "lost"]


@dataclass(frozen=True)
class Measurement:
    """A trial of a run: the one that runs, or the last one.

    Attributes:
        state: "lost": its process is gone without a word.
        can_cancel: whether it is a process that this page may end.
    """

    state: State
    remedies: tuple[str, ...] = ()
    done: int = 0
    planned: int = 0
    running: tuple[str, ...] = ()
    seconds_left: float | None = None
    said: str = ""
    can_cancel: bool = False

    @property
    def goes_on(self) -> bool:
        """Whether it has not come to its end."""
        return self.state in ("starting", "running", "stopping")


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    remedies: tuple[str, ...]
    log: Path
    started: float  # seconds since 1970
    stopping: bool = False

    def wrote(self, status: TrialStatus) -> bool:
        return status.process == self.process.pid and status.started >= self.started


_children: dict[Path, _Child] = {}  # the last one of each run that this server has started
_starting = threading.Lock()


def trainings(seeds: int = SEEDS, candidates: int = 1) -> int:
    """How often a trial runs the program.

    Example:
        >>> trainings(5)
        16
    """
    return seeds * (candidates + 2) + 1  # no change, random change; and one seed twice, for the noise


def command(run: Folder, names: Sequence[str], info: RunInfo, steps: int = STEPS, seeds: int = SEEDS) -> str:
    """What to type to measure remedies on a run."""
    words = ["gradscope", "trial", "--run", str(run.resolved()), *_options(names, steps, seeds)]
    script = "" if info.command else " YOUR_SCRIPT.py"
    return shlex.join(words) + script


def _options(names: Sequence[str], steps: int, seeds: int) -> list[str]:
    chosen = [word for name in names for word in ("--remedy", name)]
    chosen += ["--steps", str(steps)] if steps != STEPS else []
    return chosen + (["--seeds", str(seeds)] if seeds != SEEDS else [])


def why_not(run: Folder, info: RunInfo) -> str:
    """What is missing to measure on this run from here; "" when nothing is."""
    if not isinstance(run, LocalFolder):
        return "The run is not on this machine, where its program would have to run."
    if not info.command:
        return "The run does not remember its script: `gradscope run` records it, watch() alone does not."
    if not Path(info.directory).is_dir():
        return f"The program ran in {info.directory}, which is not here any more."
    script = info.command[0]
    if script != "-m" and not Path(info.directory, script).is_file():
        return f"The script {script} is not in {info.directory} any more."
    if info.state == "recording" and psutil.pid_exists(info.process):
        return "The training is still being recorded, and what is measured is kept with it: wait until it has ended."
    if not os.access(run.location, os.W_OK):
        return f"{run.location} cannot be written, and what is measured is kept there."
    return ""


def start(run: Folder, info: RunInfo, names: Sequence[str], steps: int = STEPS, seeds: int = SEEDS) -> None:
    """Starts a trial of remedies on a run.

    Raises:
        ProgramError: something is missing, a remedy is unknown, or a trial of this run goes on already.
    """
    if reason := why_not(run, info):
        raise ProgramError(reason)
    if unknown := [name for name in names if name not in remedies()]:
        raise ProgramError(f"there is no remedy {', '.join(unknown)}.")
    location = Path(run.location).resolve()
    with _starting:
        found = measurement(run)
        if found is not None and found.goes_on:
            raise ProgramError("a trial of this run goes on already; it has to end first.")
        log, started = location / TRIALS / LOG_FILE, time.time()
        log.parent.mkdir(exist_ok=True)
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "gradscope", "trial", "--run", str(location), *_options(names, steps, seeds)],
                cwd=info.directory,
                env={name: value for name, value in os.environ.items() if name != "GRADSCOPE"},  # "off" sees nothing
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stream,
                start_new_session=True,  # Ctrl-C at the dashboard reaches us, and we end it in good order
            )
        _children[location] = _Child(process, tuple(names), log, started)


def measurement(run: Folder) -> Measurement | None:
    """The trial of a run that goes on; else the last one that was started here, or that came to no good end."""
    if not isinstance(run, LocalFolder):
        return None
    child = _children.get(Path(run.location).resolve())
    status = next(reversed(read_trial_statuses(run)), None)
    if child is not None and (status is None or status.started < child.started or child.wrote(status)):
        return _of_child(child, status if status is not None and child.wrote(status) else None)
    if status is None or status.state == "ended":
        return None
    state: State = status.state
    process = _process(status)
    if state == "running" and process is None:
        state = "lost"
    return _with(status, state, can_cancel=state == "running" and _is_trial(process))


def _of_child(child: _Child, status: TrialStatus | None) -> Measurement:
    code = child.process.poll()
    if code is None:
        state: State = "stopping" if child.stopping else "running" if status else "starting"
        if status is None:
            return Measurement(state, child.remedies, can_cancel=not child.stopping)
        return _with(status, state, can_cancel=not child.stopping)
    if status is not None and status.state != "running":
        return _with(status, status.state)
    if child.stopping:
        return Measurement("interrupted", child.remedies)
    return Measurement("failed", child.remedies, said=_last_words(child) or f"it ended with exit code {code}")


def _with(status: TrialStatus, state: State, can_cancel: bool = False) -> Measurement:
    planned = status.planned  # the trial itself plans further than the first run when that has shown what is sick
    if status.state == "running":
        planned = max(planned, trainings(status.seeds, len(status.remedies) or 1))
    return Measurement(
        state, status.remedies, status.done, planned, status.running, status.seconds_left, status.said, can_cancel
    )


def _last_words(child: _Child) -> str:
    with contextlib.suppress(OSError):
        lines = [line.strip() for line in child.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].removeprefix("gradscope: ") if lines else ""
    return ""


def cancel(run: Folder) -> bool:
    """Ends the trial of a run that goes on, with all that it has started; what is done is kept. Whether there was one."""
    if not isinstance(run, LocalFolder):
        return False
    child = _children.get(Path(run.location).resolve())
    if child is not None and child.process.poll() is None:
        child.stopping = True
        _end(psutil.Process(child.process.pid))
        return True
    status = next(reversed(read_trial_statuses(run)), None)
    process = _process(status) if status is not None and status.state == "running" else None
    if process is None or not _is_trial(process):
        return False
    _end(process)
    return True


def _process(status: TrialStatus) -> psutil.Process | None:
    """The living process that wrote a status: the one of that id may be another by now."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(status.process)
        born = process.create_time()
        if born - 1 <= status.started <= born + _BORN_TOGETHER and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def _is_trial(process: psutil.Process | None) -> bool:
    """Whether a process is `gradscope trial`: a run folder that somebody else wrote could name any."""
    if process is None:
        return False
    with contextlib.suppress(psutil.Error):
        words: list[str] = process.cmdline()
        return "trial" in words and any("gradscope" in word for word in words[: words.index("trial")])
    return False


def _end(process: psutil.Process) -> None:
    """Asks a trial to end, and after a while ends it and all of its own."""
    with contextlib.suppress(psutil.Error):
        process.terminate()
    threading.Thread(target=_end_for_good, args=(process, _PATIENCE), daemon=True).start()


def _end_for_good(process: psutil.Process, seconds: float) -> None:
    until = time.monotonic() + seconds
    with contextlib.suppress(psutil.Error):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > until:
                for each in (*process.children(recursive=True), process):
                    with contextlib.suppress(psutil.Error):
                        each.kill()
                return
            time.sleep(0.1)


@atexit.register
def _end_all() -> None:
    """Whoever ends the dashboard ends what it has started."""
    left = [child for child in _children.values() if child.process.poll() is None]
    for child in left:
        child.process.terminate()
    for child in left:
        with contextlib.suppress(psutil.Error):
            _end_for_good(psutil.Process(child.process.pid), _PATIENCE / 2)
