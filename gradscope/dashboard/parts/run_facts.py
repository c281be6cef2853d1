"""What is known about a run beside its numbers: how it was made, how it was watched, and what cannot be seen."""

from __future__ import annotations

import shlex
from datetime import datetime
from typing import NamedTuple

import numpy as np

from gradscope.dashboard.runs import Snapshot
from gradscope.dashboard.wording import ABSENT, duration, number, percent
from gradscope.records import LossPath, OptimizerInfo, Run, RunInfo
from gradscope.reports.words import count
from gradscope.store import part_folders
from gradscope.store.folders import Folder


class Fact(NamedTuple):
    """One thing that is known, with a remark."""

    name: str
    value: str
    remark: str = ""


class Facts(NamedTuple):
    """What is known of one matter."""

    title: str
    rows: tuple[Fact, ...]


NEVER_SEEN = (
    "Tensors. Only numbers about them are kept, so nothing can be asked of a tensor after its step.",
    "Whether the labels are right, or the data are what you think: only their scale, shape and spread.",
    "What a function or a fused kernel does inside, where no module stands for it: only what goes in and comes out.",
    "Steps between two recorded ones, but for their loss and time; a fault that lasts one step can fall between them.",
    "Forwards without gradients (validation, generation), but for whether the model was in training mode.",
    "Single entries of large tensors: sums and histograms of those are estimates from a fixed sample. Whether a tensor "
    "holds NaN or Inf is always exact.",
    "Whether the model will be good at its task: a healthy training can learn the wrong thing.",
)


def sections(snapshot: Snapshot, folder: Folder) -> tuple[Facts, ...]:
    """Everything about a run, by matter."""
    info = snapshot.run.info
    return (
        Facts("Run", _run(info)),
        Facts("Program", _program(info)),
        Facts("Model and loss", _model(info)),
        Facts("Optimizer", _optimizers(info.optimizers)),
        Facts("Sampling", _sampling(snapshot)),
        Facts("Cost", _cost(snapshot)),
        Facts("Precision and processes", _processes(snapshot.run)),
        Facts("Versions", tuple(Fact(name, version) for name, version in info.versions.items())),
        Facts("On disk", _disk(folder)),
    )


def as_text(facts: tuple[Facts, ...]) -> str:
    """The facts as plain text, to paste into a report."""
    return "\n\n".join("\n".join([each.title, *map(_line, each.rows)]) for each in facts)


def _line(row: Fact) -> str:
    return f"  {row.name}: {row.value}{f' ({row.remark})' if row.remark else ''}"


def commands(info: RunInfo) -> tuple[str, ...]:
    """What to type to train again under observation; empty when the run does not know its program."""
    if not info.command:
        return ()
    again = f"gradscope run {shlex.join(info.command)}"
    return (f"cd {shlex.quote(info.directory)}", again) if info.directory else (again,)


def _run(info: RunInfo) -> tuple[Fact, ...]:
    ended = _moment(info.ended) if info.ended else ABSENT
    states = {"recording": "recording", "stopped": "recording stopped before the training did", "ended": "ended"}
    facts = [Fact("Id", info.id), Fact("Started", _moment(info.created)), Fact("Ended", ended)]
    if info.ended:
        facts.append(Fact("Took", duration(info.ended - info.created)))
    return (*facts, Fact("State", states[info.state]), Fact("Run format", str(info.schema_version)))


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="seconds")


def _program(info: RunInfo) -> tuple[Fact, ...]:
    settings = ", ".join(f"{name}={value!r}" for name, value in info.settings.items())
    return (
        Fact("Command", info.script or ABSENT),
        Fact("Directory", info.directory or ABSENT, "" if info.directory else "known of runs by `gradscope run`"),
        Fact("Process", str(info.process or ABSENT)),
        Fact("watch()", settings or ABSENT),
        Fact("Source kept", count(len(info.sources), "file"), ", ".join(each.path for each in info.sources)),
    )


def _model(info: RunInfo) -> tuple[Fact, ...]:
    parameters = [site for site in info.sites if site.role == "parameter" and site.same_as is None]
    entries = sum(int(np.prod(site.shape)) for site in parameters)
    frozen = sum(not site.trainable for site in parameters)
    return (
        Fact("Model", info.model),
        Fact("Modules", f"{sum(site.role == 'output' for site in info.sites):,}"),
        Fact("Parameters", f"{len(parameters):,} tensors, {entries:,} numbers", f"{frozen:,} frozen" if frozen else ""),
        Fact(
            "Output",
            ", ".join(info.sites[head].name for head in info.heads) or ABSENT,
            "what gradients are measured against",
        ),
        Fact("Criterion", info.criterion or ABSENT),
        *_loss_path(info.loss_path),
        Fact("Device", info.device),
    )


def _loss_path(path: LossPath | None) -> tuple[Fact, ...]:
    if path is None:
        return (Fact("Loss", ABSENT, "the way from the output to the loss was not read"),)
    reduction = f", {path.reduction} over the batch" if path.reduction else ""
    shapes = f"output {list(path.output_shape)}, targets {list(path.target_shape)} {path.target_dtype}".strip()
    facts = [Fact("Loss", (path.kind or "not one that is known") + reduction, shapes)]
    return (*facts, Fact("Way to the loss", " → ".join(path.operations) or ABSENT))


