"""What the page of a report is made of: the document, and what is drawn beside it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from gradscope.records import Diagnosis, Run
from gradscope.reports.cards import Card, cards
from gradscope.reports.cells import cells_of
from gradscope.reports.document import document
from gradscope.reports.envelope import Document
from gradscope.reports.layer_map import MapData, layer_map, marked_rows
from gradscope.reports.loss_line import LossData, Onset, loss_data, onsets
from gradscope.reports.metrics import DEFAULT_METRIC, METRICS
from gradscope.reports.numbers import headline_numbers
from gradscope.signals import Signals
from gradscope.store.folders import open_folder
from gradscope.store.mutes import Mute, mute_of, read_mutes


class PageData(NamedTuple):
    """All that the page shows."""

    document: Document
    cards: tuple[Card, ...]
    map: MapData  # of the backward gain
    marks: dict[str, str]  # rows where findings are worst: row -> "F1"
    loss: LossData
    onsets: tuple[Onset, ...]
    muted: dict[str, Mute]  # findings that somebody has muted: "F1" -> with what reason


def page_data(run: Run, diagnosis: Diagnosis, folder: Path | str | None = None) -> PageData:
    """The page of a run; the arguments are those of `document`."""
    signals = Signals(run)
    metric = METRICS[DEFAULT_METRIC]
    sites = metric.rows(signals)
    last = int(run.steps["step"][-1]) if len(run.steps) else -1
    rows = [signals.sites[site] for site in sites]
    cells = layer_map(metric, rows, signals.steps, cells_of(signals, metric, sites), last)
    recorded = int(signals.steps[-1]) if len(signals.steps) else None
    return PageData(
        document(run, diagnosis, folder),
        cards(headline_numbers(run, signals), recorded),
        cells,
        marked_rows(cells, diagnosis.findings),
        loss_data(run),
        onsets(diagnosis.findings),
        _muted(diagnosis, folder),
    )


def _muted(diagnosis: Diagnosis, folder: Path | str | None) -> dict[str, Mute]:
    """Which findings are muted; without the run's folder nobody knows."""
    mutes = () if folder is None else read_mutes(open_folder(folder))
    held = ((f"F{place}", mute_of(finding, mutes)) for place, finding in enumerate(diagnosis.findings, 1))
    return {number: mute for number, mute in held if mute is not None}
