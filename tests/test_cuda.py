"""The same on a GPU: nothing waits for it, nothing changes, and the numbers are those of a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import gradscope
from gradscope.records import Run
from tests.bench.contenders import with_gradscope
from tests.bench.trainings import Training, cnn, mlp, transformer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")

TRAININGS = {
    "MLP": lambda: mlp(width=64, layers=3, batch=32),
    "transformer": lambda: transformer(width=32, layers=2, batch=4),
    "CNN": lambda: cnn(channels=8, blocks=2, batch=4),
}


@pytest.fixture(autouse=True)
def _repeatable() -> Iterator[None]:
    """Convolutions that give the same bits every time, products in full precision."""
    before = torch.backends.cudnn.deterministic, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.deterministic = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.deterministic = before[0]
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before[1:]


def on(device: str, name: str, dtype: torch.dtype = torch.float32) -> Training:
    """A training on a device."""
    training = TRAININGS[name]()
    inputs, labels = training.batch
    inputs = inputs.to(device, dtype) if inputs.is_floating_point() else inputs.to(device)
    return Training(training.model.to(device, dtype), (inputs, labels.to(device)))


@pytest.mark.parametrize("every", [1, 2, "auto"])
@pytest.mark.parametrize("name", TRAININGS)
def test_no_step_waits_for_the_device(name: str, every: int, tmp_path: Path) -> None:
    """Neither an idle step nor a recorded one, the first included, makes the processor wait for the GPU."""
    training = on("cuda", name)
    training.step()  # torch's own: libraries are loaded, kernels chosen
    torch.cuda.synchronize()
    with with_gradscope(training, tmp_path / "run", every=every):  # raises if recording stopped
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(6):
                training.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    run = gradscope.read_run(tmp_path / "run")
    assert len(run.steps) == 6
    assert np.isfinite(run.steps["loss"]).all()


@pytest.mark.parametrize("name", TRAININGS)
def test_training_on_a_gpu_is_bit_for_bit_the_same(name: str, tmp_path: Path) -> None:
    """Weights, buffers and the generator of the GPU after ten steps are what they are without us."""
    left = []
    for watched in (False, True):
        training = on("cuda", name)
        if watched:
            with with_gradscope(training, tmp_path / "run", every=1):
                for _ in range(10):
                    training.step()
        else:
            for _ in range(10):
                training.step()
        left.append([*training.model.state_dict().values(), torch.cuda.get_rng_state()])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*left, strict=True))


def recorded(device: str, name: str, folder: Path) -> Run:
    """Two steps in double precision, each on record."""
    training = on(device, name, torch.float64)
    with with_gradscope(training, folder, every=1):
        for _ in range(2):
            training.step()
    return gradscope.read_run(folder)


@pytest.mark.parametrize("name", TRAININGS)
def test_the_numbers_are_those_of_a_cpu(name: str, tmp_path: Path) -> None:
    """The same training gives the same summaries on either device, to rounding."""
    ours, theirs = recorded("cuda", name, tmp_path / "ours"), recorded("cpu", name, tmp_path / "theirs")
    assert [site.path for site in ours.info.sites] == [site.path for site in theirs.info.sites]
    assert ours.steps["loss"] == pytest.approx(theirs.steps["loss"], rel=1e-9)
    assert ours.steps["gradient_norm"] == pytest.approx(theirs.steps["gradient_norm"], rel=1e-6)
    one, other = (np.sort(run.summaries, order=["step", "site", "quantity"]) for run in (ours, theirs))
    for field in ("step", "site", "quantity", "count", "sample_size", "non_finite"):
        assert one[field].tolist() == other[field].tolist(), field
    scale = np.sqrt(other["sum_squares"] / other["count"])
    # a gradient that is zero but for rounding, a bias before BatchNorm's, is other rounding on another device
    assert np.abs(np.sqrt(one["sum_squares"] / one["count"]) - scale) == pytest.approx(0.0, abs=1e-9)
    for field in ("minimum", "maximum"):
        assert np.abs(one[field] - other[field]) == pytest.approx(0.0, abs=1e-9)


def test_nothing_stays_in_the_memory_of_the_gpu(tmp_path: Path) -> None:
    """After a recorded step as much is allocated as after the one before it."""
    training = on("cuda", "transformer")
    with with_gradscope(training, tmp_path / "run", every=1):
        allocated = []
        for _ in range(5):
            training.step()
            allocated.append(torch.cuda.memory_allocated())
    assert allocated[1] == allocated[-1]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_a_model_need_not_be_on_the_current_device(tmp_path: Path) -> None:
    """A model on the second GPU is read when that GPU is done, whichever is the current one."""
    training = on("cuda:1", "MLP", torch.float64)
    assert torch.cuda.current_device() == 0
    with with_gradscope(training, tmp_path / "run", every=1):
        for _ in range(2):
            training.step()
    theirs = recorded("cpu", "MLP", tmp_path / "cpu")
    assert gradscope.read_run(tmp_path / "run").steps["gradient_norm"] == pytest.approx(
        theirs.steps["gradient_norm"], rel=1e-6
    )
