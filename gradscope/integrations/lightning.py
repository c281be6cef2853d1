"""Lightning: a callback that watches every `Trainer.fit`.

    trainer = L.Trainer(callbacks=[GradScopeCallback()])
    trainer.fit(model, loader)          # automatic or manual optimization, any number of optimizers
    trainer.callbacks[0].diagnosis

Works with `lightning` and with `pytorch_lightning`, whichever the program has; nothing else is to be installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradscope.integrations.framework import framework
from gradscope.integrations.losses import give_loss
from gradscope.integrations.training import Watching, plain_optimizer

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from torch import Tensor
else:
    Callback = framework("lightning.pytorch", "pytorch_lightning", package="lightning").Callback


class GradScopeCallback(Watching, Callback):
    """Watches the training of a LightningModule, from its first step to its end, early or not, or its exception.

    Recording begins when the optimizers are there and a checkpoint has been loaded, behind the sanity check, and pauses
    during validation; what validation logs is written down. The step's loss is what `backward` is called on, without
    the loss scale of "16-mixed", summed over accumulated batches and optimizers.

    Args:
        quiet: say nothing on stderr, neither where it is recorded nor the verdict at the end.
        **options: of `gradscope.watch`: run_dir, every, overhead, on_non_finite …

    Example:
        >>> from gradscope.integrations.lightning import GradScopeCallback
        >>> callback = GradScopeCallback(every=10, run_dir="runs/mine")  # for L.Trainer(callbacks=[callback])
        >>> callback.diagnosis.headline
        'No training has begun.'
    """

    def __init__(self, *, quiet: bool = False, **options: Any) -> None:
        super().__init__(quiet=quiet, **options)
        self._trains_metrics: set[str] = set()
        self._validation_metrics: set[str] = set()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins recording."""
        optimizers = [plain_optimizer(optimizer)[0] for optimizer in trainer.optimizers]
        self._validation_metrics.clear()
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self._begin(pl_module, optimizers, scaler, hear=False)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Hands the loss over."""
        if self._scope is not None:
            give_loss(self._scope, loss, getattr(trainer.precision_plugin, "scaler", None))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sees nothing of the validation."""
        if self._left is not None:
            self._pause()
            self._trains_metrics = set(trainer.callback_metrics)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes down what the validation has logged."""
        if self._left is not None:
            self._go_on()
            found = trainer.callback_metrics
            self._validation_metrics |= set(found) - self._trains_metrics
            self._log({name: found[name] for name in sorted(self._validation_metrics & set(found))})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the run and says the verdict."""
        self._end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Closes the run with what ended the training."""
        self._end(exception)
