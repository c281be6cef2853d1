"""What surgery does to a model, held against networks and trainings that are written so by hand."""

from __future__ import annotations

import copy
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import gradscope
from gradscope.errors import NotApplicable
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Signals
from gradscope.signals.chain import (
    branch_ends,
    follows,
    hidden_activation,
    numbers_together,
    places_for_norms,
    weighted_layers,
)
from gradscope.surgery import Applied
from gradscope.surgery.activations import swap_activations
from gradscope.surgery.batches import average_batches
from gradscope.surgery.initialise import draw, initialise, stream
from gradscope.surgery.modes import lower_dropout, train_in_training_mode, unfreeze
from gradscope.surgery.modules import insert_after, module_at, modules_by_path, put
from gradscope.surgery.norms import normalise_after, swap_norms
from gradscope.surgery.optimizers import become_adam
from gradscope.surgery.parameters import join, leave
from gradscope.surgery.recurrence import gate
from gradscope.surgery.skips import add_skips, scale_branches
from gradscope.surgery.standardise import Standardiser, standardise_inputs, standardise_targets
from gradscope.surgery.wiring import guess_layers
from tests.trainings import ResNet, Transformer, digits, mlp

OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.01),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
}

# targets and inputs


def wide() -> nn.Sequential:
    """A small network in float64, so that an identity is seen to the last digits."""
    torch.manual_seed(0)
    return mlp(2, nn.Tanh, width=16, outputs=1).double()


def targets() -> Tensor:
    """Numbers around 150 with a deviation of 80, `[1797, 1]`."""
    return 150 + 28 * (digits()[1].double()[:, None] - 4.5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("loss", "power"), [(nn.MSELoss(), 2), (nn.L1Loss(), 1), (nn.MSELoss(reduction="sum"), 2)])
def test_targets_in_their_own_units_train_as_standardised_ones(
    loss: Callable[[Tensor, Tensor], Tensor], power: int, optimizer: str
) -> None:
    """Step for step the weights are those of a training on (y - m) / s, with a loss that is s^power times larger."""
    images, y = digits()[0].double(), targets()
    mean, deviation = y.mean().item(), y.std().item()
    by_hand_, treated = wide(), wide()
    hand, made = OPTIMIZERS[optimizer](by_hand_.parameters()), OPTIMIZERS[optimizer](treated.parameters())
    standardise_targets(Applied(), treated, mean, deviation, power)
    for number in range(12):
        batch = slice(64 * number, 64 * number + 64)
        standard = loss(by_hand_(images[batch]), (y[batch] - mean) / deviation)
        own = loss(treated(images[batch]), y[batch])
        assert own.item() == pytest.approx(standard.item() * deviation**power, rel=1e-9)
        for value, stepper in ((standard, hand), (own, made)):
            stepper.zero_grad()
            value.backward()
            stepper.step()
    for expected, actual in zip(by_hand_.parameters(), treated.parameters(), strict=True):
        assert torch.allclose(expected, actual, rtol=1e-9, atol=1e-12)


def test_targets_of_a_power_of_two_train_bit_for_bit() -> None:
    """With a mean of 0 and a deviation of 2^k nothing is rounded: the weights are the same to the last bit."""
    images, y = digits()[0], digits()[1].float()[:, None] - 4.5
    torch.manual_seed(0)
    plain = mlp(2, nn.ReLU, width=16, outputs=1)
    treated = mlp(2, nn.ReLU, width=16, outputs=1)
    treated.load_state_dict(plain.state_dict())
    standardise_targets(Applied(), treated, 0.0, 1024.0, 2)
    for model, aim in ((plain, y), (treated, y * 1024)):
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for number in range(8):
            batch = slice(64 * number, 64 * number + 64)
            optimizer.zero_grad()
            nn.functional.mse_loss(model(images[batch]), aim[batch]).backward()
            optimizer.step()
    for expected, actual in zip(plain.parameters(), treated.parameters(), strict=True):
        assert torch.equal(expected, actual)


def test_predictions_are_in_the_targets_units_everywhere() -> None:
    """In eval mode and without gradients too, and half precision becomes float32 on the way."""
    model = nn.Sequential(nn.Linear(1, 1)).requires_grad_(False)
    model[0].weight.fill_(1.0)
    model[0].bias.fill_(0.0)
    standardise_targets(Applied(), model, 1e5, 1e5, 2)
    assert model.eval()(torch.ones(1, 1)).item() == 2e5
    with torch.no_grad():
        assert model.half()(torch.ones(1, 1).half()).item() == 2e5


