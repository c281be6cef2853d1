"""Mutes a finding with a reason, and takes that back: kept in the run's folder, in a file of its own.

The training's writer never touches that file, and this never touches the writer's.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import asdict

import orjson

from gradscope.errors import RunNotWritable
from gradscope.records import Finding
from gradscope.store.folders import Folder, LocalFolder
from gradscope.store.mutes import MUTES_FILE, Mute, read_mutes

_MOST_LAYERS = 200  # kept of a finding, the worst first
_LONGEST_REASON = 500  # characters
_WRITING = threading.Lock()


def why_not_kept(folder: Folder) -> str:
    """Why a mute cannot be kept with this run; "" where it can."""
    if not isinstance(folder, LocalFolder):
        return f"{folder} is not on this machine, and nothing is written there."
    if not os.access(folder.location, os.W_OK):
        return f"{folder} cannot be written by this process."
    return ""


def mute(folder: Folder, finding: Finding, reason: str) -> None:
    """Mutes a finding of a run, in place of what was said of it before.

    Raises:
        RunNotWritable: the run's folder is elsewhere, or cannot be written.
    """
    fresh = Mute(
        finding.rule,
        finding.severity,
        finding.layers[:_MOST_LAYERS],
        " ".join(reason.split())[:_LONGEST_REASON],
        time.time(),
    )
    with _WRITING:
        others = [each for each in read_mutes(folder) if not each.holds(finding)]
        _write(folder, [*others, fresh])


def unmute(folder: Folder, finding: Finding) -> None:
    """Takes back what was muted of a finding.

    Raises:
        RunNotWritable: as `mute`.
    """
    with _WRITING:
        _write(folder, [each for each in read_mutes(folder) if not each.holds(finding)])


def _write(folder: Folder, mutes: list[Mute]) -> None:
    if not isinstance(folder, LocalFolder):
        raise RunNotWritable(f"this cannot be kept: {why_not_kept(folder)}")
    file = folder.location / MUTES_FILE
    fresh = file.with_name(f"{MUTES_FILE}.new")
    try:
        fresh.write_bytes(orjson.dumps([asdict(each) for each in mutes], option=orjson.OPT_INDENT_2))
        os.replace(fresh, file)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise RunNotWritable(f"this cannot be kept: {folder} cannot be written ({error.strerror}).") from error
