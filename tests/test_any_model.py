"""Models of every kind: the training stays bit for bit what it is, and what is recorded is what torch says."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import gradscope
from gradscope.records import Run
from gradscope.signals import Signals
from tests.specimens import (
    OUTPUTS,
    Attention,
    Box,
    Cell,
    Complex,
    Emits,
    Keywords,
    Several,
    Siamese,
    Specimen,
    Tied,
    assert_same,
    batch,
    classified,
    contrasted,
    gradients_by_torch,
    half,
    next_token,
    tokens,
    train,
)
from tests.trainings import ResidualBlock, mlp


def keywords(model: nn.Module, step: int) -> torch.Tensor:
    """A step of a model that takes keyword arguments alone."""
    images, labels = batch(step)
    return nn.functional.cross_entropy(model(pixels=images, scale=2.0), labels)


class Masked(nn.Module):
    """A model with a frozen layer, a layer that is never used, and a mask among its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.frozen, self.head = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)
        self.spare = nn.Linear(32, 32)
        self.frozen.requires_grad_(False)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.frozen(torch.relu(self.first(x)))) * mask)


def masked(model: nn.Module, step: int) -> torch.Tensor:
    """A step with a boolean mask."""
    images, labels = batch(step)
    return nn.functional.cross_entropy(model(images, torch.arange(32) % 3 > 0), labels)


class Sparse(nn.Module):
    """Embeddings whose gradient is sparse."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.EmbeddingBag(500, 16, mode="mean", sparse=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(x))


def sparse(model: nn.Module, step: int) -> torch.Tensor:
    """A step on a few of many words."""
    words = tokens(step, kinds=500)
    return nn.functional.cross_entropy(model(words), words[:, 0] % 10)


class Jagged(nn.Module):
    """A layer that is given rows of different lengths as one nested tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.head = nn.Linear(8, 16), nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = [row.view(8, 8)[: 1 + number % 8] for number, row in enumerate(x)]
        features = self.linear(torch.nested.nested_tensor(rows, layout=torch.jagged))
        return self.head(torch.stack([part.tanh().mean(0) for part in features.unbind()]))


class Scripted(nn.Module):
    """A model with a TorchScript part."""

    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self.body = torch.jit.script(mlp(1, nn.Tanh, outputs=32))
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


