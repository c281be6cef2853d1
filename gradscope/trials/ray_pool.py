"""Several jobs at once on Ray: on this machine, or on a cluster. The only file that imports it.

Each job is a task of one CPU, and of one GPU where there are some. The folder of the script travels ahead (Ray's
`working_dir`, 500 MiB at most), the answer and the log come back as bytes. GradScope, torch and what the program imports
must be installed there.
"""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from gradscope.errors import MissingPackage, ProgramError
from gradscope.trials.job import Job, Result
from gradscope.trials.pool import Begin, Done
from gradscope.trials.processes import Limits, run_child

_STAYS_HERE = ["runs/", ".git/", ".venv/", "__pycache__/"]
_LOOK = 0.2  # seconds between two looks at what is running


class RayPool:
    """So many tasks at once on the Ray at an address: "ray", or "ray://HOST:PORT".

    "ray" is what RAY_ADDRESS names, else one that is started on this machine and ended with us.
    """

    def __init__(self, address: str, directory: str, program: Sequence[str]) -> None:
        self.address = None if address == "ray" else address
        self.at_once = 1
        self.folder, self.program = _folder(Path(directory), tuple(program))
        self.ray = _ray()

    def __enter__(self) -> RayPool:
        if self.ray.is_initialized():
            raise ProgramError("this process uses Ray already; a trial brings its own. Call ray.shutdown() first.")
        environment = {"working_dir": self.folder, "excludes": _STAYS_HERE} if self.program else None
        here = {} if self.address else {"include_dashboard": False}
        try:
            self.ray.init(self.address, runtime_env=environment, log_to_driver=False, logging_level="ERROR", **here)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ProgramError(f"cannot reach Ray at {self.address or 'this machine'}: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves Ray; one that was started for us ends."""
        self.ray.shutdown()

    def room(self, on_gpu: bool) -> int:
        """As many as there are GPUs, or CPUs."""
        resources = self.ray.cluster_resources()
        return max(1, int(resources.get("GPU" if on_gpu else "CPU", 1)))

    def memory(self) -> None:
        """Ray watches the memory of its machines."""

    def run(self, jobs: Sequence[Job], limits: Limits, begin: Begin, done: Done) -> None:
        """See `Pool`."""
        waiting = list(jobs)
        running: dict[Any, Job] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.at_once:
                    job = waiting.pop(0)
                    known = begin(job)
                    if known is not None:
                        done(job, known)
                        continue
                    running[self._send(job, limits)] = job
                ended, _ = self.ray.wait(list(running), timeout=_LOOK) if running else ([], [])
                for reference in ended:
                    job = running.pop(reference)
                    done(job, _received(self.ray, job, reference))
        except BaseException:
            for reference in running:
                self.ray.cancel(reference)  # interrupts the task, which ends its child
            raise

    def _send(self, job: Job, limits: Limits) -> Any:
        """Begins a job somewhere."""
        pickled = Path(job.pickled).read_bytes() if job.pickled else b""
        gpus = 1 if self.ray.cluster_resources().get("GPU", 0) >= 1 else 0
        task = self.ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(_there)
        return task.remote(asdict(replace(job, program=self.program)), pickled, limits)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingPackage(
            "--on ray needs Ray, and it is not installed. Install it with `pip install 'torch-gradscope[ray]'`."
        ) from error
    return ray


def _folder(directory: Path, program: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The folder that a program needs, and the program as it is called there."""
    if not program or program[0] == "-m":
        return str(directory), program
    script = (directory / program[0]).resolve()
    return str(script.parent), (script.name, *program[1:])


def _there(content: dict[str, Any], pickled: bytes, limits: Limits) -> tuple[str, bytes, bytes]:
    """Runs a job where the task is; gives the result as JSON, the log, and the recorded run where it is to be kept."""
    with tempfile.TemporaryDirectory(prefix="gradscope-") as folder:
        place = Path(folder)
        job = Job.from_dict(content)
        file = place / "train.pkl"
        file.write_bytes(pickled)
        job = replace(
            job, folder=folder, run=str(place / "run" / Path(job.run).name), directory=os.getcwd(),
            pickled=str(file) if pickled else "",
        )  # fmt: skip
        result = run_child(job, limits, threading.Event())
        log = job.log_file.read_bytes()
        return result.to_json(), log, _packed(place / "run") if job.keeps_run else b""


def _packed(folder: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for run in sorted(folder.iterdir()):
            if not run.is_symlink():  # `latest`
                archive.add(run, run.name)
    return stream.getvalue()


def _received(ray: Any, job: Job, reference: Any) -> Result:
    try:
        text, log, run = ray.get(reference)
    except ray.exceptions.RayError as error:
        return Result("crashed", f"Ray: {str(error).strip().splitlines()[-1]}")
    job.log_file.write_bytes(log)
    if run:
        with tarfile.open(fileobj=io.BytesIO(run)) as archive:
            archive.extractall(Path(job.run).parent, filter="data")
    result = Result.from_json(text)
    here = Path(job.run).parent  # where the runs of this job would have been recorded
    courses = tuple(replace(course, run=str(here / Path(course.run).name)) for course in result.courses)
    return replace(result, courses=courses)
