"""The first NaN or Inf of a run: when, where and in which direction it came up, and how near to it things were before."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradscope.signals.budget import operation_kind
from gradscope.signals.series import Signals

QUANTITIES = ("weight", "activation", "activation_gradient", "gradient", "update")  # as they come up in a step
_OVERFLOWING = ("activation_gradient", "gradient")  # when a loss scale is too large
# The largest finite number of each number format.
LARGEST = {"float16": 65504.0, "bfloat16": 3.39e38, "float32": 3.40e38, "float64": 1.80e308}


@dataclass(frozen=True)
class Onset:
    """Where the first NaN or Inf of a run is.

    Attributes:
        step: the first with one.
        column: of it among the recorded steps; None when it was not recorded.
        quantity: in which it came up, one of `QUANTITIES`, or "loss".
        sites: that had it at that step, the origin first.
        kind: "NaN", "Inf" or "-Inf".
        of_loss: whether the loss is not finite at that step.
        maker: whether the first site is a module that a finite gradient came to, and made it.
        code: operations between modules that the origin may be, by name.
        code_place: where they are, "before", "inside of" or "behind" the first site's module.
        tensors: how many tensors had it at that step.
        located: what a replay of the step found, see recorder/locate.py.
    """

    step: int
    column: int | None
    quantity: str
    sites: tuple[int, ...]
    kind: str
    of_loss: bool
    maker: bool = False
    code: str = ""
    code_place: str = ""
    tensors: int = 0
    located: dict[str, Any] | None = None

    @property
    def recorded(self) -> bool:
        """Whether the step in which it came up is on record."""
        return self.column is not None


def onset(signals: Signals, stuck: bool) -> Onset | None:
    """Finds the first NaN or Inf that does harm; None when there is none.

    Gradients that a scaler skips do none, unless it is `stuck`: it skips every step.
    """
    steps = signals.run.steps
    losses = steps["step"][steps["has_loss"] & ~np.isfinite(steps["loss"])]
    found: dict[str, tuple[int, list[int]]] = {}
    for quantity in QUANTITIES:
        excused = (
            signals.skipped.copy() if quantity in _OVERFLOWING and not stuck else np.zeros(len(signals.steps), bool)
        )
        if quantity == "activation":
            excused |= _meant(signals)
        first = signals.first_non_finite(quantity, excused)
        if first is not None:
            found[quantity] = first
    if not len(losses) and not found:
        return None
    step = min([int(each) for each in losses[:1]] + [each for each, _ in found.values()])
    of_loss = bool(len(losses)) and int(losses[0]) == step
    located = next((event.data for event in signals.run.events if event.kind == "located"), None)
    at_first = {quantity: sites for quantity, (each, sites) in found.items() if each == step}
    tensors = len({site for sites in at_first.values() for site in sites})
    columns = np.flatnonzero(signals.steps == step)
    quantity, sites, maker = _origin(signals, at_first, int(columns[0]) if len(columns) else -1, of_loss)
    column = int(columns[0]) if len(columns) and not _came_before(signals, quantity, int(columns[0])) else None
    kind = _kind(signals, step, quantity, sites, of_loss)
    code, place = _code(signals, quantity, sites[0], maker) if sites else ("", "")
    return Onset(step, column, quantity, tuple(sites), kind, of_loss, maker, code, place, tensors, located)


def reached(signals: Signals) -> NDArray[np.bool_]:
    """Recorded steps at which the loss or a gradient is not finite, or no gradient was seen."""
    steps = signals.run.steps
    broken = steps["step"][steps["has_loss"] & ~np.isfinite(steps["loss"])]
    unknown = np.isnan(signals.values("gradient", "count")).all(axis=0)
    found: NDArray[np.bool_] = unknown | signals.non_finite("gradient").any(axis=0) | np.isin(signals.steps, broken)
    return found


def _meant(signals: Signals) -> NDArray[np.bool_]:
    """Recorded steps whose activations hold -Inf alone, as masks do, and nothing comes of it."""
    others = [np.nan_to_num(signals.values("activation", field)) > 0 for field in ("nans", "positive_infs")]
    meant: NDArray[np.bool_] = ~reached(signals) & ~np.logical_or(*others).any(axis=0)
    return meant


def _origin(signals: Signals, found: dict[str, list[int]], column: int, of_loss: bool) -> tuple[str, list[int], bool]:
    """The quantity that had it first in the step, the sites with it, the origin first, and whether that one made it."""
    heads = [head for head in signals.run.info.heads if head in signals.modules]
    forward_seen = column >= 0 and not np.isnan(signals.values("activation", "count")[:, column]).all()
    if of_loss and not found.get("weight") and not found.get("activation") and (forward_seen or column < 0):
        return "loss", heads if column >= 0 else [], False
    if found.get("weight"):
        return "weight", _in_order(signals, found["weight"]), False
    if found.get("activation"):
        return "activation", _in_order(signals, found["activation"]), False
    if found.get("activation_gradient"):
        sites = _in_order(signals, found["activation_gradient"])[::-1]
        makers = _makers(signals, column)
        if makers:
            return "activation_gradient", [makers[0], *sites], True
        outermost = signals.modules[0] if signals.modules else -1
        if heads and outermost in signals.modules and _broken_at(signals, outermost, column):
            return "loss", [*heads, *sites], False
        return "activation_gradient", sites, False
    for quantity in ("gradient", "update"):
        if found.get(quantity):
            sites = _in_order(signals, found[quantity])
            return quantity, sites[::-1] if quantity == "gradient" else sites, False
    return "loss", [], False


def _broken_at(signals: Signals, site: int, column: int) -> bool:
    return bool(signals.values("activation_gradient", "non_finite")[site, column] == 1)


def _in_order(signals: Signals, sites: list[int]) -> list[int]:
    """Sites by when their module ended: a container after all that is in it."""
    ends = {site.path: site.order for site in signals.sites if site.role == "output"}
    for path, order in list(ends.items()):
        parts = path.split(".")
        for length in range(len(parts)):
            parent = ".".join(parts[:length])
            if parent in ends:
                ends[parent] = max(ends[parent], order)

    def place(index: int) -> tuple[float, int, int]:
        site = signals.sites[index]
        if site.role == "input":  # made when its module had got its own place, before all that is in it
            return site.order - 0.5, 0, index
        if site.role != "output":
            return site.order, 0, index
        return ends[site.path], -site.path.count(".") - bool(site.path), index

    return sorted(sites, key=place)


def _makers(signals: Signals, column: int) -> list[int]:
    """Modules to whose output a finite gradient came and whose input's is not, the last in execution order first."""
    at_step = signals.values("activation_gradient", "non_finite")[:, column]
    found = [
        i
        for i, site in enumerate(signals.sites)
        if at_step[i] == 0 and any(at_step[fed] == 1 for fed in site.inputs)  # NaN where none was seen
    ]
    return sorted(found, key=lambda i: -signals.sites[i].order)


