"""List the runs of a folder: how each is, and what it takes on disk; with --prune, take old ones away."""

from __future__ import annotations

import re
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradscope.cli._exit_codes import DONE
from gradscope.cli._numbers import whole
from gradscope.cli._output import add_output, look_for, put
from gradscope.cli._run_folder import add_run
from gradscope.errors import NotARun, RunNotFound

if TYPE_CHECKING:
    from gradscope.records import Diagnosis
    from gradscope.store.housekeeping import RunOnDisk

HELP = "list the runs of a folder with their sizes, and take old ones away"
JUDGED = 64 * 2**20  # bytes: larger runs would take seconds each
_UNITS = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    add_run(parser, "FOLDER", "the folder with the runs; a path or a URL (default: runs)")
    parser.add_argument("--prune", action="store_true", help="say which runs would go; nothing goes without --yes")
    parser.add_argument("--keep", metavar="N", type=whole(), help="with --prune: leave the newest N")
    parser.add_argument(
        "--older-than", metavar="AGE", type=_age, help="with --prune: only runs not written to for 12h, 30d, 8w …"
    )
    parser.add_argument("--yes", action="store_true", help="with --prune: remove them")
    add_output(parser)


def _age(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([hdw])", text)
    if match is None:
        raise ArgumentTypeError(f"expected a number and h, d or w, such as 30d; got {text}")
    return float(match[1]) * _UNITS[match[2]]


@dataclass(frozen=True)
class Line:
    """What is said of one run."""

    run: RunOnDisk
    diagnosis: Diagnosis | None  # None: too large to be judged here, or unreadable
    steps: int | None
    removed: bool | None = None  # by --prune: whether it went; None: it is not among those that would go


def run(options: Namespace) -> int:
    """Prints the list, or what goes."""
    from gradscope.errors import UsageError
    from gradscope.reports import json_text
    from gradscope.reports.envelope import envelope
    from gradscope.store.housekeeping import runs_on_disk

    chosen = options.keep is not None or options.older_than is not None
    if options.prune != chosen or (options.yes and not options.prune):
        raise UsageError(
            "gradscope runs: error: --prune goes with --keep N, --older-than AGE or both, and --yes with --prune."
        )
    found = runs_on_disk(options.path)
    if not found:
        raise _no_run(options.path)
    lines = _pruned(found, options) if options.prune else [_judged(each) for each in found]
    if options.format == "json":
        put(json_text.render(envelope(runs=[_as_json(line) for line in lines])), options)
        return DONE
    put(_table(lines, look_for(options), pruned=options.prune), options)
    total = f"{len(lines)} runs, {_bytes(sum(line.run.size for line in lines))}" if len(lines) != 1 else ""
    hint = "Nothing was removed: add --yes to remove them." if options.prune and lines and not options.yes else ""
    for said in filter(None, (total, hint)):
        print(said, file=sys.stderr)
    return DONE


def _no_run(path: object) -> Exception:
    if isinstance(path, Path) and not path.is_dir():
        return RunNotFound(f"no folder at {path}. Runs are in `runs/` unless run_dir= says else.")
    return NotARun(f"{path} holds no runs. Name the folder that they are in, not a run itself.")


def _judged(found: RunOnDisk) -> Line:
    from gradscope.diagnosis import diagnose
    from gradscope.errors import RunError
    from gradscope.store import last_step
    from gradscope.store.bounded import BoundedReader

    if found.info is None:
        return Line(found, None, None)
    try:
        if found.size > JUDGED:
            last = last_step(found.location)
            return Line(found, None, None if last is None else last + 1)
        recorded = BoundedReader(found.location).read().run
    except RunError as error:
        return Line(replace(found, problem=str(error)), None, None)
    steps = recorded.steps["step"]
    return Line(found, diagnose(recorded), int(steps[-1] - steps[0] + 1) if len(steps) else 0)


def _pruned(found: list[RunOnDisk], options: Namespace) -> list[Line]:
    """The runs that go; those that are being recorded never do, nor what may be another program's."""
    from gradscope.store.housekeeping import point_latest, remove

    now = time.time()
    for each in found:
        if each.info is None:
            _say(f"{each.location} stays, for it may be another program's: {each.problem}")
    going = [
        each
        for each in [one for one in found if one.info is not None][options.keep or 0 :]
        if not each.goes_on and (options.older_than is None or now - each.written > options.older_than)
    ]
    for each in going if options.yes else []:
        if rest := remove(each):
            _say(f"{each.location} stays: it also holds {', '.join(rest)}, which is not ours")
    if options.yes and isinstance(options.path, Path):
        point_latest(options.path)
    return [Line(each, None, None, removed=options.yes) for each in going]


def _say(text: str) -> None:
    from gradscope.reports.words import harmless

    print(harmless(text), file=sys.stderr)


def _table(lines: list[Line], look: Any, pruned: bool) -> str:
    from gradscope.reports.terminal import render_table
    from gradscope.reports.words import VERDICT_WORDS

    if not lines:
        return "no run is to go\n"
    rows: list[tuple[str, ...]] = []
    for line in lines:
        info, size = line.run.info, _bytes(line.run.size)
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(info.created)) if info else "–"
        if pruned:
            rows.append((line.run.name, started, size, "removed" if line.removed else "would go"))
            continue
        said = VERDICT_WORDS[line.diagnosis.verdict] if line.diagnosis else "not judged here: too large"
        steps = "–" if line.steps is None else f"{line.steps:,}"
        rows.append((line.run.name, started, _state(line.run), steps, size, line.run.problem or said))
    columns = ("run", "started", "size", "") if pruned else ("run", "started", "state", "steps", "size", "verdict")
    return render_table(columns, rows, look, spare=("started", "size", "steps"))


def _state(run: RunOnDisk) -> str:
    if run.info is None:
        return "–"
    if run.goes_on:
        return "recording"
    return "stopped" if run.info.state == "recording" else run.info.state


def _as_json(line: Line) -> dict[str, Any]:
    info, run = line.run.info, line.run
    said: dict[str, Any] = {
        "name": run.name,
        "folder": str(run.location),
        "model": info.model if info else "",
        "state": info.state if info else "",
        "goes_on": run.goes_on,
        "created": info.created if info else None,
        "written": run.written,
        "bytes": run.size,
        "problem": run.problem,
    }
    if line.removed is not None:
        return said | {"removed": line.removed}
    verdict, headline = (line.diagnosis.verdict, line.diagnosis.headline) if line.diagnosis else (None, "")
    return said | {"steps": line.steps, "verdict": verdict, "headline": headline}


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