def old_style() -> nn.Module:
    """Weight norm and spectral norm by torch's older functions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        normed = nn.utils.weight_norm(nn.Linear(64, 32))
        return nn.Sequential(normed, nn.Tanh(), nn.utils.spectral_norm(nn.Linear(32, 10)))


def parametrized() -> nn.Module:
    """Weight norm and spectral norm as parametrizations."""
    return nn.Sequential(
        parametrizations.weight_norm(nn.Linear(64, 32)), nn.Tanh(), parametrizations.spectral_norm(nn.Linear(32, 10))
    )


def images(model: nn.Module, step: int) -> torch.Tensor:
    """A step on images."""
    pixels, labels = batch(step)
    return nn.functional.cross_entropy(model(pixels.view(-1, 1, 8, 8)), labels)


SPECIMENS: dict[str, Specimen] = {
    **{f"output: {name}": Specimen(lambda both=both: Emits(*both), classified) for name, both in OUTPUTS.items()},
    "keyword arguments": Specimen(Keywords, keywords),
    "a layer called three times": Specimen(Several, classified),
    "siamese": Specimen(Siamese, contrasted),
    "tied embedding": Specimen(Tied, next_token),
    "frozen, unused, masked": Specimen(Masked, masked, ("spare",)),
    "attention": Specimen(Attention, classified, ("attention.out_proj",)),
    "sparse gradients": Specimen(Sparse, sparse),
    "complex": Specimen(Complex, classified),
    "float64": half(torch.float64),
    "float16": half(torch.float16),
    "bfloat16": half(torch.bfloat16),
    "nested tensor": Specimen(Jagged, classified),
    "in-place ReLU": Specimen(lambda: nn.Sequential(ResidualBlock(1, 4), nn.Flatten(), nn.Linear(256, 10)), images),
    "RNN cell": Specimen(lambda: Cell(nn.RNNCell), classified),
    "LSTM cell": Specimen(lambda: Cell(nn.LSTMCell), classified),
    "own cell": Specimen(lambda: Cell(None), classified),
    "lazy": Specimen(lambda: nn.Sequential(nn.LazyLinear(32), nn.Tanh(), nn.LazyLinear(10)), classified),
    "parametrizations": Specimen(parametrized, classified),
    "weight norm, old style": Specimen(old_style, classified),
    "TorchScript part": Specimen(Scripted, classified, ("body.0", "body.2")),
    "DataParallel on a CPU": Specimen(lambda: nn.DataParallel(mlp(1, nn.Tanh)), classified),
}
NOT_BY_HOOKS = {"nested tensor", "TorchScript part", "lazy"}  # plain hooks on outputs cannot tell, or do not pickle


@pytest.mark.parametrize("name", SPECIMENS)
def test_a_model_of_any_kind_trains_bit_for_bit(name: str, tmp_path: Path) -> None:
    """Losses, gradients, weights and RNG state equal those without us, nothing fails, and what was not seen is said."""
    specimen = SPECIMENS[name]
    if name == "TorchScript part":
        train(specimen, None)  # its compiler changes the last bit once, with us or without
    assert_same(train(specimen, tmp_path / "run"), train(specimen, None))
    run = gradscope.read_run(tmp_path / "run")
    assert {missing.what for missing in run.info.not_observed} == set(specimen.not_observed)
    assert run.steps["forwards"].tolist() == run.steps["backwards"].tolist() == [1, 1, 1]
    assert run.steps["recorded"].all()


@pytest.mark.parametrize("name", [name for name in SPECIMENS if name not in NOT_BY_HOOKS])
def test_gradients_are_what_torch_says(name: str, tmp_path: Path) -> None:
    """At every module's output the recorded gradient is that of plain tensor hooks, calls and tensors joined."""
    specimen = SPECIMENS[name]
    train(specimen, tmp_path / "run")
    signals = Signals(gradscope.read_run(tmp_path / "run"))
    norms = signals.norm("activation_gradient")
    told = gradients_by_torch(specimen, modules=lambda path, module: "parametrizations" not in path)
    assert told
    for path, expected in told.items():
        assert norms[signals.site(path)] == pytest.approx(expected, rel=2e-3 if "16" in name else 1e-4), path


@pytest.mark.parametrize("name", SPECIMENS)
def test_parameter_gradients_are_counted_once(name: str, tmp_path: Path) -> None:
    """The squares of all parameters' gradients add up to what `clip_grad_norm_` would say, shared parameters once."""
    specimen = SPECIMENS[name]
    train(specimen, tmp_path / "run", steps=1)
    run = gradscope.read_run(tmp_path / "run")
    torch.manual_seed(0)
    model = specimen.make()
    specimen.loss(model, 0).backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    dense = [gradient.to_dense() if gradient.is_sparse else gradient for gradient in gradients]
    expected = np.sqrt(sum(float(gradient.abs().double().square().sum()) for gradient in dense))
    assert run.steps["gradient_norm"][0] == pytest.approx(expected, rel=1e-4)


def test_a_class_nobody_knows_is_not_looked_into_and_said(tmp_path: Path) -> None:
    """An output that holds tensors in a class of its own is named in the diagnosis, the rest is recorded."""
    specimen = Specimen(lambda: Emits(Box, lambda box: box.tensor), classified)
    assert_same(train(specimen, tmp_path / "run"), train(specimen, None))
    run = gradscope.read_run(tmp_path / "run")
    said = "inner: its output of type Box was not looked into"
    assert [str(missing) for missing in gradscope.diagnose(run).not_observed] == [said]
    signals = Signals(run)
    assert np.isfinite(signals.norm("activation_gradient")[signals.site("inner.linear")]).all()


