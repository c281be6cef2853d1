"""Gradients that fade, or grow, on their way back through time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from gradscope.numerals import number
from gradscope.records import QUANTITIES, Cause, Evidence, Finding, Run, Severity, Site
from gradscope.rules.handwritten import run
from gradscope.rules.rule import Case, Rule, Threshold
from gradscope.signals import Signals
from gradscope.signals.units import learned_share

_GATED = ("LSTM", "GRU", "LSTMCell", "GRUCell")


class _Profile(NamedTuple):
    """The gradient over time at one recorded step."""

    module: int
    column: int
    first: float  # norm at the first tenth of the time steps
    last: float  # at the last tenth
    largest: float
    steps: int  # time steps, as far as they are told apart
    grows: bool  # from quarter to quarter, on its way back


class VanishingThroughTime(Rule):
    """Flags recurrent layers whose gradient does not survive its way back to the first time steps, or explodes there.

    Why it hurts: what happened early in the sequence gets no say in the loss: the network learns from the last few time
    steps alone. Where the gradient grows instead, a single early time step owns the update.

    When it is harmless: a memory that is short is no fault where the task is local, so a network whose loss falls is left
    alone; an LSTM opens its forget gates while it learns. A loss that looks at every time step reaches each of them
    directly.

    How it is measured: the norm of the gradient at each time step, at the input of an RNN, LSTM or GRU, or call by call
    of a cell: the first tenth against the largest. Vanishing counts when the loss does not fall either.

    What to do: a gated recurrence (LSTM or GRU, forget bias 1 and more), an orthogonal recurrent matrix, shorter
    sequences; for gradients that explode, clip their norm.
    """

    id = "vanishing-through-time"
    summary = "The gradient fades, or explodes, on its way back through time."
    fades = Threshold(
        1e-4,
        "gradient norm at the first time steps over the largest, a factor",
        "calibrated: LSTMs over 8 time steps stay above 1e-2; a tanh RNN of spectral radius 0.7 over 100 gives 1e-15",
    )
    hopeless = Threshold(
        1e-8, "gradient norm at the first time steps over the largest, a factor", "float32 keeps 7 digits"
    )
    grows = Threshold(
        1e3, "gradient norm at the first time steps over the last ones, a factor", "orthogonal recurrence gives 1"
    )
    learned = Threshold(0.1, "share of the loss", "a network that learns has memory enough for its task")
    patience = Threshold(100, "steps", "a loss needs that long to show that it does not fall")
    length = Threshold(8, "time steps", "shorter sequences are no long chain")
    sources = (
        "Hochreiter 1991; Bengio et al. 1994; Pascanu et al. 2013 (arXiv:1211.5063); THEORY T24, T25",
        "Jozefowicz et al. 2015, An empirical exploration of recurrent network architectures (forget bias 1)",
    )

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Finds the recurrent module whose gradient fades or grows most."""
        learned, steps = learned_share(signals)
        if learned > self.learned.value:
            return
        profiles = [found for module in signals.modules if (found := self._profile(signals, module)) is not None]
        exploding = [p for p in profiles if p.grows and p.last > 0 and p.first > self.grows.value * p.last]
        if exploding:
            yield self._exploding(signals, max(exploding, key=lambda p: p.first / p.last), learned)
            return
        fading = [p for p in profiles if p.first < self.fades.value * p.largest]
        if not fading:
            return
        worst = min(fading, key=lambda p: p.first / p.largest)
        stuck = steps >= self.patience.value and learned <= self.learned.value
        gated = signals.sites[worst.module].kind in _GATED
        if stuck:
            yield self._vanishing(signals, worst, learned, "error" if not gated else "warning")
        elif not gated and worst.first < self.hopeless.value * worst.largest:
            yield self._vanishing(signals, worst, learned, "note")

    def _profile(self, signals: Signals, module: int) -> _Profile | None:
        """The latest profile of a module; None where there is none of enough time steps."""
        profile = signals.time_profile(module)
        known = np.flatnonzero(np.isfinite(profile).all(axis=1)) if profile.shape[1] else np.array([], int)
        width = self._width(signals, module)
        if len(known) < self.needs_steps or profile.shape[1] * width < self.length.value or profile.shape[1] < 4:
            return None
        column = int(known[-1])
        values = np.median(profile[known[-3:]], axis=0)
        tenth = max(1, len(values) // 10)
        quarters = [float(np.median(part)) for part in np.array_split(values, 4)]
        grows = quarters == sorted(quarters, reverse=True)
        first, last = float(values[:tenth].max()), float(values[-tenth:].max())
        return _Profile(module, column, first, last, float(values.max()), profile.shape[1] * width, grows)

    def _width(self, signals: Signals, module: int) -> int:
        """Time steps that one bin of the profile holds."""
        spans = [
            site.path.rpartition("[")[2].removesuffix("]").split(":")
            for site in signals.sites
            if site.role == "time" and site.path.rpartition("[")[0] == signals.sites[module].path
        ]
        return max((int(stop) - int(start) for start, stop in spans), default=1)

    def _vanishing(self, signals: Signals, worst: _Profile, learned: float, severity: Severity) -> Finding:
        site, ratio = signals.sites[worst.module], worst.first / worst.largest
        each = f", {number(ratio ** (1 / worst.steps))} a time step" if ratio > 0 else ""
        message = (
            f"Gradients vanish through time in {site.title}: {number(ratio)} is left after {worst.steps} time steps"
        )
        why = f"{worst.steps} time steps each pass the gradient on to the one before: {number(ratio)} is left{each}"
        causes = [Cause("long-backprop-chain", 0.85, why)]
        evidence = [
            Evidence(
                f"gradient at {site.name}'s first time steps", ratio, "of the largest", self.fades.value, "0.01 … 1"
            )
        ]
        return self._finding(signals, worst, severity, message, evidence, causes, learned)

    def _exploding(self, signals: Signals, worst: _Profile, learned: float) -> Finding:
        site, ratio = signals.sites[worst.module], worst.first / worst.last
        each = number(ratio ** (1 / worst.steps))
        message = f"Gradients explode through time in {site.title}: {number(ratio)}-fold over {worst.steps} time steps"
        why = f"{worst.steps} time steps each multiply the gradient by {each} on its way back"
        causes = [
            Cause("long-backprop-chain", 0.85, why),
            Cause("init-too-large", 0.4, "the recurrent weights stretch the state at every step"),
        ]
        if not signals.clipped_share > 0.5:
            causes.insert(1, Cause("no-clipping", 0.6, "nothing bounds the length of a step"))
        evidence = [
            Evidence(
                f"gradient at {site.name}'s first time steps", ratio, "of the last ones'", self.grows.value, "0.01 … 10"
            )
        ]
        severity: Severity = "error" if ratio > self.grows.value**2 else "warning"
        return self._finding(signals, worst, severity, message, evidence, causes, learned)

    def _finding(
        self,
        signals: Signals,
        worst: _Profile,
        severity: Severity,
        message: str,
        evidence: list[Evidence],
        causes: list[Cause],
        learned: float,
    ) -> Finding:
        if math.isfinite(learned):
            evidence.append(Evidence("share of the loss that was learned", learned, "", self.learned.value))
        path = signals.sites[worst.module].path
        first, last = int(signals.steps[0]), int(signals.steps[-1])
        return Finding(self.id, severity, (path,), first, last, message, tuple(evidence), tuple(causes))

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        stuck: dict[str, Any] = {"loss": 0.69, "steps": 120}
        fallen: dict[str, Any] = {"loss": list(np.geomspace(0.69, 0.01, 120)), "steps": 120}
        return (
            Case("a tanh RNN of spectral radius 0.7 over 100 time steps", _over_time(0.7, **stuck), ("rnn",)),
            Case("a recurrence of 1.2 a time step", _over_time(1.2), ("rnn",)),
            Case("an LSTM that forgets and does not learn", _over_time(0.5, kind="LSTM", **stuck), ("rnn",)),
            Case("a short memory that learns its task", _over_time(0.7, **fallen)),
            Case("an LSTM at the start opens its gates as it learns", _over_time(0.5, kind="LSTM")),
            Case("an orthogonal recurrence", _over_time(1.0, **stuck)),
            Case("a short sequence", _over_time(0.5, length=7, **stuck)),
        )


def _over_time(each: float, *, length: int = 50, kind: str = "RNN", **options: Any) -> Run:
    """A recurrent layer whose gradient changes by a factor at every time step on its way back."""
    made = run({"rnn": 1.0, "c": 1.0}, kinds={"rnn": kind}, **options)
    pattern = made.summaries[
        (made.summaries["site"] == 1) & (made.summaries["quantity"] == QUANTITIES.index("activation_gradient"))
    ]
    sites, rows = list(made.info.sites), [made.summaries]
    for moment in range(length):
        time = pattern.copy()
        time["site"] = len(sites)
        time["sum_squares"] *= each ** (2 * (length - 1 - moment))
        sites.append(Site(f"rnn[{moment}:{moment + 1}]", "time", kind, 1, "recurrence"))
        rows.append(time)
    table = np.concatenate(rows)
    table = table[np.argsort(table["step"], kind="stable")]
    return replace(made, info=replace(made.info, sites=tuple(sites)), summaries=table)
