"""`watch`: one line around an existing training loop."""

from __future__ import annotations

import os
import sys
import time
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from gradscope import __version__, beside
from gradscope.diagnosis import diagnose
from gradscope.errors import ForeignOptimizer, NothingToWatch, NotYet, RunExists, WatchError
from gradscope.notices import say
from gradscope.recorder import Recorder
from gradscope.recorder.compiled import model_name
from gradscope.recorder.options import Options
from gradscope.recorder.parallel import unwrapped
from gradscope.recorder.places import class_places
from gradscope.recorder.ranks import Rank, restarted, shared_folder, this_rank
from gradscope.recorder.resume import take_up
from gradscope.records import Diagnosis, NotObserved, OptimizerInfo, RunInfo
from gradscope.reports.document import document
from gradscope.store import RunReader, part_folder

Loss = TypeVar("Loss", bound=torch.Tensor)

_SCOPES: weakref.WeakKeyDictionary[nn.Module, Scope] = weakref.WeakKeyDictionary()


class Scope:
    """A training that is being recorded and can be asked how it is. Made by `watch`; a context manager.

    Attributes:
        run_dir: the folder that the run is recorded into; None when GRADSCOPE=off.
    """

    def __init__(self, recorder: Recorder | None, run_dir: Path | None) -> None:
        self.run_dir = run_dir
        self._at = run_dir and Path(os.path.abspath(run_dir))  # wherever the program goes from here
        self._recorder = recorder
        self._reader: RunReader | None = None

    def loss(self, loss: Loss) -> Loss:
        """Takes the loss that `backward` will be called on and hands it back unchanged."""
        if self._recorder is not None:
            self._recorder.loss(loss)
        return loss

    def log(self, name: str, value: float) -> None:
        """Writes down a value of your own, such as a validation loss."""
        if self._recorder is None:
            return
        try:
            self._recorder.log(name, float(value))
        except (TypeError, ValueError):
            say(f"gradscope: scope.log({name!r}) expected one number; it got {value!r:.80}")

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Sees nothing inside the `with` block: for probing or validation with gradients."""
        if self._recorder is None:
            yield
            return
        self._recorder.pause(True)
        try:
            yield
        finally:
            self._recorder.pause(False)

    def step(self) -> None:
        """Closes a step, in a loop without a torch optimizer."""
        if self._recorder is not None:
            self._recorder.step()

    def diagnose(self) -> Diagnosis:
        """What GradScope says of the training so far. May wait for the device."""
        if self._recorder is None or self._at is None:
            return Diagnosis("not-enough-data", "GradScope is off (GRADSCOPE=off in the environment).")
        self._recorder.flush()
        if self._reader is None:
            self._reader = RunReader(self._at)
        run = self._reader.read()
        failure = self._recorder.failure
        if failure is not None:  # said here too, because a full disk may have kept it from the run
            said = [missing for missing in run.info.not_observed if "recording stopped" not in missing.why]
            missing = NotObserved("everything after the last recorded step", f"recording stopped: {failure}")
            run = replace(run, info=replace(run.info, not_observed=(*said, missing)))
        return diagnose(run)

    def report(self) -> str:
        """The full report as text, as `gradscope report` prints it."""
        from gradscope.reports.terminal import render  # brings rich, 2 MB that a training need not hold

        diagnosis = self.diagnose()
        if self._reader is None:
            return str(diagnosis)
        return render(document(self._reader.read(), diagnosis, self.run_dir))

    def show(self) -> None:
        """Shows the dashboard inside a notebook, started when it is needed; elsewhere prints the report."""
        if self._at is not None:
            beside.show(self._at, self.report, self._repr_html_)

    def _repr_html_(self) -> str:
        """The diagnosis, as a notebook shows it at the end of a cell."""
        return self.diagnose()._repr_html_()

    def close(self) -> None:
        """Ends recording: every hook goes, the run stays."""
        if self._recorder is not None:
            self._recorder.close()

    def __enter__(self) -> Scope:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._recorder is not None:
            self._recorder.close("closed" if kind is None else f"{kind.__name__}: {error}")


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
    on_finding: Any = None,
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
        on_finding: not built yet, see `NotYet`.

    Raises:
        NothingToWatch: the model has no parameters, or they are on the meta device.
        ForeignOptimizer: an optimizer updates none of the model's parameters.
        RunExists, RunNotWritable, NotARun, UnsupportedSchema: `run_dir` cannot be used.
        AnotherModel: the run to resume is of another model.
        NotYet: an option that is not built yet.

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
    _refuse_what_is_not_built(on_finding=on_finding is not None)
    if resume and run_dir is None:
        raise WatchError("resume=True goes on with a run: say which, with run_dir=.")
    optimizers = _optimizers(optimizer)
    _check(model, optimizers, every, overhead, compiled, on_non_finite)
    model, rank = unwrapped(model), this_rank()
    earlier = _SCOPES.get(model)
    if earlier is not None and earlier._recorder is not None and earlier._recorder.recording:
        warnings.warn(
            f"this {type(model).__name__} is watched already; its earlier scope ({earlier.run_dir}) is closed now",
            stacklevel=2,
        )
        earlier.close()
    if run_dir is None:
        folder = _new_folder(model_name(model), rank)
    else:
        folder = Path(run_dir) if resume else restarted(Path(run_dir))
    options = Options(every, overhead, include, exclude, exact, compiled, resume, on_non_finite == "locate")
    part = part_folder(Path(os.path.abspath(folder)), rank.number)  # the program may go elsewhere
    info = _info(model, optimizers, folder, options, rank)
    info, first_step = take_up(info, folder, part, model) if resume else (info, 0)
    recorder = Recorder(model, optimizers, criterion, part, info, options, _scaler(scaler), first_step)
    scope = Scope(recorder, folder)
    _SCOPES[model] = scope
    weakref.finalize(model, recorder.close, "the model is gone")  # also at the interpreter's exit
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


def _refuse_what_is_not_built(**asked: bool) -> None:
    for name, wanted in asked.items():
        if wanted:
            raise NotYet(f"watch({name}=…) is not built yet. Leave it out; everything else works without it.")


def _optimizers(given: object) -> list[torch.optim.Optimizer]:
    found: list[torch.optim.Optimizer] = []
    for optimizer in [] if given is None else given if isinstance(given, Sequence) else [given]:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise WatchError(
                f"watch() expected a torch optimizer, a sequence of them or None; it got {type(optimizer).__name__}."
            )
        try:
            optimizer.register_step_pre_hook(_nothing).remove()
        except AttributeError as error:
            raise WatchError(
                f"{type(optimizer).__name__} was made without Optimizer.__init__, so that nobody can listen to it. "
                "Hand watch() the optimizer inside it, whose step() it calls."
            ) from error
        found.append(optimizer)
    return found


def _nothing(*_: Any) -> None:
    """A hook to try whether hooks can be put on."""


def _scaler(given: Any) -> Any:
    """The gradient scaler, None when it is there but does nothing."""
    if given is not None and not all(callable(getattr(given, name, None)) for name in ("scale", "step", "update")):
        raise WatchError(f"scaler= expected a torch.amp.GradScaler or None; it got {type(given).__name__}.")
    return given if given is not None and given.is_enabled() else None


def _check(
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    every: object,
    overhead: float,
    compiled: str,
    on_non_finite: object,
) -> None:
    """Refuses what cannot be watched, with the reason and what to do."""
    if not isinstance(model, nn.Module):
        raise WatchError(f"watch() expected a torch.nn.Module; it got {type(model).__name__}.")
    parameters = list(model.parameters())
    if not parameters:
        raise NothingToWatch(
            f"{type(model).__name__} has no parameters, so nothing of it can be trained. "
            "Hand watch() the module whose parameters the optimizer updates."
        )
    if any(parameter.is_meta for parameter in parameters if not isinstance(parameter, UninitializedParameter)):
        raise NothingToWatch(
            f"parameters of {type(model).__name__} are on the meta device and hold no numbers. "
            "Call model.to_empty(device=...) and initialise them, then watch()."
        )
    if every != "auto" and not (isinstance(every, int) and every >= 1):
        raise WatchError(f'every= must be "auto" or a whole number of steps of 1 or more; it is {every!r}.')
    if compiled not in ("boundary", "full"):
        raise WatchError(f'compiled= is "boundary" or "full"; it is {compiled!r}.')
    if on_non_finite not in (None, "locate"):
        raise WatchError(f'on_non_finite= is "locate" or None; it is {on_non_finite!r}.')
    if not 0 < overhead <= 1:
        raise WatchError(f"overhead= is a share of the training's time in (0, 1]; it is {overhead!r}.")
    known = {id(parameter) for parameter in parameters}
    for optimizer in optimizers:
        if not any(id(parameter) in known for group in optimizer.param_groups for parameter in group["params"]):
            raise ForeignOptimizer(
                f"{type(optimizer).__name__} updates none of the parameters of {type(model).__name__}. "
                "Was it made for another model, or before the model was copied or moved?"
            )


def _info(
    model: nn.Module, optimizers: list[torch.optim.Optimizer], folder: Path, options: Options, rank: Rank
) -> RunInfo:
    return RunInfo(
        id=folder.name,
        model=model_name(model),
        created=time.time(),
        versions={
            "gradscope": __version__,
            "torch": torch.__version__,
            "python": sys.version.split()[0],
        },
        script=" ".join(sys.argv),
        device=str(next(model.parameters()).device),
        optimizers=tuple(
            OptimizerInfo(
                type(optimizer).__name__,
                _options(optimizer),
                _foreign(model, optimizer),
            )
            for optimizer in optimizers
        ),
        places=class_places(model),
        settings={"every": options.every, "overhead": options.overhead, "exact": options.exact},
        process=os.getpid(),
        rank=rank.number,
        world_size=rank.world,
    )


def _options(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The optimizer's options that are numbers; pairs of betas as beta1 and beta2."""
    options: dict[str, float] = {}
    for name, value in optimizer.defaults.items():
        if isinstance(value, (int, float)):
            options[name] = float(value)
        elif name == "betas":
            options |= {f"beta{number}": float(beta) for number, beta in enumerate(value, 1)}
    return options


def _foreign(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """How many of the optimizer's tensors are none of the model's parameters."""
    known = {id(parameter) for parameter in model.parameters()}
    return sum(id(parameter) not in known for group in optimizer.param_groups for parameter in group["params"])


def _new_folder(name: str, rank: Rank) -> Path:
    """A folder in `runs/` that does not exist yet, named after the time and the model; the same for all ranks."""
    if rank.world > 1:
        return shared_folder(name, rank)
    stem = Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    for number in range(1, 1000):
        folder = stem if number == 1 else stem.with_name(f"{stem.name}-{number}")
        if not folder.exists():
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
