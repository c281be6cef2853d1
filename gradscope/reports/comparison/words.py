"""What all formats say of two runs, in clauses made of the comparison's document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

from gradscope import numerals
from gradscope.records import Severity, VerdictName
from gradscope.reports.envelope import Document
from gradscope.reports.words import SHAPES, VERDICT_SEVERITY, VERDICT_WORDS, count, step

GONE, STILL, NEW = "gone", "still there", "new"
AXES = {"step": "optimizer step", "share": "share of the training", "time": "seconds since the start"}
GAIN_WORDS = "Median over the recorded steps of the backward gain, as log10: a step of 1 is a factor of 10."


class Found(NamedTuple):
    """A finding of either run, or of both."""

    state: str  # GONE, STILL or NEW, from A to B
    a: Document | None
    b: Document | None

    @property
    def shown(self) -> Document:
        """As it is now: B's where B has it."""
        return cast(Document, self.b or self.a)


def conclusion(document: Document) -> str:
    """What became of the findings, in a sentence.

    Example:
        >>> conclusion({"only_a": [1, 2], "both": [], "only_b": []})
        'From A to B 2 findings are gone, none is new and none is still there.'
        >>> conclusion({"only_a": [], "both": [1], "only_b": []})
        'A and B have the same finding.'
    """
    gone, both, new = (len(document[name]) for name in ("only_a", "both", "only_b"))
    if not gone and not new:
        if not both:
            return "Neither A nor B has a finding."
        return f"A and B have the same {'finding' if both == 1 else f'{both:,} findings'}."
    amount = f"{count(gone, 'finding')} {'is' if gone == 1 else 'are'} gone" if gone else "no finding is gone"
    return f"From A to B {amount}, {_are(new)} new and {_are(both)} still there."


def _are(amount: int) -> str:
    return "none is" if not amount else f"{amount:,} {'is' if amount == 1 else 'are'}"


def verdict_of(side: Document) -> tuple[str, str, Severity | None]:
    """The verdict's shape, its word and the severity that it is drawn as."""
    verdict = cast(VerdictName, side["verdict"])
    severity = VERDICT_SEVERITY[verdict]
    return SHAPES[severity][0], VERDICT_WORDS[verdict], severity


def side_facts(side: Document) -> str:
    """Which run it is: "healthy: Sequential, steps 0 to 149"."""
    last = side["last_step"]
    steps = "no step yet" if last is None else f"steps {side['first_step']:,} to {last:,}"
    return f"{side['name']}: {side['model']}, {steps}"


def last_loss(side: Document) -> str:
    """The last loss: "2.29 at step 159"."""
    if side["loss"] is None:
        return str(side["loss_words"])
    said = f"{numerals.number(side['loss'])} at {step(side['loss_step'])}"
    return f"NaN or Inf at the end, last finite {said}" if side["loss_is_broken"] else said


def shared_loss(document: Document) -> tuple[str, str, str] | None:
    """Where both were last, and both losses there; None where there is no such place."""
    shared = document["loss"]["shared"]
    if shared is None:
        return None
    at = shared["at"]
    places = {"step": f"at step {at:,.0f}", "share": f"after {100 * at:.3g} %", "time": f"after {at:,.3g} s"}
    return places[document["aligned_by"]], numerals.number(shared["a"]), numerals.number(shared["b"])


def differing(document: Document) -> list[Document]:
    """The settings that are not alike."""
    return [setting for setting in document["settings"] if setting["differs"]]


def setting_name(setting: Document) -> str:
    """`optimizer: lr`; `optimizer` alone where both words are one."""
    return setting["name"] if setting["name"] == setting["group"] else f"{setting['group']}: {setting['name']}"


def settings_title(document: Document) -> str:
    """How many settings differ."""
    amount = len(differing(document))
    return f"Set differently: {amount:,} of {count(len(document['settings']), 'setting')}"


def source_words(change: Document) -> str:
    """How a file of the program differs."""
    if not change["diff"]:
        return f"{change['name']}: recorded with {'A' if change['removed'] else 'B'} only, or too long to compare"
    return f"{change['name']}: {count(change['removed'], 'line')} of A, {count(change['added'], 'line')} of B differ"


def findings(document: Document) -> list[Found]:
    """All findings of both: the new ones, those that are still there, then those that are gone."""
    return [
        *(Found(NEW, None, line) for line in document["only_b"]),
        *(Found(STILL, pair["a"], pair["b"]) for pair in document["both"]),
        *(Found(GONE, line, None) for line in document["only_a"]),
    ]


def numbers_of(found: Found) -> str:
    """`A F1`, `B F2` or `A F1, B F2`."""
    said = [f"{letter} {line['number']}" for letter, line in (("A", found.a), ("B", found.b)) if line is not None]
    return ", ".join(said)


def since(found: Found) -> str:
    """From which step it was there, in each run that has it."""
    if found.a is not None and found.b is not None and found.a["first_step"] != found.b["first_step"]:
        return f"{step(found.a['first_step'])} in A, {found.b['first_step']:,} in B"
    return step(found.shown["first_step"])


def by_distance(document: Document) -> list[Document]:
    """The common layers, those whose gains differ most first; those that cannot be compared last."""

    def distance(pair: Document) -> float:
        return -1.0 if pair["decades"] is None else abs(float(pair["decades"]))

    return sorted(document["layers"], key=distance, reverse=True)


def layers_title(document: Document) -> str:
    """What stands above the common layers."""
    return f"Layers whose backward gain differs most, of {count(len(document['layers']), 'layer')} that both have"


def decades(value: float | None) -> str:
    """Decades with their sign; a dash where there are none.

    Example:
        >>> decades(-8.5), decades(None)
        ('−8.50', '–')
    """
    return "–" if value is None else f"{value:+.2f}".replace("-", "−")


def alone(names: Sequence[str], letter: str, most: int) -> str:
    """The layers of one run only, as far as there is room."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{amount_alone(names, letter)}: {', '.join(names[:most])}{more}"


def amount_alone(names: Sequence[str], letter: str) -> str:
    """How many layers one run has alone."""
    return f"{count(len(names), 'layer')} only in {letter}"
