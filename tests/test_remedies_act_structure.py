"""Remedies that change a model's structure, weights or modes: they act, they can be undone, and they cure."""

from __future__ import annotations

import copy
import inspect
import json
import math
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks
from torch.optim import Optimizer

import gradscope
from gradscope.autowatch.session import Session
from gradscope.catalogue import remedies, rules
from gradscope.diagnosis import diagnose
from gradscope.errors import NotApplicable
from gradscope.records import Diagnosis, Finding, Run
from gradscope.signals import Signals
from gradscope.signals.expansion import expanding
from gradscope.surgery import Applied
from tests.trainings import Transformer, adam, digits, he, mlp, sgd, xavier

OPTIMIZERS = {
    "SGD": lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
    "Adam": lambda model: torch.optim.Adam(model.parameters(), lr=0.01),
}
STRUCTURE = (
    *("initialization", "skip-connection", "residual-scaling", "batch-norm", "layer-norm", "activation-swap"),
    *("gated-recurrence", "change-output-activation", "lower-dropout", "reattach", "larger-batch"),
    *("standardize-inputs", "standardize-targets"),
)


class Branches(nn.Module):
    """A residual stream, its layers called in a loop."""

    def __init__(self, depth: int = 3, init: Callable[[Tensor], object] | None = None) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(64, 64), nn.ReLU()) for _ in range(depth))
        self.head = nn.Linear(64, 10)
        for module in self.modules() if init is not None else ():
            if isinstance(module, nn.Linear):
                init(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class Exponential(nn.Module):
    """An activation written by hand that gives out more than it is fed."""

    def forward(self, x: Tensor) -> Tensor:
        return x.exp()


class Functions(nn.Module):
    """Layers as attributes, activations as functions, and images that become vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.same = nn.Conv2d(8, 8, 3, padding=1)
        self.hidden = nn.Linear(8, 8)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.same(torch.tanh(self.conv(x.view(-1, 1, 8, 8)))))
        return self.head(torch.sigmoid(self.hidden(x.mean((2, 3)))))


class Reader(nn.Module):
    """Reads the digits row by row."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x.view(-1, 8, 8))[0][:, -1])


def chain() -> nn.Module:
    """Everything that a remedy may want to change: activations, a norm, dropout, a frozen layer, an end."""
    model = nn.Sequential(
        *(nn.Linear(64, 32), nn.Sigmoid(), nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.8)),
        *(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10), nn.Softmax(1)),
    )
    model[6].requires_grad_(False)
    return model


def rnn() -> nn.Module:
    """A plain recurrent layer."""
    return Reader(nn.RNN(8, 16, batch_first=True))


# How each remedy is to be seen at work: a model, and its dose.
SPECIMENS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "residual-scaling": (Branches, {"branches": ["blocks.0", "blocks.1", "blocks.2"]}),
    "gated-recurrence": (rnn, {}),
    "standardize-targets": (chain, {"mean": 3.0, "deviation": 4.0}),
}
# Several ways of one remedy.
WAYS: dict[str, tuple[str, Callable[[], nn.Module], dict[str, Any]]] = {
    **{name: (name, *SPECIMENS.get(name, (chain, {}))) for name in STRUCTURE},
    "initialization of a recurrent layer": ("initialization", rnn, {}),
    "skip-connection around functions": ("skip-connection", Functions, {}),
    "batch-norm behind attributes": ("batch-norm", Functions, {}),
    "layer-norm behind attributes": ("layer-norm", Functions, {}),
    "batch-norm in lists": ("batch-norm", Branches, {}),
    "layer-norm instead": ("layer-norm", chain, {"way": "instead"}),
    "layer-norm before blocks": ("layer-norm", Transformer, {"way": "pre-norm"}),
    "activation-swap against dead units": ("activation-swap", chain, {"to": "LeakyReLU"}),
    "gated-recurrence of an LSTM": ("gated-recurrence", lambda: Reader(nn.LSTM(8, 16, batch_first=True)), {}),
    "an activation on the output": ("change-output-activation", chain, {"layer": "", "to": "LogSoftmax"}),
    "dropout off in tests": ("lower-dropout", chain, {"mode": "tests"}),
    "dropout on in training": ("lower-dropout", lambda: chain().eval(), {"mode": "training"}),
    "out of eval mode": ("reattach", lambda: chain().eval(), {"what": "eval mode", "layers": ["3"]}),
}
ALL = [
    *(pytest.param(*way, id=name) for name, way in WAYS.items()),
    *(pytest.param(name, chain, {}, id=name) for name in remedies() if name not in STRUCTURE),
]
MINE = [pytest.param(*way, id=name) for name, way in WAYS.items()]