def _optimizers(optimizers: tuple[OptimizerInfo, ...]) -> tuple[Fact, ...]:
    if not optimizers:
        return (Fact("Optimizer", "none", "the loop calls scope.step()"),)
    return tuple(
        Fact(
            each.kind,
            ", ".join(f"{name} {number(value)}" for name, value in each.options.items()) or ABSENT,
            f"{count(each.foreign, 'tensor')} of it belong to no part of the model" if each.foreign else "",
        )
        for each in optimizers
    )


def _sampling(snapshot: Snapshot) -> tuple[Fact, ...]:
    steps, recorded, rows = snapshot.run.steps, snapshot.signals.steps, snapshot.run.summaries
    if not len(steps):
        return (Fact("Steps", "none yet"),)
    taken = int(steps["step"][-1] - steps["step"][0]) + 1
    flagged = int(steps["recorded"].sum())
    gaps = np.diff(recorded)
    facts = [
        Fact(
            "Steps",
            f"{taken:,}",
            "" if taken == len(steps) else f"{len(steps):,} of them still on disk, the others thinned",
        ),
        Fact("Recorded in full", f"{len(recorded):,} of {taken:,}", _cadence(gaps)),
        Fact(
            "Thinned",
            "nothing" if flagged <= len(recorded) else f"{flagged - len(recorded):,} recorded steps",
            "old steps make room; extremes, steps around findings and the newest are kept",
        ),
        Fact("Numbers kept", f"{len(rows):,} tensors summarised"),
    ]
    sampled = rows["sample_size"] < rows["count"]
    if sampled.any():
        smallest, largest = (
            int(end) for end in (rows["sample_size"][sampled].min(), rows["sample_size"][sampled].max())
        )
        taken_of = f"{largest:,}" if smallest == largest else f"{smallest:,} to {largest:,}"
        facts.append(
            Fact(
                "Sample",
                f"{taken_of} entries of each large tensor",
                f"{percent(float(sampled.mean()))} of the summaries rest on a sample, the others on every entry",
            )
        )
    else:
        facts.append(Fact("Sample", "every entry of every tensor" if len(rows) else ABSENT))
    return tuple(facts)


def _cadence(gaps: np.ndarray[tuple[int], np.dtype[np.int64]]) -> str:
    if not len(gaps):
        return ""
    if gaps.max() == 1:
        return "every step"
    return f"most often every {int(np.median(gaps)):,}; {int(gaps.max()):,} steps are the longest stretch without"


def _cost(snapshot: Snapshot) -> tuple[Fact, ...]:
    steps = snapshot.run.steps
    asked = snapshot.run.info.settings.get("overhead")
    asked_for = f"at most {percent(float(asked))} was asked for" if isinstance(asked, (int, float)) else ""
    if not len(steps):
        return (Fact("Overhead", ABSENT, asked_for),)
    seconds, ours = steps["seconds"][1:], float(np.nansum(steps["recorder_seconds"]))
    usual = float(np.nanmedian(seconds)) if np.isfinite(seconds).any() else float("nan")
    return (
        Fact("Overhead", percent(snapshot.numbers.overhead), f"measured; {asked_for}" if asked_for else "measured"),
        Fact("Time for it", f"{number(ours)} s", "in all"),
        Fact(
            "A step takes", f"{number(usual)} s" if np.isfinite(usual) else ABSENT, "median, GradScope's part included"
        ),
    )


def _processes(run: Run) -> tuple[Fact, ...]:
    info, steps = run.info, run.steps
    ranks = f"{info.world_size:,} processes" if info.world_size > 1 else "one process"
    facts = [Fact("Ranks", ranks, info.not_merged), Fact("Parallel", info.parallel or "no")]
    scales = steps["scale"][np.isfinite(steps["scale"])] if len(steps) else np.ones(0)
    if len(scales) and (scales != 1).any():
        changes = count(int((np.diff(scales) != 0).sum()), "time")
        span = f"{number(float(scales.min()))} to {number(float(scales.max()))}, changed {changes}"
        facts.append(Fact("Loss scale", f"{number(float(scales[-1]))} now", span))
    else:
        facts.append(Fact("Loss scale", "none"))
    skipped = int(steps["skipped"].sum()) if len(steps) else 0
    return (*facts, Fact("Skipped steps", f"{skipped:,}"))


def _disk(folder: Folder) -> tuple[Fact, ...]:
    files: list[Fact] = []
    total = 0
    for part in part_folders(folder):
        before = "" if str(part.location) == str(folder.location) else f"{part.name}/"
        for name, stamp in sorted(part.files().items()):
            total += stamp.size
            files.append(Fact(before + name, size(stamp.size)))
    more = [Fact("…", f"{len(files) - 12:,} more files")] if len(files) > 12 else []
    return (Fact("Folder", str(folder.location)), Fact("Size", size(total)), *files[:12], *more)


def size(amount: int) -> str:
    """Bytes as people read them.

    Example:
        >>> size(219440)
        '219 kB'
    """
    value = float(amount)
    for unit in ("B", "kB", "MB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"
