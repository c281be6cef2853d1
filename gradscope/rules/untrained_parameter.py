"""Parameters that the training never moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from gradscope.numerals import number
from gradscope.records import Cause, Check, Evidence, Finding, NotObserved, OptimizerInfo, Run, Severity
from gradscope.rules.handwritten import run
from gradscope.rules.rule import Case, Rule, Threshold
from gradscope.signals import Signals
from gradscope.signals.progress import progress
from gradscope.signals.reach import (
    has_parallel_twin,
    leads_to_output,
    loss_reaches_nothing,
    module_name,
    never_stepped,
    ran_without_gradients,
)

_ADAPTIVE = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta")


class UntrainedParameter(Rule):
    """Flags parameters that should learn and cannot: cut off, forgotten by the optimizer, or with an exact zero gradient.

    Why it hurts: a layer that never moves stays a random projection. The loss may still fall, which hides it.

    When it is harmless: frozen parameters (`requires_grad=False`) are left alone on purpose, and so are those that get
    no gradient and that no optimizer holds. A bias before a normalisation, the key bias of attention and the last bias
    of a tower whose outputs are subtracted have no effect, so their gradient is zero by arithmetic (THEORY T29); the
    weights beside them get theirs. A branch that starts at zero (ReZero, LoRA) has zero gradients at first. Fine-tuning
    trains a small part and leaves the rest out of the optimizer. Modules that a step does not use get nothing in that
    step: experts without tokens, a second head. A copy of the model that follows it (an EMA) moves without a gradient.

    How it is measured: over all recorded steps, whether a parameter that requires a gradient ever got one, whether any
    optimizer holds it, by exact count, whether its gradient was ever anything but zero, and whether steps moved it. The
    graph says where it is cut: between the last module that ran without getting a gradient and the next that got one.

    What to do: take away the detach or no_grad on the way, build the optimizer when the model is final, or freeze
    openly.
    """

    id = "untrained-parameter"
    summary = "Parameters get no gradient, only zeros, or no optimizer."
    needs_steps = 3
    forgotten = Threshold(
        0.5,
        "share of all trainable entries",
        "by design: who leaves out less than half has forgotten them; who leaves out more fine-tunes",
    )
    turns = Threshold(
        50,
        "steps after which several optimizers have each had a turn",
        "WGAN's critic has 5 a turn, at first 25 to 100",
    )
    unmoved = Threshold(5, "recorded steps that left a parameter exactly as it was", "one or two may have been skipped")
    rounding = Threshold(
        1e-6, "step over the weight's size", "ten times what float32 rounds away; below it the learning rate is too low"
    )
    stalled = Threshold(0.1, "share of the loss that is gone", "a tenth; healthy trainings lose half within an epoch")
    patience = Threshold(100, "steps with a loss", "before that a slow beginning is no stall")
    unstepped = Threshold(20, "backward passes without a step", "gradient accumulation seldom has more")
    sources = ("torch.autograd, Locally disabling gradient computation", "THEORY T17 (one-unit softmax), T29")

    def applies(self, signals: Signals) -> Check | None:
        """Needs recorded steps, unless the losses show that there is nothing to record."""
        return None if self._nothing(signals) else super().applies(signals)

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Finds parameters that never move, one finding a reason."""
        nothing = self._nothing(signals)
        if nothing is not None:
            yield nothing
            return
        count = signals.values("weight", "count")
        gradient = signals.values("gradient", "count")
        self_entries = {i: float(np.nanmax(count[i])) for i in signals.parameters if not np.isnan(count[i]).all()}
        wanted = [i for i in self_entries if signals.sites[i].trainable and self_entries[i] > 0]
        entries = {i: self_entries[i] for i in wanted}
        never = [i for i in wanted if np.isnan(gradient[i]).all()]
        zero = signals.exactly_zero("gradient")
        zeros = [i for i in wanted if i not in never and bool((zero[i] | np.isnan(gradient[i])).all())]
        everything = len(zeros) == len(wanted)
        zeros = [i for i in zeros if not self._by_design(signals, i, zeros)]
        outside = [i for i in wanted if i not in never and i not in zeros and not signals.sites[i].optimized]
        rest = [i for i in wanted if i not in never and i not in zeros and i not in outside]
        waiting = len(signals.run.info.optimizers) > 1 and signals.steps[-1] < self.turns.value
        if not waiting:  # each optimizer may have its turn later (a GAN's, an actor's)
            yield from self._without_gradient(signals, never, entries)
        if outside:
            yield self._outside(signals, outside, entries)
        if zeros:
            yield from self._zeros(signals, zeros, everything, entries)
        if rest and not waiting:
            yield from self._unmoved(signals, rest, entries)
        yield from self._unregistered(signals)
        yield from self._frozen(signals, list(self_entries), self_entries)

    def _nothing(self, signals: Signals) -> Finding | None:
        """A loss that no parameter has a part in, or an optimizer whose `step` is never called."""
        passes, rows = never_stepped(signals), signals.run.steps
        owners = [signals.sites[i].module for i in signals.parameters if signals.sites[i].trainable]
        if passes >= self.unstepped.value:
            message = f"The optimizer never stepped: {passes:,} backward passes and no step"
            evidence = Evidence("backward passes without a step", float(passes), "", self.unstepped.value, "1")
            cause = Cause("not-in-optimizer", 0.8, "gradients are computed, and optimizer.step() is never called")
        elif loss_reaches_nothing(signals):
            message = f"The loss reaches no parameter: none had a gradient in {len(rows):,} steps"
            evidence = Evidence("steps without any gradient", float(len(rows)), "", None, "0")
            why = "the loss was made anew (torch.tensor, .item, numpy, argmax), detached, or backward() is never called"
            cause = Cause("detached", 0.9, why)
        else:
            return None
        layers = tuple(dict.fromkeys(owners[::-1])) or ("",)
        last = int(rows["step"][-1])
        return Finding(self.id, "error", layers, 0, last, message, (evidence,), (cause,))

    def _without_gradient(self, signals: Signals, never: list[int], entries: dict[int, float]) -> Iterator[Finding]:
        """Parameters that never got a gradient: cut off, of an output that no loss uses, or of modules that never ran."""
        blind = [i for i in never if ran_without_gradients(signals, i)]
        ran = [i for i in never if signals.owner(i) is not None and i not in blind]
        silent = [i for i in never if i not in ran and i not in blind and not has_parallel_twin(signals, i)]
        loose = [i for i in ran if leads_to_output(signals, i)]
        cut = [i for i in ran if i not in loose and signals.sites[i].optimized and not self._follows(signals, i)]
        blind = [i for i in blind if signals.sites[i].optimized and not self._follows(signals, i)]
        if cut:
            yield self._cut(signals, cut, entries)
        if blind:
            cause = Cause("detached", 0.9, "they run under no_grad in the forward pass, and the optimizer holds them")
            yield self._finding(signals, "warning", blind, "got no gradient: they run under no_grad", cause, entries)
        if loose:
            cause = Cause("dead-path", 0.6, "their modules run, and no loss uses what the model's output has of them")
            yield self._finding(signals, "note", loose, "belong to an output that no loss uses", cause, entries)
        if silent:
            cause = Cause("dead-path", 0.5, "their modules' own forward was never called in a recorded step")
            yield self._finding(signals, "note", silent, "were never used", cause, entries)

    def _cut(self, signals: Signals, cut: list[int], entries: dict[int, float]) -> Finding:
        """Says between which modules the graph is cut; the module right before the cut comes first."""
        order = {i: signals.sites[i].order for i in cut}
        last = max(cut, key=lambda i: order[i])
        reached = [
            i
            for i in signals.parameters
            if signals.sites[i].order > order[last] and not np.isnan(signals.values("gradient", "count")[i]).all()
        ]
        after = min(reached, key=lambda i: signals.sites[i].order, default=None)
        before = module_name(signals, last)
        where = f"behind {before}" if after is None else f"between {before} and {module_name(signals, after)}"
        why = f"{before} ran, and no gradient came back to it: the graph is cut {where} (detach, .data, .item, numpy)"
        ordered = sorted(cut, key=lambda i: -order[i])
        return self._finding(
            signals,
            "error",
            ordered,
            f"got no gradient: the graph is cut {where}",
            Cause("detached", 0.9, why),
            entries,
        )

    def _follows(self, signals: Signals, parameter: int) -> bool:
        """Whether something else than gradients moves it, as an EMA is moved."""
        size = signals.values("weight", "sum_squares")[parameter]
        known = size[~np.isnan(size)]
        return len(known) > 1 and bool((known != known[0]).any())

    def _outside(self, signals: Signals, outside: list[int], entries: dict[int, float]) -> Finding:
        """Parameters that get gradients and that no optimizer holds."""
        share = sum(entries[i] for i in outside) / sum(entries.values())
        foreign = sum(info.foreign for info in signals.run.info.optimizers)
        severity: Severity = "warning"
        went = progress(signals)
        if share >= self.forgotten.value and not foreign and not (went is not None and went.unlearned):
            severity = "note"
        why = "they require a gradient and get one, and no optimizer holds them"
        if foreign:
            why += f"; it holds {foreign} tensors that are none of the model's: it was built before they were replaced"
        return self._finding(
            signals, severity, outside, "are in no optimizer", Cause("not-in-optimizer", 0.95, why), entries
        )

    def _zeros(
        self, signals: Signals, zeros: list[int], everything: bool, entries: dict[int, float]
    ) -> Iterator[Finding]:
        """Parameters whose gradients are exactly zero at every recorded step."""
        if not everything:
            zeros = [i for i in zeros if not has_parallel_twin(signals, i)]
            why = "their units never fire, or what reached them was too small for its number format"
            cause = Cause("dead-path", 0.7, why)
        elif any(signals.sites[head].dtype == "float16" for head in signals.run.info.heads):
            return  # float16 holds none of it: that is precision-loss
        else:
            why = "the loss does not depend on any parameter: a softmax over one unit, say"
            cause = Cause("output-activation", 0.7, why)
        last_only = bool(zeros) and all("_reverse" in signals.sites[i].path for i in zeros)
        if last_only:
            why = "the way back has taken one step at the last time step, which alone is used: take its own last output"
            cause = Cause("dead-path", 0.8, why)
        if zeros:
            severity: Severity = "error" if everything else "note" if last_only else "warning"
            yield self._finding(signals, severity, zeros, "got gradients of exactly zero", cause, entries)

    def _unmoved(self, signals: Signals, candidates: list[int], entries: dict[int, float]) -> Iterator[Finding]:
        """Parameters with a gradient that steps leave exactly as they were, or that are put back afterwards."""
        rates = _rates(signals)
        usable = (rates > 0) & ~signals.skipped
        if usable.sum() < self.unmoved.value:
            return
        gradient, weight = signals.rms("gradient"), signals.rms("weight")
        update = signals.rms("update")
        adaptive = any(info.kind in _ADAPTIVE for info in signals.run.info.optimizers)
        still, back = [], []
        for i in candidates:
            if signals.sites[i].dtype in ("float16", "bfloat16"):
                continue  # what rounding takes is precision-loss
            seen = usable & (gradient[i] > 0) & ~np.isnan(update[i])
            if seen.sum() < self.unmoved.value:
                continue
            step = rates[seen] * (1.0 if adaptive else gradient[i][seen])
            if not update[i][seen].any():
                if np.median(step) > self.rounding.value * np.nanmax(weight[i]):
                    still.append(i)
            elif bool((update[i][seen] > self.rounding.value * weight[i][seen]).all()) and _the_same(signals, i, seen):
                back.append(i)
        still = [i for i in still if not self._by_design(signals, i, still)]
        for found, what, why in (
            (
                still,
                "are left as they were by every step",
                "the optimizer steps, and they do not move: it holds copies",
            ),
            (
                back,
                "are put back after every step",
                "each step moves them, and at the next one they are what they were",
            ),
        ):
            if found:
                severity: Severity = "error" if len(found) * 2 >= len(candidates) else "warning"
                cause = Cause("not-in-optimizer", 0.8, why)
                yield self._finding(signals, severity, found, what, cause, entries)

    def _unregistered(self, signals: Signals) -> Iterator[Finding]:
        """Modules with parameters that are made in forward, or kept in a plain list."""
        labels = signals.run.info.unregistered
        if labels:
            subject = (
                f"{len(labels)} modules with parameters run" if len(labels) > 1 else "A module with parameters runs"
            )
            message = f"{subject} in the model and is no part of it: {', '.join(labels[:3])}"
            message = message.replace("and is", "and are") if len(labels) > 1 else message
            why = "it was made in forward or is held in a plain list, so that model.parameters() does not give it"
            first, last = int(signals.steps[0]), int(signals.steps[-1])
            evidence = Evidence("modules that no optimizer holds", float(len(labels)), "", None, "0")
            cause = Cause("not-in-optimizer", 0.9, why)
            yield Finding(self.id, "error", labels, first, last, message, (evidence,), (cause,))

    def _frozen(self, signals: Signals, parameters: list[int], entries: dict[int, float]) -> Iterator[Finding]:
        """Most of the model is frozen, and what is left learns nothing."""
        frozen = [i for i in parameters if not signals.sites[i].trainable]
        share = sum(entries[i] for i in frozen) / (sum(entries.values()) or 1.0)
        if share > self.forgotten.value and self._stalls(signals):
            why = f"requires_grad is False for {number(100 * share)} % of the entries, and the loss hardly falls"
            yield self._finding(signals, "warning", frozen, "are frozen", Cause("frozen", 0.6, why), entries)

    def _stalls(self, signals: Signals) -> bool:
        """Whether the loss is where it was at the start, long after it."""
        seen = progress(signals)
        if seen is None or seen.count < self.patience.value:
            return False
        long = seen.unlearned and seen.count >= 3 * self.patience.value
        return long or (seen.fallen < self.stalled.value and not seen.still_falling())

    def _by_design(self, signals: Signals, parameter: int, zeros: list[int]) -> bool:
        """A bias whose effect is taken away further on: a gradient came by, or its weights would have none either."""
        site, owner = signals.sites[parameter], signals.owner(parameter)
        if not site.path.endswith("bias") or owner is None:
            return False
        beside = [i for i in signals.parameters_of(owner) if not signals.sites[i].path.endswith("bias")]
        return site.mechanism == "attention" or any(i not in zeros for i in beside)

    def _finding(
        self,
        signals: Signals,
        severity: Severity,
        parameters: Sequence[int],
        what: str,
        cause: Cause,
        entries: dict[int, float],
    ) -> Finding:
        names = [signals.sites[i].path for i in parameters]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        share = sum(entries[i] for i in parameters) / (sum(entries.values()) or 1.0)
        return Finding(
            self.id,
            severity,
            tuple(dict.fromkeys(signals.sites[i].module for i in parameters)),
            int(signals.steps[0]),
            int(signals.steps[-1]),
            f"{len(names)} parameter{'s' * (len(names) > 1)} {what}: {shown}",
            (Evidence("share of the trainable entries", share, "", None, "0"),),
            (cause,),
        )

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        nets = {"a": 1.0, "b": 1.0, "c": 1.0}
        whole = run(nets)
        unused = replace(
            whole.info, not_observed=(NotObserved("a", "it ran under no_grad, so that no gradient reaches it"),)
        )
        return (
            Case("left out of the optimizer", run(nets, optimized={"b.weight": False}), ("b",)),
            Case(
                "an optimizer of before the model was final",
                _stale(run(nets, optimized={"a.weight": False, "c.weight": False})),
                ("a", "c"),
            ),
            Case("exactly zero, always", run(nets, gradient={"a.weight": 0.0}), ("a",)),
            Case("a cut behind b", _without(whole, "a", "b"), ("b", "a")),
            Case("under no_grad", _without(replace(whole, info=unused), "a"), ("a",)),
            Case("steps that move nothing", run(nets, update={"b.weight": 0.0}), ("b",)),
            Case(
                "made in forward",
                replace(whole, info=replace(whole.info, unregistered=("Linear(4, 4)",))),
                ("Linear(4, 4)",),
            ),
            Case("tiny is not zero", run(nets, gradient={"a.weight": 1e-30})),
            Case(
                "zero only at first", run(nets, gradient={"a.weight": [0.0, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3]})
            ),
            Case("frozen on purpose", run(nets, trainable={"a.weight": False}, gradient={"a.weight": 0.0})),
            Case(
                "cut off and in no optimizer: on purpose",
                _without(run(nets, optimized={"a.weight": False}), "a"),
            ),
            Case("a learning rate of 0 is another sickness", _at_rate(run(nets, update={"b.weight": 0.0}), 0.0)),
        )


