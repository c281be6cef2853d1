"""The table of places where numbers are taken, and what each kind of module does to a gradient."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules import activation, batchnorm, dropout, instancenorm, normalization, pooling, rnn
from torch.nn.utils import parametrize

from gradscope.recorder.compiled import compiled_parts, plain_path
from gradscope.recorder.private import uncompiled
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
    if is_leaf(module) and next(module.parameters(), None) is not None:
        return "weights"
    return "container"


def is_leaf(module: nn.Module) -> bool:
    """Whether a module holds no other; what makes its weights (weight norm, spectral norm) is no module of the model."""
    return all(name == "parametrizations" for name, _ in module.named_children())


def kind_of(module: nn.Module) -> str:
    """A module's class name, that of before it was parametrized."""
    return parametrize.type_before_parametrizations(module).__name__


class SiteTable:
    """All sites of one watched model, made as they are met; nothing is written on the modules themselves.

    Args:
        model: every module in it is known from now on.
        include, exclude: shell patterns on module paths, e.g. `["encoder.*"]`; None includes everything.
        sites: those of the run that is resumed; rows on disk name them by their number.
    """

    def __init__(
        self,
        model: nn.Module,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        sites: Sequence[Site] = (),
    ) -> None:
        self.sites: list[Site] = list(sites)
        self.changed = True  # since it was last written down
        self._index: dict[tuple[str, Role], int] = {(site.path, site.role): i for i, site in enumerate(sites)}
        self._include, self._exclude = include, exclude
        self._ran = 1 + max((site.order for site in sites), default=-1)
        self._model = weakref.ref(model)
        self._wrapped: set[str] = set()  # paths of what was compiled from outside
        self._strangers: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self.module_of: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()
        self.scan(model)

    def scan(self, model: nn.Module) -> None:
        """Learns the paths of the model's modules, new ones included."""
        for name, module in model.named_modules():
            path = plain_path(name)
            if self.wanted(path) and "parametrizations" not in path.split("."):
                self.module_of.setdefault(module, path)

    def is_news(self, module: nn.Module) -> bool:
        """Whether a module without a path has joined the model since the last look, which is taken again if need be."""
        model = self._model()
        if module in self._strangers or model is None:
            return False
        self.scan(model)
        if module in self.module_of:
            return True
        self._strangers.add(module)
        return False

    def path_of_wrapper(self, module: nn.Module) -> str | None:
        """The path of what `torch.compile` wrapped into this module, which is no part of the model itself."""
        original = uncompiled(module)
        path = None if original is None else self.module_of.get(original)
        if path is not None:
            self.module_of[module] = path
            self._wrapped.add(path)
            self.changed = True
        return path

    def compiled(self) -> set[str]:
        """The paths of the modules that run compiled code."""
        model = self._model()
        return self._wrapped | (set() if model is None else compiled_parts(model))

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
            kind = kind_of(module)
            label = f"{kind}({module.extra_repr()})" if is_leaf(module) else kind
            index = self._add(Site(path, role, kind, self._ran, mechanism(module), label))
            self._ran += role == "output"
        return index

    def target_site(self) -> int:
        """The index of the site of what the loss compares outputs with."""
        index = self._index.get(("", "target"))
        return self._add(Site("", "target", "target", -1, "target")) if index is None else index

    def time_site(self, module: int, start: int, stop: int) -> int:
        """The index of a bin of time steps of a recurrent module, given its output site."""
        owner = self.sites[module]
        path = f"{owner.path}[{start}:{stop}]"
        index = self._index.get((path, "time"))
        if index is None:
            index = self._add(Site(path, "time", owner.kind, owner.order, owner.mechanism))
        return index

    def parameter_site(self, site: Site, owner: nn.Module) -> int:
        """The index of a parameter's site; what can change while training is brought up to date."""
        index = self._index.get((site.path, "parameter"))
        if index is None:
            return self._add(dataclasses.replace(site, kind=kind_of(owner), mechanism=mechanism(owner)))
        self.update(index, trainable=site.trainable, optimized=site.optimized, aliases=site.aliases)
        return index

    def order_parameters(self) -> None:
        """Gives each parameter its module's place in execution order, known once the module ran."""
        for index, site in enumerate(self.sites):
            owner = self._index.get((site.module, "output"))
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
