"""Healthy models of every kind at their own initialization: `check_model` raises no false alarm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from gradscope.testing import QUESTIONS, check_model
from tests.trainings import ResNet, Transformer, digits

CE = nn.CrossEntropyLoss


class Asked(NamedTuple):
    """A model and what it is asked with."""

    model: nn.Module
    sample: Any
    options: dict[str, Any] = {}
    not_asked: tuple[str, ...] = ()  # questions that are not applicable


def images(count: int = 32) -> tuple[Tensor, Tensor]:
    """Digits: `[N, 64]` and labels."""
    data, labels = digits()
    return data[:count], labels[:count]


def mlp() -> Asked:
    """The usual classifier."""
    return Asked(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), images())


def deep_mlp_with_layer_norm() -> Asked:
    """Twelve layers, each behind a LayerNorm."""
    blocks = [nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.GELU()) for _ in range(12)]
    return Asked(nn.Sequential(*blocks, nn.Linear(64, 10)), images())


def cnn(norm: Callable[[int], nn.Module]) -> Asked:
    """Convolutions, a norm, pooling, dropout."""
    model = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        *(nn.Conv2d(1, 16, 3, padding=1), norm(16), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), norm(32), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Dropout(0.5), nn.Linear(32, 10)),
    )
    return Asked(model, images())


def regression() -> Asked:
    """One number, standardised."""
    x, labels = images(64)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 1))
    return Asked(model, (x, (labels[:, None] - 4.5) / 2.9), {"criterion": nn.MSELoss()})


def robust_regression() -> Asked:
    """An absolute error."""
    x, labels = images(64)
    model = nn.Sequential(nn.Linear(64, 32), nn.SiLU(), nn.Linear(32, 1))
    return Asked(model, (x, (labels[:, None] - 4.5) / 2.9), {"criterion": nn.L1Loss()})


def multi_label() -> Asked:
    """Ten yes-or-no questions."""
    x, labels = images()
    model = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(), nn.Linear(64, 10))
    return Asked(model, (x, nn.functional.one_hot(labels, 10).float()), {"criterion": nn.BCEWithLogitsLoss()})


def autoencoder() -> Asked:
    """Its target is its input, here noise."""
    x = torch.randn(32, 64)
    model = nn.Sequential(
        nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8), nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 64)
    )
    return Asked(model, (x, x), {"criterion": nn.MSELoss()})


class Reader(nn.Module):
    """A recurrent classifier of rows, samples first."""

    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.cells = kind(8, 32, batch_first=True, **options)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(x.view(-1, 8, 8))[0][:, -1])


class Tagger(nn.Module):
    """A label for each token, time first as torch's recurrent modules take it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.cells = nn.LSTM(16, 32)
        self.head = nn.Linear(32, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.cells(self.embed(tokens))[0])


def tagger() -> Asked:
    """Tokens `[T, N]`: the samples lie along the second dimension."""

    def each(scores: Tensor, tags: Tensor) -> Tensor:
        return nn.functional.cross_entropy(scores.flatten(0, 1), tags.flatten())

    tokens = torch.randint(20, (7, 16))
    return Asked(Tagger(), (tokens, tokens % 5), {"criterion": each, "batch_dimension": 1})


class Siamese(nn.Module):
    """One tower."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(self.tower(x), dim=-1)


def siamese() -> Asked:
    """Three calls and a margin."""
    x, labels = images(64)
    zero, one = x[labels == 0][:6], x[labels == 1][:6]

    def triplet(model: nn.Module, sample: tuple[Tensor, ...]) -> Tensor:
        return nn.functional.triplet_margin_loss(*(model(each) for each in sample))

    return Asked(Siamese(), (zero, zero.roll(1, 0), one), {"loss": triplet}, ("initial-loss",))


class Variational(nn.Module):
    """Draws random numbers in its forward pass, and gives three things."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16))
        self.decode = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encode(x).chunk(2, -1)
        return self.decode(mean + torch.randn_like(mean) * (0.5 * log_variance).exp()), mean, log_variance


def variational() -> Asked:
    """A loss of two parts, summed over pixels and averaged over samples."""

    def bound(output: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        made, mean, log_variance = output
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1)
        return ((made - x).square().sum(1) + divergence).mean()

    x, _ = images()
    return Asked(Variational(), (x, x), {"criterion": bound}, ("initial-loss",))


def gpt2() -> Asked:
    """A language model of Transformers, which gives its loss itself."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=50, n_positions=16, n_embd=32, n_layer=2, n_head=4)
    tokens = torch.randint(50, (8, 12))
    return Asked(transformers.GPT2LMHeadModel(config).eval(), {"input_ids": tokens, "labels": tokens})


def bert() -> Asked:
    """A classifier of Transformers with a mask, whose output has `logits`."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    model = transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=50, num_labels=3, **sizes))
    mask = torch.ones(12, 10, dtype=torch.int64)
    mask[:6, 7:] = 0
    sample = {"input_ids": torch.randint(50, (12, 10)), "attention_mask": mask, "labels": torch.arange(12) % 3}
    return Asked(model, sample, {"criterion": CE(), "target": "labels"})


class Residual(nn.Module):
    """ReZero: every branch starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(64, 64), nn.ReLU()) for _ in range(8))
        self.gates = nn.ParameterList(torch.zeros(1) for _ in range(8))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        for layer, gate in zip(self.layers, self.gates, strict=True):
            x = x + gate * layer(x)
        return self.head(x)


def derivative() -> Asked:
    """A loss of the output's derivative by the input: a decay, told by its equation."""

    def equation(model: nn.Module, times: Tensor) -> Tensor:
        height = model(times)
        (slope,) = torch.autograd.grad(height.sum(), times, create_graph=True)
        return (slope + height).square().mean() + (model(torch.zeros(1, 1)) - 1).square().mean()

    model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    return Asked(model, torch.rand(32, 1, requires_grad=True), {"loss": equation}, ("initial-loss",))


MODELS: dict[str, Callable[[], Asked]] = {
    "MLP": mlp,
    "deep MLP, LayerNorm": deep_mlp_with_layer_norm,
    "CNN, BatchNorm": lambda: cnn(nn.BatchNorm2d),
    "CNN, GroupNorm": lambda: cnn(lambda channels: nn.GroupNorm(4, channels)),
    "ResNet": lambda: Asked(ResNet(), images()),
    "ReZero": lambda: Asked(Residual(), images()),
    "pre-norm transformer, dropout": lambda: Asked(Transformer(dropout=0.1), images()),
    "LSTM": lambda: Asked(Reader(nn.LSTM, num_layers=2, dropout=0.2), images()),
    "GRU": lambda: Asked(Reader(nn.GRU), images()),
    "tagger, time first": tagger,
    "regression": regression,
    "absolute error": robust_regression,
    "multi-label": multi_label,
    "autoencoder": autoencoder,
    "variational autoencoder": variational,
    "siamese, triplet loss": siamese,
    "equation": derivative,
    "GPT-2": gpt2,
    "BERT": bert,
}


@pytest.mark.parametrize("name", MODELS)
def test_a_healthy_model_passes_every_question(name: str) -> None:
    """At its own initialization and on data that it can learn, no question fails."""
    torch.manual_seed(0)
    asked = MODELS[name]()
    options = asked.options or {} if isinstance(asked.sample, dict) else asked.options or {"criterion": CE()}
    check = check_model(asked.model, asked.sample, **options)
    expected = {question: "not-applicable" if question in asked.not_asked else "passed" for question in QUESTIONS}
    assert {answer.question: answer.outcome for answer in check.answers} == expected, str(check)
