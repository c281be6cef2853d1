"""NaN and Inf: where and when they came up first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from gradscope.numerals import number, ranks_in_words
from gradscope.records import Cause, Event, Evidence, Finding, Run
from gradscope.rules.handwritten import run
from gradscope.rules.rule import Case, Rule, Threshold
from gradscope.signals import Signals
from gradscope.signals.expansion import expanding
from gradscope.signals.loss import squared_error
from gradscope.signals.non_finite import (
    Onset,
    all_operations,
    depth_growth,
    first_layer_made_it,
    growth_before,
    largest_before,
    located,
    onset,
    output_range,
    reached,
)
from gradscope.signals.output import output_side

_DOMAIN = ("log", "log2", "log10", "log1p", "sqrt", "rsqrt", "div", "pow", "norm", "linalg_vector_norm", "reciprocal")
_EXPONENTIAL = ("exp", "exp2", "expm1", "sinh", "cosh")


class NonFinite(Rule):
    """Flags the first NaN or Inf of a training and says where it came up.

    Why it hurts: one NaN reaches every weight within a step, and from then on nothing is learned.

    When it is harmless: a gradient scaler that skips a step with infinite gradients does what it is for. Such steps get
    a note. Ten of them in a row are no overflow any more: by then the loss scale is a thousandth of what it was.
    Activations of -Inf that reach neither the loss nor any gradient are masks; a NaN that does not either gets a note.

    How it is measured: every summary says exactly whether any entry is NaN or Inf. At the first recorded step with
    one, the first module in execution order whose output has it is the origin; when the outputs are finite and the loss
    is not, the loss is. When the loss is finite too the gradient has it, which flows backwards: the origin is the last
    module in execution order to whose output a finite gradient came and from whose input none went on; failing that,
    the last whose own gradient has it. Beside it stands what it was at the last recorded step before, and the decades
    that were left to the largest number of its format. When the step itself was not recorded the origin is not known:
    `every=1` records every step, and `on_non_finite="locate"` runs the step again and names the very operation and its
    line. In a training on many processes the ranks that had it first are named.

    What to do: the suggestion follows the cause, mostly steps that are too long; see learning-rate-too-high.
    """

    id = "non-finite"
    summary = "A loss, activation, gradient or weight is NaN or Inf."
    needs_steps = 1
    count = Threshold(1, "NaN or Inf entries", "exact: a single one is one too many")
    skips = Threshold(10, "skipped steps in a row", "each halves the loss scale, ten of them by 1,024")
    update = Threshold(
        0.5,
        "rms(Δw)/rms(w) of a weight at the last recorded step before",
        "as in exploding-gradient: healthy digits trainings stay below 0.03",
    )
    growth = Threshold(
        10,
        "gradient norm or loss over the run's beginning, a factor",
        "a decade above what noise does to a small batch",
    )
    depth = Threshold(
        1e3, "rms of the largest layer over that of the input, a factor", "three decades: healthy networks keep to 1.5"
    )
    fed = Threshold(
        10, "rms of what the model is fed", "standardised features have 1, raw pixels 100, raw prices and lengths more"
    )
    headroom = Threshold(2, "decades to the largest number of the format", "one step can grow a number a hundredfold")
    sources = (
        "IEEE 754-2019, arithmetic with infinities and NaN",
        "Micikevicius et al. 2018, Mixed precision training (arXiv:1710.03740)",
    )

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Finds the first NaN or Inf."""
        steps = signals.run.steps
        stuck = signals.skipped_in_a_row >= self.skips.value
        found = onset(signals, stuck)
        if found is None:
            yield from self._skips(signals)
            return
        losses = steps["step"][steps["has_loss"] & ~np.isfinite(steps["loss"])]
        now = stuck or bool(len(losses) and losses[-1] == steps["step"][-1]) or self._still(signals)
        message = f"{'Loss is' if found.of_loss else 'A value is'} {found.kind} since step {found.step:,}; "
        message += self._where(signals, found)
        causes = self._causes(signals, found)
        lost = found.quantity == "activation" and found.kind == "NaN" and not reached(signals).any()
        if lost:
            message += "; neither the loss nor a gradient has it"
        yield Finding(
            self.id,
            "note" if lost else "error" if now else "warning",
            self._layers(signals, found, causes[0].id),
            found.step,
            int(steps["step"][-1]) if now else found.step,
            f"{message}; the scaler skips every step" if stuck else message if now else f"{message}; it passed",
            tuple(self._evidence(signals, found)),
            tuple(causes),
        )

    def _skips(self, signals: Signals) -> Iterator[Finding]:
        """A note on steps that a gradient scaler skipped."""
        steps = signals.run.steps
        skipped = steps["step"][steps["skipped"]]
        if len(skipped):
            first, last = int(skipped[0]), int(skipped[-1])
            message = f"The gradient scaler skipped {len(skipped):,} of {len(steps):,} steps, the last at step {last:,}"
            evidence = Evidence("skipped in a row now", float(signals.skipped_in_a_row), "steps", self.skips.value)
            why = "gradients overflow at this loss scale, which the scaler then lowers: that is its work"
            yield Finding(self.id, "note", (), first, last, message, (evidence,), (Cause("precision", 0.9, why),))

    def _still(self, signals: Signals) -> bool:
        """Whether weights or activations are broken at the last recorded step."""
        return any(bool(signals.non_finite(quantity)[:, -1:].any()) for quantity in ("weight", "activation"))

    # where

    def _where(self, signals: Signals, found: Onset) -> str:
        """Where it began, in words."""
        place = located(found)
        if place:
            return f"it began in {place}"
        if not found.recorded:
            return 'its origin was not recorded: run with every=1 or on_non_finite="locate"'
        site = found.sites[0] if found.sites else -1
        if found.quantity == "loss":
            where = "the loss"
        elif found.maker:
            where = f"the backward pass of {_title(signals, site)}, to which a finite gradient came"
        else:
            where = f"the {found.quantity.replace('_', ' ')} of {_title(signals, site)}"
        if found.code:
            where += f" or the code {found.code_place} it ({found.code})"
        elif found.quantity == "activation" and signals.sites[site].mechanism != "weights" and signals.sites[site].path:
            where += f" ({signals.sites[site].kind})"
        return f"it began in {where}{_on_ranks(signals, found.step, site)}"

    def _layers(self, signals: Signals, found: Onset, cause: str) -> tuple[str, ...]:
        """The origin first; without one, what had least room left at the last recorded step before."""
        paths = [_layer(signals, site) for site in found.sites] if found.recorded else []
        if found.located and found.located.get("direction") in ("forward", "backward", "weight"):
            paths.insert(0, str(found.located.get("module", "")))
        elif found.located and found.located.get("direction") in ("loss", "target"):
            paths = [signals.sites[head].path for head in signals.run.info.heads] + paths
        if not paths and cause == "unscaled-input":
            paths = [signals.sites[i].path for i in signals.layers[:1]]
        if not paths:
            paths = [_layer(signals, site) for site in self._nearest(signals, found)]
        return tuple(dict.fromkeys(paths))

    def _nearest(self, signals: Signals, found: Onset) -> list[int]:
        """Weights that a step moved furthest at the last recorded step before; those of the layers, worst first."""
        before = np.flatnonzero(signals.steps < found.step)
        weights = [i for i in signals.parameters if len(signals.sites[i].shape) > 1]
        if not len(before) or not weights:
            return []
        ratio = np.nan_to_num(signals.update_ratio[weights][:, before[-1]], nan=0.0, posinf=np.inf)
        return [weights[row] for row in np.argsort(-ratio, kind="stable") if ratio[row] > 0]

    def _evidence(self, signals: Signals, found: Onset) -> Iterator[Evidence]:
        yield Evidence("tensors with NaN or Inf at that step", float(found.tensors), "", self.count.value, "0")
        steps = signals.run.steps
        previous = steps["loss"][(steps["step"] < found.step) & np.isfinite(steps["loss"])]
        if len(previous):
            yield Evidence("last finite loss", float(previous[-1]))
        before = largest_before(signals, found)
        if before is not None:
            step, size, decades = before
            yield Evidence(f"largest magnitude there at step {step:,}", size)
            dtype = signals.sites[found.sites[0]].dtype or "float32"
            yield Evidence(f"room to the largest {dtype}", decades, "decades", self.headroom.value)
        if found.located and isinstance(found.located.get("largest_input"), float):
            yield Evidence(f"largest input of {found.located.get('operation')}", found.located["largest_input"])
        ratio, norm, loss = growth_before(signals, found.step)
        if ratio > self.update.value:
            yield Evidence("update ratio before", ratio, "", self.update.value, "1e-4 … 0.05")
        for name, times in (("gradient norm", norm), ("loss", loss)):
            if times > self.growth.value:
                yield Evidence(f"growth of the {name} before", times, "", self.growth.value)

    # why

    def _causes(self, signals: Signals, found: Onset) -> list[Cause]:
        """What explains it, likeliest first."""
        blame: dict[str, tuple[float, str]] = {}

        def add(cause: str, confidence: float, why: str) -> None:
            if confidence > blame.get(cause, (0.0, ""))[0]:
                blame[cause] = confidence, why

        for judge in (self._data, self._formats, self._loss_side, self._beginning, self._steps, self._operations):
            for cause in judge(signals, found):
                add(cause.id, cause.confidence, cause.explanation)
        if not blame:
            add("no-clipping", 0.2, "nothing recorded before it was out of the ordinary")
        causes = [Cause(name, *rest) for name, rest in blame.items()]
        return sorted(causes, key=lambda cause: -cause.confidence)

    def _data(self, signals: Signals, found: Onset) -> Iterator[Cause]:
        """What the model is fed."""
        direction = (found.located or {}).get("direction")
        site = signals.fed
        broken = site is not None and found.column is not None and signals.non_finite("activation")[site, found.column]
        if direction == "input" or broken:
            yield Cause("unscaled-input", 0.95, "what the model is fed holds NaN or Inf already")
        elif direction == "target":
            yield Cause("unscaled-target", 0.9, "the targets hold NaN or Inf already")
        if site is None or broken:
            return
        size = signals.rms("activation")[site]
        size = size[np.isfinite(size)]
        if len(size) and size[0] > self.fed.value:
            why = f"what the model is fed has an rms of {number(float(size[0]))}; gradients and products grow with it"
            yield Cause("unscaled-input", 0.85, why)

    def _formats(self, signals: Signals, found: Onset) -> Iterator[Cause]:
        """Whether half precision ran out of numbers."""
        dtype = str((found.located or {}).get("dtype", "")) or (
            signals.sites[found.sites[0]].dtype if found.sites else ""
        )
        if dtype != "float16":
            return
        before = largest_before(signals, found)
        near = before is not None and before[2] < self.headroom.value
        operation = str((found.located or {}).get("operation", ""))
        if found.located and operation in _DOMAIN:
            return
        if found.quantity == "update":
            yield Cause("precision", 0.9, "the update is computed in float16, where Adam's eps of 1e-8 is 0")
        elif near and before is not None:
            why = f"float16 ends at 65,504; at step {before[0]:,} the largest was {number(before[1])}"
            yield Cause("precision", 0.9, why)
        else:
            yield Cause("precision", 0.75, "it is held in float16, which ends at 65,504; float32 goes on to 3e38")

    def _loss_side(self, signals: Signals, found: Onset) -> Iterator[Cause]:
        """Operations of the loss that not every output suits."""
        direction = (found.located or {}).get("direction")
        if direction in ("forward", "backward", "input", "weight", "target") or (
            not direction and found.quantity != "loss"
        ):
            return
        side = output_side(signals)
        names = {name.lower() for name in side.names} if side is not None else set()
        operation = str((found.located or {}).get("operation", ""))
        low, high = output_range(signals, found)
        if operation in _DOMAIN[:4] or (not operation and (names & {"log", "log2", "log10", "log1p"})):
            reach = f"outputs reach from {number(low)} to {number(high)}"
            if low < 0 or high > 1:
                why = f"the loss takes a logarithm, and {reach}: nothing keeps them between 0 and 1"
                yield Cause("output-activation", 0.85, why)
                yield Cause("loss-mismatch", 0.7, "a loss that takes logits needs no logarithm of an output")
            else:
                why = "the loss takes the logarithm of an output that can be exactly 0 or 1; the loss on logits cannot"
                yield Cause("loss-mismatch", 0.85, why)
                yield Cause("output-activation", 0.4, "the output's activation rounds to exactly 0 or 1")
        elif operation in _DOMAIN:
            why = f"the loss has a {operation} whose value or slope is infinite at 0"
            yield Cause("loss-mismatch", 0.8, why)
        elif operation in _EXPONENTIAL or (not operation and names & set(_EXPONENTIAL)):
            yield Cause("loss-mismatch", 0.6, "the loss takes an exponential of the output, which overflows")

    def _beginning(self, signals: Signals, found: Onset) -> Iterator[Cause]:
        """What was wrong before anything was learned."""
        if not len(signals.steps) or found.step < int(signals.steps[0]):
            return
        at_once = found.step == int(signals.run.steps["step"][0])
        layers, each, whole = depth_growth(signals, 0)
        gain = signals.backward_gain[signals.layers][:, :1]
        back = float(np.max(gain, where=np.isfinite(gain), initial=0.0))
        expansion = expanding(signals)
        if expansion is not None and (at_once or max(whole, back) > self.depth.value):
            yield Cause("activation-expands", 0.95, str(expansion))
        elif whole > self.depth.value or back > self.depth.value:
            grows = f"{number(each)} a layer, {number(whole)} over {layers} of them" if whole >= back else number(back)
            why = f"at the first step numbers grow with the depth already: {grows}"
            yield Cause("init-too-large", 0.9, why)
        elif at_once and found.quantity == "weight":
            yield Cause("init-too-large", 0.6, "the weights hold it before the first update")
        elif found.quantity == "activation" and found.recorded and first_layer_made_it(signals, found):
            why = "its weights and what the model is fed are finite: code before it makes it, a division by 0, say"
            yield Cause("unscaled-input", 0.8, why)
        elif at_once and found.quantity == "activation" and not found.code:
            yield Cause("init-too-large", 0.4, "it is there at the first step, before anything was learned")
        error = squared_error(signals)
        if error is not None and error.ratio[0] > 10 * self.growth.value:
            why = f"the targets were {number(float(error.ratio[0]))} times larger than the outputs at the first step"
            yield Cause("unscaled-target", 0.85, why)

    def _steps(self, signals: Signals, found: Onset) -> Iterator[Cause]:
        """Steps that were too long."""
        if found.step == int(signals.run.steps["step"][0]):
            return
        ratio, norm, loss = growth_before(signals, found.step)
        grown = []
        if ratio > self.update.value:
            grown.append(f"the last recorded step before moved a weight by {number(ratio)} times its own size")
        if norm > self.growth.value:
            grown.append(f"the gradient norm had grown {number(norm)}-fold")
        if loss > self.growth.value:
            grown.append(f"the loss had grown {number(loss)}-fold")
        if grown:
            yield Cause("learning-rate-too-high", 0.8, ", ".join(grown))
            if not signals.clipped_share > 0:
                yield Cause("no-clipping", 0.4, "nothing bounds the length of a step")
        elif not found.recorded and not found.located:
            why = "nothing had grown before: a batch that holds NaN or Inf does this, or a logarithm, root or quotient at 0"
            yield Cause("unscaled-input", 0.4, why)
            if risky := sorted(name for name in all_operations(signals) if name.lower() in _DOMAIN):
                why = f"the model or its loss takes {', '.join(risky)}, whose value or slope is infinite at 0"
                yield Cause("precision", 0.55, why)

    def _operations(self, signals: Signals, found: Onset) -> Iterator[Cause]:
        """An operation inside the model that not every number suits."""
        place = found.located or {}
        operation = str(place.get("operation", ""))
        names = {name.strip().lower() for name in found.code.split(",")} if not place else {operation}
        if place.get("direction") in ("input", "weight", "target", "loss") or not (names & {*_DOMAIN, *_EXPONENTIAL}):
            return
        what = " or ".join(sorted(names & {*_DOMAIN, *_EXPONENTIAL}))
        expansion = expanding(signals) if names & set(_EXPONENTIAL) else None
        if expansion is not None:
            yield Cause("activation-expands", 0.9, f"{expansion}; {what} overflows beyond 88 in float32")
        elif names & set(_EXPONENTIAL):
            yield Cause("init-too-large", 0.55, f"{what} overflows beyond 88 in float32 and 11 in float16")
        else:
            why = f"{what} is infinite, or has an infinite slope, at 0: keep its input away from there by an eps"
            yield Cause("precision", 0.5, why)

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        nan = float("nan")
        broken = [1.0, 1.0, 1.0, nan, nan, nan, nan, nan]
        both = {"a": broken, "b": broken}
        where = {"direction": "forward", "operation": "log", "module": "b", "file": "net.py", "line": 7, "said": ""}
        found = run(both, activation={"b": broken}, loss=broken)
        return (
            Case("activations turn NaN in the middle", run(both, activation={"b": broken}), ("b",)),
            Case("the outputs are finite, the loss is not", run(both, loss=broken), ("b",)),
            Case("a gradient is NaN", run({"a": broken, "b": 1.0}), ("b", "a")),
            Case("a replay named the operation", _with_event(found, 3, where), ("b",)),
            Case("large and finite", run({"a": 1e30, "b": 1.0}, loss=1e30)),
            Case(
                "the scaler skips every step",
                run({"a": [nan] * 16, "b": 1.0}, skipped=range(16), steps=16),
                ("b", "a"),
            ),
            Case(
                "a mask of -Inf that nothing comes of",
                run({"a": 1.0, "b": 1.0}, extra={("a", "activation"): {"non_finite": 1, "negative_infs": 500}}),
            ),
            Case("a loss that was not observed is not NaN", run({"a": 1.0, "b": 1.0}, loss=None)),
        )


def _with_event(run: Run, step: int, data: dict[str, Any]) -> Run:
    return replace(run, events=(Event(step, 0.0, "located", data),))


def _on_ranks(signals: Signals, step: int, site: int) -> str:
    """Which ranks of a training on many processes it began on, where it was not on all."""
    for fact in signals.run.rank_facts:
        if (fact.kind, fact.step, fact.site) == ("non-finite", step, site):
            return f" on {ranks_in_words(fact.ranks)}"
    return ""


def _title(signals: Signals, site: int) -> str:
    """The module that a site belongs to, inside a sentence."""
    path = _layer(signals, site)
    return f"layer {path}" if path.isdigit() else path or "the model"


def _layer(signals: Signals, site: int) -> str:
    """The path of the module that a site belongs to."""
    found = signals.sites[site]
    return found.path.rpartition(".")[0] if found.role == "parameter" else found.path
