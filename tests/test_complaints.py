"""What users of other tools complain of: each thread is a test that it does not happen here."""

from __future__ import annotations

import ast
import gc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.utils._python_dispatch import TorchDispatchMode

import gradscope
from gradscope.records import QUANTITIES, Finding, Rows, Run
from tests.bench.contenders import with_gradscope
from tests.bench.trainings import Training, mlp

PACKAGE = Path(gradscope.__file__).parent


def rows_of(run: Run, path: str, quantity: str) -> Rows:
    """The summaries of one site's quantity, step by step."""
    sites = [number for number, site in enumerate(run.info.sites) if site.path == path and site.role != "input"]
    wanted = (run.summaries["quantity"] == QUANTITIES.index(quantity)) & np.isin(run.summaries["site"], sites)
    return run.summaries[wanted]


def compiled(training: Training, **options: Any) -> tuple[Training, CompileCounter]:
    """The training with its model compiled, and what counts how often it was."""
    torch._dynamo.reset()
    counter = CompileCounter()
    training.model = torch.compile(training.model, backend=counter, **options)
    return training, counter


def test_pytorch_117266_133303_135410_no_graph_break_and_no_silence_under_compile(tmp_path: Path) -> None:
    """A compiled model stays in one piece and is not compiled at every step; what its inside hides is said."""
    training, counter = compiled(mlp(width=8, layers=3, batch=4), fullgraph=True)
    with with_gradscope(training, tmp_path / "run", every=2):
        frames = []
        for _ in range(16):
            training.step()
            frames.append(counter.frame_count)
    assert frames[-1] == 1
    run = gradscope.read_run(tmp_path / "run")
    assert any("inside a compiled region" in missing.why for missing in run.info.not_observed)


def test_wandb_10221_makani_150_watching_a_compiled_model_works(tmp_path: Path) -> None:
    """A model that must compile in one piece trains under GradScope, with its gradients and weights on record."""
    training, counter = compiled(mlp(width=8, layers=3, batch=4), fullgraph=True)
    with with_gradscope(training, tmp_path / "run", every=1):
        for _ in range(3):
            training.step()
    assert counter.frame_count > 0
    run = gradscope.read_run(tmp_path / "run")
    assert run.steps["recorded"].tolist() == [True] * 3
    assert np.isfinite(run.steps["gradient_norm"]).all()
    parameters = [site.path for site in run.info.sites if site.role == "parameter"]
    assert len(parameters) == 8
    for path in parameters:
        assert len(rows_of(run, path, "gradient")) == len(rows_of(run, path, "update")) == 3


def test_wandb_3701_what_is_written_does_not_grow_with_the_tensors(tmp_path: Path) -> None:
    """A recorded step of a model with 200 times as many weights takes no more disk: numbers are kept, never tensors."""
    sizes = []
    for width in (64, 1024):
        training = mlp(width=width, layers=3, batch=8)
        with with_gradscope(training, tmp_path / str(width), every=1):
            for _ in range(3):
                training.step()
        sizes.append(sum(file.stat().st_size for file in (tmp_path / str(width)).iterdir()))
    assert sizes[1] < 1.2 * sizes[0]


def test_wandb_2644_course22p2_27_nothing_piles_up(tmp_path: Path) -> None:
    """After 120 recorded steps there are as many objects in memory as after 80, but for rows that wait to be packed."""
    training = mlp(width=8, layers=3, batch=4)
    counts = []
    with with_gradscope(training, tmp_path / "run", every=1):
        for _ in range(3):
            for _ in range(40):
                training.step()
            gc.collect()
            counts.append(len(gc.get_objects()))
    assert counts[2] - counts[1] < 40 + 10  # the writer packs the rows of 512 steps at a time