def _came_before(signals: Signals, quantity: str, column: int) -> bool:
    """Whether it came up in a step before, which was not recorded: the weights have it already."""
    step = int(signals.steps[column])
    return quantity == "weight" and step > int(signals.run.steps["step"][0]) and (step - 1) not in signals.steps


def _kind(signals: Signals, step: int, quantity: str, sites: list[int], of_loss: bool) -> str:
    """NaN, Inf or -Inf."""
    column = np.flatnonzero(signals.steps == step)
    if sites and not of_loss and len(column):
        for each in (quantity, *QUANTITIES):
            for site in sites:
                for kind, field in (("NaN", "nans"), ("Inf", "positive_infs"), ("-Inf", "negative_infs")):
                    if each in QUANTITIES and signals.values(each, field)[site, column[0]] > 0:
                        return kind
    loss = signals.run.steps["loss"][signals.run.steps["step"] == step]
    if len(loss) and np.isinf(loss[0]):
        return "Inf" if loss[0] > 0 else "-Inf"
    return "NaN"


def _code(signals: Signals, quantity: str, site: int, maker: bool) -> tuple[str, str]:
    """The operations of code between modules right where it came up, which may be what made it, and where they are."""
    if maker or quantity not in ("activation", "activation_gradient"):
        return "", ""
    parts = any(link.source is not None for link in signals.links_in(site))
    for link in signals.run.info.links:
        if not link.operations:
            continue
        if quantity == "activation" and parts and link.container == site and link.target is None:
            return operation_kind(link.operations), "inside of"
        if quantity == "activation" and not parts and link.target == site:
            return operation_kind(link.operations), "before"
        if quantity == "activation_gradient" and link.source == site:
            return operation_kind(link.operations), "behind"
    return "", ""


# before


def largest_before(signals: Signals, found: Onset) -> tuple[int, float, float] | None:
    """Of the origin at the last recorded step before: the step, its largest magnitude, the decades to the format's end."""
    before = np.flatnonzero(signals.steps < found.step)
    if not len(before) or not found.sites:
        return None
    quantity = found.quantity if found.quantity in QUANTITIES else "activation"
    column, site = int(before[-1]), found.sites[0]
    size = magnitude(signals, quantity, site, column)
    if not size > 0:
        return None
    limit = LARGEST.get(signals.sites[site].dtype, LARGEST["float32"])
    return int(signals.steps[column]), size, math.log10(limit / size)


