"""Which of many processes this one is, and where they all write without asking each other."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch.distributed

from gradscope.errors import WatchError

_asked: Counter[str] = Counter()  # how often this process began a run of each name


class Rank(NamedTuple):
    """The number of this process among those that train together."""

    number: int = 0
    world: int = 1


def this_rank() -> Rank:
    """The rank as torch.distributed knows it, else as the launcher says in RANK and WORLD_SIZE."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return Rank(torch.distributed.get_rank(), torch.distributed.get_world_size())
    try:
        return Rank(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    except (KeyError, ValueError):
        return Rank()


def shared_folder(model: str, rank: Rank) -> Path:
    """A folder in `runs/` that every rank of this job names alike and no other job does.

    On one machine the launcher, parent of all ranks, tells jobs apart: by when it started. On several machines only
    the job's own id can.

    Raises:
        WatchError: the ranks are on several machines and the launcher gave the job no id.
    """
    _asked[model] += 1
    launcher = os.getppid()
    started = _start_of(launcher)
    if _on_one_machine(rank.world) and started is not None:
        name = f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(started))}-{launcher}"
    else:
        job = _job_id()
        if job is None:
            raise WatchError(
                f"watch() was called by rank {rank.number} of {rank.world} and cannot name a folder that all ranks "
                "share: the launcher says neither that they are on one machine nor a job id. Give every rank the same "
                "run_dir=, or start them with torchrun --rdzv-id=SOME_ID."
            )
        name = job
    again = f"-{_asked[model]}" if _asked[model] > 1 else ""
    return restarted(Path("runs") / f"{name}-{model}{again}")


def restarted(folder: Path) -> Path:
    """The folder for this attempt: when the launcher starts failed ranks again, that is another run."""
    count = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return folder if count == "0" else folder.with_name(f"{folder.name}-restart{count}")


def _on_one_machine(world: int) -> bool:
    local = os.environ.get("LOCAL_WORLD_SIZE")
    if local is not None:
        return local == str(world)
    here = os.environ.get("MASTER_ADDR", "localhost") in ("localhost", "127.0.0.1", "::1")
    multiprocessing = sys.modules.get("multiprocessing")  # mp.spawn: the parent began all ranks of this machine
    return here and multiprocessing is not None and multiprocessing.parent_process() is not None


def _job_id() -> str | None:
    """What the launcher calls this job on every machine."""
    job = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    if job != "none":
        return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in job)
    if "SLURM_JOB_ID" in os.environ:
        parts = [os.environ.get(name, "0") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")]
        return f"slurm-{'-'.join(parts)}"
    return None


def _start_of(process: int) -> float | None:
    """When a process of this machine started, in whole seconds since 1970; None where the system does not say."""
    try:
        ticks = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    except (OSError, StopIteration, IndexError, ValueError):
        return None
    return int(boot.split()[1]) + ticks // os.sysconf("SC_CLK_TCK")
