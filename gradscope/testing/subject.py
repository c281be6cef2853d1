"""Copies of the user's model that can be run on a batch, and what keeps the original as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from gradscope.errors import UnusableSample
from gradscope.notices import in_a_line
from gradscope.recorder.parallel import unwrapped
from gradscope.recorder.private import uncompiled
from gradscope.recorder.replay import RandomStates
from gradscope.recorder.tensors import tensors_in
from gradscope.testing.sample import NOTHING, Batch, generators_of

Criterion = Callable[..., Tensor]
Loss = Callable[[nn.Module, Any], Tensor]
MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]

USUAL_RATE = 1e-3  # Adam's own
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


@dataclass
class Twin:
    """A copy of the model with an optimizer of its own, ready to be trained.

    Attributes:
        model: the copy.
        optimizer: None where no parameter requires a gradient.
        criterion: the loss of output and target.
        loss_of: the user's own way from model and sample to the loss.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer | None
    criterion: Criterion | None
    loss_of: Loss | None

    def run(self, batch: Batch) -> tuple[Any, Tensor | None]:
        """What the model gives for a batch, and the loss; None where nothing says what the loss is."""
        batch = batch.copied()
        if self.loss_of is not None:
            return None, _scalar(self.loss_of(self.model, batch.arguments[0]))
        output = self.model(*batch.arguments, **batch.keywords)
        if self.criterion is None:
            return output, _own_loss(output)
        logits = getattr(output, "logits", None)
        compared = output if isinstance(output, Tensor) or not isinstance(logits, Tensor) else logits
        given = (compared,) if batch.target is NOTHING else (compared, batch.target)
        return output, _scalar(self.criterion(*given))

    def loss(self, batch: Batch) -> Tensor | None:
        """The loss of a batch."""
        return self.run(batch)[1]

    def objective(self, batch: Batch) -> Tensor:
        """The loss, or where none is known a fixed sum over the outputs that has a gradient to each of them."""
        output, loss = self.run(batch)
        return direction(output) if loss is None else loss

    def step(self, batch: Batch, watched: Callable[[Tensor], Tensor] = lambda loss: loss) -> float:
        """One step of a training, and the loss before it."""
        optimizer = self.optimizer
        assert optimizer is not None, "nothing requires a gradient"

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = watched(self.objective(batch))
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        if isinstance(optimizer, torch.optim.LBFGS):
            return float(optimizer.step(closure))  # type: ignore[no-untyped-call]
        loss = closure()
        optimizer.step()
        return float(loss.detach())

    def without_dropout(self) -> Twin:
        """The same, with what is dropped at random left in."""
        for module in self.model.modules():
            if isinstance(module, _DROPOUTS):
                module.eval()
            elif isinstance(module, nn.RNNBase):
                module.dropout = 0.0
        return self


@dataclass(frozen=True)
class Subject:
    """The user's model as it is now, of which each question gets a twin.

    Attributes:
        model: never run, never changed.
        criterion, loss: see `Twin`.
        optimizer: the user's, a function that makes one of parameters, or None for Adam.
        states: of the random numbers, which every twin starts from.
    """

    model: nn.Module
    criterion: Criterion | None
    loss: Loss | None
    optimizer: torch.optim.Optimizer | MakeOptimizer | None
    states: RandomStates

    @property
    def name(self) -> str:
        """The model's class."""
        return type(self.model).__name__

    @property
    def device(self) -> torch.device | None:
        """Where all parameters are; None when they are in several places."""
        devices = {parameter.device for parameter in self.model.parameters()}
        return next(iter(devices)) if len(devices) == 1 else None

    def twin(self, batch: Batch, rate: float | None = None) -> Twin:
        """A copy in training mode, with an optimizer: the user's, or Adam at this learning rate.

        Raises:
            UnusableSample: the model cannot be copied.
        """
        self.states.restore()
        given = self.optimizer if isinstance(self.optimizer, torch.optim.Optimizer) and rate is None else None
        try:
            memo: dict[int, Any] = {}
            model, criterion = copy.deepcopy((self.model, self.criterion), memo)
            optimizer = _copied_optimizer(given, memo)
        except Exception as error:
            raise UnusableSample(
                f"{self.name} cannot be copied, and GradScope tries nothing on the original: {in_a_line(error)}. "
                f"Let copy.deepcopy(model) work; before the first forward pass it often does."
            ) from error
        if _shares(self.model, model):
            raise UnusableSample(
                f"a copy of {self.name} has tensors in common with it, and GradScope tries nothing on the original: its "
                "__deepcopy__, or that of a module in it, gives the same module again. Let it give another one."
            )
        if not model.training:  # where parts are in eval mode and the model is not, that is on purpose
            model.train()
        twin = Twin(model, optimizer, criterion, self.loss)
        if any(isinstance(parameter, UninitializedParameter) for parameter in model.parameters()):
            with torch.no_grad():
                twin.run(batch)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if optimizer is None and trained:
            make = self.optimizer if callable(self.optimizer) and rate is None else None
            try:
                made = torch.optim.Adam(trained, rate or USUAL_RATE) if make is None else make(model.parameters())
            except Exception as error:
                raise UnusableSample(
                    f"no optimizer can be made for a copy of {self.name}: {in_a_line(error)}"
                ) from error
            twin = replace(twin, optimizer=made)
        return twin


