"""Where a run is recorded, and what points to the latest."""

from __future__ import annotations

import os
import time
from pathlib import Path

from gradscope.errors import RunExists
from gradscope.recorder.ranks import Rank, shared_folder


def new_folder(name: str, rank: Rank) -> Path:
    """A folder in `runs/` made for this run alone, named after the time and the model; the same for all ranks."""
    if rank.world > 1:
        return shared_folder(name, rank)
    stem = Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    for number in range(1, 1000):
        folder = stem if number == 1 else stem.with_name(f"{stem.name}-{number}")
        try:
            folder.mkdir(parents=True)  # taken at once: another training may begin in the same second
        except FileExistsError:
            continue
        except OSError:  # the recorder meets it too, and says it
            pass
        return folder
    raise RunExists(f"{stem} and 998 more of its name exist. Give watch() a run_dir.")


def link_latest(folder: Path) -> None:
    """Points `latest`, beside the run, to it; where links cannot be made, there is none."""
    link = folder.parent / "latest"
    try:
        if link.is_symlink() or not link.exists():
            fresh = folder.parent / f".latest-{os.getpid()}"
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(folder.name)
            os.replace(fresh, link)
    except OSError:
        return