def build(make: Callable[[], nn.Module], optimizer: str) -> tuple[nn.Module, Optimizer]:
    """A model and an optimizer that has stepped once, so that it remembers something."""
    torch.manual_seed(0)
    model = make()
    if isinstance(model, Transformer):
        for block in model.blocks.layers:
            block.norm_first = False
    made = OPTIMIZERS[optimizer](model)
    step(model, made, 0)
    return model, made


def step(model: nn.Module, optimizer: Optimizer, number: int) -> float:
    """One step on the digits."""
    images, labels = digits()
    batch = slice(32 * number, 32 * number + 32)
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
    loss.backward()
    optimizer.step()
    return loss.item()


def everything(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """All that undoing has to bring back: numbers as lists, objects by their identity."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_forward_hooks_with_kwargs",
             "_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called")  # fmt: skip
    plain = (bool, int, float, str, tuple, type(None))
    return {
        "modules": [(name, id(module), type(module)) for name, module in model.named_modules(remove_duplicate=False)],
        "hooks": [[list(getattr(module, name).values()) for name in hooks] for module in model.modules()],
        "settings": [{k: v for k, v in vars(m).items() if isinstance(v, plain)} for m in model.modules()],
        "parameters": [(name, id(p), p.requires_grad, p.grad is None) for name, p in model.named_parameters()],
        "state_dict": [(name, tensor.tolist()) for name, tensor in model.state_dict().items()],
        "optimizer": (type(optimizer), sorted(vars(optimizer))),
        "groups": [{**group, "params": [id(p) for p in group["params"]]} for group in optimizer.param_groups],
        "memory": {id(p): {k: torch.as_tensor(v).tolist() for k, v in state.items() if v is not None}
                   for p, state in optimizer.state.items()},
        "optimizer's hooks": [
            list(getattr(optimizer, name).values())
            for name in ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
        ],
        "global hooks": len(module_hooks._global_forward_pre_hooks),
        "random numbers": torch.get_rng_state().tolist(),
    }  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("remedy", "make", "dose"), ALL)
def test_every_remedy_can_be_undone(
    remedy: str, make: Callable[[], nn.Module], dose: dict[str, Any], optimizer: str
) -> None:
    """After undo everything is as it was, bit for bit and object for object; where it cannot act nothing was changed."""
    model, made = build(make, optimizer)
    before = everything(model, made)
    try:
        applied = remedies()[remedy].apply(model, made, **dose)
    except NotApplicable:
        assert remedy not in STRUCTURE
    else:
        assert applied.changes
        assert all(applied.changes)
        assert remedy not in STRUCTURE or everything(model, made) != before
        applied.undo()
        applied.undo()
    assert everything(model, made) == before


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("remedy", "make", "dose"), MINE)
def test_a_remedy_leaves_a_training_that_trains(
    remedy: str, make: Callable[[], nn.Module], dose: dict[str, Any], optimizer: str
) -> None:
    """The treated model steps, its trainable parameters all move and are held by the optimizer, once each."""
    model, made = build(make, optimizer)
    generator = torch.get_rng_state()
    applied = remedies()[remedy].apply(model, made, **dose)
    assert torch.equal(torch.get_rng_state(), generator)  # the order of the data stays that of the control
    held = [id(parameter) for group in made.param_groups for parameter in group["params"]]
    assert sorted(held) == sorted({id(parameter) for parameter in model.parameters()})
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    for number in range(4):
        assert math.isfinite(step(model, made, number))
    for name, parameter in model.named_parameters():
        no_effect = name in ("2.bias", "0.bias", "6.bias", "conv.bias", "same.bias", "hidden.bias")  # before a norm
        no_effect = no_effect or ".self_attn." in name or remedy == "layer-norm"
        assert no_effect or not parameter.requires_grad or not torch.equal(parameter, before[name]), name
    applied.undo()


@pytest.mark.parametrize(("remedy", "make", "dose"), MINE)
def test_a_treated_model_can_be_copied_and_saved(
    remedy: str, make: Callable[[], nn.Module], dose: dict[str, Any]
) -> None:
    """deepcopy, pickle and state_dict work, and a copy gives what the model gives."""
    model, made = build(make, "Adam")
    applied = remedies()[remedy].apply(model, made, **dose)
    step(model, made, 1)
    copied, pickled = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    again = copy.deepcopy(copied)
    again.load_state_dict(model.state_dict())
    images = digits()[0][:16]
    with torch.no_grad():
        expected = model.eval()(images)
        for other in (copied, pickled, again):
            assert torch.equal(other.eval()(images), expected)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
        assert torch.equal(model(images), expected)  # nothing is shared with the copy
    applied.undo()


@pytest.mark.parametrize("remedy", [name for name in STRUCTURE if name not in SPECIMENS])
def test_a_remedy_needs_no_dose(remedy: str) -> None:
    """apply(model, optimizer) alone works, and so does a model without an optimizer where none is needed."""
    model, made = build(chain, "SGD")
    remedies()[remedy].apply(model, [made]).undo()
    if remedy != "larger-batch":
        remedies()[remedy].apply(build(chain, "SGD")[0]).undo()


@pytest.mark.parametrize(
    ("remedy", "model", "dose", "why"),
    [
        ("change-loss", nn.Linear(2, 2), {}, "the loss is computed in your own code, behind the model"),
        ("synchronise-ranks", nn.Linear(2, 2), {}, "whether all ranks begin alike is decided where your code"),
        ("initialization", nn.LayerNorm(2), {}, "no Linear, convolution or recurrent layer whose weights"),
        (
            "skip-connection",
            nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)),
            {},
            "no layer has an output of its input's",
        ),
        ("residual-scaling", chain(), {}, "no residual branches are known: a run has to show where paths join"),
        ("batch-norm", nn.Linear(2, 2), {}, "no Linear or convolution between input and head is left"),
        ("batch-norm", chain(), {"together": 1}, "a batch has 1 numbers a feature: BatchNorm needs 4 and more"),
        ("layer-norm", chain(), {"way": "queries"}, "inside the attention's own forward: that needs your edit"),
        ("layer-norm", Functions(), {"way": "instead"}, "no normalisation that could be replaced"),
        ("layer-norm", chain(), {"way": "pre-norm"}, "written in the blocks' own forward: it needs your edit"),
        ("activation-swap", Functions(), {}, "called as functions inside forward: that needs your edit"),
        ("gated-recurrence", chain(), {}, "no RNN, LSTM or GRU of torch.nn is in the model"),
        ("change-output-activation", Functions(), {}, "forward may call a function, which needs your edit"),
        ("change-output-activation", chain(), {"called": True}, "is called as a function in forward: that needs"),
        (
            "lower-dropout",
            Functions(),
            {},
            "no Dropout module has a rate above 0.2; F.dropout in forward needs your edit",
        ),
        ("reattach", Functions(), {}, "no parameter is frozen here"),
        (
            "reattach",
            chain(),
            {"what": "cut", "where": "between a and b"},
            "cuts the graph between a and b: that needs",
        ),
        ("larger-batch", chain(), {}, "no optimizer is known whose steps could be joined"),
        ("standardize-inputs", chain(), {"dtype": "int64"}, "the model is fed int64: numbers of words or classes"),
        ("standardize-targets", chain(), {}, "the targets were not seen: their mean and standard deviation"),
        ("standardize-targets", chain(), {"mean": 2.0, "deviation": 0.0}, "the targets do not vary: mean 2"),
        ("initialization", chain(), {"layers": []}, "no Linear, convolution or recurrent layer whose weights"),
        ("change-output-activation", chain(), {"layer": "x"}, "the run has a module 'x' and this model has not"),
    ],
)
def test_what_cannot_be_done_says_why(remedy: str, model: nn.Module, dose: dict[str, Any], why: str) -> None:
    """NotApplicable names the remedy and the reason."""
    with pytest.raises(NotApplicable) as error:
        remedies()[remedy].apply(model, None, **dose)
    assert str(error.value).startswith(f"{remedy}: ")
    assert why in str(error.value)


# each against its sickness


def test_an_exponential_expands_however_it_is_written(tmp_path: Path) -> None:
    """As a module it is measured, as a function it is known by its name; a ReLU written by hand does not expand."""

    class Written(Functions):
        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.function(self.b(self.function(self.a(x)))))

        def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.a, self.b, self.c, self.function = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10), function

    def found(name: str, model: nn.Module) -> str:
        return str(expanding(Signals(record(tmp_path / name, model, adam()(model), 4))))

    torch.manual_seed(0)
    assert found("module", mlp(2, Exponential, he)).startswith("each Exponential gives ")
    assert found("function", Written(torch.exp)) == "each Exp grows what it is fed; a ReLU gives 0.71"
    assert found("relu", Written(torch.relu)) == found("other", mlp(2, nn.Softplus, he)) == "None"


def record(
    folder: Path,
    model: nn.Module,
    optimizer: Optimizer,
    steps: int,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
    task: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda x, y: (x, y),
    size: int = 128,
    test: bool = False,
    every: int = 4,
) -> Run:
    """Trains on the digits under observation."""
    images, labels = task(*digits())
    order = torch.Generator().manual_seed(0)
    with gradscope.watch(model, optimizer, run_dir=folder, every=every) as scope:
        for _ in range(steps):
            if test:
                with torch.no_grad():
                    model(images[:32])
            batch = torch.randint(0, len(images), (size,), generator=order)
            scope.loss(loss(model(images[batch]), labels[batch])).backward()
            optimizer.step()
            optimizer.zero_grad()
    return gradscope.read_run(folder)


def treat(
    remedy: str,
    rule: str,
    folder: Path,
    make: Callable[[], nn.Module],
    optimizer: Callable[[nn.Module], Optimizer],
    steps: int,
    **more: Any,
) -> tuple[float, float, Diagnosis, str]:
    """Loss without and with the remedy, the diagnosis with it, and what was done, with the dose for the finding."""
    torch.manual_seed(0)
    model = make()
    run = record(folder / "sick", model, optimizer(model), steps, **more)
    findings = diagnose(run).findings
    assert rule in [finding.rule for finding in findings]
    finding = next(finding for finding in findings if remedies()[remedy].suits(finding) > 0)
    dose = json.loads(json.dumps(remedies()[remedy].dose(finding, Signals(run))))
    torch.manual_seed(0)
    model = make()
    made = optimizer(model)
    applied = remedies()[remedy].apply(model, made, **dose)
    treated = record(folder / "treated", model, made, steps, **more)
    applied.undo()
    assert rule not in [finding.rule for finding in diagnose(treated).findings]
    return last(run), last(treated), diagnose(treated), str(applied)


def last(run: Run) -> float:
    """The loss of the last steps; Inf where it is no number."""
    loss = float(run.steps["loss"][-8:].mean())
    return loss if math.isfinite(loss) else math.inf


VANISHED, BLOWN = "vanishing-gradient", "exploding-gradient"


@pytest.mark.parametrize(
    ("remedy", "rule", "make", "optimizer", "said"),
    [
        (
            "initialization",
            VANISHED,
            lambda: mlp(20, nn.ReLU),
            adam(),
            "21 layers drawn anew: 20 orthogonal (for ReLU)",
        ),
        (
            "initialization",
            BLOWN,
            lambda: mlp(20, nn.Tanh, lambda w: xavier(w, 8)),
            sgd(0.02),
            "20 orthogonal (for Tanh)",
        ),
        (
            "skip-connection",
            VANISHED,
            lambda: mlp(20, nn.Sigmoid),
            sgd(0.1),
            "20 skip connections, x + block(x) · 0.22",
        ),
        ("batch-norm", VANISHED, lambda: mlp(20, nn.Sigmoid), sgd(0.1, 0.9), "20 BatchNorm put in"),
        (
            "activation-swap",
            VANISHED,
            lambda: mlp(20, nn.Sigmoid),
            adam(),
            "20 Sigmoid replaced by ELU; 20 layers drawn",
        ),
        (
            "activation-swap",
            VANISHED,
            lambda: mlp(12, nn.Sigmoid, xavier, width=5),
            adam(0.01),
            "12 Sigmoid replaced by ELU; 12 layers drawn anew: 1 He (for ELU), 11 orthogonal (for ELU)",
        ),
        (
            "activation-swap",
            "poor-initialization",
            lambda: mlp(6, Exponential, he),
            adam(),
            "6 Exponential replaced by ReLU; 6 layers drawn",
        ),
        (
            "residual-scaling",
            BLOWN,
            lambda: Branches(24, lambda w: he(w, 1.2)),
            sgd(0.05),
            "24 residual branches multiplied by 0.2",
        ),
    ],
)
def test_deep_networks_are_cured(remedy: str, rule: str, make: Any, optimizer: Any, said: str, tmp_path: Path) -> None:
    """With the remedy, dosed by the sick run, its finding is gone and the loss is far below that without it."""
    without, treated, _, done = treat(remedy, rule, tmp_path, make, optimizer, 60)
    assert said in done
    assert treated < 0.75 * without


def test_batch_norm_of_two_samples_is_replaced(tmp_path: Path) -> None:
    """GroupNorm works on each sample by itself, whatever the batch."""
    make = lambda: nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))  # noqa: E731
    without, treated, _, done = treat("layer-norm", "normalization-fault", tmp_path, make, sgd(0.05), 80, size=2)
    assert done.startswith("1 BatchNorm1d replaced by GroupNorm(1, 32")
    assert treated < without


def test_a_gated_layer_remembers_the_first_step(tmp_path: Path) -> None:
    """A plain recurrent layer loses the gradient over 100 steps, and a GRU whose gates are open keeps it."""
    dice = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 10, (256,), generator=dice)
    sequences = 0.05 * torch.randn(256, 100, 10, generator=dice)
    sequences[:, 0] += 4 * torch.eye(10)[labels]

    class Memory(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.RNN(10, 16, batch_first=True), nn.Linear(16, 10)
            nn.init.orthogonal_(self.layer.weight_hh_l0, 0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layer(x)[0][:, -1])

    without, treated, _, done = treat(
        "gated-recurrence", "vanishing-through-time", tmp_path, Memory, adam(0.01), 60,
        task=lambda x, y: (sequences, labels), size=32,
    )  # fmt: skip
    assert done == "1 RNN replaced by GRU of the same sizes; the gates that keep the state begin open: bias 4.61"
    assert treated < 0.8 * without


def test_softmax_before_a_cross_entropy_goes(tmp_path: Path) -> None:
    """The model gives logits, and the loss falls below what two softmaxes allow."""
    make = lambda: nn.Sequential(mlp(1, nn.ReLU, he), nn.Softmax(1))  # noqa: E731
    without, treated, _, done = treat("change-output-activation", "output-loss-mismatch", tmp_path, make, sgd(0.1), 60)
    assert done == "1: Softmax replaced by Identity"
    assert treated < 0.5 < 1.46 < without


def test_a_sigmoid_is_put_where_probabilities_are_asked_for(tmp_path: Path) -> None:
    """A binary cross-entropy of raw outputs gets the sigmoid that it lacks."""

    def loss(output: Tensor, label: Tensor) -> Tensor:
        chance = output[:, 0].clamp(1e-6, 1 - 1e-6)
        return nn.functional.binary_cross_entropy(chance, (label > 4).float())

    make = lambda: mlp(1, nn.ReLU, he, outputs=1)  # noqa: E731
    without, treated, _, done = treat(
        "change-output-activation", "output-loss-mismatch", tmp_path, make, sgd(0.1), 60, loss=loss
    )
    assert done == "Sigmoid put on the model's output"
    assert treated < 0.5 * without


def test_strong_dropout_is_lowered(tmp_path: Path) -> None:
    """With a rate of 0.2 the network learns, with 0.95 in each layer it does not."""
    make = lambda: nn.Sequential(  # noqa: E731
        *(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.95), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.95)),
        nn.Linear(64, 10),
    )
    without, treated, _, done = treat("lower-dropout", "dropout-fault", tmp_path, make, sgd(0.1), 100)
    assert done == "2 dropout rates lowered to 0.2, from 0.95"
    assert treated < 0.6 * without


def test_dropout_goes_by_the_mode(tmp_path: Path) -> None:
    """Tests in training mode run in eval mode, and a training in eval mode in training mode."""
    make = lambda: nn.Sequential(nn.Linear(64, 32), nn.Dropout(0.3), nn.ReLU(), nn.Linear(32, 10))  # noqa: E731
    *_, done = treat("lower-dropout", "dropout-fault", tmp_path / "tests", make, sgd(0.1), 20, test=True, every=1)
    assert done == "forwards without gradients run in eval mode: dropout is off in them"
    shut = lambda: make().eval()  # noqa: E731
    *_, done = treat("reattach", "dropout-fault", tmp_path / "training", shut, sgd(0.1), 20)
    assert done == "the model is in training mode whenever gradients are computed"


def test_frozen_layers_learn_again(tmp_path: Path) -> None:
    """Frozen layers get their gradients and are moved by the optimizer that did not hold them."""

    def make() -> nn.Module:
        model = mlp(3, nn.ReLU, outputs=10)
        model[:6].requires_grad_(False)
        model[0].weight.data.zero_()
        return model

    def head_alone(model: nn.Module) -> Optimizer:
        return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)

    torch.manual_seed(0)
    model = make()
    optimizer = head_alone(model)
    before = model[2].weight.clone()
    applied = remedies()["reattach"].apply(model, optimizer, what="frozen", layers=["0", "2", "4"])
    assert str(applied) == "6 frozen parameters learn again, 12,480 entries"
    run = record(tmp_path / "run", model, optimizer, 30)
    assert not torch.equal(model[2].weight, before)
    assert last(run) < 2.3


def test_inputs_of_any_size_are_standardised(tmp_path: Path) -> None:
    """Pixels from 0 to 255 ruin the training, and do not when each batch is brought to unit size."""
    scaled = lambda x, y: (x * 80 + 120, y)  # noqa: E731
    without, treated, _, done = treat(
        "standardize-inputs", "unscaled-data", tmp_path, lambda: mlp(2, nn.ReLU), sgd(0.1), 120, task=scaled
    )
    assert done.startswith("inputs are standardised by the mean and deviation of all batches so far")
    assert treated < 0.3 < 2 < without


def test_targets_of_any_size_are_standardised(tmp_path: Path) -> None:
    """Targets of 10,000 throw the training, and the loss stays in their units when they do not any more."""
    loss = nn.functional.mse_loss
    far = lambda x, y: (x, 1e4 * (y.float()[:, None] - 2))  # noqa: E731
    without, treated, _, done = treat(
        "standardize-targets", "unscaled-data", tmp_path, lambda: mlp(2, nn.ReLU, he, outputs=1), sgd(0.05), 120,
        task=far, loss=loss,
    )  # fmt: skip
    assert done.startswith("the model trains on (target - 2.48e+04) / 2.84e+04")
    assert 1e5 < treated < 0.5 * 8.2e8  # of the targets' variance
    assert treated < without


def test_a_larger_batch_makes_no_false_alarm(tmp_path: Path) -> None:
    """Steps that average four batches leave nothing to find, and the loss falls."""
    torch.manual_seed(0)
    model = mlp(2, nn.ReLU, he)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    remedies()["larger-batch"].apply(model, optimizer, count=4)
    run = record(tmp_path / "run", model, optimizer, 120, size=4, every=1)
    assert diagnose(run).findings == ()
    assert last(run) < 1.0


@pytest.mark.parametrize("remedy", ["standardize-inputs", "standardize-targets", "skip-connection", "batch-norm"])
def test_a_remedy_acts_on_the_very_first_forward(remedy: str, tmp_path: Path) -> None:
    """Applied while the first forward of a program begins, it gives what it gives when it is applied before."""
    dose = {"mean": 3.0, "deviation": 4.0} if remedy == "standardize-targets" else {}
    done: list[Applied] = []

    def treat_it(model: nn.Module, optimizers: list[Optimizer]) -> None:
        done.append(remedies()[remedy].apply(model, optimizers, **dose))

    def train(before: Callable[[nn.Module, list[Optimizer]], None] | None) -> list[float]:
        torch.manual_seed(0)
        model = mlp(2, nn.ReLU)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        if before is not None:
            before(model, [optimizer])
        return [step(model, optimizer, number) for number in range(3)]

    expected = train(treat_it)
    with Session(before_training=treat_it, run_dir=tmp_path / "run"):
        assert train(None) == expected
    assert len(done) == 2
    for applied in done:
        applied.undo()


def test_a_remedy_that_fails_half_way_leaves_nothing_behind() -> None:
    """What was changed before the reason came up is taken back."""
    model, made = build(chain, "SGD")
    before = everything(model, made)
    applied = Applied()
    with pytest.raises(NotApplicable, match="the run has a module 'nowhere'"):
        remedies()["change-output-activation"].act(applied, model, [made], layer="nowhere")
    with pytest.raises(TypeError):
        remedies()["batch-norm"].apply(model, made, unknown=1)
    assert everything(model, made) == before


@cache
def found_in_cases() -> list[tuple[Finding, Signals]]:
    """What every rule finds in its own cases."""
    runs = [Signals(case.run) for rule in rules().values() for case in rule.cases() if case.layers]
    return [(finding, signals) for signals in runs for rule in rules().values() for finding in rule.check(signals)]


@pytest.mark.parametrize("remedy", remedies())
def test_a_dose_is_small_and_plain_whatever_was_recorded(remedy: str) -> None:
    """For every case of every rule the dose is what JSON can hold, and what `act` takes."""
    takes = inspect.signature(remedies()[remedy].act)
    for finding, signals in found_in_cases():
        dose = remedies()[remedy].dose(finding, signals)
        assert json.loads(json.dumps(dose, allow_nan=False)) == dose
        assert len(json.dumps(dose)) < 1000
        takes.bind(Applied(), nn.Module(), [], **dose)
