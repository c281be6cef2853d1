"""A run as OpenTelemetry metrics, read back through its SDK."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from gradscope.cli import main
from gradscope.integrations import opentelemetry
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Signals
from tests.conftest import SaveRun
from tests.exported import NAMES, hard_run

Points = dict[str, list[tuple[dict[str, object], float]]]


def points(reader: InMemoryMetricReader) -> Points:
    """The data points by metric, each with its attributes."""
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: [(dict(each.attributes or {}), each.value) for each in metric.data.data_points]  # type: ignore[union-attr]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_your_own_provider_gets_gauges(save_run: SaveRun) -> None:
    """The newest numbers, the verdict and the findings are gauges with the layer as an attribute."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    count = opentelemetry.export(save_run(hard_run()), provider)
    found, signals = points(reader), Signals(hard_run())
    provider.shutdown()
    assert count == sum(map(len, found.values()))
    assert found["gradscope.loss"] == [({"run": "hard"}, 0.25)]
    gains = {str(attributes["layer"]): value for attributes, value in found["gradscope.backward_gain"]}
    assert gains == {name: signals.backward_gain[signals.site(name), -1] for name in (*NAMES, "act", "head")}
    assert ({"run": "hard", "verdict": "watch"}, 1.0) in found["gradscope.verdict"]


def test_what_its_gauges_ignore_is_said_elsewhere(save_run: SaveRun, caplog: pytest.LogCaptureFixture) -> None:
    """NaN and Inf, which OpenTelemetry refuses, are points of `gradscope.not_finite` that say of which metric."""
    run = hard_run()
    run.steps["loss"][-1] = float("nan")
    run.steps["gradient_norm"][-1] = float("inf")
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    opentelemetry.export(save_run(run), provider)
    found = points(reader)
    provider.shutdown()
    assert "gradscope.loss" not in found
    assert ({"run": "hard", "metric": "gradscope.loss", "value": "nan"}, 1.0) in found["gradscope.not_finite"]
    assert ({"run": "hard", "metric": "gradscope.gradient_norm", "value": "inf"}, 1.0) in found["gradscope.not_finite"]
    assert caplog.text == ""


def test_the_command_writes_one_json_document(save_run: SaveRun, tmp_path: Path) -> None:
    """Without a provider there is a JSON document, with a layer of each of more than 2,000, the SDK's own limit."""
    many = by_hand({f"layer{number}": 1.0 for number in range(2_100)}, steps=1)
    path = tmp_path / "metrics.json"
    assert main(["export", str(save_run(many)), "--to", "opentelemetry", "-o", str(path)]) == 0
    metrics = json.loads(path.read_text())["resource_metrics"][0]["scope_metrics"][0]["metrics"]
    by_name = {each["name"]: each for each in metrics}
    layers = {point["attributes"]["layer"] for point in by_name["gradscope.backward_gain"]["data"]["data_points"]}
    assert layers == {f"layer{number}" for number in range(2_100)}
    assert by_name["gradscope.backward_gain"]["unit"] == "1"