def test_a_model_of_several_outputs_has_no_one_unit() -> None:
    """A tuple is refused where it is first met."""
    model = nn.LSTM(2, 2)
    standardise_targets(Applied(), model, 1.0, 2.0, 2)
    with pytest.raises(NotApplicable, match="the model gives a tuple, not one tensor of predictions"):
        model(torch.zeros(1, 1, 2))


@pytest.mark.parametrize(
    ("shape", "channels_first", "axes"),
    [
        ((50, 4), False, (0,)),
        ((50, 3, 5, 5), False, (0, 2, 3)),
        ((50, 7, 4), False, (0, 1)),
        ((50, 4, 7), True, (0, 2)),
    ],
)
def test_inputs_have_mean_0_and_deviation_1_over_all_batches(
    shape: tuple[int, ...], channels_first: bool, axes: tuple[int, ...]
) -> None:
    """After several batches of different sizes the statistics are those of all of them together."""
    data = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 30 + 200
    standardiser = Standardiser(channels_first)
    for part in data.split([20, 1, 29]):
        last = standardiser.standardise(part, learn=True)
    mean, deviation = data.mean(axes, keepdim=True), data.std(axes, correction=0, keepdim=True)
    assert torch.allclose(last, (data[21:] - mean) / deviation, atol=1e-4)
    with torch.no_grad():
        assert torch.allclose(standardiser.standardise(data, learn=True)[21:], last)  # tests change no statistics
    assert last.dtype == data.dtype


def test_a_constant_feature_becomes_0() -> None:
    """No rounding error of a constant is blown up, and one number is no feature."""
    standardiser = Standardiser(False)
    data = torch.full((10, 2), 1000.1)
    data[:, 1] = torch.arange(10.0)
    given = standardiser.standardise(data, learn=True)
    assert given[:, 0].abs().max() < 1e-3
    assert given[:, 1].std(correction=0).item() == pytest.approx(1)
    assert Standardiser(False).standardise(torch.tensor([1.0, 3.0]), learn=True).tolist() == [-1.0, 1.0]


class Named(nn.Module):
    """Is fed by name, and numbers of words beside."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 1)

    def forward(self, ids: Tensor, *, features: Tensor | None = None) -> Tensor:
        return ids.sum() + (0 if features is None else self.head(features).sum() * 0 + features.sum())


def test_the_first_numbers_with_a_point_are_standardised() -> None:
    """Keyword arguments count, whole numbers do not, and a model that is fed these alone says so."""
    model = Named()
    standardise_inputs(Applied(), model)
    features = torch.tensor([[10.0, 5.0], [20.0, 9.0]])
    assert model(torch.tensor([3]), features=features).item() == pytest.approx(3)
    with pytest.raises(NotApplicable, match="fed no tensor of floating-point numbers: numbers of words or classes"):
        model(torch.tensor([3]))


# weights


@pytest.mark.parametrize(
    ("layer", "activation", "variance", "said"),
    [
        (nn.Linear(400, 300), "ReLU", 2 / 400, "He (for ReLU)"),
        (nn.Linear(400, 300), "LeakyReLU", 2 / (1 + 1e-4) / 400, "He (for LeakyReLU)"),
        (nn.Linear(400, 300), "SELU", 1 / 400, "LeCun (for SELU)"),
        (nn.Linear(400, 300), "Tanh", 2 / 700, "Xavier (for Tanh)"),
        (nn.Linear(400, 300), "", 2 / 700, "Xavier (for no activation)"),
        (nn.Linear(300, 300), "ReLU", 2 / 300, "orthogonal (for ReLU)"),
        (nn.Linear(300, 300), "Tanh", 1 / 300, "orthogonal (for Tanh)"),
        (nn.Linear(300, 300), "Sigmoid", 2 / 600, "Xavier (for Sigmoid)"),
        (nn.Conv2d(32, 64, 3), "ReLU", 2 / (32 * 9), "He (for ReLU)"),
        (nn.Conv2d(64, 64, 3, groups=4), "GELU", 2 / (16 * 9), "He (for GELU)"),
        (nn.ConvTranspose2d(32, 64, 3), "ReLU", 2 / (32 * 9), "He (for ReLU)"),
    ],
)
def test_weights_have_the_variance_that_the_activation_needs(
    layer: nn.Module, activation: str, variance: float, said: str
) -> None:
    """He 2/n_in, LeCun 1/n_in, Xavier 2/(n_in + n_out); an orthogonal matrix has He's or 1/n. Biases are 0."""
    assert draw(layer, activation, torch.Generator().manual_seed(0)) == said
    weight = layer.get_parameter("weight").detach()
    assert weight.var().item() == pytest.approx(variance, rel=0.03)
    assert not layer.get_parameter("bias").any()
    if said.startswith("orthogonal"):
        assert torch.allclose(weight @ weight.T, torch.eye(300) * 300 * variance, atol=1e-4)


