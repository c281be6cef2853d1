"""Accelerate: one line behind `accelerator.prepare`.

    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    with watch(accelerator, model, optimizer) as scope:
        for batch in loader:
            with accelerator.accumulate(model):
                accelerator.backward(criterion(model(batch)))
                optimizer.step()
                optimizer.zero_grad()
    scope.diagnose()

Needs `accelerate`, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import Optimizer

from gradscope import scope as scopes
from gradscope.integrations.framework import framework
from gradscope.integrations.losses import hear_losses
from gradscope.integrations.training import Watching, plain_optimizer
from gradscope.scope import Scope

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.tracking import GeneralTracker
else:
    GeneralTracker = framework("accelerate.tracking", package="accelerate").GeneralTracker


def watch(
    accelerator: Accelerator, model: nn.Module, optimizer: Optimizer | Sequence[Optimizer], **options: Any
) -> Scope:
    """Watches what `accelerator.prepare` has given: `gradscope.watch` that knows Accelerate's wrappers.

    The gradient scaler is the accelerator's. A step's loss is what `accelerator.backward` makes of it, summed over
    accumulated batches, unless you hand losses to `scope.loss` yourself.

    Args:
        accelerator: that prepared them.
        model, optimizer: as they were prepared, or not; several optimizers in a list.
        **options: of `gradscope.watch`: run_dir, every, overhead, on_non_finite …

    Example:
        >>> import tempfile, torch
        >>> from accelerate import Accelerator
        >>> from gradscope.integrations.accelerate import watch
        >>> accelerator, model = Accelerator(cpu=True), torch.nn.Linear(4, 1)
        >>> model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with watch(accelerator, model, optimizer, run_dir=f"{folder}/run") as scope:
        ...         for _ in range(5):
        ...             accelerator.backward(model(torch.ones(8, 4)).square().mean())
        ...             optimizer.step()
        ...             optimizer.zero_grad()
        ...     scope.diagnose().verdict
        'healthy'
    """
    plain, scaler = _prepared(accelerator, optimizer)
    scope = scopes.watch(model, plain, **{"scaler": scaler, **options})
    if scope._recorder is not None:
        hear_losses(scope, model, options.get("scaler", scaler))
    return scope


def _prepared(accelerator: Accelerator, optimizer: Optimizer | Sequence[Optimizer]) -> tuple[list[Any], Any]:
    optimizers = optimizer if isinstance(optimizer, Sequence) else [optimizer]
    return [plain_optimizer(each)[0] for each in optimizers], accelerator.scaler


class GradScopeTracker(Watching, GeneralTracker):  # type: ignore[misc]
    """A tracker: what `accelerator.log` is given is written down, and `accelerator.end_training` says the verdict.

        tracker = GradScopeTracker()
        accelerator = Accelerator(log_with=tracker)
        accelerator.init_trackers("mine")
        tracker.watch(accelerator, model, optimizer)    # behind accelerator.prepare

    Args:
        quiet: say nothing on stderr, neither where it is recorded nor the verdict at the end.
        **options: of `gradscope.watch`: run_dir, every, overhead, on_non_finite …

    Example:
        >>> from gradscope.integrations.accelerate import GradScopeTracker
        >>> tracker = GradScopeTracker(every=10, run_dir="runs/mine")  # for Accelerator(log_with=tracker)
        >>> tracker.diagnosis.headline
        'No training has begun.'
    """

    name = "gradscope"
    requires_logging_directory = False
    main_process_only = False  # every rank records its part

    @property
    def tracker(self) -> Scope | None:
        """The scope, for `accelerator.get_tracker("gradscope", unwrap=True)`."""
        return self.scope

    def watch(
        self, accelerator: Accelerator, model: nn.Module, optimizer: Optimizer | Sequence[Optimizer]
    ) -> Scope | None:
        """Begins recording; gives the scope."""
        optimizers, scaler = _prepared(accelerator, optimizer)
        self._begin(model, optimizers, scaler)
        return self.scope

    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Writes down those of the values that are one number."""
        self._log(values)

    def finish(self) -> None:
        """Closes the run and says the verdict."""
        self._end()
