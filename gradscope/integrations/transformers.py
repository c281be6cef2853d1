"""Transformers: a callback that watches every `Trainer.train`.

    callback = GradScopeCallback()
    trainer = Trainer(model, arguments, train_dataset=data, callbacks=[callback])
    trainer.train()
    callback.diagnosis

Needs `transformers` with what its Trainer needs (`accelerate`), nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradscope.integrations.framework import framework
from gradscope.integrations.training import Watching, plain_optimizer

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
else:
    TrainerCallback = framework("transformers", package="transformers").TrainerCallback

_NO_METRICS = ("_runtime", "_per_second", "_time")  # ends of names in what an evaluation tells


class GradScopeCallback(Watching, TrainerCallback):
    """Watches the training of a Transformers `Trainer`, resumed, with accumulated batches, or ended early.

    The step's loss is what the Trainer calls `backward` on, whatever `compute_loss`, label smoothing or accumulation
    made of it, without the loss scale of `fp16=True`. Evaluations are written down. The Trainer tells nobody of an
    exception: that the training ended by one is known when the program ends by it, or here:

        with GradScopeCallback() as callback:
            Trainer(model, arguments, train_dataset=data, callbacks=[callback]).train()

    Args:
        quiet: say nothing on stderr, neither where it is recorded nor the verdict at the end.
        **options: of `gradscope.watch`: run_dir, every, overhead, on_non_finite …

    Example:
        >>> from gradscope.integrations.transformers import GradScopeCallback  # doctest: +SKIP
        >>> callback = GradScopeCallback(every=10, run_dir="runs/mine")  # doctest: +SKIP
        >>> callback.diagnosis.headline  # doctest: +SKIP
        'No training has begun.'
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begins recording."""
        optimizer, scaler = plain_optimizer(kwargs.get("optimizer"))
        self._begin(kwargs["model"], [] if optimizer is None else [optimizer], scaler)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Writes down what an evaluation has found."""
        found = kwargs.get("metrics") or {}
        self._log({name: value for name, value in found.items() if name != "epoch" and not name.endswith(_NO_METRICS)})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Closes the run and says the verdict."""
        self._end()
