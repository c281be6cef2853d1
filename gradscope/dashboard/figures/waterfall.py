"""The gain budget as a waterfall: from the model's output to its first layer, who took how many decades."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np

from gradscope.dashboard.figures.depth import latest, nearest
from gradscope.signals import Signals
from gradscope.signals.trunk import Stretch, Trunk, trunk

By = Literal["mechanism", "block"]
State = Literal["part", "block", "not-counted", "closed", "untold", "total"]
MOST_BARS = 14
_NOTHING = 0.005  # decades; less is said as 0.00
_LONG_LABEL = 32  # characters, from which a block's kind is said under the mouse and in the table only
_REGULAR = 0.8  # share of neighbours that are alike again after a period, from which kinds take turns


@dataclass(frozen=True)
class Bar:
    """One step of the waterfall.

    Attributes:
        label: what it is, e.g. "20 Sigmoid × −0.63" or "layers 2–5".
        effect: its mechanism, or what a block is made of.
        count: how many modules it stands for.
        decades: what they did together; -inf for a closed branch.
        start, end: where it begins and ends; decades of backward gain, 0 at the model's output.
        state: "part"; "block": ways part and join inside, so that it is measured as one; "not-counted": what pooling
            takes; "closed": exactly 0 goes through; "untold": what the parts do not add up to; "total".
        name: what a sentence calls it, e.g. "20 Sigmoid" or "layer 6 (GroupNorm)".
    """

    label: str
    effect: str
    count: int
    decades: float
    start: float
    end: float
    state: State
    name: str


@dataclass(frozen=True)
class WaterfallData:
    """The bars from the model's output to the first layer, the total last.

    Attributes:
        step: the recorded step; None when nothing was recorded.
        total: log10 of the first layer's backward gain, what pooling takes not counted; -inf: exactly 0; NaN: undefined.
        bars: none where the gain is undefined.
        problem: why the gain is undefined, a sentence; "" where it is a number.
        first, head: the two ends, as a sentence names them.
        blocks: the pieces in which ways part and join, as sentences name them: each measured as one.
        inside: of the one that did most its name, and its parts with their decades, which do not add up.
    """

    step: int | None
    total: float
    bars: tuple[Bar, ...] = ()
    problem: str = ""
    first: str = ""
    head: str = ""
    blocks: tuple[str, ...] = ()
    inside: tuple[str, tuple[tuple[str, str, float], ...]] = ("", ())


@dataclass(frozen=True)
class _Entry:
    """One stretch at one step."""

    stretch: Stretch
    decades: float
    state: State
    title: str

    @property
    def kind(self) -> str:
        """Its class, or the operation that it is."""
        return self.stretch.part.kind or self.stretch.part.name


def waterfall_data(
    signals: Signals, step: int | None, by: By = "mechanism", found: Trunk | None = None
) -> WaterfallData:
    """The waterfall at a recorded step (the nearest one at or before `step`; None: the last that can be judged).

    Args:
        signals: the run.
        step: the step.
        by: what the bars are: kinds of modules, or places.
        found: the run's trunk, where it is known already.
    """
    column = latest(signals) if step is None else nearest(signals.steps, step)
    found = trunk(signals) if found is None else found
    at = None if column is None else int(signals.steps[column])
    problem = _undefined(signals, found, column)
    if problem or column is None or found.first is None or found.head is None:
        return WaterfallData(at, math.nan, problem=problem)
    ends = signals.sites[found.first].title, signals.sites[found.head].title
    gain = float(signals.unpooled_gain[found.first, column])
    entries = [_entry(signals, each, column) for each in found.stretches]
    total = math.log10(gain) if gain > 0 else -math.inf
    counted = [each for each in entries if not math.isnan(each.decades)]
    if gain == 0:  # nothing is known of what lies between a closed branch and the input
        shut = [place for place, each in enumerate(counted) if each.state == "closed"]
        counted = counted[shut[-1] :] if shut else counted
    grouped = _by_mechanism(counted) if by == "mechanism" else _by_block(counted)
    blocks = tuple(each.title for each in counted if each.state == "block")
    return WaterfallData(at, total, _stacked(grouped, total), "", *ends, blocks, _inside(counted, column))


def _entry(signals: Signals, stretch: Stretch, column: int) -> _Entry:
    part, value = stretch.part, float(stretch.part.decades[column])
    state: State = "block" if stretch.is_block else "part"
    if value == -math.inf:
        state = "closed"
    elif part.mechanism == "pooling" and part.site is not None and value < 0:
        state = "not-counted"
    title = part.name if part.site is None else signals.sites[part.site].title
    return _Entry(stretch, value if value < math.inf else math.nan, state, title)


def _undefined(signals: Signals, found: Trunk, column: int | None) -> str:
    """Why there is no end-to-end gain; "" where there is one."""
    if column is None:
        return "No step was recorded in full yet, so there is no gain to break down."
    if found.head is None:
        return "The model's output was not found: the loss did not come from one of the model's modules."
    norm = float(signals.head_norm[column])
    step = f"step {int(signals.steps[column]):,}"
    if norm == 0:
        return (
            f"The gradient at the model's output is exactly 0 at {step}: nothing is passed on, so no gain is defined."
        )
    if not math.isfinite(norm):
        broken = bool(signals.non_finite("activation_gradient")[found.head, column])
        if broken or math.isinf(norm):
            return f"The gradient at the model's output is NaN or Inf at {step}, so no gain is defined."
        return f"The gradient at the model's output was not recorded at {step}, so no gain is defined."
    if found.first is None:
        return f"No layer's gradient was recorded at {step}."
    name = signals.sites[found.first].title
    if bool(signals.non_finite("activation_gradient")[found.first, column]):
        return f"The gradient at the first layer, {name}, is NaN or Inf at {step}, so no gain is defined."
    if not math.isfinite(float(signals.unpooled_gain[found.first, column])):
        return f"The gradient at the first layer, {name}, was not recorded at {step}."
    return ""


@dataclass(frozen=True)
class _Group:
    label: str
    effect: str
    count: int
    decades: float
    state: State
    name: str


def _effect(stretch: Stretch) -> str:
    """What a piece does to the gradient, in words."""
    if stretch.is_block:
        return "ways part and join: measured as one block"
    words = {"joins": "another way joins", "container": "module", "functional": "reshaping or code"}
    return words.get(stretch.part.mechanism, stretch.part.mechanism)


def _by_mechanism(entries: list[_Entry]) -> list[_Group]:
    """One group for each kind of module, the largest effect first; what does least is one group at the end."""
    found: dict[tuple[str, str, State], list[_Entry]] = {}
    for each in entries:
        alone = each.stretch.is_block and each.stretch.part.site is None
        kind = each.stretch.part.name if alone else each.kind
        found.setdefault((kind, each.stretch.part.mechanism, each.state), []).append(each)
    groups = sorted(
        (_of_kind(kind, state, held) for (kind, _, state), held in found.items()), key=lambda group: -abs(group.decades)
    )
    counted = [group for group in groups if group.state in ("part", "block") and abs(group.decades) >= _NOTHING]
    rest = [group for group in groups if group.state in ("part", "block") and group not in counted]
    aside = [group for group in groups if group.state not in ("part", "block")]
    most = MOST_BARS - 1 - len(aside)
    counted, rest = counted[:most], [*counted[most:], *rest]
    if len(rest) == 1:
        return [*counted, *rest, *aside]
    return [*counted, *([_others(rest)] if rest else []), *aside]


def _of_kind(kind: str, state: State, held: list[_Entry]) -> _Group:
    total, effect = sum(each.decades for each in held), _effect(held[0].stretch)
    if len(held) > 1:
        each = f"{total / len(held):+.2f}".replace("-", "−") if math.isfinite(total) else "closed"
        return _Group(f"{len(held)} {kind} × {each}", effect, len(held), total, state, f"{len(held)} {kind}")
    title = held[0].title
    label = title if kind == title else f"{kind} · {title}"
    return _Group(label, effect, 1, total, state, _name(held[0], kind))


def _name(entry: _Entry, kind: str) -> str:
    """What a sentence calls one piece: "layer 6 (GroupNorm)", "Sigmoid between mix and out"."""
    if kind in (entry.title, "") or (entry.stretch.is_block and entry.stretch.part.site is None):
        return entry.title
    return f"{kind} {entry.title}" if entry.stretch.part.site is None else f"{entry.title} ({kind})"


def _others(rest: list[_Group]) -> _Group:
    count = sum(group.count for group in rest)
    made_of = ", ".join(group.name for group in rest)
    return _Group(f"{count} others", made_of, count, sum(group.decades for group in rest), "part", f"{count} others")


def _by_block(entries: list[_Entry]) -> list[_Group]:
    """The children of the widest container, and what stands beside it, from the model's output to its input."""
    opened = _opened(entries)

    def block(entry: _Entry) -> tuple[str, bool]:
        trail = (*entry.stretch.inside, entry.stretch.part.name)
        depth = next((place for place, name in enumerate(trail) if name not in opened), len(trail) - 1)
        return trail[depth], entry.state in ("not-counted", "closed")

    blocks = [list(held) for _, held in groupby(entries, block)]
    names = [block(held[0])[0] for held in blocks]
    apart = [held[0].state in ("not-counted", "closed") for held in blocks]
    size = _together([held[0].kind for held in blocks], max(1, MOST_BARS - sum(apart)))
    groups: list[_Group] = []
    place = len(blocks)
    while place:  # from the output
        start = place - 1
        while not apart[place - 1] and start and not apart[start - 1] and place - start < size:
            start -= 1
        held = [each for block_ in blocks[start:place] for each in block_]
        groups.append(_of_blocks(names[start:place], held))
        place = start
    return groups


