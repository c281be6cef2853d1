"""What was set in two trainings, side by side: optimizer, rates, model, loss, versions, the program's lines."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from gradscope.comparison.side import Side
from gradscope.numerals import limit
from gradscope.records import Run, Site

NONE = "none"
_MOST_LINES = 4000  # of a file that is compared line by line
_MOST_SHOWN = 200  # lines of a diff


@dataclass(frozen=True)
class Setting:
    """One thing that was set."""

    group: str  # "optimizer", "learning rate", "model", "loss", "program", "gradscope", "versions"
    name: str
    a: str
    b: str

    @property
    def differs(self) -> bool:
        """Whether the two runs have it differently."""
        return self.a != self.b


@dataclass(frozen=True)
class SourceChange:
    """A file of the program that is not the same in both runs."""

    name: str
    removed: int  # lines that only `a` has
    added: int  # lines that only `b` has
    diff: str  # unified, from `a` to `b`; "" when the file is only there once or too long


def settings(a: Side, b: Side) -> tuple[Setting, ...]:
    """All that is known of both, what differs first; each group in its order."""
    of_a, of_b = dict(_facts(a)), dict(_facts(b))
    names = [*of_a, *(name for name in of_b if name not in of_a)]
    groups = list(dict.fromkeys(group for group, _ in names))
    names.sort(key=lambda name: groups.index(name[0]))
    found = [Setting(*name, of_a.get(name, NONE), of_b.get(name, NONE)) for name in names]
    found[:0] = _kinds(a, b)
    return tuple(sorted(found, key=lambda setting: not setting.differs))


def _facts(side: Side) -> Iterator[tuple[tuple[str, str], str]]:
    info, run = side.run.info, side.run
    for number, optimizer in enumerate(info.optimizers, 1):
        which = f" {number}" if len(info.optimizers) > 1 else ""
        yield ("optimizer", f"optimizer{which}"), optimizer.kind
        for name, value in optimizer.options.items():
            yield ("optimizer", f"{name}{which}"), limit(value)
    yield from _rates(run)
    yield ("optimizer", "gradient clipping"), _clipping(side)
    yield ("optimizer", "loss scale"), _scale(run)
    yield ("loss", "criterion"), info.criterion or NONE
    if info.loss_path is not None:
        yield ("loss", "kind"), info.loss_path.kind or "unknown"
        yield ("loss", "reduction"), info.loss_path.reduction or "unknown"
    yield ("model", "class"), info.model
    yield ("model", "layers"), f"{len(side.signals.layers):,}"
    yield ("model", "parameters"), f"{sum(math.prod(site.shape) for site in _parameters(info.sites)):,}"
    yield ("model", "dtypes"), ", ".join(sorted({site.dtype for site in info.sites if site.dtype})) or "unknown"
    yield ("program", "command"), " ".join(info.command) or info.script or "unknown"
    yield ("program", "device"), info.device
    yield ("program", "processes"), f"{info.world_size}{f' ({info.parallel})' if info.parallel else ''}"
    for name, setting in info.settings.items():
        yield ("gradscope", name), str(setting)
    for name, version in info.versions.items():
        yield ("versions", name), version


def _parameters(sites: tuple[Site, ...]) -> list[Site]:
    return [site for site in sites if site.role == "parameter" and site.same_as is None]


def _rates(run: Run) -> Iterator[tuple[tuple[str, str], str]]:
    """The first, the largest and the last learning rate of each parameter group."""
    for group in range(run.learning_rates.shape[1]):
        rates = run.learning_rates[:, group]
        rates = rates[np.isfinite(rates)]
        which = f", group {group + 1}" if run.learning_rates.shape[1] > 1 else ""
        if len(rates):
            for word, rate in (("first", rates[0]), ("largest", rates.max()), ("last", rates[-1])):
                yield ("learning rate", f"{word}{which}"), limit(float(rate))


def _clipping(side: Side) -> str:
    share = side.signals.clipped_share
    if math.isnan(share):
        return "unknown"
    return f"in {limit(100 * share)} % of steps" if share else NONE


def _scale(run: Run) -> str:
    scales = np.unique(run.steps["scale"]) if len(run.steps) else np.ones(1)
    if len(scales) == 1:
        return NONE if scales[0] == 1 else limit(float(scales[0]))
    return f"{limit(float(scales[0]))} … {limit(float(scales[-1]))}"


def _kinds(a: Side, b: Side) -> list[Setting]:
    """Layers of one name that are of another kind or size, those that changed alike together."""
    of_b = {site.path: site for site in (b.signals.sites[i] for i in b.signals.layers)}
    changed: dict[tuple[str, str], list[str]] = {}
    for site in (a.signals.sites[i] for i in a.signals.layers):
        other = of_b.get(site.path)
        if other is not None and _said(site) != _said(other):
            changed.setdefault((_said(site), _said(other)), []).append(site.title)
    found = []
    for (before, after), names in changed.items():
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        found.append(Setting("model", ", ".join(names[:2]) + more, before, after))
    return found


def _said(site: Site) -> str:
    return site.label or site.kind


def source_changes(a: Run, b: Run) -> tuple[SourceChange, ...]:
    """The files of the programs that differ, found by their names: the same program may lie in two folders."""
    texts_a = {PurePath(source.path).name: source.text for source in a.info.sources}
    texts_b = {PurePath(source.path).name: source.text for source in b.info.sources}
    if len(texts_a) == 1 and len(texts_b) == 1 and texts_a.keys() != texts_b.keys():
        (name_a, text_a), (name_b, text_b) = next(iter(texts_a.items())), next(iter(texts_b.items()))
        return (_source(f"{name_a} → {name_b}", text_a, text_b),)  # the training of each, under another name
    found = []
    for name in dict.fromkeys([*texts_a, *texts_b]):
        if texts_a.get(name) != texts_b.get(name):
            found.append(_source(name, texts_a.get(name), texts_b.get(name)))
    return tuple(found)


def _source(name: str, before: str | None, after: str | None) -> SourceChange:
    old, new = (before or "").splitlines(), (after or "").splitlines()
    if before is None or after is None or max(len(old), len(new)) > _MOST_LINES:
        return SourceChange(name, len(old) if before is not None else 0, len(new) if after is not None else 0, "")
    lines = list(difflib.unified_diff(old, new, "A", "B", n=2, lineterm=""))
    removed = sum(line.startswith("-") for line in lines[2:])
    added = sum(line.startswith("+") for line in lines[2:])
    cut = [f"… and {len(lines) - _MOST_SHOWN} more lines"] if len(lines) > _MOST_SHOWN else []
    return SourceChange(name, removed, added, "\n".join([*lines[:_MOST_SHOWN], *cut]))