class Operations(TorchDispatchMode):
    """Counts what torch computes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[str(function)] += 1
        return function(*args, **(kwargs or {}))


def test_transformer_engine_1909_an_idle_step_computes_nothing(tmp_path: Path) -> None:
    """In a step that is not recorded the loss is copied and nothing else is computed, however large the model is."""
    extra = []
    for layers in (2, 40):
        training = mlp(width=8, layers=layers, batch=4)
        training.step()
        with Operations() as alone:
            training.step()
        with with_gradscope(training, tmp_path / str(layers), every=10**9):
            training.step()
            with Operations() as idle:
                training.step()
        extra.append(idle.seen - alone.seen)
    assert extra[0] == extra[1]
    assert 0 < extra[0].total() < 12


WAITING = {"item", "cpu", "synchronize"}  # methods of a tensor or an event that wait for a device


def _functions_that_wait(file: Path) -> set[str]:
    found = set()
    for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef):
            called = {
                node.func.attr
                for node in ast.walk(function)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            }
            if called & WAITING:
                found.add(function.name)
    return found


def test_deepspeed_5135_musubi_tuner_988_no_hook_waits_for_a_device() -> None:
    """Nothing of the recorder waits for a device; in stats.py only what reads numbers that have arrived, and exact."""
    recorder = {file.name: _functions_that_wait(file) for file in (PACKAGE / "recorder").glob("*.py")}
    assert {name: functions for name, functions in recorder.items() if functions} == {}
    reading = {"rows", "value"}  # of what has arrived
    for file in (PACKAGE / "stats").glob("*.py"):
        assert _functions_that_wait(file) <= {"to_host", "_recount", *reading}  # on a GPU only `exact` recounts


class Faulty(nn.Module):
    """Hands its input on, from the fourth call on with a fault in it."""

    def __init__(self, fault: Any) -> None:
        super().__init__()
        self.fault, self.calls = fault, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.fault(x) if self.calls > 3 else x * 1.0


def with_fault(fault: Any) -> Training:
    """A training with a faulty module in its middle, at `3`."""
    training = mlp(width=16, layers=2, batch=32)
    layers = list(training.model)  # type: ignore[arg-type]
    training.model = nn.Sequential(*layers[:3], Faulty(fault), *layers[3:])
    return training


def finding_of(training: Training, folder: Path, **options: Any) -> tuple[Finding, Run]:
    """What the rule about NaN and Inf says after five steps."""
    with with_gradscope(training, folder, every=1, **options):
        for _ in range(5):
            training.step()
    run = gradscope.read_run(folder)
    (finding,) = [found for found in gradscope.diagnose(run).findings if found.rule == "non-finite"]
    return finding, run


FAULTS = {
    "NaN in the forward pass": (lambda x: (x - 1e3).log(), "NaN", "activation"),
    "Inf in the forward pass": (lambda x: x.sign() / 0.0, "Inf", "activation"),
    "NaN in the backward pass": (lambda x: x + 0 * (x - x.detach()).sqrt(), "NaN", "backward pass"),
    "Inf in the backward pass": (lambda x: x + (x - x.detach()).sqrt(), "Inf", "backward pass"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_pytorch_160016_86362_43405_the_origin_is_named_in_both_directions(name: str, tmp_path: Path) -> None:
    """NaN and Inf, of the forward pass and of the backward pass alone, are traced to the module and the step."""
    fault, kind, where = FAULTS[name]
    finding, _ = finding_of(with_fault(fault), tmp_path / "run")
    assert finding.first_step == 3
    assert finding.layers[0] == "3"
    assert f" {kind} " in finding.message
    assert f"it began in the {where} of layer 3" in finding.message


OPERATIONS = {"NaN in the forward pass": "log", "NaN in the backward pass": "sqrt", "Inf in the backward pass": "sqrt"}


@pytest.mark.parametrize("name", OPERATIONS)
def test_pytorch_160016_86362_43405_the_operation_and_its_line_are_named(name: str, tmp_path: Path) -> None:
    """With `on_non_finite="locate"` the finding names the very operation and the line that it stands on."""
    fault, _, where = FAULTS[name]
    finding, _ = finding_of(with_fault(fault), tmp_path / "run", on_non_finite="locate")
    line = fault.__code__.co_firstlineno
    assert (finding.first_step, finding.layers[0]) == (3, "3")
    assert (
        f"it began in the {where} of layer 3: {OPERATIONS[name]} at tests/test_complaints.py:{line}" in finding.message
    )


def test_pytorch_31855_tensorboard_87_tensorflow_5276_no_histogram_dies_or_lies(tmp_path: Path) -> None:
    """Where a tensor holds NaN and Inf its histogram holds the rest, and what is missing is counted beside it."""
    training = with_fault(lambda x: torch.where(x > 0, x, torch.nan * x))
    with with_gradscope(training, tmp_path / "run", every=1):
        for _ in range(5):
            training.step()
    run = gradscope.read_run(tmp_path / "run")
    rows = run.summaries
    assert rows["nans"].max() > 0
    others = sum(rows[name] for name in ("zeros", "nans", "positive_infs", "negative_infs"))
    assert rows["histogram"].sum(axis=1) + others == pytest.approx(rows["count"])
    faulty = rows_of(run, "3", "activation")[3]
    assert 0 < faulty["nans"] < faulty["count"]
    assert np.isfinite([faulty["sum"], faulty["minimum"], faulty["maximum"]]).all()


def test_deepspeed_2911_nan_inf_and_overflow_are_three_things(tmp_path: Path) -> None:
    """How many entries are NaN, Inf and -Inf is counted apart, and an overflow of a number format is Inf, not NaN."""

    def fault(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[0, :3], x[1, :5], x[2, :7] = torch.nan, torch.inf, -torch.inf
        return x

    finding, run = finding_of(with_fault(fault), tmp_path / "run")
    row = rows_of(run, "3", "activation")[3]
    assert [row["nans"], row["positive_infs"], row["negative_infs"]] == [3, 5, 7]
    finding, run = finding_of(with_fault(lambda x: (x.abs() * 1e5 + 1e5).half().float()), tmp_path / "overflow")
    assert "Inf" in finding.message
    assert rows_of(run, "3", "activation")["positive_infs"][3] == 32 * 16
