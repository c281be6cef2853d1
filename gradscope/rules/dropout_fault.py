"""Dropout that leaves no signal, or that works when it should not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from gradscope.numerals import number
from gradscope.records import Cause, Evidence, Finding, Run, Severity
from gradscope.rules.handwritten import run
from gradscope.rules.rule import Case, Rule, Threshold
from gradscope.signals import Signals
from gradscope.signals.units import learned_share, option


class DropoutFault(Rule):
    """Flags dropout so strong that noise drowns the signal, left on in tests, or left off in training.

    Why it hurts: dropout with rate p gives each number a noise of p/(1-p) times its square. Layer after layer that
    multiplies, and the loss averages to that of a constant output. Dropout in tests makes every measured number worse
    than the network is; a model left in `eval()` trains without what it was built with.

    When it is harmless: one layer of 0.8, or 0.5 in every layer, is usual. Stochastic depth drops whole blocks beside a
    skip connection. A network whose loss falls has signal enough. A few forwards in training mode without gradients are
    a look at the training loss; a backbone that is kept in eval mode on purpose is not the whole model.

    How it is measured: the rates that the modules hold; the product of the signal-to-noise ratios (1-p)/p of the layers
    with p above 0.7; the chance p^n that all n numbers of a sample are dropped. Forwards without gradients are counted by
    the model's mode, and each training step says its mode.

    What to do: lower the rates to 0.1 … 0.5; call `model.eval()` before tests and `model.train()` after them.
    """

    id = "dropout-fault"
    summary = "Dropout is too strong, on in tests, or off in training."
    strong = Threshold(0.7, "dropout rate", "Srivastava et al. 2014 find 0.2 … 0.5 best; 0.8 once is used")
    signal = Threshold(
        0.02,
        "product of (1-p)/p over strong layers",
        "by arithmetic: 0.8 once 0.25, 0.8 twice 0.06, 0.9 twice 0.012, 0.95 twice 0.003",
    )
    nothing = Threshold(
        0.1, "chance that all numbers of a sample are dropped, p^n", "a tenth of the samples says nothing"
    )
    learned = Threshold(
        0.3, "share of the loss", "calibrated: digits trainings with 0.5 in every layer learn more in 100 steps"
    )
    tests = Threshold(10, "forwards without gradients", "fewer are a look at the training loss")
    sources = (
        "Srivastava et al. 2014, Dropout: a simple way to prevent neural networks from overfitting",
        "Huang et al. 2016, Deep networks with stochastic depth (arXiv:1603.09382)",
    )

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Finds too strong dropout, dropout in tests, and models left in eval mode."""
        rates = {
            i: option(signals.sites[i].label, "p")
            for i in signals.layers
            if signals.sites[i].mechanism == "dropout" and "Depth" not in signals.sites[i].kind
        }
        rates = {i: rate for i, rate in rates.items() if rate > 0}
        if not rates:
            return
        finding = self._strong(signals, rates) or self._in_tests(signals, rates) or self._off(signals, rates)
        if finding is not None:
            yield finding

    def _strong(self, signals: Signals, rates: dict[int, float]) -> Finding | None:
        """Rates that leave no signal, in a network that does not learn."""
        learned, _ = learned_share(signals)
        strong = [i for i in rates if rates[i] > self.strong.value and signals.sites[i].training]
        if not strong or learned > self.learned.value:
            return None
        into = [link.target for link in signals.run.info.links]
        used = {i: max(into.count(i), 1) for i in strong}  # one module may be applied in several places
        left = math.prod(((1 - rates[i]) / rates[i]) ** used[i] for i in strong)
        silence = {i: rates[i] ** _features(signals, i) for i in strong}
        worst = max(strong, key=lambda i: (silence[i], rates[i]))
        drowned = left < self.signal.value and sum(used.values()) > 1
        if not drowned and silence[worst] < self.nothing.value:
            return None
        severity: Severity = "error" if left < self.signal.value / 10 or silence[worst] > 0.5 else "warning"
        every = [rates[i] for i in strong for _ in range(used[i])]
        listed = ", ".join(f"{rate:g}" for rate in every[:4]) + (" …" if len(every) > 4 else "")
        if drowned:
            first, message = strong[0], f"Dropout leaves {number(left)} of signal to noise: rates {listed}"
        else:
            first = worst
            message = (
                f"Dropout {signals.sites[worst].title} drops all there is in {number(silence[worst])} of the samples"
            )
        why = f"each dropout of rate p leaves (1-p)/p of signal to noise; {len(every)} strong ones leave {number(left)}"
        evidence = [
            Evidence("signal to noise that strong dropout leaves", left, "", self.signal.value, "0.2 … 1"),
            Evidence("chance that a sample loses everything", silence[worst], "", self.nothing.value, "0"),
        ]
        if math.isfinite(learned):
            evidence.append(Evidence("share of the loss that was learned", learned, "", self.learned.value))
        ordered = [first, *(i for i in strong if i != first)]
        return self._finding(signals, severity, ordered, message, evidence, Cause("dead-path", 0.8, why))

    def _in_tests(self, signals: Signals, rates: dict[int, float]) -> Finding | None:
        """Tests that were all run in training mode."""
        info = signals.run.info
        if info.tested_in_training_mode < self.tests.value or info.tested_in_eval_mode:
            return None
        message = f"Dropout was on in all {info.tested_in_training_mode} forwards without gradients, and never off"
        evidence = [
            Evidence(
                "forwards without gradients in training mode", info.tested_in_training_mode, "", self.tests.value, "0"
            )
        ]
        why = "what is measured in training mode is the network with a random part of it missing"
        return self._finding(signals, "warning", list(rates), message, evidence, Cause("frozen", 0.3, why))

    def _off(self, signals: Signals, rates: dict[int, float]) -> Finding | None:
        """A model that was in eval mode while it trained."""
        steps = signals.run.steps
        off = steps["recorded"] & ~steps["training_mode"]
        known = steps[steps["recorded"]]
        if len(known) < self.needs_steps or known["training_mode"][-self.needs_steps :].any():
            return None
        shut = [i for i in rates if not signals.sites[i].training]
        if not shut:
            return None
        first = int(steps["step"][off][0])
        message = "The model trains in eval mode: its dropout is off"
        if known["training_mode"].any():
            message += f" since step {first:,}, as after a test without model.train()"
        evidence = [
            Evidence("recorded training steps in eval mode", float(off.sum() / max(len(known), 1)), "share", None, "0")
        ]
        why = "model.train() was not called before these steps"
        return self._finding(signals, "warning", shut, message, evidence, Cause("frozen", 0.7, why), first)

    def _finding(
        self,
        signals: Signals,
        severity: Severity,
        layers: list[int],
        message: str,
        evidence: list[Evidence],
        cause: Cause,
        first: int | None = None,
    ) -> Finding:
        first = int(signals.steps[0]) if first is None else first
        paths = tuple(signals.sites[i].path for i in layers)
        last = int(signals.steps[-1])
        return Finding(self.id, severity, paths, min(first, last), last, message, tuple(evidence), (cause,))

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        fallen: dict[str, Any] = {"loss": list(np.linspace(2.3, 0.3, 60)), "steps": 60}
        return (
            Case("0.95 in every layer", _dropouts(0.95, 0.95), ("d0", "d1")),
            Case("all ten numbers of a sample are dropped", _dropouts(0.9, features=10), ("d0",)),
            Case("on in all tests", _dropouts(0.3, info={"tested_in_training_mode": 40}), ("d0",)),
            Case("off in training", _dropouts(0.3, training=False, columns={"training_mode": 0.0}), ("d0",)),
            Case("0.8 once", _dropouts(0.8)),
            Case("0.5 in every layer", _dropouts(0.5, 0.5, 0.5, 0.5, 0.5, 0.5)),
            Case("0.95 in every layer of a network that learns", _dropouts(0.95, 0.95, **fallen)),
            Case("a look at the training loss", _dropouts(0.3, info={"tested_in_training_mode": 3})),
            Case(
                "tested in both modes", _dropouts(0.3, info={"tested_in_training_mode": 40, "tested_in_eval_mode": 9})
            ),
            Case("a backbone in eval mode inside a model that trains", _dropouts(0.3, training=False)),
        )


def _features(signals: Signals, dropout: int) -> float:
    """How many numbers of a sample it drops from; channels where it drops channels. Many when not known."""
    shape = signals.sites[dropout].shape
    whole = signals.sites[dropout].kind in ("Dropout1d", "Dropout2d", "Dropout3d")
    return math.prod(shape[1:2] if whole else shape[1:]) if len(shape) > 1 else math.inf


def _dropouts(*rates: float, features: int = 100, training: bool = True, **options: Any) -> Run:
    """A chain of layers with a dropout of each rate between them."""
    paths = [name for index in range(len(rates)) for name in (f"a{index}", f"d{index}")]
    made = run(
        dict.fromkeys([*paths, "c"], 1.0), kinds={path: "Dropout" for path in paths if path[0] == "d"}, **options
    )
    sites = [
        replace(
            site,
            label=f"Dropout(p={rates[int(site.path[1:])]}, inplace=False)",
            mechanism="dropout",
            shape=(100, features),
            training=training,
        )
        if site.kind == "Dropout" and site.role == "output"
        else site
        for site in made.info.sites
    ]
    return replace(made, info=replace(made.info, sites=tuple(sites)))
