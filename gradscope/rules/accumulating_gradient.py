"""Gradients that are added to those of the steps before, because nobody zeroes them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from gradscope.numerals import number
from gradscope.records import Cause, Check, Evidence, Finding, Severity
from gradscope.rules.handwritten import run
from gradscope.rules.rule import Case, Rule, Threshold
from gradscope.signals import Signals
from gradscope.signals.curvature import Curvature
from gradscope.signals.descent import descent


class AccumulatingGradient(Rule):
    """Flags gradients that were not zeroed after the optimizer used them.

    Why it hurts: a step goes along the sum of all gradients so far, most of them of weights that are long gone. The sum
    grows with the number of steps, as momentum without friction does: the weights swing through every minimum.

    When it is harmless: gradients of several backward passes of one step belong together (accumulation over
    micro-batches); momentum and Adam's moments are kept apart from the gradients. Gradients of parameters that no
    optimizer holds may lie about.

    How it is measured: at each recorded step the norm of what lay in the gradients before the step's first backward pass
    came to them, over their norm after the last one: 0 when they were zeroed. Where that was not seen, consecutive
    gradients tell: their cosine is near 1 and the norm grows from step to step.

    What to do: call optimizer.zero_grad() once for every optimizer.step().
    """

    id = "accumulating-gradient"
    summary = "Gradients are added to those of earlier steps; nobody zeroes them."
    needs_steps = 3
    carried = Threshold(
        0.3,
        "norm of the gradients before the step's first backward pass over that after the last one, a share",
        "calibrated: zeroed gradients give exactly 0, those never zeroed 0.51 at the second step and 0.7 and more later",
    )
    growth = Threshold(
        1.8,
        "gradient norm of the fourth step in a row over that of the first, a factor",
        "THEORY T22: √t for noise gives 2, t for a constant gradient 4",
    )
    cosine = Threshold(
        0.8,
        "smallest cosine between gradients of steps in a row, the first pair aside",
        "the sum of t gradients and that of t + 1 of pure noise have √(t / (t + 1)): 0.82 for t = 2",
    )
    sources = (
        "torch.optim.Optimizer.zero_grad; THEORY T22: ‖g_t‖ grows as t or √t, cos(g_t, g_t-1) goes to 1",
        "Humbatova et al. 2020, Taxonomy of real faults in deep learning systems (arXiv:1910.11015)",
    )

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Finds gradients that were there before the step began to make its own."""
        found = self._seen(signals) or self._inferred(signals)
        if found is None:
            return
        column, evidence, why = found
        course = descent(signals)
        hurt = course is None or course.broke >= 0 or course.level > 0.5 or course.rise > 0.08
        severity: Severity = "error" if hurt else "warning"
        norm = signals.norm("gradient")
        weights = [i for i in signals.parameters if signals.sites[i].optimized and np.isfinite(norm[i, column])]
        layers = [signals.sites[i].module for i in sorted(weights, key=lambda i: -norm[i, column])]
        steps = signals.run.steps
        yield Finding(
            self.id,
            severity,
            tuple(dict.fromkeys(layers)),
            int(signals.steps[column]),
            int(steps["step"][-1]),
            f"Gradients are never zeroed: {why}",
            (evidence, *self._size(signals)),
            (Cause("gradient-not-zeroed", 0.97, why),),
        )

    def _seen(self, signals: Signals) -> tuple[int, Evidence, str] | None:
        """What lay in the gradients, where that was seen."""
        carried = _column(signals, "carried")
        known = np.flatnonzero(np.isfinite(carried) & ~signals.skipped)
        later = known[known > known[0]] if len(known) else known  # the first step has nothing to carry over
        if len(later) < 2 or np.median(carried[later]) <= self.carried.value:
            return None
        column = int(later[np.flatnonzero(carried[later] > self.carried.value)[0]])
        share = float(np.median(carried[later]))
        name = "share of the gradients that was there before the step's backward pass, median"
        why = f"{number(100 * min(share, 1.0))} % of what the optimizer is handed was there before the step's backward pass"
        return column, Evidence(name, share, "", self.carried.value, "0"), why

    def _inferred(self, signals: Signals) -> tuple[int, Evidence, str] | None:
        """The same from the first steps in a row, where it was not seen."""
        if np.isfinite(_column(signals, "carried")).any():
            return None
        cosine, norm = Curvature(signals).alignment, _column(signals, "gradient_norm")
        if len(signals.steps) < 4 or not np.array_equal(signals.steps[:4], np.arange(4) + signals.steps[0]):
            return None
        growth = norm[3] / norm[0] if norm[0] > 0 else math.nan
        if not (
            cosine[2:4].min() > self.cosine.value and growth > self.growth.value and bool((np.diff(norm[:4]) > 0).all())
        ):
            return None
        why = f"the gradient norm grew {number(growth)} times in four steps, each along the one before"
        return (
            1,
            Evidence("growth of the gradient norm in four steps", float(growth), "times", self.growth.value, "1"),
            why,
        )

    def _size(self, signals: Signals) -> list[Evidence]:
        cosine = Curvature(signals).alignment
        known = cosine[np.isfinite(cosine)]
        return [Evidence("cosine between gradients of consecutive steps", float(known[-1]))] if len(known) else []

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        chain = {"a": 1.2, "b": 1.0}
        carried = [0.0, 0.6, 0.7, 0.8, 0.85, 0.9, 0.9, 0.9]
        return (
            Case("never zeroed", run(chain, columns={"carried": carried}), ("a", "b")),
            Case("zeroed before each step", run(chain, columns={"carried": 0.0})),
            Case("micro-batches of one step", run(chain, columns={"backwards": 8, "carried": 0.0})),
            Case("a little is left at a single step", run(chain, columns={"carried": [0.0, 0.0, 0.4, 0, 0, 0, 0, 0]})),
            Case(
                "not seen, but each gradient is the one before and more",
                run(
                    chain,
                    gradient={name: [1.0, 2, 3, 4, 5, 6, 7, 8] for name in ("a.weight", "b.weight")},
                    extra={
                        (name, "gradient_change"): {"rms": 1.0, "weight_dot": 0.0} for name in ("a.weight", "b.weight")
                    },
                    columns={"carried": math.nan, "gradient_norm": [1.0, 2, 3, 4, 5, 6, 7, 8]},
                ),
                ("a", "b"),
            ),
            Case("a gradient that stays the same", run(chain, columns={"carried": math.nan})),
        )

    def applies(self, signals: Signals) -> Check | None:
        """Needs gradients that an optimizer uses."""
        missing = super().applies(signals)
        if missing is None and not len(signals.parameters):
            return Check(self.id, "not-applicable", "no parameter was observed")
        return missing


def _column(signals: Signals, name: str) -> np.ndarray:
    """A column of the steps at the recorded ones, NaN where the step has no row."""
    steps = signals.run.steps
    result = np.full(len(signals.steps), np.nan)
    place = np.searchsorted(steps["step"], signals.steps)
    there = place < len(steps)
    there[there] &= steps["step"][place[there]] == signals.steps[there]
    result[there] = steps[name][place[there]]
    return result
