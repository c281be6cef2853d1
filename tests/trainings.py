"""Trainings on real data, sick and healthy, that the tests share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

import gradscope
from gradscope.records import Run

Init = Callable[[torch.Tensor], object]


@cache
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """scikit-learn's 1,797 digits, standardised as a whole: `[1797, 64]` and labels `[1797]`."""
    data, labels = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32)
    return (images - images.mean()) / images.std(), torch.tensor(labels)


def mlp(
    depth: int, activation: Callable[[], nn.Module], init: Init | None = None, *, width: int = 64, outputs: int = 10
) -> nn.Sequential:
    """`depth` hidden layers and a head; `init` for all weights with zero biases, or torch's own."""
    layers: list[nn.Module] = []
    for number in range(depth + 1):
        layer = nn.Linear(64 if number == 0 else width, outputs if number == depth else width)
        if init is not None:
            init(layer.weight)
            nn.init.zeros_(layer.bias)
        layers += [layer] if number == depth else [layer, activation()]
    return nn.Sequential(*layers)


def he(weight: torch.Tensor, times: float = 1.0) -> None:
    """He initialization, times a factor."""
    nn.init.kaiming_normal_(weight, nonlinearity="relu")
    weight.data.mul_(times)


def xavier(weight: torch.Tensor, times: float = 1.0) -> None:
    """Xavier initialization, times a factor."""
    nn.init.xavier_normal_(weight)
    weight.data.mul_(times)


class ResidualBlock(nn.Module):
    """Two convolutions with BatchNorm and in-place ReLU beside a skip connection."""

    def __init__(self, channels: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(channels, outputs, 1, stride, bias=False) if channels != outputs else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = x if self.shortcut is None else self.shortcut(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += skip
        return self.relu(out)


class ResNet(nn.Module):
    """A small ResNet for 8x8 images."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.blocks = nn.Sequential(ResidualBlock(16, 16), ResidualBlock(16, 32, 2), ResidualBlock(32, 64, 2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn(self.stem(x.view(-1, 1, 8, 8))))
        return self.head(torch.flatten(self.pool(self.blocks(x)), 1))


class Transformer(nn.Module):
    """A pre-norm transformer that reads an image as eight rows."""

    def __init__(self, width: int = 32, depth: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.position = nn.Parameter(torch.zeros(8, width))
        block = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x.view(-1, 8, 8)) + self.position
        return self.head(self.norm(self.blocks(x)).mean(1))


class Recurrent(nn.Module):
    """An LSTM that reads an image row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 32, num_layers=2, batch_first=True, dropout=0.1)
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs, _ = self.lstm(x.view(-1, 8, 8))
        return self.head(outputs[:, -1])


def sgd(rate: float, momentum: float = 0.0) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """Makes SGD for a model."""
    return lambda model: torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)


def adam(rate: float = 1e-3) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """Makes Adam for a model."""
    return lambda model: torch.optim.Adam(model.parameters(), lr=rate)


@dataclass(frozen=True)
class Training:
    """A training: how to build the model and optimizer, and the task."""

    model: Callable[[], nn.Module]
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    regress: float = 0.0  # factor on standardised targets under MSE; 0: classify with cross-entropy

    def record(self, folder: Path, steps: int, *, every: int | str = "auto", seed: int = 0) -> Run:
        """Runs it under GradScope and reads the run."""
        torch.manual_seed(seed)
        model = self.model()
        optimizer = self.optimizer(model)
        criterion: nn.Module = nn.MSELoss() if self.regress else nn.CrossEntropyLoss()
        order = torch.Generator().manual_seed(seed)
        images, labels = digits()
        with gradscope.watch(model, optimizer, run_dir=folder, every=every) as scope:  # type: ignore[arg-type]
            for _ in range(steps):
                batch = torch.randint(0, len(images), (128,), generator=order)
                target = (labels[batch].float()[:, None] - 4.5) / 2.9 * self.regress if self.regress else labels[batch]
                loss = scope.loss(criterion(model(images[batch]), target))
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
        return gradscope.read_run(folder)


SICK = {
    "sigmoid 20, SGD": Training(lambda: mlp(20, nn.Sigmoid), sgd(0.1)),
    "sigmoid 20, Adam": Training(lambda: mlp(20, nn.Sigmoid), adam()),
    "ReLU 20, torch's init, SGD": Training(lambda: mlp(20, nn.ReLU), sgd(0.1)),
    "ReLU 20, torch's init, Adam": Training(lambda: mlp(20, nn.ReLU), adam()),
    "tanh 20, init x8, SGD": Training(lambda: mlp(20, nn.Tanh, lambda w: xavier(w, 8)), sgd(0.01)),
    "tanh 20, init x8, Adam": Training(lambda: mlp(20, nn.Tanh, lambda w: xavier(w, 8)), adam()),
    "ReLU 20, He x2, SGD": Training(lambda: mlp(20, nn.ReLU, lambda w: he(w, 2)), sgd(0.01)),
    "ReLU 20, He x2, Adam": Training(lambda: mlp(20, nn.ReLU, lambda w: he(w, 2)), adam()),
    "targets x1e4, SGD": Training(lambda: mlp(3, nn.ReLU, outputs=1), sgd(0.01), regress=1e4),
    "targets x1e4, small SGD": Training(lambda: mlp(3, nn.ReLU, he, outputs=1), sgd(1e-5), regress=1e4),
    "targets x1e4, Adam": Training(lambda: mlp(3, nn.ReLU, outputs=1), adam(), regress=1e4),
}

HEALTHY = {
    "Xavier-tanh 20, SGD": Training(lambda: mlp(20, nn.Tanh, xavier), sgd(0.02)),
    "Xavier-tanh 20, Adam": Training(lambda: mlp(20, nn.Tanh, xavier), adam()),
    "He-ReLU 4, SGD": Training(lambda: mlp(4, nn.ReLU, he), sgd(0.1)),
    "He-ReLU 4, Adam": Training(lambda: mlp(4, nn.ReLU, he), adam()),
    "ReLU 4, torch's init, SGD": Training(lambda: mlp(4, nn.ReLU), sgd(0.1, 0.9)),
    "ResNet, SGD": Training(ResNet, sgd(0.05, 0.9)),
    "ResNet, Adam": Training(ResNet, adam()),
    "pre-norm transformer, Adam": Training(Transformer, adam()),
    "LSTM, Adam": Training(Recurrent, adam()),
    "regression, SGD": Training(lambda: mlp(3, nn.ReLU, he, outputs=1), sgd(0.01), regress=1.0),
    "regression, Adam": Training(lambda: mlp(3, nn.ReLU, outputs=1), adam(), regress=1.0),
}
