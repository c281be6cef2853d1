"""Run -> Diagnosis: runs the rules, groups what they find, ranks it and attaches suggestions."""

from __future__ import annotations

from gradscope.records import Diagnosis, Run


def diagnose(run: Run) -> Diagnosis:
    """Diagnoses a run."""
    return Diagnosis("healthy", "stub while the rules are being written")
