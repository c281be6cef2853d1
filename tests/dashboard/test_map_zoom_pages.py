"""The pages' maps of some steps and of a part of the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from dash import Patch

from gradscope.dashboard.address import Address
from gradscope.dashboard.download_tables import TABLES
from gradscope.dashboard.live import refresh
from gradscope.dashboard.pages import PAGES
from gradscope.dashboard.runs import Runs
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Signals
from tests.conftest import SaveRun, write_run
from tests.dashboard.test_map_zoom import deep as deep
from tests.dashboard.test_map_zoom import long_run


def changes(figure: dict[str, Any] | Patch, *place: str) -> bool:
    """Whether a change of a figure is of this place."""
    if isinstance(figure, dict):
        return True
    return any(change["location"][: len(place)] == list(place) for change in figure.to_plotly_json()["operations"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, deep: Signals) -> Runs:
    """A long run, a short one and a deep one."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(by_hand({"a": 1.0, "b": 1.0}, loss=2.0, steps=9), folder / "short")
    write_run(deep.run, folder / "deep")
    write_run(long_run(1_300), folder / "long")
    return Runs(folder)


def drawn(runs: Runs, address: Address, shown: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a page draws."""
    outputs = refresh(PAGES[address.page], runs, address, "light", shown)
    assert str(outputs["problem"]) == "[]"
    return outputs


@pytest.mark.parametrize("kind", ["overview", "timeline"])
def test_a_zoom_draws_a_folded_map_anew_and_no_other(runs: Runs, kind: str) -> None:
    """The long run's cells are sent for the window, the short run's stay as they are; both show the range."""
    for name, redrawn in (("long", True), ("short", False)):
        address = Address(kind, name)
        first = drawn(runs, address)
        zoomed = drawn(runs, address.at(first=2, last=5, rows=(0, 1)), first["shown"])["map"]
        assert isinstance(zoomed, Patch)
        assert changes(zoomed, "data") == redrawn
        said = json.dumps(zoomed.to_plotly_json())
        assert "[1.5, 5.5]" in said
        assert "[1.5, -0.5]" in said


@pytest.mark.parametrize("kind", ["overview", "timeline"])
def test_a_growing_run_leaves_the_zoom_alone(runs: Runs, tmp_path: Path, kind: str) -> None:
    """[12] New steps send the window's cells anew, and say nothing of the ranges."""
    address = Address(kind, "long", first=1230, last=1240)
    first = drawn(runs, address)
    assert first["map"]["layout"]["xaxis"]["range"] == [1229.5, 1240.5]
    write_run(long_run(1_301), tmp_path / "long")
    grown = drawn(Runs(tmp_path), address, first["shown"])["map"]
    assert changes(grown, "data")
    assert not changes(grown, "layout", "xaxis", "range")
    assert not changes(grown, "layout", "xaxis", "autorange")
    assert not changes(grown, "layout", "yaxis2", "range")


def test_a_finding_that_is_opened_is_seen_step_by_step(runs: Runs) -> None:
    """The steps around its onset are folded for themselves; closing it leads back to all."""
    address = Address("overview", "long")
    first = drawn(runs, address)
    opened = drawn(runs, address.at(finding="F1"), first["shown"])
    assert changes(opened["map"], "data")
    closed = drawn(runs, address, opened["shown"])
    assert changes(closed["map"], "data")
    assert changes(closed["map"], "layout", "xaxis", "autorange")


@pytest.mark.parametrize("kind", ["overview", "timeline"])
def test_a_block_is_a_map_of_its_own(runs: Runs, kind: str) -> None:
    """Its rows and its words are drawn, and the select and the links to the data follow the address."""
    address = Address(kind, "deep")
    first = drawn(runs, address)
    chosen = drawn(runs, address.at(block="blocks.7"), first["shown"])
    assert isinstance(chosen["map"], dict)
    ticks = chosen["map"]["layout"]["yaxis2"]["ticktext"]
    assert any("layers.4" in tick for tick in ticks)
    assert not any("blocks.7" in tick for tick in ticks)
    assert (chosen["block"], chosen["block_display"]) == ("blocks.7", None)
    links = chosen["map_links" if kind == "overview" else "links"]
    assert "map.csv?block=blocks.7" in str(links)


def test_the_timelines_table_is_of_the_window_and_the_block(runs: Runs) -> None:
    """The same numbers as a table: the window's steps, the block's layers."""
    table = str(drawn(runs, Address("timeline", "long", first=1231, last=1236))["table"])
    assert "step 1,234" in table
    assert "+4.00" in table
    table = str(drawn(runs, Address("timeline", "deep", block="blocks.7"))["table"])
    assert "blocks.7.layers.4" in table
    assert "blocks.8" not in table


def test_a_download_is_of_the_window_and_the_block(runs: Runs) -> None:
    """The rows and columns of the file are those of the map, and it says how many share one."""
    table = TABLES["map"](runs.get("long"), Address("overview", "long", first=1233, last=1235))
    assert table is not None
    assert table.columns == ("layer", "step 1233", "step 1234", "step 1235")
    assert next(iter(table.rows))[1:] == [0.0, 4.0, 0.0]
    assert (table.about["steps_per_column"], table.about["layers_per_row"], table.about["block"]) == (1, 1, None)
    table = TABLES["map"](runs.get("deep"), Address("overview", "deep", block="blocks.7"))
    assert table is not None
    assert [row[0] for row in table.rows] == [f"blocks.7.layers.{layer}" for layer in range(10)]
    assert table.about["block"] == "blocks.7"


def test_hostile_names_of_blocks_are_text(save_run: SaveRun) -> None:
    """A module's name is shown as it is and is no markup to plotly."""
    name = "<img src=x onerror=alert(1)>"
    folder = save_run(by_hand({f"{name}.{number}": 1.0 for number in range(3)} | {"b": 1.0}), "run")
    answer = drawn(Runs(folder.parent), Address("overview", "run", block=name))
    assert answer["block"] == name
    assert name not in str(answer["map"])
    assert "&lt;img" in str(answer["map"])
