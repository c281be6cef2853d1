"""Functions of torch that tell us when they are called, where torch has no hook for it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

Told = Callable[..., None]


def listen(
    owner: Any, name: str, before: Told | None = None, after: Callable[..., None] | None = None
) -> Callable[[], None]:
    """Puts a function in front of an attribute that calls it, and us; gives what takes it off again.

    Its signature, name and documentation stay. Compiled code never sees us. Where somebody else has wrapped the
    function since, ours stays inside of theirs and says nothing any more.

    Args:
        owner: a class or a module.
        name: of a function in it.
        before: given the arguments before the call.
        after: given the result, then the arguments.
    """
    original = getattr(owner, name)
    told: list[Callable[..., None] | None] = [before, after]

    @functools.wraps(original)
    def listening(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return original(*args, **kwargs)
        if told[0] is not None:
            told[0](*args, **kwargs)
        result = original(*args, **kwargs)
        if told[1] is not None:
            told[1](result, *args, **kwargs)
        return result

    def back() -> None:
        told[:] = None, None
        if getattr(owner, name) is listening:
            setattr(owner, name, original)

    setattr(owner, name, listening)
    return back
