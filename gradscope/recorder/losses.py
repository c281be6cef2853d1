"""The loss of a step: handed to the scope, or seen coming out of a loss module of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.loss import _Loss
from torch.nn.modules.module import register_module_forward_hook

from gradscope.recorder.guard import Guard
from gradscope.recorder.private import compiler_in_use
from gradscope.stats import HostNumber

_MOST = 4096  # losses of one step: one that never closes must not take all memory


class LossReader:
    """Collects the losses of a step. Their mean is the step's loss, as gradient accumulation has it.

    Args:
        criterion: the module whose output is the loss; None: any loss module of torch that gives one number.
        seen: told every loss that is taken, before it is copied.
    """

    def __init__(self, criterion: nn.Module | None, guard: Guard, seen: Callable[[torch.Tensor], None]) -> None:
        self._criterion = criterion
        self._tell = seen
        self._guard = guard
        self._handle: Any = None
        self.given = False  # the user hands the loss over: no need to look for it
        self._seen: list[HostNumber] = []
        self.summed = False  # of a step's losses their sum is its loss: they are all that `backward` was called on
        self._wrong = ""  # what was handed over that is no loss
        self._before_closure: int | None = None  # losses of the step, before an optimizer evaluates its closure
        self.kinds: set[str] = set()  # class names of the loss modules that were seen

    @property
    def first_only(self) -> bool:
        """Whether an optimizer evaluates a closure: of its losses the first is the step's, as those before it are."""
        return self._before_closure is not None

    @first_only.setter
    def first_only(self, first_only: bool) -> None:
        self._before_closure = len(self._seen) if first_only else None

    def attach(self) -> None:
        """Looks for loss modules until a loss is handed over."""
        if self._handle is None and not self.given:
            guarded, criterion = self._guard(self._after), self._criterion

            def after(module: nn.Module, args: Any, output: Any) -> None:
                # it is called for every module of the process, and means a few of them
                if not torch.compiler.is_compiling() and (
                    isinstance(module, _Loss) if criterion is None else module is criterion
                ):
                    guarded(module, args, output)

            self._handle = register_module_forward_hook(after)

    def detach(self) -> None:
        """Stops looking."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def give(self, loss: torch.Tensor, summed: bool = False) -> None:
        """Takes a loss that the user handed over; one that no backward can start from is a validation's."""
        self.summed |= summed
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
            self._wrong = _what(loss)
            return
        if not self.given:
            self.given = True
            self._seen.clear()
        self._take(loss)

    def _take(self, loss: torch.Tensor) -> None:
        self._tell(loss)
        further = self._before_closure is not None and len(self._seen) > self._before_closure
        if not further and len(self._seen) < _MOST:
            self._seen.append(HostNumber(loss.detach()))  # a copy: `loss /= 4` may come before it is read

    def __len__(self) -> int:
        return len(self._seen)

    def forget(self, first: int) -> None:
        """Drops the step's first losses: their gradients were zeroed."""
        del self._seen[:first]
        if self._before_closure is not None:
            self._before_closure = max(0, self._before_closure - first)

    def take(self) -> list[HostNumber]:
        """The step's losses; none when nobody knows which of them to add."""
        seen, self._seen = self._seen, []
        if self.summed and len(seen) > 1:
            return [_Sum(seen)]
        return seen if self.given or len(self.kinds) < 2 else []

    @property
    def found(self) -> bool:
        """Whether the loss is known from somewhere."""
        return self.given or len(self.kinds) == 1

    @property
    def missing(self) -> str:
        """Why there is no loss, in words."""
        if len(self.kinds) > 1 and not self.given:
            return (
                f"several loss modules ran ({', '.join(sorted(self.kinds))}); hand the sum over with scope.loss(loss)"
            )
        if self._wrong:
            return f"scope.loss() expected the one number that backward() is called on; it got {self._wrong}"
        return "it was not handed over; call scope.loss(loss) before loss.backward()"

    def _after(self, module: nn.Module, _: Any, output: Any) -> None:
        if not isinstance(output, torch.Tensor):
            return
        self.kinds.add(type(module).__name__)
        if self.given:
            if not compiler_in_use():
                self.detach()  # from now on the module's name is all that it could add
        elif output.requires_grad and output.numel() == 1:
            self._take(output)


class _Sum(HostNumber):
    """Several numbers on their way, as their sum."""

    def __init__(self, parts: list[HostNumber]) -> None:
        self._parts = parts

    def ready(self) -> bool:
        return all(part.ready() for part in self._parts)

    def value(self) -> float:
        return sum(part.value() for part in self._parts)


def mean(losses: list[HostNumber]) -> float:
    """The loss of a step from those of its forwards, as gradient accumulation has it."""
    return sum(loss.value() for loss in losses) / len(losses)


def _what(loss: object) -> str:
    """What was handed over instead of a loss, in words."""
    if not isinstance(loss, torch.Tensor):
        return f"a {type(loss).__name__}"
    return "a tensor without a gradient" if not loss.requires_grad else f"a tensor of shape {list(loss.shape)}"
