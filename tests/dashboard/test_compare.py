"""The comparison page without a browser: which runs, what it says, the figure."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from plotly.utils import PlotlyJSONEncoder

from gradscope.comparison import Side, compare, to_document
from gradscope.comparison.difference import ONLY_A_BROKEN, ONLY_B_BROKEN
from gradscope.dashboard.address import Address
from gradscope.dashboard.figures.difference import difference_data, draw_difference, span_of
from gradscope.dashboard.live import refresh
from gradscope.dashboard.pages.compare import OUTPUTS, PAGE, reads
from gradscope.dashboard.runs import Runs
from gradscope.records import Run
from gradscope.reports.metrics import METRICS
from gradscope.reports.theme import DARK, LIGHT
from gradscope.rules.handwritten import run
from gradscope.signals import Signals
from tests.conftest import SaveRun
from tests.dashboard.test_timeline import HOSTILE, ODD, words

NAN = float("nan")
HERE = Address("compare", a="sick", b="well")


def named(made: Run, name: str) -> Run:
    """The run with an id of its own."""
    return dataclasses.replace(made, info=dataclasses.replace(made.info, id=name))


@pytest.fixture
def runs(save_run: SaveRun) -> Runs:
    """A sick run, a healthy one with another optimizer, and one that turns NaN."""
    save_run(named(run({"a": 1e-9, "b": 1e-4, "c": 1.0}, loss=2.3), "1"), "sick")
    save_run(named(run({"a": 0.5, "b": 0.7, "c": 1.0}, loss=1.0, optimizer="Adam"), "2"), "well")
    gain = [0.5] * 6 + [NAN] * 2
    made = save_run(named(run({"a": gain, "b": gain, "c": gain}, loss=[1.0] * 6 + [NAN] * 2), "3"), "broken")
    return Runs(made.parent)


def draw(runs: Runs, address: Address = HERE, shown: Any = None) -> dict[str, Any]:
    """What the page answers."""
    return refresh(PAGE, runs, address, "light", shown)


def cells(figure: dict[str, Any]) -> Any:
    """The numbers of the drawn map."""
    z = next(trace["z"] for trace in figure["data"] if trace["name"] == "difference")
    shape = [int(part) for part in z["shape"].split(",")]
    return np.frombuffer(base64.b64decode(z["bdata"]), "f4").reshape(shape)


def test_the_page_draws_everything_once(runs: Runs) -> None:
    """A first look draws every output; a second one nothing."""
    drawn = draw(runs)
    assert set(OUTPUTS) <= set(drawn)
    assert set(draw(runs, shown=drawn["shown"])) == {"problem", "content", "shown"}


def test_the_page_says_what_the_document_says(runs: Runs) -> None:
    """[27] The lists, the settings and the table of layers are those of the JSON."""
    drawn = draw(runs)
    a, b = (Side(each.name, each.run, each.diagnosis, each.signals) for each in map(runs.get, ("sick", "well")))
    document = to_document(compare(a, b))
    assert drawn["title"] == f"{len(document['only_a'])} finding only in A"
    columns = [words(column) for column in drawn["findings"]]
    for column, name in zip(columns, ("only_a", "both", "only_b"), strict=True):
        assert f": {len(document[name])} " in column
        assert all(line["message"] in column for line in document[name])
    differing = [setting for setting in document["settings"] if setting["differs"]]
    text = words(drawn["settings"])
    assert f"What was set differently: {len(differing)} of {len(document['settings'])} settings" in text
    assert all(f"{setting['name']}{setting['a']}{setting['b']}" in text for setting in differing)
    table = drawn["layers"].children[2].children.data
    assert [row[0] for row in table["body"]] == [pair["layer"] for pair in document["layers"]]
    assert table["body"][0][3] == f"{document['layers'][0]['decades']:+.2f}"


def test_the_map_is_the_difference_and_swapping_negates_it(runs: Runs) -> None:
    """[27] The drawn cells are log10 of B over A; the link "swap" leads to their negatives and the lists exchanged."""
    there, back = draw(runs), draw(runs, HERE.at(a="well", b="sick"))
    assert there["swap"] == "/compare?a=well&b=sick"
    np.testing.assert_allclose(cells(there["map"])[:, 0], [np.log10(0.5 / 1e-9), np.log10(0.7 / 1e-4), 0], rtol=1e-6)
    np.testing.assert_array_equal(cells(there["map"]), -cells(back["map"]))
    assert words(there["findings"][0]).replace("Only in A", "") != words(back["findings"][0]).replace("Only in A", "")
    assert "None." in words(back["findings"][0])
    assert "None." in words(there["findings"][2])


def test_the_scale_is_fixed_and_neutral_at_zero(runs: Runs) -> None:
    """Two pairs of runs look alike: the scale never follows the data, and 0 is its middle."""
    for metric in METRICS:
        figure = draw(runs, HERE.at(metric=metric))["map"]
        for trace in figure["data"]:
            if trace["name"] == "difference":
                assert (trace["zmin"], trace["zmax"]) == (-span_of(metric), span_of(metric))
                assert trace["colorscale"][3] == [0.5, LIGHT.diverging[3]]


def test_without_names_the_two_newest_runs_are_compared(runs: Runs) -> None:
    """/compare alone takes the newest as B and the one before as A; with one name the other is filled in."""
    newest = runs.names()
    assert reads(runs, Address("compare")) == (newest[1], newest[0])
    assert reads(runs, Address("compare", a=newest[0])) == (newest[0], newest[1])


def test_one_run_is_not_enough(save_run: SaveRun) -> None:
    """A folder of one run says what is missing and what to do."""
    drawn = draw(Runs(save_run().parent), Address("compare"))
    assert "One run is not enough to compare" in words(drawn["missing"])
    assert drawn["body"] == {"display": "none"}


def test_a_missing_run_is_named(runs: Runs) -> None:
    """A link to a run that was deleted says which, and the page works on once another is chosen."""
    drawn = draw(runs, HERE.at(a="gone"))
    assert "No run named 'gone' is here" in words(drawn["missing"])
    assert (drawn["a"], drawn["b"]) == (None, "well")
    assert draw(runs, HERE, drawn["shown"])["body"] == {}


def test_the_same_run_twice_says_so(runs: Runs) -> None:
    """A compared with itself: nothing differs, and a sentence says why."""
    drawn = draw(runs, HERE.at(b="sick"))
    assert "Both are the same run" in words(drawn["missing"])
    assert not cells(drawn["map"]).any()


def test_nan_in_one_run_only_is_a_state_of_its_own(runs: Runs) -> None:
    """What is NaN in B only, or in A only, is no difference of numbers: the legend says which."""
    drawn = draw(runs, HERE.at(a="well", b="broken"))
    assert "NaN or Inf in B only" in words(drawn["map_legend"])
    one, two = runs.get("well").signals, runs.get("broken").signals
    there, back = (difference_data(*pair, ("x", "y"), "backward-gain", "step") for pair in ((one, two), (two, one)))
    assert (there.cells.states[:, 7] == ONLY_B_BROKEN).all()
    assert (back.cells.states[:, 7] == ONLY_A_BROKEN).all()


@pytest.mark.parametrize("by", ["step", "share", "time", "nonsense"])
def test_steps_are_aligned_as_asked(runs: Runs, by: str) -> None:
    """[17] ?by= is in the link; what cannot be understood is by step."""
    drawn = draw(runs, HERE.at(by=by))
    assert drawn["by"] == (by if by != "nonsense" else "step")
    words_of_axis = {"share": "share of the training", "time": "seconds since the start"}
    assert drawn["map"]["layout"]["xaxis"]["title"]["text"] == words_of_axis.get(by, "optimizer step")


@pytest.mark.parametrize("made", [*ODD.values(), run({"a": 1.0}, steps=0)], ids=[*ODD, "no step"])
def test_any_two_runs_are_shown(save_run: SaveRun, made: Run) -> None:
    """One layer, three steps, all NaN, 3,000 layers, no step: no problem in either order, and less than 1 MB."""
    save_run(named(made, "odd"), "odd")
    there = Runs(save_run(named(ODD["three steps"], "other"), "other").parent)
    for a, b in (("odd", "other"), ("other", "odd"), ("odd", "odd")):
        drawn = refresh(PAGE, there, Address("compare", a=a, b=b), "dark", None)
        assert drawn["problem"] == []
        assert len(json.dumps(drawn, cls=PlotlyJSONEncoder)) < 1_000_000


def test_two_models_without_a_common_layer_have_words_for_a_map(save_run: SaveRun) -> None:
    """No layer of the same name: the losses are drawn, and the map's place says why it is empty."""
    one, two = Signals(run({"a": 1.0}, loss=1.0)), Signals(run({"b": 1.0}, loss=2.0))
    figure = draw_difference(difference_data(one, two, ("x", "y"), "backward-gain", "step"), DARK)
    assert figure["layout"]["annotations"][0]["text"] == "No layer has the same name in both"
    assert [trace["name"] for trace in figure["data"]] == ["loss A", "loss B"]


def test_hostile_names_are_text(save_run: SaveRun) -> None:
    """[24] Layers and runs with markup in their names are escaped where plotly would read it."""
    made = Signals(run({HOSTILE: 1.0, "b": 1.0}, loss=1.0))
    figure = draw_difference(difference_data(made, made, (HOSTILE, HOSTILE), "backward-gain", "step"), LIGHT)
    assert "<img" not in json.dumps(figure, cls=PlotlyJSONEncoder)
