"""Ignite: one call watches every `run` of a trainer engine.

    trainer = create_supervised_trainer(model, optimizer, loss_fn)
    handler = attach(trainer, model, optimizer)
    trainer.run(loader, max_epochs=10)
    handler.diagnosis

Needs `pytorch-ignite`, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import Optimizer

from gradscope.integrations.framework import framework
from gradscope.integrations.training import Watching, plain_optimizer

if TYPE_CHECKING:
    from ignite.engine import Engine, Events
else:
    Events = framework("ignite.engine", package="pytorch-ignite").Events


def attach(
    trainer: Engine,
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    *,
    evaluators: Engine | Mapping[str, Engine] | None = None,
    scaler: Any = None,
    quiet: bool = False,
    **options: Any,
) -> GradScopeHandler:
    """Watches every run of a trainer engine.

    Args:
        trainer: whose update function calls `backward` and the optimizer's `step`.
        model, optimizer, scaler: what it trains; see `gradscope.watch`. Of a GAN each model is attached by itself.
        evaluators: engines that run in between, by a name for their metrics ("validation" for a single one). Nothing
            is recorded while they run; their metrics are written down.
        quiet: say nothing on stderr, neither where it is recorded nor the verdict at the end.
        **options: of `gradscope.watch`: run_dir, every, overhead, on_non_finite …

    Example:
        >>> import tempfile, torch
        >>> from ignite.engine import create_supervised_trainer
        >>> from gradscope.integrations.ignite import attach
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> trainer = create_supervised_trainer(model, optimizer, torch.nn.functional.mse_loss)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     handler = attach(trainer, model, optimizer, run_dir=f"{folder}/run", quiet=True)
        ...     _ = trainer.run([(torch.ones(8, 4), torch.zeros(8, 1))] * 5)
        ...     handler.diagnosis.verdict
        'healthy'
    """
    handler = GradScopeHandler(model, optimizer, scaler=scaler, quiet=quiet, **options)
    handler.attach(trainer)
    named = evaluators if isinstance(evaluators, Mapping) else {} if evaluators is None else {"validation": evaluators}
    for name, evaluator in named.items():
        handler.attach_evaluator(evaluator, name)
    return handler


class GradScopeHandler(Watching):
    """What `attach` gives: the scope and the diagnosis of a trainer engine's runs.

    A run that goes on with the same model and optimizer goes on with the recorded run too. The step's loss is what
    `backward` is called on, summed over accumulated batches.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        *,
        scaler: Any = None,
        quiet: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(quiet=quiet, **options)
        self.model, self.scaler = model, scaler
        self.optimizers = list(optimizer) if isinstance(optimizer, Sequence) else [optimizer]

    def attach(self, trainer: Engine) -> None:
        """Listens to a trainer's events."""
        trainer.add_event_handler(Events.STARTED, self.started)
        trainer.add_event_handler(Events.ITERATION_STARTED, self._go_on)  # behind an evaluator that failed, too
        trainer.add_event_handler(Events.TERMINATE, self.terminated)
        trainer.add_event_handler(Events.COMPLETED, self.completed)
        trainer.add_event_handler(Events.EXCEPTION_RAISED, self.exception_raised)

    def attach_evaluator(self, evaluator: Engine, name: str = "validation") -> None:
        """Sees nothing while an evaluator runs, and writes its metrics down."""
        evaluator.add_event_handler(Events.STARTED, self._pause)
        evaluator.add_event_handler(Events.COMPLETED, self.evaluated, name)

    def started(self, trainer: Engine) -> None:
        """Begins recording."""
        pairs = [plain_optimizer(optimizer) for optimizer in self.optimizers]
        scaler = next((scaler for _, scaler in pairs if scaler is not None), self.scaler)
        self._begin(self.model, [optimizer for optimizer, _ in pairs], scaler)

    def evaluated(self, evaluator: Engine, name: str) -> None:
        """Goes on behind an evaluation."""
        self._go_on()
        self._log({f"{name} {metric}": value for metric, value in evaluator.state.metrics.items()})

    def completed(self, trainer: Engine) -> None:
        """Closes the run and says the verdict."""
        self._end()

    def terminated(self, trainer: Engine) -> None:
        """Closes the run of a trainer that was told not to tell of its end."""
        if trainer.should_terminate == "skip_completed":
            self._end()

    def exception_raised(self, trainer: Engine, error: BaseException) -> None:
        """Closes the run with what ended the training; raises it again, as the trainer would have without us."""
        self._end(error)
        listening = [
            getattr(handler, "__self__", None) for handler, *_ in trainer._event_handlers[Events.EXCEPTION_RAISED]
        ]
        # of a GAN there are several of ours, and all are to be told; others decide by themselves
        if listening[-1] is self and all(isinstance(each, GradScopeHandler) for each in listening):
            raise error
