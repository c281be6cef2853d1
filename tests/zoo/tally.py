"""Counts what was said of all programs, with Wilson intervals, and prints the table and every mistake."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from scipy.stats import wilcoxon

from tests.zoo.cures import CURED, Cure, recovered
from tests.zoo.judge import MOMENTS, Label, Said
from tests.zoo.program import Program
from tests.zoo.train import Outcome

Z = 1.959964  # of a normal distribution's middle 95 %


@dataclass(frozen=True)
class Result:
    """One program in one seed: how it went, and what was said of it at the three moments."""

    program: Program
    seed: int
    outcome: Outcome
    label: Label
    said: tuple[Said, ...]
    peers: dict[str, tuple[Said, ...]]
    cure: Cure | None = None
    twin: Outcome | None = None

    @property
    def end(self) -> Said:
        """What was said at the end."""
        return self.said[-1]

    @property
    def recovered(self) -> tuple[float, float] | None:
        """How far what a trial would choose went towards the healthy twin, and a random change; None: not comparable."""
        tried = self.cure and self.cure.chosen
        if self.label != "sick" or not self.end.alarm or self.twin is None or not self.cure or not tried:
            return None
        both = recovered(tried, self.outcome, self.twin), recovered(self.cure.random, self.outcome, self.twin)
        return None if math.isnan(both[0]) else both


@dataclass(frozen=True)
class Share:
    """How many of how many."""

    hits: int
    count: int

    @property
    def value(self) -> float:
        """In [0, 1]; NaN of nothing."""
        return self.hits / self.count if self.count else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share."""
        if not self.count:
            return (math.nan, math.nan)
        share, n = self.value, self.count
        middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
        half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
        return (max(middle - half, 0.0), min(middle + half, 1.0))

    def __str__(self) -> str:
        if not self.count:
            return "–"
        low, high = self.interval
        return f"{self.value:.2f} ({low:.2f}–{high:.2f}) of {self.count}"


def share(of: Iterable[bool | None]) -> Share:
    """Of those that have an answer."""
    known = [hit for hit in of if hit is not None]
    return Share(sum(known), len(known))


NONE = Share(0, 0)  # other tools try nothing
COLUMNS = (
    "found",
    "false alarms at start",
    "in the middle",
    "at the end",
    "cause",
    "layer",
    "remedy first",
    "in three",
    "verified",
    "random",
)


def row(results: Sequence[Result], told: Callable[[Result], tuple[Said, ...]]) -> list[Share]:
    """The shares of `COLUMNS`, of what `told` gives for each result."""
    sick = [told(result)[-1] for result in results if result.label == "sick"]
    well = [told(result) for result in results if result.label == "healthy"]
    found = [said for said in sick if said.alarm]
    ranks = [said.remedy_rank for said in found]
    return [
        share(said.alarm for said in sick),
        *(share(moments[number].alarm for moments in well) for number in range(len(MOMENTS))),
        share(said.cause_right for said in found),
        share(said.layer_right for said in found),
        share(None if rank is None else rank == 1 for rank in ranks),
        share(None if rank is None else 1 <= rank <= 3 for rank in ranks),
    ]


def verified(results: Sequence[Result]) -> list[Share]:
    """How often what a trial would choose recovers nine tenths of the gap to the healthy twin, and a random change."""
    both = [result.recovered for result in results]
    return [share(None if each is None else each[number] >= CURED for each in both) for number in (0, 1)]


def better_than_random(results: Sequence[Result]) -> str:
    """Wilcoxon's signed-rank test of what was recovered, one-sided, over all programs."""
    both = [each for result in results if (each := result.recovered) is not None]
    differences = [chosen - random for chosen, random in both if chosen != random]
    if len(differences) < 5:
        return ""
    p = float(wilcoxon(differences, alternative="greater").pvalue)
    advice = [result for result in results if result.label == "sick" and result.cure and not result.cure.chosen]
    return (
        f"Cures tried in {len(both)} sick trainings: better than a random change in "
        f"{sum(difference > 0 for difference in differences)}, worse in {sum(difference < 0 for difference in differences)} "
        f"(Wilcoxon, one-sided: p = {p:.1g}); in {len(advice)} more nothing that is suggested can act from outside."
    )


