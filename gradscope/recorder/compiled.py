"""What torch.compile hides: which parts of a model run compiled code, and what can be said of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from torch import nn

from gradscope.recorder.private import is_compiled, uncompiled
from gradscope.records import NotObserved

Mode = Literal["boundary", "full"]


def plain_path(path: str) -> str:
    """The path of a module or parameter as it was before torch.compile wrapped what it is in.

    Example:
        >>> plain_path("_orig_mod.layers.3._orig_mod.weight")
        'layers.3.weight'
    """
    return ".".join(part for part in path.split(".") if part != "_orig_mod") if "_orig_mod" in path else path


def model_name(model: nn.Module) -> str:
    """The class of a model, or of the one that torch.compile wrapped."""
    return type(uncompiled(model) or model).__name__


def compiled_parts(model: nn.Module) -> set[str]:
    """The paths of the modules of a model that run compiled code, each seen from the outside only."""
    return {plain_path(path) for path, module in model.named_modules() if is_compiled(module)}


def not_observed(paths: Iterable[str], mode: Mode) -> list[NotObserved]:
    """What is not seen of compiled modules, or what seeing it costs."""
    paths = sorted(paths)
    if mode == "full":
        names = ", ".join(path or "the model" for path in paths)
        why = 'compiled="full" calls hooks inside; code is split wherever one is called, and may round its results otherwise'
        return [NotObserved(f"{names} as one graph", why)] if paths else []
    why = 'inside a compiled region (torch.compile), where hooks are not called; watch(compiled="full") calls them'
    return [NotObserved(path or "the model's inside", why) for path in paths]


def inside(path: str, compiled: Iterable[str]) -> bool:
    """Whether a module is part of one of the compiled modules, or one of them."""
    return any(part in ("", path) or path.startswith(f"{part}.") for part in compiled)
