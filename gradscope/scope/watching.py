"""`watch`: one line around an existing training loop."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from gradscope import beside
from gradscope.alerts import Handler, handlers_of
from gradscope.errors import WatchError
from gradscope.notices import say
from gradscope.recorder import Recorder
from gradscope.recorder.compiled import model_name
from gradscope.recorder.options import Options
from gradscope.recorder.parallel import unwrapped
from gradscope.recorder.ranks import restarted, this_rank
from gradscope.recorder.resume import take_up
from gradscope.records import Finding
from gradscope.scope.arguments import check, optimizers_of, scaler_of
from gradscope.scope.facts import facts_of
from gradscope.scope.folders import link_latest, new_folder
from gradscope.scope.lookout import SHARE
from gradscope.scope.scope import Scope
from gradscope.store import part_folder

OneHandler = Callable[[Finding], object] | Handler | str
OnFinding = OneHandler | Sequence[OneHandler] | None

_SCOPES: weakref.WeakKeyDictionary[nn.Module, Scope] = weakref.WeakKeyDictionary()


def watch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None,
    criterion: nn.Module | None = None,
    *,
    scaler: Any = None,
    run_dir: str | os.PathLike[str] | None = None,
    every: int | Literal["auto"] = "auto",
    overhead: float = 0.03,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    exact: bool = False,
    compiled: Literal["boundary", "full"] = "boundary",
    on_finding: OnFinding = None,
    on_non_finite: Literal["locate"] | None = None,
    resume: bool = False,
    dashboard: bool = False,
) -> Scope:
    """Watches a training: records per-layer numbers into a run folder, without changing a bit of the training.

    Args:
        model: any module with parameters. It is not modified; watching it again closes the earlier scope.
        optimizer: whose `step` is the training's step, or several; None for a loop that calls `scope.step()`.
        criterion: the loss module, if its output is the loss; not needed where `scope.loss` is called.
        run_dir: folder of the run; by default a new one in `runs/`.
        every: record every k-th step in full, or "auto": the first steps, then as the overhead allows.
        overhead: share of the training's time that "auto" may take.
        include, exclude: shell patterns of module paths, e.g. `include=["encoder.*"]`.
        exact: take every statistic from every entry instead of from a sample of large tensors. Slow.
        scaler: the `torch.amp.GradScaler` of a mixed precision training: gradients are judged without its scale, and the
            steps that it skips are known as such.
        compiled: what is seen of a model under `torch.compile`: the "boundary" of each compiled region (its parameters,
            gradients, updates, loss, input and output), or "full", everything inside too, at the price of code that is
            split at every module: slower, and with some backends other in the last bit, the one exception to "not a bit
            is changed". Call `watch` before the first compiled call.
        resume: go on with the run in `run_dir`, behind the last step that it holds, as a training does that starts again
            from its checkpoint; without a run there, a new one begins.
        on_non_finite: "locate" runs a step again whose loss or gradients are NaN or Inf, before its update, and says which
            operation on which line made the first of them. Changes nothing either, but waits for the device at every
            step and keeps what the model was given until the step ends.
        dashboard: opens a page on this run beside the training, in a process of its own that ends with this one, and
            says its address on stderr.
        on_finding: who is told each new finding, as soon as a recorded step shows it: a function of one finding,
            "print", "log", a webhook's address, a handler of `gradscope.alerts`, or a list of these; from warnings on.
            Or "raise": at an error the training ends with `TrainingUnhealthy`. The run is judged after recorded steps,
            within a third of `overhead`; under several ranks by the first alone.

    Raises:
        NothingToWatch: the model has no parameters, or they are on the meta device.
        ForeignOptimizer: an optimizer updates none of the model's parameters.
        RunExists, RunNotWritable, NotARun, UnsupportedSchema: `run_dir` cannot be used.
        AnotherModel: the run to resume is of another model.
        TrainingUnhealthy: not from here, but from the training, with `on_finding="raise"`.

    Example:
        >>> import tempfile, torch, gradscope
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with gradscope.watch(model, optimizer, run_dir=f"{folder}/run") as scope:
        ...         for _ in range(5):
        ...             loss = scope.loss(model(torch.ones(8, 4)).square().mean())
        ...             loss.backward()
        ...             optimizer.step()
        ...             optimizer.zero_grad()
        ...     scope.diagnose().verdict
        'healthy'
    """
    if os.environ.get("GRADSCOPE", "").lower() == "off":
        return Scope(None, None)
    if resume and run_dir is None:
        raise WatchError("resume=True goes on with a run: say which, with run_dir=.")
    optimizers, rank = optimizers_of(optimizer), this_rank()
    check(model, optimizers, every, overhead, compiled, on_non_finite)
    handlers, model = handlers_of(on_finding, rank.world), unwrapped(model)
    earlier = _SCOPES.get(model)
    if earlier is not None and earlier._recorder is not None and earlier._recorder.recording:
        warnings.warn(
            f"this {type(model).__name__} is watched already; its earlier scope ({earlier.run_dir}) is closed now",
            stacklevel=2,
        )
        earlier.close()
    if run_dir is None:
        folder = new_folder(model_name(model), rank)
    else:
        folder = Path(run_dir) if resume else restarted(Path(run_dir))
    options = Options(every, overhead, include, exclude, exact, compiled, resume, on_non_finite == "locate")
    part = part_folder(Path(os.path.abspath(folder)), rank.number)  # the program may go elsewhere
    info = facts_of(model, optimizers, folder, options, rank)
    info, first_step = take_up(info, folder, part, model) if resume else (info, 0)
    options = replace(options, overhead=overhead * (1 - SHARE)) if handlers else options
    recorder = Recorder(model, optimizers, criterion, part, info, options, scaler_of(scaler), first_step)
    scope = Scope(recorder, folder)
    if rank.number == 0:
        scope._look_out(handlers, overhead, optimizers)
    _SCOPES[model] = scope
    weakref.finalize(model, scope._end, "the model is gone")  # also at the interpreter's exit
    if rank.number == 0:
        link_latest(folder)
        say(f"gradscope: recording to {folder}")
        if dashboard:
            beside.announce(Path(os.path.abspath(folder)))
    return scope


def open_scopes() -> list[tuple[Scope, set[int]]]:
    """The scopes that are recording, each with the ids of its model's parameters."""
    return [
        (scope, {id(parameter) for parameter in model.parameters()})
        for model, scope in list(_SCOPES.items())
        if scope._recorder is not None and scope._recorder.recording
    ]