def magnitude(signals: Signals, quantity: str, site: int, column: int) -> float:
    """The largest finite magnitude of a tensor, as held in memory, without the loss scale; 0 when it was not seen."""
    ends = [signals.values(quantity, field)[site, column] for field in ("minimum", "maximum")]
    return max((abs(float(end)) for end in ends if math.isfinite(end)), default=0.0)


def growth_before(signals: Signals, step: int) -> tuple[float, float, float]:
    """How far things had grown before a step: the largest update ratio of a weight at the last recorded step before,
    and the factors by which gradient norm and loss had left the run's beginning behind; 0 where that is not known.
    """
    before = np.flatnonzero(signals.steps < step)
    weights = [i for i in signals.parameters if len(signals.sites[i].shape) > 1]
    ratio = 0.0
    if len(before) and len(weights):
        last = signals.update_ratio[weights][:, before[-1]]
        ratio = float(np.max(np.where(np.isfinite(last), last, 0.0), initial=0.0))
    rows = signals.run.steps[signals.run.steps["step"] < step]
    norm = np.where(np.isfinite(rows["gradient_norm"]), rows["gradient_norm"], rows["clipped_gradient_norm"])
    return ratio, _grown(norm), _grown(rows["loss"][rows["has_loss"]])


def _grown(series: NDArray[Any]) -> float:
    known = np.abs(series[np.isfinite(series)])
    if len(known) < 2 or not known[0] > 0:
        return 0.0
    start = float(np.median(known[: max(1, min(5, len(known) // 2))]))
    return float(known[-3:].max() / start) if start > 0 else 0.0


def depth_growth(signals: Signals, column: int) -> tuple[int, float, float]:
    """How the layers' outputs grow along the depth at a recorded step, as far as they are finite.

    Returns:
        How many layers were seen, the growth of one as a factor (geometric mean), and that of all together.
    """
    rms = signals.rms("activation")[:, column]
    layers = [i for i in signals.layers if rms[i] > 0 and math.isfinite(rms[i]) and signals.sites[i].same_as is None]
    fed = next((i for i, site in enumerate(signals.sites) if site.role == "input" and site.path == ""), None)
    start = rms[fed] if fed is not None and rms[fed] > 0 and math.isfinite(rms[fed]) else None
    if not layers:
        return 0, 1.0, 1.0
    first = float(start) if start is not None else float(rms[layers[0]])
    whole = float(rms[layers].max()) / first
    return len(layers), whole ** (1 / max(len(layers), 1)), whole


def output_range(signals: Signals, found: Onset) -> tuple[float, float]:
    """The smallest and largest number that the model gave up to then."""
    if not signals.modules:
        return math.nan, math.nan
    seen = signals.steps <= found.step
    low = signals.values("activation", "minimum")[signals.modules[0], seen]
    high = signals.values("activation", "maximum")[signals.modules[0], seen]
    known = np.isfinite(low) & np.isfinite(high)
    return (float(low[known].min()), float(high[known].max())) if known.any() else (math.nan, math.nan)


def operations_between(signals: Signals) -> set[str]:
    """Operations of code between modules, without what autograd adds to their names."""
    return {name.partition("Backward")[0] for link in signals.run.info.links for name in link.operations}


def all_operations(signals: Signals) -> set[str]:
    """The same, with those behind the head."""
    path = signals.run.info.loss_path
    behind = () if path is None else path.operations
    return operations_between(signals) | {name.partition("Backward")[0] for name in behind}


def first_layer_made_it(signals: Signals, found: Onset) -> bool:
    """Whether it came up in the output of the first layer with weights, which are finite, and so is the model's input."""
    weights = [i for i in signals.layers if signals.sites[i].mechanism == "weights"]
    return bool(weights) and found.quantity == "activation" and found.sites[:1] == (weights[0],)


def located(found: Onset) -> str:
    """What a replay of the step found, in words; "" without any."""
    place: dict[str, Any] = found.located or {}
    if not place.get("operation"):
        return ""
    line = f" at {_short(str(place['file']))}:{place['line']}" if place.get("file") else ""
    code = f" (`{place['code']}`)" if line and place.get("code") else ""
    module = str(place.get("module", "")) or "the model"
    operation, direction = place["operation"], place.get("direction")
    if direction == "input":
        return "what the model is fed"
    if direction == "target":
        return f"the targets that the loss is given{line}{code}"
    if direction == "weight":
        return f"{operation}, before the forward pass"
    if direction == "loss":
        return f"{operation} in the loss{line}{code}"
    title = f"layer {module}" if module.isdigit() else module
    return f"the {'activation' if direction == 'forward' else 'backward pass'} of {title}: {operation}{line}{code}"


def _short(file: str) -> str:
    """The last two parts of a path."""
    return "/".join(file.replace("\\", "/").split("/")[-2:])