def test_recurrent_layers_keep_the_state() -> None:
    """Each gate's matrix of the state is orthogonal, an LSTM's forget bias is 1, all other biases are 0."""
    layer = nn.LSTM(8, 16, num_layers=2, bidirectional=True)
    draw(layer, "", torch.Generator().manual_seed(0))
    for name, parameter in layer.named_parameters():
        for number, part in enumerate(parameter.detach().chunk(4)):
            if name.startswith("weight_hh"):
                assert torch.allclose(part @ part.T, torch.eye(16), atol=1e-5)
            elif name.startswith("bias"):
                assert part.tolist() == [float(number == 1 and name.startswith("bias_ih"))] * 16


def test_drawing_depends_on_the_trainings_stream_and_leaves_it_alone() -> None:
    """Another seed draws others, the same seed the same, and the next random number is what it would have been."""
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 4))
        expected = torch.get_rng_state()
        initialise(Applied(), model)
        assert torch.equal(torch.get_rng_state(), expected)
        drawn.append(model[0].weight.detach().clone())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert stream().initial_seed() != torch.initial_seed()


def test_weights_that_are_shared_with_an_embedding_stay() -> None:
    """A head whose weights are the embedding's is left as it is, and so is a layer that is not called as a module."""
    model = nn.ModuleDict({"words": nn.Embedding(5, 4), "hidden": nn.Linear(4, 4), "head": nn.Linear(4, 5, bias=False)})
    model["head"].weight = model["words"].weight
    before = model["words"].weight.detach().clone()
    applied = Applied()
    initialise(applied, model)
    assert torch.equal(model["words"].weight, before)
    assert str(applied) == "1 layer drawn anew: 1 orthogonal (for ReLU)"
    attention = nn.MultiheadAttention(4, 2)
    with pytest.raises(NotApplicable):
        initialise(Applied(), attention)


# modules in and out


def test_a_layer_in_a_sequential_gets_a_neighbour_and_keeps_its_names() -> None:
    """The new module runs between the two, all parameters keep their names, and it learns with the layer before it."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    names = list(model.state_dict())
    groups = [{"params": model[:2].parameters(), "lr": 0.1}, {"params": model[2:].parameters(), "lr": 0.2}]
    optimizer = torch.optim.SGD(groups)
    normalise_after(Applied(), model, [optimizer], None, "layer")
    assert [type(module).__name__ for module in model] == [*("Linear", "LayerNorm", "ReLU") * 2, "Linear"]
    assert set(names) < set(model.state_dict())
    assert list(model._modules) == ["0", "0_norm", "1", "2", "2_norm", "3", "4"]
    assert [len(group["params"]) for group in optimizer.param_groups] == [4, 6]
    assert model[1].weight is optimizer.param_groups[0]["params"][2]


def test_elsewhere_a_hook_calls_the_new_module() -> None:
    """A layer that is an attribute or in a list gives what its norm makes of it, before a functional activation."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 8)
            self.rest = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])
            self.head = nn.Linear(8, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.first(x))
            for layer in self.rest:
                x = torch.relu(layer(x))
            return self.head(x)

    model, x = Net(), torch.randn(16, 4)
    normalise_after(Applied(), model, [], None, "batch")
    assert [name for name, _ in model.named_children()] == [
        *("first", "rest", "head"),
        "first_norm",
        "rest_0_norm",
        "rest_1_norm",
    ]
    expected = nn.functional.linear(x, model.first.weight, model.first.bias)
    expected = (expected - expected.mean(0)) / (expected.var(0, correction=0) + 1e-5).sqrt()
    assert torch.allclose(model.first(x), expected, atol=1e-5)


