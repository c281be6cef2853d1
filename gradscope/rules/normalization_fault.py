"""Normalisation by statistics that are not the data's."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from gradscope.numerals import number
from gradscope.records import Cause, Evidence, Finding, Run, Severity, Site
from gradscope.rules.handwritten import run
from gradscope.rules.rule import Case, Rule, Threshold
from gradscope.signals import Signals
from gradscope.signals.units import earliest, fed_size, latest, learned_share, onset, option


class NormalizationFault(Rule):
    """Flags normalisation by statistics that say nothing: of one or two numbers, of a constant, or of other data.

    Why it hurts: two numbers, normalised, are -1 and 1 whatever they were, and one number is 0: the layers before it
    get no gradient. Over a batch of one image BatchNorm takes away what tells this image from the others, and in `eval()`
    it does not. Running statistics that are not the data's make `eval()` another network than the one that trained.

    When it is harmless: running statistics lag behind for the first steps by design. Single channels that are constant
    (the border of an image) stay constant. A frozen BatchNorm whose statistics fit its data works as a fixed scaling. A
    stack of BatchNorm and ReLU grows the gradient by 1.21 a layer at the start and trains all the same (THEORY T10).

    How it is measured: (1) how many numbers are normalised together; (2) variance / (variance + eps) of each group: near
    0 the output is eps's, not the data's; (3) per channel, how far the running mean and deviation lie from the batch's, in
    deviations and e-folds, once the running average had time to get there; the same for batches of one
    sample, whose own statistics stand beside those of all samples; (4) transformers that normalise after the sum
    (post-norm), were given no warm-up, and do not learn.

    What to do: larger batches, or LayerNorm or GroupNorm, which need none; `model.train()` before training; a momentum
    that follows the data (0.1); warm up the learning rate, or normalise before each block instead of after it.
    """

    id = "normalization-fault"
    summary = "Normalisation works with statistics that say nothing about the data."
    few = Threshold(2, "numbers normalised together", "n numbers keep n - 2 degrees of freedom: none of 2")
    scarce = Threshold(3, "numbers normalised together", "of 3 one degree of freedom is left; batches of 4 train")
    own = Threshold(
        0.1,
        "mean of variance / (variance + eps)",
        "calibrated: healthy BatchNorm, GroupNorm and LayerNorm trainings stay above 0.9",
    )
    gap = Threshold(
        0.7,
        "mean over channels of |mean - running mean| / deviation + |ln(deviation / running deviation)|, beyond noise",
        "calibrated: healthy trainings stay below 0.35 after 50 steps with batches of 64 and more; statistics that were "
        "never updated give 1.4 to 6",
    )
    noise = Threshold(
        2.5,
        "over the root of the numbers normalised together, added to the gap's threshold",
        "a mean of n numbers is off by 0.8/√n, a deviation by 0.6/√n; calibrated: healthy batches of 4 reach 1, of 8 0.6",
    )
    updates = Threshold(5, "time constants of the running average", "e^-5: less than 1 % of the initial values is left")
    idle = Threshold(0.002, "momentum", "0.1 is torch's, 0.01 many others'; with 0.002 half is new after 350 updates")
    alone = Threshold(
        0.2,
        "the gap above, median over the later looks, in batches of one sample",
        "calibrated: 0.4 to 0.6 in batches of one image that cost accuracy, 0.1 to 0.3 in batches of 4, 0.1 in those of 32",
    )
    post_norms = Threshold(6, "post-norm blocks", "Xiong et al. 2020: 6 layers fail without warm-up, few layers do not")
    learned = Threshold(0.1, "share of the loss", "healthy trainings learn more in 100 steps")
    patience = Threshold(100, "steps", "a loss needs that long to show that it does not fall")
    sources = (
        "Ioffe & Szegedy 2015, Batch normalization (arXiv:1502.03167); Ioffe 2017, Batch renormalization (arXiv:1702.03275)",
        "Wu & He 2018, Group normalization (arXiv:1803.08494)",
        "Xiong et al. 2020, On layer normalization in the transformer architecture (arXiv:2002.04745)",
    )

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Finds what a normalisation has too little of, one finding a run: the worst kind first."""
        norms = [i for i in signals.layers if signals.sites[i].mechanism == "normalisation"]
        for look in (self._lonely, self._by_eps, self._far, self._single, self._post_norm):
            finding = look(signals, norms)
            if finding is not None:
                yield finding
                return

    def _lonely(self, signals: Signals, norms: list[int]) -> Finding | None:
        """Groups of so few numbers that nothing is left of them, or whose numbers are all one."""
        share = signals.share("group_variance", "zeros")
        size = {i: entries_together(signals.sites[i]) for i in norms}
        empty = [i for i in norms if latest(share[i]) == 1 and earliest(share[i]) == 1 and _is_fed(signals, i)]
        few = [i for i in norms if size[i] <= self.scarce.value and _by_batch(signals, i)]
        sick = sorted({*empty, *few}, key=lambda i: signals.sites[i].order)
        if not sick:
            return None
        first = sick[0]
        learned, _ = learned_share(signals)
        site, entries = signals.sites[first], size[first]
        hopeless = (first in empty or entries <= self.few.value) and not learned > self.learned.value
        severity: Severity = "error" if hopeless else "warning"
        if entries <= 1 or first in empty:
            message = f"{site.kind} {site.title} gives a constant: the numbers it normalises together have no variance"
            why = "one number, or equal numbers, less their mean are 0: no signal and no gradient passes"
        else:
            message = f"{site.kind} {site.title} normalises {int(entries)} numbers together: little is left of them"
            why = f"{int(entries)} numbers keep {max(int(entries) - 2, 0)} degrees of freedom; 2 become -1 and 1"
        evidence = (
            [Evidence("numbers normalised together", entries, "", self.scarce.value, "16 and more")]
            if entries < math.inf
            else []
        )
        if math.isfinite(latest(share[first])):
            evidence.append(Evidence("share of groups without any variance", latest(share[first]), "", None, "0"))
        cause = Cause("dead-path", 0.8, why)
        return self._finding(signals, severity, sick, 0, message, evidence, [cause])

    def _by_eps(self, signals: Signals, norms: list[int]) -> Finding | None:
        """Groups whose variance is so small that eps takes its place."""
        with np.errstate(invalid="ignore", divide="ignore"):
            share = signals.values("group_variance", "sum") / signals.values("group_variance", "count")
        sick = []
        starts = []
        for i in norms:
            begun = onset(share[i] < self.own.value, np.isfinite(share[i]))
            long = np.isfinite(share[i]).sum() >= self.needs_steps
            if (
                begun is not None
                and long
                and _is_fed(signals, i)
                and np.isfinite(share[i][begun:]).sum() >= self.needs_steps
            ):
                sick.append(i)
                starts.append(begun)
        if not sick:
            return None
        first, start = sick[0], starts[0]
        site, value = signals.sites[first], latest(share[first])
        fed = earliest(fed_size(signals))
        message = f"{site.kind} {site.title} divides by eps: the data's variance is {number(value)} of the sum"
        small = f"what it is fed varies by less than the root of eps (model's input: {number(fed)})"
        cause = (
            Cause("unscaled-input", 0.7, small)
            if fed < 0.03
            else Cause("init-too-small", 0.5, "what it is fed hardly varies")
        )
        evidence = [Evidence("variance over variance + eps", value, "", self.own.value, "0.9 … 1")]
        return self._finding(signals, "warning", sick, start, message, evidence, [cause])

    def _far(self, signals: Signals, norms: list[int]) -> Finding | None:
        """Running statistics that are not the batch's, when they should be by now."""
        with np.errstate(invalid="ignore", divide="ignore"):
            gap = signals.values("running_gap", "sum") / signals.values("running_gap", "count")
        sick = [i for i in norms if self._is_far(signals, i, gap[i])]
        if not sick:
            return None
        ordered = sorted(sick, key=lambda i: -latest(gap[i]))
        site, value = signals.sites[ordered[0]], latest(gap[ordered[0]])
        if site.training:
            momentum = option(site.label, "momentum")
            how = f"with a momentum of {momentum:g}" if math.isfinite(momentum) else "as a mean of all"
            message = f"The running statistics of {site.title} are {number(value)} away from the batch's"
            why = f"in {len(signals.run.steps):,} steps they did not come near the data; they are updated {how}"
        else:
            message = f"{site.title} normalises by running statistics that are {number(value)} away from its data's"
            why = "it is in eval mode while the model trains: its running statistics are used, and never updated"
        evidence = [Evidence(f"gap of {site.name}", value, "deviations and e-folds", self.gap.value, "0 … 0.6")]
        return self._finding(signals, "warning", ordered, 0, message, evidence, [Cause("frozen", 0.8, why)])

    def _single(self, signals: Signals, norms: list[int]) -> Finding | None:
        """BatchNorm over one sample at a time, tested by statistics of all of them."""
        info = signals.run.info
        tested_so = info.tested_in_training_mode > 0 and info.tested_in_eval_mode == 0
        if tested_so or len(info.optimizers) > 1:  # it is an InstanceNorm then, as in some translations of images
            return None
        with np.errstate(invalid="ignore", divide="ignore"):
            gap = signals.values("running_gap", "sum") / signals.values("running_gap", "count")
        late = signals.steps >= self.patience.value
        typical = {
            i: float(np.median(gap[i][late & np.isfinite(gap[i])]))
            for i in norms
            if (late & np.isfinite(gap[i])).sum() >= self.needs_steps and _samples(signals, i) == 1
        }
        sick = sorted((i for i in typical if typical[i] > self.alone.value), key=lambda i: -typical[i])
        if not sick:
            return None
        site, value = signals.sites[sick[0]], typical[sick[0]]
        message = f"{site.kind} {site.title} normalises one sample at a time: in training it works as an InstanceNorm"
        why = (
            f"a sample's own statistics are {number(value)} away from those of all samples, which eval() normalises by"
        )
        evidence = [
            Evidence("samples normalised together", 1.0, "", None, "16 and more"),
            Evidence(f"gap of {site.name}", value, "deviations and e-folds", self.alone.value, "0 … 0.1"),
            Evidence("numbers normalised together", entries_together(site)),
        ]
        return self._finding(signals, "warning", sick, 0, message, evidence, [Cause("dead-path", 0.6, why)])

    def _is_far(self, signals: Signals, norm: int, gap: np.ndarray) -> bool:
        """Whether the running statistics are far away at every look since they had time to get near."""
        site = signals.sites[norm]
        momentum = option(site.label, "momentum")
        idle = momentum < self.idle.value  # NaN: a mean of all
        needed = self.patience.value / 4 if idle else self.updates.value / (momentum if momentum > 0 else 0.1)
        looks = 2 if idle else self.needs_steps
        ripe = gap[np.isfinite(gap) & ((signals.steps >= needed) | (not site.training))]
        noise = 0.0 if idle else self.noise.value / math.sqrt(max(entries_together(site), 1.0))
        limit = self.gap.value + noise
        return len(ripe) >= looks and bool((ripe[-looks:] > limit).all())

    def _post_norm(self, signals: Signals, norms: list[int]) -> Finding | None:
        """A deep post-norm transformer that was given its full learning rate at once and does not learn."""
        after = {link.source for link in signals.run.info.links if any(o.startswith("Add") for o in link.operations)}
        inside = {link.source for link in signals.run.info.links if not link.operations or link.target is not None}
        blocks = [i for i in norms if i in after and i in inside and signals.sites[i].kind in ("LayerNorm", "RMSNorm")]
        learned, steps = learned_share(signals)
        if len(blocks) < self.post_norms.value or steps < self.patience.value or not learned < self.learned.value:
            return None
        rates = signals.run.learning_rates[: int(self.patience.value), :1]
        if not np.isfinite(rates).all() or not rates.size or rates[0, 0] < 0.5 * rates.max():
            return None
        message = f"{len(blocks)} post-norm blocks without a warm-up learned {number(max(learned, 0.0))} of the loss"
        why = (
            f"the gradient of the last post-norm layers is large at the start; the learning rate began at "
            f"{number(float(rates[0, 0]))}, its full size"
        )
        evidence = [
            Evidence("post-norm blocks", float(len(blocks)), "", self.post_norms.value),
            Evidence("share of the loss that was learned", learned, "", self.learned.value),
        ]
        return self._finding(
            signals, "warning", blocks, 0, message, evidence, [Cause("post-norm-without-warmup", 0.7, why)]
        )

    def _finding(
        self,
        signals: Signals,
        severity: Severity,
        sick: list[int],
        start: int,
        message: str,
        evidence: list[Evidence],
        causes: list[Cause],
    ) -> Finding:
        layers = tuple(signals.sites[i].path for i in sick)
        first, last = int(signals.steps[start]), int(signals.steps[-1])
        return Finding(self.id, severity, layers, first, last, message, tuple(evidence), tuple(causes))

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        chain = {"a": 1.0, "n": 1.0, "r": 1.0, "c": 1.0}
        kinds = {"n": "BatchNorm1d", "r": "ReLU"}
        shares, gap = ("n", "group_variance"), ("n", "running_gap")
        late = list(np.geomspace(4.0, 0.1, 60))

        def of(mean: float | list[float]) -> dict[str, Any]:
            return {"sum": np.multiply(mean, 1000.0).tolist()}

        return (
            Case(
                "groups without any variance",
                run(chain, kinds=kinds, extra={shares: {"zeros": 1000.0, "sum": 0.0}}),
                ("n",),
            ),
            Case("eps takes the place of the variance", run(chain, kinds=kinds, extra={shares: of(0.01)}), ("n",)),
            Case(
                "running statistics that are never updated",
                run(chain, kinds=kinds, extra={gap: of(3.0)}, steps=60),
                ("n",),
            ),
            Case("running statistics lag behind at first", run(chain, kinds=kinds, extra={gap: of(late)}, steps=60)),
            Case("too early to judge running statistics", run(chain, kinds=kinds, extra={gap: of(3.0)})),
            Case("one sample at a time", _one_sample(run(chain, kinds=kinds, extra={gap: of(0.5)}, steps=120)), ("n",)),
            Case(
                "one sample at a time, all of one kind",
                _one_sample(run(chain, kinds=kinds, extra={gap: of(0.1)}, steps=120)),
            ),
            Case(
                "one sample at a time, in tests too",
                _one_sample(
                    run(chain, kinds=kinds, extra={gap: of(0.5)}, steps=120, info={"tested_in_training_mode": 9})
                ),
            ),
            Case("ten samples at a time", run(chain, kinds=kinds, extra={gap: of(0.5)}, steps=120)),
            Case("some channels are constant", run(chain, kinds=kinds, extra={shares: {"zeros": 300.0, **of(0.7)}})),
            Case(
                "a layer before it is silent",
                run(chain, kinds=kinds, activation={"a": 0.0}, extra={shares: {"zeros": 1000.0, "sum": 0.0}}),
            ),
        )


