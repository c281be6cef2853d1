"""A new finding in a training that runs: as a line, as the words of the error that ends it, and as a document."""

from __future__ import annotations

import shlex
from pathlib import Path

from gradscope.records import Diagnosis, Finding, RunInfo
from gradscope.reports.document import finding_document
from gradscope.reports.envelope import Document, envelope
from gradscope.reports.finding_words import where
from gradscope.reports.words import SHAPES, harmless, step

_MOST_LAYERS = 3  # that are named in the words of the error


def next_command(folder: Path) -> str:
    """What shows the run.

    Example:
        >>> next_command(Path("runs/a b"))
        "gradscope dashboard 'runs/a b'"
    """
    return harmless(f"gradscope dashboard {shlex.quote(str(folder))}")


def line(finding: Finding, folder: Path) -> str:
    """The finding in one line, and what to type next.

    Example:
        >>> finding = Finding("non-finite", "error", ("fc1",), 1143, 1150, "fc1 puts out the first Inf (fp16 overflow)")
        >>> line(finding, Path("runs/a"))
        'gradscope ▲ error step 1,143 non-finite: fc1 puts out the first Inf (fp16 overflow) -> gradscope dashboard runs/a'
    """
    shape = SHAPES[finding.severity][0]
    words = f"{finding.rule}: {harmless(finding.message)}"
    return f"gradscope {shape} {finding.severity} {step(finding.first_step)} {words} -> {next_command(folder)}"


def explanation(finding: Finding, diagnosis: Diagnosis, seen: int, folder: Path) -> str:
    """What, where, since when, why, what to do, and where the run is: the words of the error that ends a training.

    What to do is that of the finding that leads to this one, if there is one.
    """
    leader = next((each for each in diagnosis.findings if each.rule == finding.follows), finding)
    said = {
        "what": f"{finding.rule}, {finding.severity}: {finding.message}",
        "where": where([f"layer {each}" if each.isdigit() else each for each in finding.layers], _MOST_LAYERS),
        "since": f"{step(finding.first_step)}; seen after {step(seen)}",
        "why": "",
        "do": "",
        "run": str(folder),
        "next": next_command(folder),
    }
    if leader is not finding:
        said["why"] = f"it follows from {leader.rule}: {leader.message}"
    elif finding.causes:
        said["why"] = str(finding.causes[0])
    if leader.suggestions:
        said["do"] = str(leader.suggestions[0])
        if leader.suggestions[0].location:
            said["do"] += f" (at {leader.suggestions[0].location})"
    lines = [f"  {name:<5}  {harmless(text)}" for name, text in said.items() if text]
    return "\n".join(['The training is sick, and on_finding="raise" ended it.', *lines])


def alert_document(finding: Finding, diagnosis: Diagnosis, info: RunInfo, seen: int, folder: Path) -> Document:
    """What a webhook is sent: the finding as it is in the report, and in a line that chat services show, `text`."""
    number = diagnosis.findings.index(finding) + 1
    return envelope(
        event="finding",
        text=line(finding, folder),
        step=seen,
        run={"id": info.id, "model": info.model, "folder": str(folder)},
        verdict=diagnosis.verdict,
        headline=diagnosis.headline,
        finding=finding_document(f"F{number}", finding),
        next_command=next_command(folder),
    )
