"""What a chart shows as CSV and JSON, over plain GET requests."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from dash import Dash, html
from flask.testing import FlaskClient
from torch import nn

from gradscope.dashboard.address import Address
from gradscope.dashboard.download_tables import TABLES, Table
from gradscope.dashboard.downloads import as_csv, as_json, data_links, register_downloads
from gradscope.dashboard.figures.depth import depth_data
from gradscope.dashboard.runs import Runs
from tests.dashboard.recorded import HOSTILE, Hostile, mlp, record


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recorded runs, one of them broken from step 3 on."""
    root = tmp_path_factory.mktemp("runs")
    record(root / "nan", mlp(nn.ReLU, 3), 5, poison=(3, "0.weight"))
    record(root / "hostile name", Hostile(), 3)
    return root


@pytest.fixture(scope="module")
def client(folder: Path) -> FlaskClient:
    """A client of the routes alone."""
    app = Dash(__name__)
    app.layout = html.Div()
    register_downloads(app, Runs(folder))
    made: FlaskClient = app.server.test_client()
    return made


def rows(client: FlaskClient, address: str) -> list[list[str]]:
    """A CSV answer."""
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.reader(io.StringIO(answer.text)))


@pytest.mark.parametrize("what", sorted(TABLES))
def test_every_table_comes_as_csv_and_as_json_with_the_same_rows(client: FlaskClient, what: str) -> None:
    """The two forms differ in their writing only."""
    table = rows(client, f"/run/nan/data/{what}.csv?layer=0")
    document = json.loads(client.get(f"/run/nan/data/{what}.json?layer=0").text)
    assert document["run"] == "nan"
    assert document["columns"] == table[0]
    assert len(document["rows"]) == len(table) - 1 > 0


def test_the_depth_profile_holds_the_charts_numbers(client: FlaskClient, folder: Path) -> None:
    """The file is made of the same data as the chart, at the step of the address."""
    data = depth_data(Runs(folder).get("nan").signals, 1)
    table = rows(client, "/run/nan/data/depth.csv?step=1")
    assert table[0] == ["layer", "backward_gain", "forward_gain", "state"]
    assert [float(row[1]) for row in table[1:]] == data.backward.tolist()


def test_nan_is_a_word_and_never_breaks_the_json(client: FlaskClient) -> None:
    """A loss that was NaN is NaN in both; a layer that holds it says non-finite on the map."""
    losses = [row[1] for row in rows(client, "/run/nan/data/loss.csv")[1:]]
    assert losses[3:] == ["NaN", "NaN"]
    document = json.loads(client.get("/run/nan/data/loss.json").text)
    assert document["rows"][3][1] == "NaN"
    assert rows(client, "/run/nan/data/map.csv?metric=forward-gain")[1][-1] == "non-finite"


def test_the_filters_of_the_page_hold_for_the_file(client: FlaskClient) -> None:
    """The layer table's file has the rows that the address' filters leave, all pages of them."""
    assert [row[1] for row in rows(client, "/run/nan/data/layers.csv?kind=ReLU")[1:]] == ["ReLU", "ReLU"]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1", " =1"])
def test_a_name_that_a_spreadsheet_would_run_is_marked_as_text(name: str) -> None:
    """A cell of text that begins like a formula gets an apostrophe; a negative number stays a number."""
    table = list(csv.reader(io.StringIO(as_csv(Table((name,), [[name, -1.5]])))))
    assert table == [[f"'{name}"], [f"'{name}", "-1.5"]]
    assert json.loads(as_json(Table((name,), [[name, -1.5]])))["rows"] == [[name, -1.5]]


def test_hostile_names_stay_data(client: FlaskClient) -> None:
    """[24] Names from user code are cells, the answer is never a page; the file's name is plain."""
    answer = client.get("/run/hostile%20name/data/layers.csv")
    assert HOSTILE in answer.text
    assert answer.headers["Content-Disposition"] == 'attachment; filename="hostile-name-layers.csv"'


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("/run/gone/data/loss.csv", 404, "no run named 'gone'"),
        ("/run/../data/loss.csv", 404, "no run named '..'"),
        ("/run/nan/data/weights.csv", 404, "no data named 'weights'; there is map"),
        ("/run/nan/data/layer.csv?layer=zz", 404, "this run has no layer 'zz'"),
    ],
)
def test_what_is_not_there_is_said(client: FlaskClient, address: str, status: int, words: str) -> None:
    """A run's name cannot leave the folder, and an unknown table names those that exist."""
    answer = client.get(address)
    assert answer.status_code == status
    assert words in answer.text


def test_another_ending_is_no_file(client: FlaskClient) -> None:
    """Anything but CSV and JSON is an address of the dashboard like any other, which answers with its page."""
    assert "Content-Disposition" not in client.get("/run/nan/data/loss.exe").headers


def test_a_chart_links_to_its_data_as_it_is_shown() -> None:
    """The links keep the metric, the step and the filters of the address."""
    links = data_links(Address("overview", "a b", metric="update-ratio", step=3), "map")[0].children
    assert [link.href for link in links if not isinstance(link, str)] == [
        "/run/a%20b/data/map.csv?step=3&metric=update-ratio",
        "/run/a%20b/data/map.json?step=3&metric=update-ratio",
    ]
    assert data_links(Address("learn"), "map") == []
