"""Which parameters no gradient reaches, and why."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from torch import Tensor, nn

from gradscope.records import Evidence
from gradscope.testing.answers import Answer
from gradscope.testing.sample import Batch
from gradscope.testing.subject import Twin

REACH = "gradient-reach"
STEPS = 5  # a branch that starts at zero (ReZero, LoRA) lets a gradient through after its first step
_ADVICE = {
    "frozen": "requires_grad_(True), if they are to learn",
    "detached": "look for detach(), no_grad(), .data, .item() or argmax behind them",
    "unused": "use the module in forward, or take it away",
    "in no optimizer": "hand the optimizer model.parameters() when the model is final",
    "exactly zero": "look for units that never fire, weights that start at zero, a softmax over one unit",
}


class Reached:
    """Which parameters of a model got a gradient, noted while it is trained for a few steps."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.gradient: set[str] = set()
        self.more_than_zero: set[str] = set()
        self._ran: set[str] = set()
        self._handles = [
            module.register_forward_hook(partial(self._note, path)) for path, module in model.named_modules()
        ]

    def _note(self, path: str, *_: Any) -> None:
        self._ran.add(path)

    def look(self) -> None:
        """Takes note of the gradients that are there now."""
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None:
                self.gradient.add(name)
                if _any(parameter.grad):
                    self.more_than_zero.add(name)

    def close(self) -> None:
        """Takes the hooks away."""
        for handle in self._handles:
            handle.remove()

    def why_not(self, name: str, parameter: nn.Parameter, optimized: set[int]) -> str:
        """Why a parameter does not learn; "" when it can."""
        if not parameter.requires_grad:
            return "frozen"
        if name not in self.gradient:
            return "detached" if self._used(name) else "unused"
        if name not in self.more_than_zero and not self._by_arithmetic(name):
            return "exactly zero"
        return "" if id(parameter) in optimized else "in no optimizer"

    def _used(self, name: str) -> bool:
        """Whether the module that owns a parameter ran, or one around it reads it (`out_proj` of attention)."""
        owner = name.rpartition(".")[0]
        return owner in self._ran

    def _by_arithmetic(self, name: str) -> bool:
        """A bias that something behind it takes away again (THEORY T29): the weights beside it get their gradient."""
        owner, _, own = name.rpartition(".")
        if "bias" not in own:
            return False
        beside = [
            each for each, _ in self.model.named_parameters() if each.rpartition(".")[0] == owner and each != name
        ]
        return any(each in self.more_than_zero for each in beside if "bias" not in each)


def _any(gradient: Tensor) -> bool:
    values = gradient.detach()
    return bool((values.coalesce().values() if values.is_sparse else values).ne(0).any())


def gradient_reach(twin: Twin, batch: Batch, ignore: Sequence[str] = ()) -> Answer:
    """Trains for a few steps and says which parameters got no gradient, or exactly zero at each of them.

    Args:
        twin: is trained.
        batch: what on.
        ignore: shell patterns of parameters that are frozen or unused on purpose.
    """
    reached = Reached(twin.model)
    if twin.optimizer is not None:
        for _ in range(STEPS):
            twin.step(batch)
            reached.look()
    reached.close()
    groups = [] if twin.optimizer is None else twin.optimizer.param_groups
    optimized = {id(parameter) for group in groups for parameter in group["params"]}
    reasons: dict[str, list[str]] = {}
    asked = 0
    for name, parameter in twin.model.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in ignore):
            continue
        asked += 1
        if why := reached.why_not(name, parameter, optimized):
            reasons.setdefault(why, []).append(name)
    if not reasons:
        left = f"; those of {', '.join(ignore)} were left out" if ignore else ""
        return Answer(REACH, "passed", f"all {asked} parameters get a gradient{left}")
    ordered = [why for why in _ADVICE if why in reasons]
    where = [name for why in ordered for name in reasons[why]]
    parts = [f"{_names(reasons[why])} {'is' if len(reasons[why]) == 1 else 'are'} {why}" for why in ordered]
    share = Evidence("parameters without a gradient", float(len(where)), f"of {asked}", 0.0, "0")
    message = f"no gradient teaches {len(where)} of {asked} parameters: {'; '.join(parts)}"
    advice = [f"{why}: {_ADVICE[why]}" for why in ordered]
    advice.append(
        f"if that is meant: ignore=[{', '.join(repr(name) for name in where[:2])}{', …' if where[2:] else ''}]"
    )
    return Answer(REACH, "failed", message, (share,), tuple(where), advice="; ".join(advice))


def _names(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