def test_sequences_are_normalised_feature_by_feature() -> None:
    """A BatchNorm behind a Linear takes [N, T, C] as it takes [N, C], all time steps together."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    normalise_after(Applied(), model, [], None, "batch")
    x = torch.randn(6, 5, 4)
    assert torch.allclose(model(x), model(x.reshape(30, 4)).view(6, 5, 2), atol=1e-6)


def test_convolutions_get_norms_of_channels() -> None:
    """BatchNorm by the number of dimensions, GroupNorm by what divides the channels."""
    for layers, expected in (("batch", ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"]), ("layer", ["GroupNorm"] * 3)):
        for kind, name in zip((nn.Conv1d, nn.Conv2d, nn.Conv3d), expected, strict=True):
            model = nn.Sequential(kind(1, 6, 3), nn.ReLU(), kind(6, 1, 3))
            normalise_after(Applied(), model, [], [["0", layers]], "batch")
            assert type(model[1]).__name__ == name
    assert model[1].num_groups == 2


def test_nothing_is_put_where_nothing_can_hold_it() -> None:
    """A list of layers by itself has no forward that could be hooked around."""
    with pytest.raises(NotApplicable, match="there is no module around it that could hold another one"):
        insert_after(Applied(), nn.ModuleList([nn.Linear(1, 1)]), "0", nn.Identity())
    model = nn.ReLU()
    with pytest.raises(NotApplicable, match="which your program holds: nothing can take its place"):
        put(Applied(), model, model, nn.Identity())
    with pytest.raises(NotApplicable, match="the run has a module 'b' and this model has not"):
        module_at(nn.ModuleDict({"a": nn.ReLU()}), "b")


def test_a_module_that_is_used_twice_is_replaced_twice() -> None:
    """One activation in two places is one new activation in both."""
    shared = nn.Sigmoid()
    model = nn.Sequential(OrderedDict(a=nn.Linear(2, 2), s=shared, b=nn.Linear(2, 2), t=shared, c=nn.Linear(2, 1)))
    applied = Applied()
    swap_activations(applied, model, None, "ReLU", None)
    assert isinstance(model.s, nn.ReLU)
    assert model.s is model.t
    applied.undo()
    assert model.s is shared is model.t


def test_norms_that_were_replaced_keep_their_parameters() -> None:
    """Scale and shift are the very same objects; of a GroupNorm only the groups change; a LayerNorm of one number goes."""
    model = nn.Sequential(
        nn.BatchNorm2d(32), nn.InstanceNorm2d(8), nn.GroupNorm(32, 32), nn.LayerNorm(1), nn.LayerNorm(3)
    )
    weights = [model[0].weight, model[2].weight]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    swap_norms(Applied(), model, [optimizer], ["0", "1", "2", "3", "4"])
    assert [type(module).__name__ for module in model] == [*["GroupNorm"] * 3, "Identity", "LayerNorm"]
    assert [module.num_groups for module in model[:3]] == [4, 1, 4]  # eight channels a group and more
    assert model[0].weight is weights[0]
    assert model[2].weight is weights[1]
    assert model[1].weight is None
    held = {id(p) for p in optimizer.param_groups[0]["params"]}
    assert held == {id(p) for p in model.parameters()}


def test_a_gru_is_called_as_the_rnn_was() -> None:
    """Layers, directions, batch_first and dropout stay, outputs and state have the same shapes, gates begin open."""
    model = nn.ModuleDict({"rnn": nn.RNN(3, 5, 2, batch_first=True, dropout=0.1, bidirectional=True)})
    x, state = torch.randn(4, 7, 3), torch.zeros(4, 4, 5)
    before = [part.shape for part in model["rnn"](x, state)]
    old = list(model.parameters())
    optimizer = torch.optim.Adam(model.named_parameters())
    gate(Applied(), model, [optimizer], 3.0)
    assert isinstance(model["rnn"], nn.GRU)
    assert model["rnn"].dropout == 0.1
    assert [part.shape for part in model["rnn"](x, state)] == before
    assert model["rnn"].bias_ih_l1_reverse.tolist() == [0.0] * 5 + [3.0] * 5 + [0.0] * 5
    group = optimizer.param_groups[0]
    assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]
    assert len(group["param_names"]) == len(set(group["param_names"])) == len(old)


def test_parameters_join_the_group_beside_them_and_leave_with_their_memory() -> None:
    """What is in no group brings nothing into one, and undoing puts the optimizer's memory back."""
    layer, new = nn.Linear(1, 1), nn.Linear(1, 1)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9)
    layer(torch.ones(1, 1)).backward()
    optimizer.step()
    join(Applied(), [optimizer], new.parameters(), nn.Linear(1, 1).parameters())
    assert len(optimizer.param_groups[0]["params"]) == 2
    memory, applied = dict(optimizer.state), Applied()
    leave(applied, [optimizer], layer.parameters())
    assert (optimizer.param_groups[0]["params"], dict(optimizer.state)) == ([], {})
    applied.undo()
    assert dict(optimizer.state) == memory
    assert all(a is b for a, b in zip(optimizer.param_groups[0]["params"], layer.parameters(), strict=True))


