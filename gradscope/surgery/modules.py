"""Finds modules by their paths, puts others in their place, and hooks them; all of it can be undone."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from gradscope.errors import NotApplicable
from gradscope.surgery.applied import Applied


def modules_by_path(model: nn.Module) -> dict[str, nn.Module]:
    """All modules by the path that a run knows them by; what `torch.compile` wraps has the path of what is inside.

    Example:
        >>> list(modules_by_path(nn.Sequential(nn.Linear(1, 1), nn.ReLU())))
        ['', '0', '1']
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        path = ".".join(part for part in name.split(".") if part != "_orig_mod")
        found[path] = module  # the wrapped module comes after its wrapper
    return found


def module_at(model: nn.Module, path: str) -> nn.Module:
    """One module by its path.

    Raises:
        NotApplicable: the model has none there.
    """
    module = modules_by_path(model).get(path)
    if module is None:
        raise NotApplicable(f"the run has a module {path!r} and this model has not: it was built in another way")
    return module


def places_of(model: nn.Module, module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Every parent that holds a module, with its name there."""
    for parent in model.modules():
        for name, child in parent._modules.items():
            if child is module:
                yield parent, name


def put(applied: Applied, model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Puts a module in the place of another, wherever the model holds it, in the same mode and on the same device.

    Raises:
        NotApplicable: it is the model itself, which the training holds.
    """
    if old is model:
        raise NotApplicable("the module is the model itself, which your program holds: nothing can take its place")
    new.train(old.training)
    for parent, name in list(places_of(model, old)):
        setattr(parent, name, new)
        applied.back(setattr, parent, name, old)


def insert_after(applied: Applied, model: nn.Module, path: str, new: nn.Module) -> None:
    """Makes a module work on what another one gives.

    In an `nn.Sequential` it becomes the next entry, named after the other one ("0" -> "0_norm"), so that all parameters
    keep their names. Elsewhere the module that holds the other gets it, and a hook calls it.

    Raises:
        NotApplicable: no module around it can hold another one.
    """
    parent_path, _, name = path.rpartition(".")
    parent, layer = module_at(model, parent_path), module_at(model, path)
    new.train(layer.training)
    if type(parent).forward is nn.Sequential.forward and len(list(places_of(model, layer))) == 1:
        before = dict(parent._modules)
        applied.back(_order, parent, before)
        entries = dict(before)
        parent._modules.clear()
        for key, child in entries.items():
            parent._modules[key] = child
            if key == name:
                parent.add_module(_free_name(entries, f"{name}_norm"), new)
        return
    holder_path, short = parent_path, name
    while isinstance(module_at(model, holder_path), (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
        if not holder_path:
            raise NotApplicable(f"{path}: there is no module around it that could hold another one")
        holder_path, _, outer = holder_path.rpartition(".")
        short = f"{outer}_{short}"
    holder = module_at(model, holder_path)
    key = _free_name(vars(holder) | holder._modules, f"{short}_norm")
    holder.add_module(key, new)
    applied.back(holder._modules.pop, key)
    hook(applied, layer, Then(new))


class Then:
    """A forward hook that hands on what another module makes of the output."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        """What the other module makes of the output."""
        return self.module(output)


def hook(applied: Applied, module: nn.Module, call: Callable[..., Any], *, always: bool = False) -> None:
    """Puts a forward hook on a module, to be taken off again. It is to be an object that can be copied and pickled."""
    applied.back(module.register_forward_hook(call, always_call=always).remove)


def hook_before(applied: Applied, module: nn.Module, call: Callable[..., Any], *, by_name: bool = False) -> None:
    """Puts a forward pre-hook on a module; `by_name`: it is given the keyword arguments too."""
    applied.back(module.register_forward_pre_hook(call, with_kwargs=by_name).remove)


def hook_before_all(applied: Applied, module: nn.Module, call: Callable[[nn.Module], None]) -> None:
    """Acts before each call of a module, earlier than any hook that is put on later, such as a recorder's.

    It is a global hook that knows the module weakly, so that copies of the module know nothing of it.
    """
    reference = weakref.ref(module)

    def before(called: nn.Module, args: Any) -> None:
        if called is reference():
            call(called)

    applied.back(register_module_forward_pre_hook(before).remove)


def _order(parent: nn.Module, entries: dict[str, nn.Module | None]) -> None:
    parent._modules.clear()
    parent._modules.update(entries)


def _free_name(taken: dict[str, Any], name: str) -> str:
    while name in taken:
        name += "_"
    return name