def _together(kinds: list[str], most: int) -> int:
    """How many neighbours share a bar, so that each bar holds the same kinds where they take turns."""
    size = -(-max(len(kinds), 1) // most)
    if size == 1:
        return 1
    for period in range(1, min(9, len(kinds) // 2 + 1)):
        same = sum(one == other for one, other in zip(kinds, kinds[period:], strict=False))
        if same >= _REGULAR * (len(kinds) - period):
            return -(-size // period) * period
    return size


def _opened(entries: list[_Entry]) -> set[str]:
    """The widest container and those that hold it: their children are the blocks."""
    children: dict[tuple[str, ...], set[str]] = {(): set()}
    for each in entries:
        trail = (*each.stretch.inside, each.stretch.part.name)
        for depth in range(len(trail)):
            children.setdefault(trail[:depth], set()).add(trail[depth])
    widest = max(children, key=lambda trail: (len(children[trail]), -len(trail)))
    return set(widest)


def _of_blocks(names: list[str], held: list[_Entry]) -> _Group:
    total = sum(each.decades for each in held)
    made_of: dict[str, list[float]] = {}
    for each in held:
        made_of.setdefault(each.kind, []).append(each.decades)
    parts = ", ".join(
        f"{len(values)} {kind} {sum(values):+.2f}".replace("-", "−") for kind, values in list(made_of.items())[:4]
    )
    parts += f" and {len(made_of) - 4} kinds more" if len(made_of) > 4 else ""
    label, state = _span(names, held), held[0].state if len(held) == 1 else "part"
    if len(held) == 1 and held[0].stretch.part.name == names[0]:
        alone = held[0]
        parts = _effect(alone.stretch)
        kind = alone.kind if alone.stretch.part.site is not None or not alone.stretch.is_block else ""
        if len(label) + len(kind) > _LONG_LABEL and kind:
            parts = f"{kind}; {parts}"
        elif kind:
            label = f"{label} {kind}"
        return _Group(label, parts, 1, total, state, _name(alone, kind))
    if len({each.state for each in held}) == 1:
        state = held[0].state
    return _Group(label, parts, len(held), total, state, label)


def _span(names: list[str], held: list[_Entry]) -> str:
    """Consecutive blocks by the first and the last: "layers 2–5", "blocks.2 … 5"."""
    modules = [name for name in names if not name.startswith("between ")] or names
    first, last = modules[0], modules[-1]
    if first == last:
        return next((each.title for each in held if each.stretch.part.name == first), first)
    if first.isdigit() and last.isdigit():
        return f"layers {first}–{last}"
    common = first.rpartition(".")[0]
    return f"{first} … {last.removeprefix(f'{common}.') if common else last}"


def _stacked(groups: Iterable[_Group], total: float) -> tuple[Bar, ...]:
    """Puts the groups one behind the other, names what they leave untold, and ends with the total."""
    bars: list[Bar] = []
    level = 0.0
    for group in groups:
        moves = group.state in ("part", "block")
        end = level + group.decades if math.isfinite(group.decades) else level
        bars.append(Bar(group.label, group.effect, group.count, group.decades, level, end, group.state, group.name))
        level = end if moves else level
    untold = total - level
    if math.isfinite(untold) and abs(untold) >= _NOTHING:
        name = "not told apart"
        bars.append(Bar(name, "ways that no part's numbers cover", 0, untold, level, total, "untold", name))
    end = total if math.isfinite(total) else level
    bars.append(Bar("Model's output to first layer", "all together", 0, total, 0.0, end, "total", "all"))
    return tuple(bars)


def _inside(entries: list[_Entry], column: int) -> tuple[str, tuple[tuple[str, str, float], ...]]:
    """The block that did most, with its parts."""
    blocks = [each for each in entries if each.stretch.is_block and each.stretch.part.parts]
    if not blocks:
        return "", ()
    most = max(blocks, key=lambda each: abs(each.decades))
    parts = most.stretch.part.parts
    return most.title, tuple((part.name, part.kind, float(part.decades[column])) for part in parts)


def changes_nothing(bar: Bar) -> bool:
    """Whether its decades are said as 0.00."""
    return abs(bar.decades) < _NOTHING


def levels(data: WaterfallData) -> tuple[float, float]:
    """The lowest and the highest level that the bars reach."""
    ends = np.array([0.0, *(end for bar in data.bars for end in (bar.start, bar.end))])
    return float(ends.min()), float(ends.max())
