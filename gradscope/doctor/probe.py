"""A small training, alone and watched, in turns in one process: is it the same bit for bit, and what does watching cost?"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

WIDTH, DEPTH, BATCH = 128, 6, 256
STEPS, WARM_UP = 20, 9  # of a turn; the first ones are recorded in full in any case
TURNS, MOST_SECONDS = 7, 6.0  # no turn begins later

Every = Literal["auto"] | int
WAYS: dict[str, Every | None] = {"alone": None, "noise": None, "auto": "auto", "every": 1}


@dataclass(frozen=True)
class Probe:
    """What was measured.

    Attributes:
        device: that it ran on.
        milliseconds: of a step alone, the median of the turns' medians.
        noise: a step's time over that of the training alone when nobody watches: the machine's share of the next two.
        auto: the same, watched as it comes, once the first steps are recorded.
        every: the same, with every step recorded.
        same: whether losses and weights were bit for bit the same, watched and alone.
        verdict: on the training, which is healthy.
    """

    device: str
    milliseconds: float
    noise: float
    auto: float
    every: float
    same: bool
    verdict: str


def probe() -> Probe:
    """Trains for a few seconds, on the first GPU where there is one, else on one thread: what else runs disturbs it less.

    Leaves the random state as it was.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    ends, verdict = set(), ""
    with tempfile.TemporaryDirectory() as place, _alone(), torch.random.fork_rng():
        started = time.monotonic()
        for turn in range(TURNS):
            if turn and time.monotonic() - started > MOST_SECONDS:
                break
            names = list(WAYS)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                seconds, end, said = _train(WAYS[name], device, Path(place) / f"{name}-{turn}")
                times[name].append(seconds)
                ends.add(end)
                verdict = said or verdict
    ratio = {
        name: statistics.median(each / alone for each, alone in zip(turns, times["alone"], strict=True))
        for name, turns in times.items()
    }
    step = statistics.median(times["alone"]) * 1000
    return Probe(device, step, ratio["noise"], ratio["auto"], ratio["every"], len(ends) == 1, verdict)


@contextmanager
def _alone() -> Iterator[None]:
    """One thread, nothing is said, and GRADSCOPE=off does not count."""
    import torch

    before, threads = os.environ.pop("GRADSCOPE", None), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        torch.set_num_threads(threads)
        if before is not None:
            os.environ["GRADSCOPE"] = before


def _train(every: Every | None, device: str, folder: Path) -> tuple[float, bytes, str]:
    """A turn: the median step's seconds, the losses and weights that it ended with as bytes, and the verdict."""
    import torch

    from gradscope.scope import watch

    torch.manual_seed(0)
    model, optimizer, x, y = _training(device)
    scope = None if every is None else watch(model, optimizer, run_dir=folder, every=every)
    losses, seconds = [], []
    for _ in range(STEPS):
        started = time.perf_counter()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        if scope is not None:
            scope.loss(loss)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
        losses.append(loss.detach())
    verdict = ""
    if scope is not None:
        scope.close()
        verdict = scope.diagnose().verdict
    end = [torch.stack(losses), *(parameter.detach() for parameter in model.parameters())]
    return statistics.median(seconds[WARM_UP:]), b"".join(each.cpu().numpy().tobytes() for each in end), verdict


def _training(device: str) -> Any:
    """A healthy network, its optimizer and its batch."""
    import torch
    from torch import nn

    layers = [part for _ in range(DEPTH) for part in (nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.ReLU())]
    # dropout draws random numbers: if watching drew any, the training would differ
    model = nn.Sequential(*layers, nn.Dropout(0.1), nn.Linear(WIDTH, 10)).to(device)
    x = torch.randn(BATCH, WIDTH, device=device)
    y = (x @ torch.randn(WIDTH, 10, device=device)).argmax(1)
    return model, torch.optim.Adam(model.parameters(), lr=1e-3), x, y