def _rates(signals: Signals) -> np.ndarray:
    """The lowest learning rate of any group per recorded step; NaN where it is not known."""
    rates = signals.run.learning_rates
    table = dict(zip(signals.run.steps["step"].tolist(), range(len(rates)), strict=False))
    lowest = np.full(len(signals.steps), np.nan)
    for column, step in enumerate(signals.steps.tolist()):
        row = rates[table[step]] if step in table and rates.shape[1] else np.array([np.nan])
        known = row[np.isfinite(row)]
        lowest[column] = known.min() if len(known) else np.nan
    return lowest


def _the_same(signals: Signals, parameter: int, seen: np.ndarray) -> bool:
    """Whether a weight is, number by number as far as that is recorded, the same at all of these steps."""
    fields = [signals.values("weight", name)[parameter][seen] for name in ("sum", "sum_squares", "minimum", "maximum")]
    return bool(fields[0][0] != 0) and all(bool((field == field[0]).all()) for field in fields)


def _without(given: Run, *layers: str) -> Run:
    """The run without any gradient of these layers."""
    gone = [
        i
        for i, site in enumerate(given.info.sites)
        if site.path in layers or (site.role == "parameter" and site.path.partition(".")[0] in layers)
    ]
    rows = given.summaries
    backward = np.isin(rows["quantity"], (1, 3))
    info = replace(given.info, links=tuple(link for link in given.info.links if link.source not in gone))
    return replace(given, info=info, summaries=rows[~(np.isin(rows["site"], gone) & backward)])


def _stale(given: Run) -> Run:
    """The run with an optimizer that holds two tensors of nobody."""
    return replace(given, info=replace(given.info, optimizers=(OptimizerInfo("SGD", {"lr": 0.01}, foreign=2),)))


def _at_rate(given: Run, rate: float) -> Run:
    return replace(given, learning_rates=np.full_like(given.learning_rates, rate))