def _one_sample(training: Run) -> Run:
    """The same run in batches of one sample of 10 channels and 100 points."""
    sites = tuple(replace(site, shape=(1, 10, 100)) for site in training.info.sites)
    return replace(training, info=replace(training.info, sites=sites))


def entries_together(site: Site) -> float:
    """How many numbers a module normalises together, by its kind and the shape of its output; Inf when not known."""
    shape, kind = site.shape, site.kind
    if len(shape) < 2:
        return math.inf
    spatial = math.prod(shape[2:])
    if "BatchNorm" in kind:
        return shape[0] * spatial
    if "InstanceNorm" in kind:
        return spatial
    if kind == "GroupNorm":
        groups = re.match(r"GroupNorm\((\d+), (\d+)", site.label)
        return int(groups[2]) / int(groups[1]) * spatial if groups else math.inf
    if kind == "LayerNorm":
        over = re.match(r"LayerNorm\(\(([\d, ]+)\)", site.label)
        return math.prod(int(size) for size in over[1].replace(",", " ").split()) if over else math.inf
    return math.inf


def _samples(signals: Signals, norm: int) -> float:
    """How many samples a BatchNorm in training mode is given at once, the most that was recorded; NaN: not known."""
    site, steps = signals.sites[norm], signals.run.steps
    if "BatchNorm" not in site.kind or not site.training or len(site.shape) < 2 or site.shape[0] != 1:
        return math.nan
    count = signals.values("activation", "count")[norm]
    known = np.isfinite(count)
    at = np.searchsorted(steps["step"], signals.steps[known]).clip(max=len(steps) - 1)
    each = count[known] / np.maximum(steps["forwards"][at], 1) / math.prod(site.shape)
    return float(each.max()) if len(each) else math.nan


def _by_batch(signals: Signals, norm: int) -> bool:
    """Whether it normalises by what it is fed, not by running statistics."""
    site = signals.sites[norm]
    return site.training or "Batch" not in site.kind


def _is_fed(signals: Signals, norm: int) -> bool:
    """Whether what runs before it gives anything at all: else the fault lies there."""
    before = [i for i in signals.layers if signals.sites[i].order < signals.sites[norm].order]
    return not before or latest(signals.rms("activation")[before[-1]]) > 0