# ways around


class Skipping(nn.Module):
    """What a treated chain should compute, written by hand."""

    def __init__(self, chain: nn.Sequential, scale: float) -> None:
        super().__init__()
        self.chain, self.scale = chain, scale

    def forward(self, x: Tensor) -> Tensor:
        first, act, second, _, third, _, head = self.chain
        x = act(first(x))
        x = x + self.scale * act(second(x))
        x = x + self.scale * act(third(x))
        return head(x)


def test_skips_are_what_a_residual_network_computes() -> None:
    """Each block is added to what it was fed, the last one too; output and gradients are those of the hand-written net."""
    torch.manual_seed(0)
    chain = nn.Sequential(
        *(nn.Linear(3, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 2))
    )
    x = torch.randn(5, 3)
    expected = Skipping(chain, 0.5)(x)
    expected.sum().backward()
    gradient = chain[0].weight.grad.clone()
    chain.zero_grad()
    applied = Applied()
    add_skips(applied, chain, None, 0.5)
    for _ in range(2):  # nothing is left over from a call
        assert torch.allclose(chain(x), expected)
    chain(x).sum().backward()
    assert torch.allclose(chain[0].weight.grad, gradient)
    assert str(applied) == "2 skip connections, x + block(x) · 0.5"


def test_a_deep_network_with_skips_is_copied_without_its_graph() -> None:
    """However many blocks follow one another, copying goes no deeper, and a copy adds up by itself."""
    model = nn.Sequential(*(module for _ in range(400) for module in (nn.Linear(2, 2), nn.Tanh())))
    add_skips(Applied(), model)
    x = torch.ones(1, 2)
    expected = model(x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), expected)
    model[0](x)  # a forward that went no further leaves a tensor of its graph behind
    assert torch.equal(copy.deepcopy(model)(x), expected)


def test_a_skip_whose_ends_do_not_agree_is_left_out() -> None:
    """What only the first forward shows, a pooling between two convolutions, is said then."""
    model = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1)
    )
    applied = Applied()
    add_skips(applied, model, scale=1.0)
    model(torch.zeros(1, 4, 8, 8))
    assert applied.changes == [
        "2 skip connections, x + block(x)",
        "no skip connection to 2 after all: its ends have shapes (1, 4, 8, 8) and (1, 4, 4, 4)",
    ]


@pytest.mark.parametrize(
    ("layer", "fits"),
    [
        (nn.Conv2d(4, 4, 3, padding=1), True),
        (nn.Conv2d(4, 4, 5, padding="same"), True),
        (nn.Conv2d(4, 4, 3, padding=2, dilation=2), True),
        (nn.Conv2d(4, 4, 3), False),
        (nn.Conv2d(4, 4, 3, padding=1, stride=2), False),
        (nn.ConvTranspose2d(4, 4, 3, padding=1), False),
        (nn.Conv2d(3, 4, 3, padding=1), False),
    ],
)
def test_skips_go_around_layers_that_keep_the_shape(layer: nn.Module, fits: bool) -> None:
    """Same channels, stride 1 and a padding that keeps the size."""
    model = nn.Sequential(layer, nn.ReLU(), nn.Conv2d(4, 1, 1))
    if fits:
        add_skips(Applied(), model)
    else:
        with pytest.raises(NotApplicable):
            add_skips(Applied(), model)


