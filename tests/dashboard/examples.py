"""Records each demo and packs it for the lessons: `make examples` writes assets/examples/."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import orjson

from gradscope.diagnosis import diagnose
from gradscope.records import NotObserved, Rows, RunInfo
from gradscope.store import read_run
from gradscope.store.messages import Encoder
from gradscope.store.schema import EVENTS, RUN_FILE, STEP_SCHEMA, STEPS, SUMMARIES, SUMMARY_SCHEMA, step_batch
from gradscope.store.schema import summary_batch as batch_of

ROOT = Path(__file__).parents[2]
DEMOS, EXAMPLES = ROOT / "demos", ROOT / "assets" / "examples"
MOST_ROWS = 2000  # of summaries in one example: some 70 kB
COMPRESSION = "zstd"


def record(demo: Path, folder: Path) -> Path:
    """Trains a demo under observation; gives the run's folder."""
    script = Path(shutil.copy(demo, folder))
    command = [sys.executable, "-m", "gradscope", "run", script.name]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (run,) = (each for each in (folder / "runs").iterdir() if each.is_dir() and not each.is_symlink())
    findings = diagnose(read_run(run)).findings
    suggested = [each.remedy for finding in findings for each in finding.suggestions if not each.needs_edit]
    if suggested:  # the first is tried, so that the example can say whether it helped
        trial = ["trial", "--seeds", "3", "--steps", "80", "--remedy", suggested[0], "--run", str(run), script.name]
        command = [sys.executable, "-m", "gradscope", *trial]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return run


def pack(run: Path, target: Path) -> None:
    """Writes a run as a zip with one folder, named as the zip; a large one with fewer of its recorded steps."""
    recorded, name = read_run(run), target.stem
    summaries, info = _fewer(recorded.summaries, _anonymous(recorded.info))
    steps, rows = Encoder(STEP_SCHEMA, COMPRESSION), Encoder(SUMMARY_SCHEMA, COMPRESSION)
    rates = [[float(rate) for rate in row if np.isfinite(rate)] for row in recorded.learning_rates]
    files = {
        RUN_FILE: orjson.dumps(dataclasses.asdict(info)),
        "".join(STEPS): steps.header + steps.message(step_batch(recorded.steps, rates)),
        "".join(SUMMARIES): rows.header + rows.message(batch_of(summaries)),
        "".join(EVENTS): b"".join(part.read_bytes() for part in sorted(run.glob("events*.jsonl"), key=_of_segment)),
    }
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file, content in files.items():
            archive.writestr(zipfile.ZipInfo(f"{name}/{file}"), content, zipfile.ZIP_DEFLATED, 9)


def _of_segment(part: Path) -> int:
    return int(part.stem.partition("-")[2] or 0)


def _anonymous(info: RunInfo) -> RunInfo:
    """Without where it was recorded."""
    return dataclasses.replace(
        info,
        directory="",
        process=0,
        places=tuple(dataclasses.replace(each, file=Path(each.file).name) for each in info.places),
        sources=tuple(dataclasses.replace(each, path=Path(each.path).name) for each in info.sources),
    )


def _fewer(rows: Rows, info: RunInfo) -> tuple[Rows, RunInfo]:
    """The first recorded steps and the last ones, as many as fit; the run says how many are missing."""
    steps, counts = np.unique(rows["step"], return_counts=True)
    number = max(4, int(MOST_ROWS // counts.mean()))
    if number >= len(steps):
        return rows, info
    kept = [*steps[:3], *steps[3 - number :]]
    what = f"{len(steps) - number} of {len(steps)} recorded steps"
    missing = NotObserved(what, "left out of this packaged example to keep it small")
    return rows[np.isin(rows["step"], kept)], dataclasses.replace(info, not_observed=(*info.not_observed, missing))


def main() -> None:
    """Records and packs those named, or all."""
    EXAMPLES.mkdir(exist_ok=True)
    for demo in sorted(DEMOS.glob("*.py")):
        if sys.argv[1:] and demo.stem not in sys.argv[1:]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            pack(record(demo, Path(folder)), EXAMPLES / f"{demo.stem}.zip")
        print(f"{demo.stem}: {(EXAMPLES / f'{demo.stem}.zip').stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