def test_indices_and_masks_are_no_measurements(tmp_path: Path) -> None:
    """A model fed token numbers records no activation of them."""
    train(SPECIMENS["tied embedding"], tmp_path / "run")
    signals = Signals(gradscope.read_run(tmp_path / "run"))
    assert not any(site.role == "input" and site.path == "" for site in signals.sites)


def test_a_shared_parameter_is_one_site_with_all_its_names(tmp_path: Path) -> None:
    """A tied embedding is recorded once, under its first name, and says its other; both modules own it."""
    train(SPECIMENS["tied embedding"], tmp_path / "run")
    signals = Signals(gradscope.read_run(tmp_path / "run"))
    shared = signals.site("embed.weight", "parameter")
    assert signals.sites[shared].aliases == ("head.weight",)
    with pytest.raises(KeyError):
        signals.site("head.weight", "parameter")
    assert signals.parameters_of(signals.site("embed")) == signals.parameters_of(signals.site("head")) == [shared]


def test_parametrized_layers_keep_their_name_and_kind(tmp_path: Path) -> None:
    """What makes a layer's weights is no layer: the Linear stays a Linear, and owns the parameters behind it."""
    train(SPECIMENS["parametrizations"], tmp_path / "run")
    signals = Signals(gradscope.read_run(tmp_path / "run"))
    assert [signals.sites[layer].path for layer in signals.layers] == ["0", "1", "2"]
    first = signals.sites[signals.site("0")]
    assert (first.kind, first.mechanism) == ("Linear", "weights")
    owned = {signals.sites[parameter].path for parameter in signals.parameters_of(signals.site("0"))}
    made = {f"0.parametrizations.weight.original{number}" for number in (0, 1)}
    assert owned == {"0.bias", *made}
    assert all(
        signals.sites[i].kind == "Linear"
        for i in signals.parameters_of(signals.site("0"))
        if signals.sites[i].path == "0.bias"
    )


