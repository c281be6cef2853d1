"""Findings that somebody has muted, with the reason: a file of its own in the run's folder, which no training touches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from gradscope.records import SEVERITIES, Finding, Severity
from gradscope.store.folders import Folder

MUTES_FILE = "mutes.json"
_LATEST = 2.0**32  # seconds since 1970: later ones are no times


@dataclass(frozen=True)
class Mute:
    """What was muted, and why."""

    rule: str
    severity: Severity
    layers: tuple[str, ...]
    reason: str
    time: float  # seconds since 1970

    def holds(self, finding: Finding) -> bool:
        """Whether it is of this finding: the same rule, some of the same layers, and no graver than it was."""
        same_place = bool({*self.layers} & {*finding.layers}) or self.layers == finding.layers
        return (
            self.rule == finding.rule
            and same_place
            and SEVERITIES.index(finding.severity) <= SEVERITIES.index(self.severity)
        )


def read_mutes(folder: Folder) -> tuple[Mute, ...]:
    """The mutes of a run; none where its file is not there or is damaged."""
    try:
        found = [_mute(each) for each in orjson.loads(folder.read(MUTES_FILE))]
    except Exception:  # a remote filesystem has errors of its own; a finding that is shown does no harm
        return ()
    return tuple(each for each in found if each.severity in SEVERITIES and 0 <= each.time < _LATEST)


def _mute(content: dict[str, Any]) -> Mute:
    layers = tuple(str(layer) for layer in content["layers"])
    return Mute(str(content["rule"]), content["severity"], layers, str(content["reason"]), float(content["time"]))


def mute_of(finding: Finding, mutes: tuple[Mute, ...]) -> Mute | None:
    """The mute that holds for a finding; None when it is to be shown."""
    return next((each for each in mutes if each.holds(finding)), None)
