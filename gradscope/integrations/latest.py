"""The newest numbers of a run, with labels: for tools that ask how things are now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from gradscope.integrations.scalars import Moment
from gradscope.records import SEVERITIES, Diagnosis, Run
from gradscope.records.words import VERDICT_WORDS
from gradscope.reports.tables.layer_signals import LAYER_SIGNALS

_SIGNALS = {signal.name: signal for signal in LAYER_SIGNALS}
_LABELS = {signal.name: signal.of for signal in LAYER_SIGNALS} | {"value": "name", "learning_rate": "group"}
_MEANINGS = {
    "loss": "loss of the newest step, mean over its forwards",
    "gradient_norm": "L2 norm of the gradients of all parameters before clipping",
    "clipped_gradient_norm": "L2 norm of the gradients of all parameters as the optimizer saw them",
    "seconds": "time that the newest step took",
    "recorder_seconds": "time of it that GradScope took",
    "loss_scale": "that gradients had in memory; the numbers here are without it",
    "learning_rate": "of each parameter group",
    "non_finite_tensors": "tensors that held NaN or Inf at the last recorded step",
    "value": "what the training logged itself",
}


class Sample(NamedTuple):
    """One number as it is now. Samples of one name have the same labels."""

    name: str  # "gradscope_backward_gain"
    meaning: str
    unit: str
    labels: dict[str, str]
    value: float


def newest(known: dict[str, float], moments: Iterable[Moment]) -> Iterator[Moment]:
    """Keeps the last value of each name in `known` while the moments go by."""
    for moment in moments:
        known |= moment.values
        yield moment


def samples(known: Mapping[str, float], run: Run, diagnosis: Diagnosis) -> Iterator[Sample]:
    """How the run is now: its numbers, then what is said of it; samples of one name stand together.

    Args:
        known: the newest value of each name of `scalars`.
        run: which run.
        diagnosis: what is said of it.
    """
    found = sorted((_split(name, value) for name, value in known.items()), key=lambda sample: sample.name)
    yield from (each._replace(labels={"run": run.info.id, **each.labels}) for each in found)
    for name, meaning, labels, value in _said(run, diagnosis):
        yield Sample(f"gradscope_{name}", meaning, "", {"run": run.info.id, **labels}, value)


def _split(name: str, value: float) -> Sample:
    """A name of `scalars` as a name and its label."""
    ours, _, rest = name.partition("/")
    if ours == "gradscope":
        kind, group = rest, ""
        if rest.startswith("learning_rate_"):
            kind, group = "learning_rate", rest.removeprefix("learning_rate_")
    else:
        kind, group = ours.removeprefix("gradscope_"), rest
    labels = {_LABELS[kind]: group} if kind in _LABELS else {}
    if kind in _SIGNALS:
        return Sample(f"gradscope_{kind}", _SIGNALS[kind].meaning, _SIGNALS[kind].unit, labels, value)
    return Sample(f"gradscope_{kind}", _MEANINGS[kind], "", labels, value)


def _said(run: Run, diagnosis: Diagnosis) -> Iterator[tuple[str, str, dict[str, str], float]]:
    info = run.info
    told = {"model": info.model, "device": info.device, "state": info.state}
    yield "run_info", "which run; always 1", told, 1.0
    if len(run.steps):
        yield "step", "the newest optimizer step", {}, float(run.steps["step"][-1])
        yield "step_time", "when it closed, in seconds since 1970", {}, float(run.steps["time"][-1])
    for verdict in VERDICT_WORDS:
        yield (
            "verdict",
            "1 for the verdict that holds, 0 for the others",
            {"verdict": verdict},
            float(verdict == diagnosis.verdict),
        )
    for severity in SEVERITIES:
        count = sum(finding.severity == severity for finding in diagnosis.findings)
        yield "findings", "how many there are", {"severity": severity}, float(count)
    for number, finding in enumerate(diagnosis.findings, 1):
        labels = {
            "finding": f"F{number}",
            "rule": finding.rule,
            "severity": finding.severity,
            "layer": (finding.layers[0] or "(model)") if finding.layers else "",
        }
        yield (
            "finding_since",
            "the step at which a finding began; of its layers the worst",
            labels,
            float(finding.first_step),
        )
