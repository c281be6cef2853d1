"""One job as a process of its own, within limits of time and memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace

import psutil

from gradscope.trials.job import Job, Result

_LOOK = 0.05  # seconds between two looks at a child that has just begun; later ones are ten times rarer
_TAIL = 4096  # bytes of a log's end that are searched for its last line
_MEMORY_ERRORS = ("MemoryError", "OutOfMemoryError", "DefaultCPUAllocator: can't allocate memory")


@dataclass(frozen=True)
class Limits:
    """What a child may use; None: as much as there is."""

    seconds: float | None = None
    memory: int | None = None  # bytes, of the child and its own children together


def run_child(job: Job, limits: Limits, stop: threading.Event) -> Result:
    """Runs a job to its end, to one of its limits, or until `stop` is set. Nothing that it began is left behind.

    The child leads a session of its own: Ctrl-C in the terminal reaches us and not it.
    """
    job.save()
    started = time.monotonic()
    with job.log_file.open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "gradscope.trials.child", str(job.job_file)],
            cwd=job.directory or None,
            env=_environment(job.threads),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            end = _watch(child, limits, stop, started)
        finally:
            _kill_group(child)
    seconds = time.monotonic() - started
    return replace(end or _answer(job, child.returncode), seconds=seconds)


def _watch(child: subprocess.Popen[bytes], limits: Limits, stop: threading.Event, started: float) -> Result | None:
    """Waits for the child's own end; gives the result when it is not its own."""
    while True:
        seconds = time.monotonic() - started
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_LOOK if seconds < 5 else 10 * _LOOK)
            return None
        if stop.is_set():
            return Result("stopped")
        if limits.seconds is not None and seconds > limits.seconds:
            return Result("out of time", f"stopped after {limits.seconds:.0f} s, its limit")
        if limits.memory is not None and (used := _memory(child.pid)) > limits.memory:
            return Result(
                "out of memory", f"stopped at {used / 2**20:,.0f} MiB; its limit was {limits.memory / 2**20:,.0f} MiB"
            )


def _memory(process: int) -> int:
    """Bytes that a process and its children hold in memory; what they share counts for each of them."""
    used = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process)
        for each in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                used += each.memory_info().rss
    return used


def end_descendants(process: int) -> None:
    """Ends what a process has started, in sessions of their own too."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in psutil.Process(process).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                each.kill()


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """Ends the child and what it has started, such as workers that load data."""
    if child.poll() is None:
        end_descendants(child.pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # PermissionError: macOS, when all are gone
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _environment(threads: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "GRADSCOPE"}  # "off" would see nothing
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        kept[name] = kept.get(name) or str(threads)
    kept["GRADSCOPE_DASHBOARD"] = "off"  # watch(dashboard=True) in a script opens none for each run of a trial
    kept["GRADSCOPE_ON_FINDING"] = "off"  # nor does on_finding= in a script tell of, or end, each of them
    return {"PYTHONHASHSEED": "0", **kept}  # the order of sets of strings, the same for all


def _answer(job: Job, code: int) -> Result:
    """What the child wrote; a crash when it did not come to that."""
    try:
        result = Result.from_json(job.answer_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        why = f"killed by {signal.Signals(-code).name}" if code < 0 else last_line(job) or f"exit code {code}"
        result = Result("crashed", why)
    if result.state == "crashed" and result.why.startswith("exit code"):
        result = replace(result, why=last_line(job) or result.why)
    if result.state == "crashed" and any(name in result.why for name in _MEMORY_ERRORS):
        return replace(result, state="out of memory")
    return result


def last_line(job: Job, lines: int = 1) -> str:
    """The last lines of a job's log that are not empty."""
    with contextlib.suppress(OSError), job.log_file.open("rb") as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL))
        said = [line.rstrip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        return "\n".join(said[-lines:])
    return ""
