"""Copies of a model that should be the same on every rank and are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gradscope.numerals import ranks_in_words
from gradscope.records import Cause, Evidence, Finding, RankFact, Run
from gradscope.rules.handwritten import run
from gradscope.rules.rule import Case, Rule, Threshold
from gradscope.signals import Signals
from gradscope.store.rank_facts import DIFFERENCE


class UnequalReplicas(Rule):
    """Flags parameters that are replicated on every rank and yet differ from rank to rank.

    Why it hurts: data parallel training averages gradients that were taken at different weights, which is no gradient
    of anything; and a checkpoint, saved by one rank, is not the model that was trained.

    When it is harmless: never in DDP, which keeps its copies equal to the bit. Ranks that train models of their own on
    purpose, such as an ensemble, should write into run folders of their own.

    How it is measured: every rank writes down the norm of each parameter and, under DDP, of its reduced gradient. When
    the parts are read together, a norm that is further from the median over the ranks than rounding explains is kept,
    with the ranks that have it and the first recorded step. No rank talks to another for it.

    What to do: initialise or load the weights before wrapping the model in DDP, which then copies them from rank 0;
    change weights by hand on all ranks or on none; leave `no_sync` before the last backward pass of a step.
    """

    id = "unequal-replicas"
    summary = "Ranks that should hold the same parameters hold different ones."
    needs_steps = 1
    difference = Threshold(
        DIFFERENCE,
        "difference of a norm from the median over ranks, as a share of it",
        "DDP keeps replicas equal to the bit; float32 sums taken in another order differ by 1e-7",
    )
    sources = ("torch.nn.parallel.DistributedDataParallel, broadcast of parameters at construction",)

    def check(self, signals: Signals) -> Iterator[Finding]:
        """Finds the first parameter that differs."""
        facts = sorted((fact for fact in signals.run.rank_facts if fact.kind == "differs"), key=_since)
        if not facts:
            return
        first = facts[0]
        layers = tuple(dict.fromkeys(signals.sites[fact.site].path.rpartition(".")[0] for fact in facts))
        more = len({fact.site for fact in facts}) - 1
        others = f" and of {more} more parameter{'s' * (more > 1)}" if more else ""
        on = ranks_in_words(first.ranks)
        what = f"the {first.quantity} of {signals.sites[first.site].path}{others}"
        evidence = Evidence("largest difference from the median", max(fact.by for fact in facts), "", DIFFERENCE, "0")
        why = f"{on} went on from other numbers than the rest: changed, loaded or reduced there alone"
        yield Finding(
            self.id,
            "error",
            layers,
            first.step,
            int(signals.steps[-1]),
            f"Ranks train different models: {what} differ{'' if more else 's'} on {on} since step {first.step:,}",
            (evidence,),
            (Cause("unsynchronised-ranks", 0.8, why),),
        )

    @classmethod
    def cases(cls) -> tuple[Case, ...]:
        """Runs written by hand."""
        same = run({"a": 1.0, "b": 1.0})
        weight = next(i for i, site in enumerate(same.info.sites) if site.path == "a.weight")
        return (
            Case("rank 3 has other weights", _with(same, RankFact("differs", 2, weight, "weight", (3,), 0.5)), ("a",)),
            Case("a NaN on rank 3 is another sickness", _with(same, RankFact("non-finite", 2, weight, "weight", (3,)))),
            Case("one process", same),
        )


def _since(fact: RankFact) -> tuple[int, int, str]:
    return fact.step, fact.site, fact.quantity


def _with(run: Run, fact: RankFact) -> Run:
    return replace(run, rank_facts=(fact,))