def test_branches_are_scaled_before_they_are_added() -> None:
    """Two branches get 1/√2 each; of several outputs the first is scaled."""
    model = nn.ModuleDict({"a": nn.Identity(), "b": nn.Identity(), "r": nn.RNN(1, 1)})
    scale_branches(Applied(), model, ["a", "b", "a"])
    assert model["a"](torch.ones(1)).item() == pytest.approx(1 / math.sqrt(2))
    x = torch.ones(1, 1, 1)
    before = model["r"](x)
    scale_branches(Applied(), model, ["r"], 0.5)
    assert torch.equal(model["r"](x)[0], before[0] * 0.5)
    assert torch.equal(model["r"](x)[1], before[1])


# modes and batches


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_averaged_batches_step_as_one_large_batch(optimizer: str) -> None:
    """Four batches of 16 give the step of one of 64, and three calls out of four change nothing at all."""
    images, y = digits()[0].double(), targets() / 100
    whole, parts = wide(), wide()
    one, four = OPTIMIZERS[optimizer](whole.parameters()), OPTIMIZERS[optimizer](parts.parameters())
    average_batches(Applied(), [four], 4)
    for number in range(16):
        before = [p.detach().clone() for p in parts.parameters()]
        batch = slice(16 * number, 16 * number + 16)
        four.zero_grad()
        nn.functional.mse_loss(parts(images[batch]), y[batch]).backward()
        four.step()
        moved = [not torch.equal(a, b) for a, b in zip(before, parts.parameters(), strict=True)]
        assert moved == [number % 4 == 3] * len(moved)
        if number % 4 == 3:
            batch = slice(16 * number - 48, 16 * number + 16)
            one.zero_grad()
            nn.functional.mse_loss(whole(images[batch]), y[batch]).backward()
            one.step()
    for expected, actual in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.allclose(expected, actual, rtol=1e-9, atol=1e-12)


def test_steps_that_compute_their_own_gradients_cannot_be_joined() -> None:
    """LBFGS is refused at once, a closure where it is met."""
    layer = nn.Linear(1, 1)
    with pytest.raises(NotApplicable, match="LBFGS computes its gradients inside its step"):
        average_batches(Applied(), [torch.optim.LBFGS(layer.parameters())], 2)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    average_batches(Applied(), [optimizer], 2)
    with pytest.raises(NotApplicable, match="is given a closure, which computes the gradients inside"):
        optimizer.step(lambda: 0.0)


def test_training_runs_in_training_mode_and_tests_keep_theirs() -> None:
    """A model that was left in eval mode goes back with the next gradients, not in a test."""
    model, applied = nn.Sequential(nn.BatchNorm1d(2, momentum=1e-4)), Applied()
    model.eval()
    train_in_training_mode(applied, model)
    assert model.training
    assert model[0].momentum == 0.1
    model.eval()
    with torch.no_grad():
        model(torch.zeros(3, 2))
    assert not model.training
    model(torch.zeros(3, 2))
    assert model.training
    applied.undo()
    assert (model.training, model[0].training, model[0].momentum) == (False, False, 1e-4)


def test_dropout_inside_other_layers_is_lowered_too() -> None:
    """Recurrent layers and attention hold a rate of their own."""
    model = nn.ModuleList([nn.LSTM(1, 1, 2, dropout=0.9), nn.MultiheadAttention(2, 1, dropout=0.8), nn.Dropout2d(0.1)])
    lower_dropout(Applied(), model, 0.3)
    assert (model[0].dropout, model[1].dropout, model[2].p) == (0.3, 0.3, 0.1)


def test_what_is_unfrozen_is_held_once() -> None:
    """A frozen parameter that the optimizer has already is not handed over again."""
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)).requires_grad_(False)
    optimizer = torch.optim.SGD(model[0].parameters(), 0.1)
    unfreeze(Applied(), model, [optimizer], None)
    assert all(p.requires_grad for p in model.parameters())
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in model.parameters()}
    assert len(optimizer.param_groups[0]["params"]) == 4


# what follows what


