"""The table of places where numbers are taken, and what each kind of module does to a gradient."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules import activation, batchnorm, dropout, instancenorm, normalization, pooling, rnn

from gradscope.records import Role, Site

_NORMALISATIONS = (batchnorm._NormBase, instancenorm._InstanceNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_SHAPES = (nn.Identity, nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.Upsample)


def mechanism(module: nn.Module) -> str:
    """What a module does to the gradient that passes through it, as the gain budget names it."""
    if isinstance(module, (rnn.RNNBase, rnn.RNNCellBase)):
        return "recurrence"
    if isinstance(module, nn.MultiheadAttention):
        return "attention"
    if isinstance(module, (*_NORMALISATIONS, nn.LocalResponseNorm)):
        return "normalisation"
    if isinstance(module, dropout._DropoutNd):
        return "dropout"
    # every class of these files of torch.nn does what the file is named after
    for package, name in ((activation, "activation"), (pooling, "pooling"), (normalization, "normalisation")):
        if type(module).__module__ == package.__name__:
            return name
    if isinstance(module, _SHAPES):
        return "functional"
    if next(module.children(), None) is None and next(module.parameters(recurse=False), None) is not None:
        return "weights"
    return "container"


class SiteTable:
    """All sites of one watched model, made as they are met; nothing is written on the modules themselves.

    Args:
        model: every module in it is known from now on.
        include, exclude: shell patterns on module paths, e.g. `["encoder.*"]`; None includes everything.
    """

    def __init__(self, model: nn.Module, include: Sequence[str] | None = None, exclude: Sequence[str] = ()) -> None:
        self.sites: list[Site] = []
        self.changed = True  # since it was last written down
        self._index: dict[tuple[str, Role], int] = {}
        self._include, self._exclude = include, exclude
        self._ran = 0
        self.module_of: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()
        self.scan(model)

    def scan(self, model: nn.Module) -> None:
        """Learns the paths of the model's modules, new ones included."""
        for path, module in model.named_modules():
            if self.wanted(path):
                self.module_of.setdefault(module, path)

    def wanted(self, path: str) -> bool:
        """Whether `include` and `exclude` leave a module in."""
        included = self._include is None or any(fnmatchcase(path, pattern) for pattern in self._include)
        return included and not any(fnmatchcase(path, pattern) for pattern in self._exclude)

    def find(self, path: str, role: Role) -> int | None:
        """The index of a site that exists already."""
        return self._index.get((path, role))

    def module_site(self, path: str, role: Role, module: nn.Module) -> int:
        """The index of a module's output or input site, made when it is first asked for."""
        index = self._index.get((path, role))
        if index is None:
            leaf = next(module.children(), None) is None
            label = f"{type(module).__name__}({module.extra_repr()})" if leaf else type(module).__name__
            index = self._add(Site(path, role, type(module).__name__, self._ran, mechanism(module), label))
            self._ran += role == "output"
        return index

    def parameter_site(self, site: Site, owner: nn.Module) -> int:
        """The index of a parameter's site; what can change while training is brought up to date."""
        index = self._index.get((site.path, "parameter"))
        if index is None:
            return self._add(dataclasses.replace(site, kind=type(owner).__name__, mechanism=mechanism(owner)))
        self.update(index, trainable=site.trainable, optimized=site.optimized)
        return index

    def order_parameters(self) -> None:
        """Gives each parameter its module's place in execution order, known once the module ran."""
        for index, site in enumerate(self.sites):
            owner = self._index.get((site.path.rpartition(".")[0], "output"))
            if site.role == "parameter" and owner is not None:
                self.update(index, order=self.sites[owner].order)

    def update(self, index: int, **values: object) -> None:
        """Changes fields of a site."""
        site = self.sites[index]
        if any(getattr(site, name) != value for name, value in values.items()):
            self.sites[index] = dataclasses.replace(site, **values)  # type: ignore[arg-type]
            self.changed = True

    def _add(self, site: Site) -> int:
        self.sites.append(site)
        self._index[site.path, site.role] = len(self.sites) - 1
        self.changed = True
        return len(self.sites) - 1