def _shares(one: nn.Module, other: nn.Module) -> bool:
    """Whether a training of one would change the other: frozen parameters may well be the same."""

    def changed(model: nn.Module) -> set[int]:
        trained = (each for each in model.parameters() if each.requires_grad)
        return {id(each) for each in (*trained, *model.buffers())}

    return not changed(one).isdisjoint(changed(other))


def _copied_optimizer(optimizer: torch.optim.Optimizer | None, memo: dict[int, Any]) -> torch.optim.Optimizer | None:
    """A copy that holds the copied parameters, and what torch leaves out of it (LBFGS's own list of them)."""
    made = copy.deepcopy(optimizer, memo)
    missing = {} if optimizer is None else {n: v for n, v in vars(optimizer).items() if n not in vars(made)}
    for name, value in missing.items():
        if not callable(value) and not name.startswith("_optimizer_"):  # hooks, and a scheduler's hold on `step`
            setattr(made, name, copy.deepcopy(value, memo))
    return made


@contextmanager
def untouched(model: nn.Module, loader: Any = None) -> Iterator[RandomStates]:
    """Gradients, random numbers and modes of autograd are afterwards what they were, whatever is done inside."""
    states = RandomStates(model)
    generators = [(each, each.get_state()) for each in generators_of(loader)]
    gradients = [
        (each, each.grad, None if each.grad is None else each.grad.detach().clone()) for each in model.parameters()
    ]
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield states
    finally:
        states.restore()
        for generator, state in generators:
            generator.set_state(state)
        for parameter, gradient, numbers in gradients:  # a criterion may have read the original's weights
            parameter.grad = gradient
            if gradient is not None and numbers is not None and not torch.equal(gradient, numbers):
                with torch.no_grad():
                    gradient.copy_(numbers)


def original(model: nn.Module) -> nn.Module:
    """The model behind wrappers that cannot be copied, and before it was compiled."""
    model = unwrapped(model)
    return uncompiled(model) or model


def direction(output: Any) -> Tensor:
    """A fixed sum over all outputs with factors of either sign, so that normalised outputs have a gradient too."""
    parts = [t for t in tensors_in(output) if t.is_floating_point() and t.requires_grad]
    if not parts:
        raise UnusableSample("no output of the model depends on a parameter that requires a gradient.")
    total = parts[0].new_zeros(())
    for part in parts:
        factors = torch.cos(torch.arange(part.numel(), device=part.device, dtype=torch.float32) ** 2)
        total = total + (part.reshape(-1) * factors.to(part.dtype)).sum()
    return total


def _own_loss(output: Any) -> Tensor | None:
    """The loss that a model has computed itself: alone, named so, or the one number beside its outputs."""
    if isinstance(output, Tensor):
        return output if output.dim() == 0 and output.requires_grad else None
    named = getattr(output, "loss", None)
    if named is None and isinstance(output, dict):
        named = output.get("loss")
    if isinstance(named, Tensor):
        return _scalar(named)
    if not isinstance(output, (tuple, list)):
        return None
    return next((t for t in output if isinstance(t, Tensor) and t.dim() == 0 and t.requires_grad), None)


def _scalar(loss: Any) -> Tensor:
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return loss.reshape(())
    came = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
    raise UnusableSample(f"the loss has to be one number; it is {came}. Take its mean.")