def test_the_order_of_registration_is_a_guess_of_the_order_of_calls() -> None:
    """Layer, activation, norm, next; the last one is the head; functions count as ReLU."""
    model = nn.Sequential(
        nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Tanh(), nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 1)
    )
    found = [(layer.path, layer.activation, layer.normalised, layer.next) for layer in guess_layers(model)]
    assert found == [("0", "Tanh", True, "3.0"), ("3.0", "", False, "4"), ("4", "", False, "")]
    functional = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2), "s": nn.GELU()})
    assert [layer.activation for layer in guess_layers(functional)] == ["GELU", "GELU"]
    compiled = nn.Module()  # as torch.compile wraps a model
    compiled.add_module("_orig_mod", nn.Sequential(nn.ReLU()))
    assert list(modules_by_path(compiled)) == ["", "0"]


def test_a_chain_is_followed_from_layer_to_layer() -> None:
    """Activation, its module, a norm between, and the next layer."""
    kinds = {"n": "BatchNorm1d", "s": "Tanh"}
    signals = Signals(by_hand({"a": 1.0, "n": 1.0, "s": 1.0, "b": 1.0, "c": 1.0}, kinds=kinds))
    a, b, c = (signals.site(path) for path in "abc")
    first = follows(signals, a)
    assert (first.activation, first.module, first.normalised, first.next) == ("Tanh", signals.site("s"), True, b)
    assert (follows(signals, b).activation, follows(signals, b).next) == ("", c)
    assert (follows(signals, c).activation, follows(signals, c).next) == ("", None)
    assert weighted_layers(signals) == [a, b, c]
    assert places_for_norms(signals, "batch") == []


class Functional(nn.Module):
    """Functions between layers, and a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(64, 64) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.a(x))
        x = x + torch.relu(self.b(x))
        return self.d(torch.tanh(self.c(x)))[:, :10]


def recorded(model: nn.Module, folder: Path) -> Signals:
    """Two steps on the digits."""
    images, labels = digits()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with gradscope.watch(model, optimizer, run_dir=folder, every=1) as scope:
        for _ in range(2):
            scope.loss(nn.functional.cross_entropy(model(images[:32]), labels[:32])).backward()
            optimizer.step()
    return Signals(gradscope.read_run(folder))


def test_functions_and_branches_are_followed_in_a_recorded_run(tmp_path: Path) -> None:
    """Activations that are functions are named; where paths part or join, no layer alone is next."""
    signals = recorded(Functional(), tmp_path / "run")
    a, b, c, d = (signals.site(path) for path in "abcd")
    assert [hidden_activation(signals, i) for i in (a, b, c, d)] == ["Sigmoid", "ReLU", "Tanh", ""]
    assert [follows(signals, i).next for i in (a, b, c)] == [None, None, d]
    assert branch_ends(signals) == [b]
    assert places_for_norms(signals, "batch") == [["a", "batch"], ["b", "batch"], ["c", "batch"]]
    assert numbers_together(signals, ["a", "b"]) == 32


def test_the_branches_of_known_networks_are_found(tmp_path: Path) -> None:
    """A ResNet's second norms, not its shortcuts; a transformer's attention and feed-forward."""
    signals = recorded(ResNet(), tmp_path / "resnet")
    assert [signals.sites[i].path for i in branch_ends(signals)] == ["blocks.0.bn2", "blocks.1.bn2", "blocks.2.bn2"]
    assert places_for_norms(signals, "batch") == []
    signals = recorded(Transformer(depth=1), tmp_path / "transformer")
    ends = [signals.sites[i].path.removeprefix("blocks.layers.0.") for i in branch_ends(signals)]
    assert ends == ["dropout1", "dropout2"]
    assert places_for_norms(signals, "batch") == [["blocks.layers.0.linear1", "layer"]]


def test_an_optimizer_that_was_an_adam_for_a_while_has_its_options_in_their_order() -> None:
    """Undoing a change of kind gives groups and defaults that are written as they were."""
    model = wide()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)
    before = [list(each.items()) for each in (optimizer.defaults, optimizer.state_dict()["param_groups"][0])]
    applied = Applied()
    become_adam(applied, optimizer, 1e-8)
    assert type(optimizer) is torch.optim.Adam
    applied.undo()
    after = [list(each.items()) for each in (optimizer.defaults, optimizer.state_dict()["param_groups"][0])]
    assert (type(optimizer), after) == (torch.optim.RMSprop, before)
