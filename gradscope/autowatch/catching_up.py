"""A module's call that torch began before something was put on the module."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from gradscope.recorder.private import keywords_of_call


def catch_up(module: nn.Module, known: Collection[int], args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Calls the pre-hooks that were put on a module since torch made up its mind which ones to call.

    What they raise is raised: from the next call on torch will call them, and they would raise there. What they make of
    the keyword arguments goes into the dict that `forward` is going to be given.

    Args:
        module: that is being called, its own hooks not yet.
        known: the numbers of the hooks that torch calls.
        args: of the call.

    Returns:
        What the arguments became; None: what they were.
    """
    changed = None
    for number, hook in list(module._forward_pre_hooks.items()):
        if number in known:
            continue
        if number not in module._forward_pre_hooks_with_kwargs:
            given: Any = hook(module, args)
            if given is not None:
                changed = args = given if isinstance(given, tuple) else (given,)
            continue
        keywords = keywords_of_call(module)
        both = None if keywords is None else hook(module, args, keywords)
        if both is not None and keywords is not None:
            changed = args = both[0]
            fresh = dict(both[1])
            keywords.clear()
            keywords.update(fresh)
    return changed
