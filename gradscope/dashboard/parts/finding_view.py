"""A finding with everything that the drawer and the page about it are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.address import Address
from gradscope.dashboard.runs import Runs, Snapshot
from gradscope.records import Diagnosis, Finding
from gradscope.store.folders import Folder
from gradscope.store.mutes import Mute, mute_of, read_mutes


@dataclass(frozen=True)
class FindingView:
    """One finding of a run.

    Attributes:
        number: "F1".
        folder: of the run: its mutes and trials are there.
        mute: the mute that holds for it.
        scheme: "light" or "dark".
        level: of its sections' headings: below an h1 on its own page, below the drawer's h2.
    """

    number: str
    finding: Finding
    snapshot: Snapshot
    folder: Folder
    address: Address
    mute: Mute | None = None
    scheme: str = "light"
    level: Literal[2, 3] = 3

    @property
    def newest_step(self) -> int | None:
        """The last recorded step."""
        recorded = self.snapshot.signals.steps
        return int(recorded[-1]) if len(recorded) else None

    def href(self, number: str) -> str:
        """The address of another finding, shown in the same way."""
        return self.address.at(finding=number, layer=None).href

    def heading(self, text: str, below: int = 0, **more: Any) -> Component:
        """The heading of a section, or of a part of one."""
        kind = {2: html.H2, 3: html.H3, 4: html.H4}[self.level + below]
        return kind(text, className="finding-section" if not below else "finding-part", **more)


def find(diagnosis: Diagnosis, number: str) -> Finding | None:
    """The finding called "F1", "F2", …; None when there is no such finding (any more)."""
    index = number.removeprefix("F")
    if index.isascii() and index.isdigit() and 0 < int(index) <= len(diagnosis.findings):
        return diagnosis.findings[int(index) - 1]
    return None


def finding_view(
    runs: Runs, snapshot: Snapshot, address: Address, scheme: str, level: Literal[2, 3] = 3
) -> FindingView | None:
    """The finding that an address names; None when the run has none of that number."""
    number = address.finding or ""
    finding = find(snapshot.diagnosis, number)
    if finding is None:
        return None
    folder = runs.folder(snapshot.name)
    muted = mute_of(finding, read_mutes(folder))
    return FindingView(number, finding, snapshot, folder, address, muted, scheme, level)
