"""NaN and Inf: where and when they came up first."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradscope.numerals import number, ranks_in_words
from gradscope.records import Cause, Evidence, Finding
from gradscope.rules.handwritten import run
from gradscope.rules.rule import Case, Rule, Threshold
from gradscope.signals import Signals

_OVERFLOWING = ("activation_gradient", "gradient")  # when a loss scale is too large
_FORWARD_FIRST = ("weight", "activation", "activation_gradient", "gradient", "update")


class NonFinite(Rule):
    """Flags the first NaN or Inf of a training and says where it came up.

    Why it hurts: one NaN reaches every weight within a step, and from then on nothing is learned.

    When it is harmless: a gradient scaler that skips a step with infinite gradients does what it is for. Such steps get
    a note. Ten of them in a row are no overflow any more: by then the loss scale is a thousandth of what it was.

    How it is measured: every summary says exactly whether any entry is NaN or Inf. At the first recorded step with
    one, the first module in execution order whose output has it is the origin. When all outputs are finite the gradient
    has it, which flows backwards: the origin is the last module in execution order to whose output a finite gradient
    came and from whose input none went on; failing that, the last whose own gradient has it. When steps between were
    not recorded, the origin is the first that was seen. In a training on many processes the ranks that had it first are
    named.

    What to do: the suggestion follows the cause, mostly gradients that explode; see exploding-gradient.
    """

    id = "non-finite"
    summary = "A loss, activation, gradient or weight is NaN or Inf."
    needs_steps = 1
    count = Threshold(1, "NaN or Inf entries", "exact: a single one is one too many")
    skips = Threshold(10, "skipped steps in a row", "each halves the loss scale, ten of them by 1,024")
    sources = ("IEEE 754-2019, arithmetic with infinities and NaN",)

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Finds the first NaN or Inf."""
        steps = signals.run.steps
        losses = steps["step"][steps["has_loss"] & ~np.isfinite(steps["loss"])]
        stuck = signals.skipped_in_a_row >= self.skips.value
        onsets = {}
        for quantity in _FORWARD_FIRST:
            excused = signals.skipped if quantity in _OVERFLOWING and not stuck else None
            onset = signals.first_non_finite(quantity, excused)
            if onset is not None:
                onsets[quantity] = onset
        if not len(losses) and not onsets:
            yield from self._skips(signals)
            return
        first = min([int(step) for step in losses[:1]] + [step for step, _ in onsets.values()])
        at_first = {quantity: sites for quantity, (step, sites) in onsets.items() if step == first}
        sites, what = [], "the loss"
        for quantity in _FORWARD_FIRST:
            if at_first.get(quantity):
                backward = quantity in ("activation_gradient", "gradient")
                sites = sorted(at_first[quantity], key=lambda i: signals.sites[i].order * (-1 if backward else 1))
                what = f"the {quantity.replace('_', ' ')} of {_title(signals, sites[0])}"
                break
        of_loss = bool(len(losses)) and int(losses[0]) == first
        kind = self._kind(signals, first, sites[0] if sites and not of_loss else None)
        if what.startswith("the activation gradient") and (makers := self._makers(signals, first)):
            sites = [makers[0], *sites]
            what = f"the backward pass of {_title(signals, makers[0])}, to which a finite gradient came"
        now = stuck or bool(len(losses) and losses[-1] == steps["step"][-1]) or self._still(signals)
        touched = len({site for found in at_first.values() for site in found})
        subject = "Loss is" if of_loss else "A value is"
        where = _on_ranks(signals, first, sites[0] if sites else -1)
        message = f"{subject} {kind} since step {first:,}; it began in {what}{where}"
        previous = steps["loss"][(steps["step"] < first) & np.isfinite(steps["loss"])]
        evidence = [Evidence("tensors with NaN or Inf at that step", float(touched), "", self.count.value, "0")]
        if len(previous):
            evidence.append(Evidence("last finite loss", float(previous[-1])))
        layers = tuple(dict.fromkeys(_layer(signals, site) for site in sites))
        yield Finding(
            self.id,
            "error" if now else "warning",
            layers,
            first,
            int(steps["step"][-1]) if now else first,
            f"{message}; the scaler skips every step" if stuck else message if now else f"{message}; it passed",
            tuple(evidence),
            tuple(self._causes(signals, first)),
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

    def _makers(self, signals: Signals, step: int) -> list[int]:
        """Modules to whose output a finite gradient came and whose input's is not, the last in execution order first."""
        at_step = signals.values("activation_gradient", "non_finite")[:, np.searchsorted(signals.steps, step)]
        found = [
            i
            for i, site in enumerate(signals.sites)
            if at_step[i] == 0 and any(at_step[fed] == 1 for fed in site.inputs)  # NaN where none was seen
        ]
        return sorted(found, key=lambda i: -signals.sites[i].order)

    def _kind(self, signals: Signals, step: int, site: int | None) -> str:
        """NaN or Inf, in a word."""
        column = np.flatnonzero(signals.steps == step)
        if site is not None and len(column):
            for quantity in _FORWARD_FIRST:
                if signals.values(quantity, "nans")[site, column[0]] > 0:
                    return "NaN"
                if signals.values(quantity, "positive_infs")[site, column[0]] > 0:
                    return "Inf"
                if signals.values(quantity, "negative_infs")[site, column[0]] > 0:
                    return "-Inf"
        loss = signals.run.steps["loss"][signals.run.steps["step"] == step]
        return "Inf" if len(loss) and np.isinf(loss[0]) else "NaN"

    def _still(self, signals: Signals) -> bool:
        """Whether weights or activations are broken at the last recorded step."""
        return any(bool(signals.non_finite(quantity)[:, -1:].any()) for quantity in ("weight", "activation"))

    def _causes(self, signals: Signals, first: int) -> list[Cause]:
        """What came just before."""
        causes = []
        before = np.flatnonzero(signals.steps < first)
        weights = [i for i in signals.parameters if len(signals.sites[i].shape) != 1]
        if len(before) and len(weights):
            ratio = float(np.nanmax(np.nan_to_num(signals.update_ratio[weights][:, before[-1]], nan=0.0)))
            if ratio > 0.5:
                why = f"the last recorded step before moved a weight by {number(ratio)} times its own size"
                causes.append(Cause("learning-rate-too-high", 0.6, why))
                causes.append(Cause("no-clipping", 0.4, "nothing bounds the length of a step"))
        if first == int(signals.run.steps["step"][0]):
            fed = [i for i, site in enumerate(signals.sites) if site.role == "input" and site.path == ""]
            if fed and bool(signals.non_finite("activation")[fed, 0].any()):
                causes.append(Cause("unscaled-input", 0.9, "what the model is fed holds NaN or Inf already"))
            else:
                causes.append(
                    Cause("init-too-large", 0.4, "it is there at the first step, before anything was learned")
                )
        return causes or [Cause("no-clipping", 0.2, "nothing recorded before it was out of the ordinary")]

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        nan = float("nan")
        broken = [1.0, 1.0, 1.0, nan, nan, nan, nan, nan]
        return (
            Case("activations turn NaN in the middle", run({"a": 1.0, "b": 1.0}, activation={"b": broken}), ("b",)),
            Case("a gradient is NaN", run({"a": broken, "b": 1.0}), ("b", "a")),
            Case("large and finite", run({"a": 1e30, "b": 1.0}, loss=1e30)),
            Case(
                "the scaler skips every step",
                run({"a": [nan] * 16, "b": 1.0}, skipped=range(16), steps=16),
                ("b", "a"),
            ),
            Case("a loss that was not observed is not NaN", run({"a": 1.0, "b": 1.0}, loss=None)),
        )


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
