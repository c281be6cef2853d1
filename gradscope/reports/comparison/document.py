"""A comparison of two runs as one plain document: what the other formats render and `compare -f json` prints.

As in a report, a null has words beside it that say why: see `reports.document`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gradscope.reports.comparison.words import conclusion
from gradscope.reports.envelope import Document, envelope
from gradscope.reports.loss_line import downsample
from gradscope.reports.strips import NON_FINITE

Line = tuple[NDArray[np.float64], NDArray[np.float64]]  # where on the axis, and the loss there
MOST_POINTS = 200  # of a loss line

NO_GAIN = "no backward gain above 0 was recorded"
ONE_SIDED = "not known of both"


def comparison_document(
    said: Document,
    folders: tuple[str, str],
    losses: tuple[Line, Line],
    aligned_by: str = "step",
    notes: Sequence[str] = (),
    next_command: str = "",
) -> Document:
    """Everything that is said of two runs.

    Args:
        said: what `comparison.to_document` gave.
        folders: where A and B are, as their user can type it.
        losses: of A and B, on the axis that they are aligned by.
        aligned_by: "step", "share" or "time".
        notes: what else limits the comparison.
        next_command: what to type next.

    Example:
        >>> from gradscope.comparison import Side, compare, to_document
        >>> from gradscope.records import Diagnosis
        >>> from gradscope.rules.handwritten import run
        >>> side = Side("a", run({"a": 0.9, "b": 1.0}), Diagnosis("healthy", ""))
        >>> line = np.array([0.0, 1.0]), np.array([2.3, 2.1])
        >>> said = comparison_document(to_document(compare(side, side)), ("runs/a", "runs/a"), (line, line))
        >>> said["conclusion"], said["loss"]["shared"]
        ('Neither A nor B has a finding.', {'at': 1.0, 'a': 2.1, 'b': 2.1})
    """
    content = {name: value for name, value in said.items() if name != "schema_version"}
    content["a"], content["b"] = (
        {"folder": folder, **_side(content[letter])} for letter, folder in zip("ab", folders, strict=True)
    )
    content["layers"] = [_layer(each) for each in content["layers"]]
    content["notes"] = [*content["notes"], *notes]
    return {
        **envelope(),
        "conclusion": conclusion(content),
        "aligned_by": aligned_by,
        **content,
        "loss": _losses(*losses),
        "next_command": next_command,
    }


def _side(side: Document) -> Document:
    no_loss = "never finite" if side["loss_is_broken"] else "not recorded"
    why = {"first_step": "no step yet", "last_step": "no step yet", "loss": no_loss, "loss_step": no_loss}
    return _worded(side, why)


def _layer(pair: Document) -> Document:
    return _worded(pair, {"gain_a": NO_GAIN, "gain_b": NO_GAIN, "decades": ONE_SIDED})


def _worded(content: Document, why: Mapping[str, str]) -> Document:
    """The same with words beside each null."""
    found: Document = {}
    for name, value in content.items():
        found[name] = value
        if value is None:
            found[f"{name}_words"] = why[name]
    return found


def _losses(a: Line, b: Line) -> Document:
    """Both lines, and what both losses were at the last place that both reached."""
    finite = [(at[np.isfinite(values)], values[np.isfinite(values)]) for at, values in (a, b)]
    found: Document = {"a": _points(a), "b": _points(b)}
    if all(len(at) for at, _ in finite):
        last = min(float(at[-1]) for at, _ in finite)
        places = [int(np.searchsorted(at, last, side="right")) - 1 for at, _ in finite]
        if min(places) >= 0:
            here = [float(values[place]) for (_, values), place in zip(finite, places, strict=True)]
            return {**found, "shared": {"at": last, "a": here[0], "b": here[1]}}
    return {**found, "shared": None, "shared_words": "there is no place where both have a loss"}


def _points(line: Line) -> Document:
    at, values = downsample(*line, most=MOST_POINTS) if len(line[0]) else line
    known = [value if math.isfinite(value) else None for value in values.tolist()]
    words = {str(place): NON_FINITE for place, value in enumerate(known) if value is None}
    content: Document = {"at": at.tolist(), "values": known}
    return {**content, "values_words": words} if words else content