GROUPS = {
    "S": "S, the basics",
    "C": "C, AutoTrainer's networks",
    "D": "D, one line changed",
    "H": "H, healthy controls",
}


def table(results: Sequence[Result]) -> str:
    """Markdown: GradScope over all and by group, then the peers over all."""
    lines = [_line(["judge", *COLUMNS]), _line(["---"] * (len(COLUMNS) + 1))]
    lines.append(_cells("**GradScope**", row(results, lambda result: result.said) + verified(results)))
    for group, title in GROUPS.items():
        chosen = [result for result in results if result.program.group == group]
        if chosen and len(chosen) < len(results):
            lines.append(_cells(title, row(chosen, lambda result: result.said) + verified(chosen)))
    for peer in results[0].peers if results else ():
        lines.append(_cells(peer, [*row(results, lambda result, peer=peer: result.peers[peer]), NONE, NONE]))  # type: ignore[misc]
    return "\n".join(lines)


def counts(results: Sequence[Result]) -> str:
    """How many of each label."""
    number = {label: sum(result.label == label for result in results) for label in ("sick", "healthy")}
    apart = [result for result in results if result.label in ("unharmed", "unlearned")]
    said = sum(result.end.alarm for result in apart)
    return (
        f"{len({result.program.id for result in results})} programs, {len(results)} trainings: {number['sick']} sick, "
        f"{number['healthy']} healthy, {len(apart)} neither (as good as the healthy twin, or a healthy one that did not "
        f"learn; {said} of them with an alarm)."
    )


def mistakes(results: Sequence[Result]) -> list[str]:
    """Every miss, false alarm, wrong cause, wrong layer and wrong remedy, one line each."""
    lines = []
    for result in results:
        name = f"{result.program.id} seed {result.seed}"
        if result.label == "healthy":
            alarms = [said for said in result.said if said.alarm]
            lines += [f"FALSE ALARM {name} at the {said.moment}: {said.text}" for said in alarms]
        elif result.label == "sick" and not result.end.alarm:
            lines.append(f"MISS {name} (error {result.outcome.error:.3g}): {result.program.title}")
        elif result.label == "sick":
            end, right = result.end, result.program.blame
            assert right is not None
            if end.cause_right is False:
                lines.append(f"CAUSE {name}: {end.cause or 'none'}, not {'/'.join(sorted(right.causes))}: {end.text}")
            if end.layer_right is False:
                lines.append(f"LAYER {name}: {end.layer or 'none'}: {end.text}")
            if end.remedy_rank is not None and end.remedy_rank != 1:
                lines.append(
                    f"REMEDY {name}: {', '.join(end.remedies) or 'none'}; right: {'/'.join(sorted(right.remedies))}"
                )
            both = result.recovered
            if both is not None and not both[0] >= CURED:
                lines.append(f"UNCURED {name}: {_tried(result)}")
        elif result.end.alarm:
            lines.append(f"({result.label} {name}: {result.end.text})")
    return sorted(lines, key=lambda line: ("MFCLRU(".index(line[0]), line))


def _tried(result: Result) -> str:
    """What was tried, and how far it went."""
    assert result.cure is not None
    assert result.twin is not None
    said = []
    for each in (*result.cure.tried, result.cure.random):
        share = recovered(each, result.outcome, result.twin)
        went = f"{share:.2f} (error {each.error:.3g}, loss {each.loss:.3g})"
        said.append(f"{each.remedy} {went}" if each.acted else f"{each.remedy}: {each.changes}")
    return "; ".join(said) + f"; sick {result.outcome.error:.3g}, twin {result.twin.error:.3g}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(title: str, shares: Sequence[Share]) -> str:
    return _line([title, *map(str, shares)])