@pytest.mark.parametrize("where", ["frozen", "replaced", "added"])
def test_a_model_that_changes_while_it_trains_is_followed(where: str, tmp_path: Path) -> None:
    """Layers unfrozen, replaced or added in the middle of a training are recorded from their next step on."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    model[0].requires_grad_(where != "frozen")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        for step in range(4):
            if step == 2:
                if where == "frozen":
                    model[0].requires_grad_(True)
                elif where == "replaced":
                    model[0] = nn.Linear(64, 32)
                    optimizer.add_param_group({"params": list(model[0].parameters())})
                else:
                    model.append(nn.Linear(10, 10))
                    optimizer.add_param_group({"params": list(model[3].parameters())})
            scope.loss(classified(model, step)).backward()
            optimizer.step()
            optimizer.zero_grad()
    run = gradscope.read_run(tmp_path / "run")
    signals = Signals(run)
    weight = signals.norm("gradient")[signals.site("3.weight" if where == "added" else "0.weight", "parameter")]
    output = signals.norm("activation_gradient")[signals.site("3" if where == "added" else "0")]
    assert np.isfinite(weight).tolist() == [where == "replaced"] * 2 + [True] * 2
    assert np.isfinite(output).tolist() == np.isfinite(weight).tolist()
    assert [run.info.sites[head].path for head in run.info.heads] == ["3" if where == "added" else "2"]
    assert run.info.not_observed == ()


def test_a_forward_called_directly_is_said(tmp_path: Path) -> None:
    """`model.forward(x)` calls no hook of the model: its parts are recorded, the model itself is said to be unseen."""

    def direct(model: nn.Module, step: int) -> torch.Tensor:
        pixels, labels = batch(step)
        return nn.functional.cross_entropy(model.forward(pixels), labels)

    specimen = Specimen(lambda: mlp(2, nn.Tanh), direct)
    assert_same(train(specimen, tmp_path / "run"), train(specimen, None))
    run = gradscope.read_run(tmp_path / "run")
    assert [missing.what for missing in run.info.not_observed] == ["(model)"]
    assert "model.forward(x) goes unseen, model(x) does not" in run.info.not_observed[0].why
    assert [run.info.sites[head].path for head in run.info.heads] == ["4"]
    told = gradients_by_torch(specimen)
    signals = Signals(run)
    norms = signals.norm("activation_gradient")
    assert norms[signals.site("0")] == pytest.approx(told["0"], rel=1e-4)


def test_data_parallel_replicas_are_said_not_to_be_seen(tmp_path: Path) -> None:
    """Where `nn.DataParallel` runs copies of its module, they are not looked into, and the diagnosis says so."""

    class Replicas(nn.DataParallel):
        """Copies the module as it would for two devices; there is one, so both run here."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.device_ids = [0, 1]
            copies = [self.module._replicate_for_data_parallel() for _ in self.device_ids]
            for copy in copies:
                for name, child in self.module.named_children():
                    copy._modules[name] = child._replicate_for_data_parallel()
                    for key, parameter in child.named_parameters():
                        setattr(copy._modules[name], key, parameter * 1)
            return torch.cat([copy(part) for copy, part in zip(copies, x.chunk(2), strict=True)])

    specimen = Specimen(lambda: Replicas(mlp(1, nn.Tanh)), classified)
    assert_same(train(specimen, tmp_path / "run"), train(specimen, None))
    run = gradscope.read_run(tmp_path / "run")
    assert [missing.what for missing in run.info.not_observed] == ["module"]
    assert "nn.DataParallel runs copies of it on several devices" in run.info.not_observed[0].why
    assert np.isfinite(run.steps["gradient_norm"]).all()


def recorded(specimen: Specimen, folder: Path) -> Run:
    """Trains and reads the run."""
    train(specimen, folder)
    return gradscope.read_run(folder)


@pytest.mark.parametrize(
    ("make", "loss"),
    [(Siamese, contrasted), (Several, classified), (Attention, classified), (lambda: Cell(None), classified)],
    ids=["siamese", "several calls", "attention", "own cell"],
)
def test_a_usual_model_is_healthy(
    make: Callable[[], nn.Module], loss: Callable[[nn.Module, int], torch.Tensor], tmp_path: Path
) -> None:
    """Shared towers, repeated layers, attention and loops raise no false alarm."""
    specimen = Specimen(make, loss)
    torch.manual_seed(0)
    model = specimen.make()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        for step in range(12):
            scope.loss(specimen.loss(model, step)).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert str(gradscope.diagnose(gradscope.read_run(tmp_path / "run"))).startswith("healthy")


def test_a_single_number_beside_the_data_is_no_input(tmp_path: Path) -> None:
    """A count of items that is handed to the model with the data is not taken for a feature of size 32."""

    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 1)

        def forward(self, count: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x).sum() / count

    model = Counted()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1):
        model(torch.tensor(32.0), torch.ones(8, 4)).backward()
        optimizer.step()
    signals = Signals(gradscope.read_run(tmp_path / "run"))
    fed = next(i for i, site in enumerate(signals.sites) if site.role == "input" and site.path == "")
    assert signals.values("activation", "maximum")[fed].tolist() == [1.0]


def test_what_a_model_is_fed_has_a_shape(tmp_path: Path) -> None:
    """Shape and dtype of the first tensor of numbers that a model is fed are known: remedies ask for them."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1):
        for samples in (2, 5):
            model(torch.ones(samples, 3, 6, 6)).sum().backward()
            optimizer.step()
    sites = gradscope.read_run(tmp_path / "run").info.sites
    assert [(site.shape, site.dtype) for site in sites if site.role == "input"] == [((2, 3, 6, 6), "float32")]
