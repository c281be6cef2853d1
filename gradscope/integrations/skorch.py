"""Skorch: a callback that watches every `fit` and `partial_fit` of a net.

    net = NeuralNetClassifier(Module, callbacks=[GradScopeCallback()])
    net.fit(X, y)
    net.callbacks[0].diagnosis

Needs `skorch`, nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from gradscope.integrations.framework import framework
from gradscope.integrations.training import Watching, plain_optimizer

if TYPE_CHECKING:
    from skorch import NeuralNet
    from skorch.callbacks import Callback
else:
    Callback = framework("skorch.callbacks", package="skorch").Callback


class GradScopeCallback(Watching, Callback):  # type: ignore[misc]
    """Watches the training of a skorch net, its module or all of them, and all its optimizers.

    A `partial_fit` goes on with the run of the `fit` before it. Validation is not seen; the validation scores of each
    epoch are written down. It can be cloned and pickled with its net, as `GridSearchCV` does: each net has a run of
    its own. Skorch tells nobody of an exception: that the training ended by one is known when the program ends by it,
    or in `with callback: net.fit(X, y)`.

    Args:
        quiet: say nothing on stderr, neither where it is recorded nor the verdict at the end.
        **options: of `gradscope.watch`: run_dir, every, overhead, on_non_finite …

    Example:
        >>> from gradscope.integrations.skorch import GradScopeCallback
        >>> callback = GradScopeCallback(every=10, run_dir="runs/mine")  # for NeuralNet(..., callbacks=[callback])
        >>> callback.get_params()
        {'quiet': False, 'every': 10, 'run_dir': 'runs/mine'}
        >>> callback.diagnosis.headline
        'No training has begun.'
    """

    _model: nn.Module | None = None  # that was trained last: a scope does not keep it

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_model": None}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """What a clone is made with: `callbacks__GradScopeCallback__every` is a parameter of the net."""
        return {"quiet": self.quiet, **self.options}

    def set_params(self, **params: Any) -> GradScopeCallback:
        """Sets `quiet` or options of `gradscope.watch`, for the trainings to come."""
        fresh = type(self)(**{**self.get_params(), **params})
        self.quiet, self.options = fresh.quiet, fresh.options
        return self

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Begins recording."""
        modules = {name: getattr(net, f"{name}_") for name in net._modules}
        pairs = [plain_optimizer(getattr(net, f"{name}_")) for name in net._optimizers]
        scaler = next((scaler for _, scaler in pairs if scaler is not None), None)
        self._model = next(iter(modules.values())) if len(modules) == 1 else self._as_one(modules)
        criterion = getattr(net, "criterion_", None)
        found: dict[str, Any] = {"criterion": criterion} if isinstance(criterion, nn.Module) else {}
        self._begin(self._model, [optimizer for optimizer, _ in pairs if optimizer is not None], scaler, **found)

    def _as_one(self, modules: dict[str, nn.Module]) -> nn.Module:
        """Several modules as one, the same for the same."""
        known = self._model
        return known if isinstance(known, nn.ModuleDict) and dict(known.items()) == modules else nn.ModuleDict(modules)

    def on_batch_begin(self, net: NeuralNet, batch: Any = None, training: Any = None, **kwargs: Any) -> None:
        """Sees nothing of validation."""
        if not training:
            self._pause()

    def on_batch_end(self, net: NeuralNet, batch: Any = None, training: Any = None, **kwargs: Any) -> None:
        """Goes on behind a batch of validation."""
        if not training:
            self._go_on()

    def on_epoch_end(self, net: NeuralNet, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any) -> None:
        """Writes down the validation scores of the epoch."""
        scores = {name: value for name, value in net.history[-1].items() if name.startswith("valid")}
        self._log({name: value for name, value in scores.items() if not name.endswith(("_best", "_batch_count"))})

    def on_train_end(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Closes the run and says the verdict."""
        self._end()
