"""Real trainings, recorded: what the browser looks at."""

from __future__ import annotations

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import gradscope

HOSTILE = "<img src=x onerror=alert(1)>"


def mlp(activation: type[nn.Module], depth: int, width: int = 32) -> nn.Sequential:
    """A plain classifier of digits with `depth` Linear layers."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(64, width), activation()]
    for _ in range(depth - 2):
        layers += [nn.Linear(width, width), activation()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def batches(steps: int) -> list[tuple[Tensor, Tensor]]:
    """Mini-batches of the digits, scaled to [0, 1]."""
    digits = load_digits()
    images, labels = torch.tensor(digits.data / 16.0, dtype=torch.float32), torch.tensor(digits.target)
    return [(images[start : start + 64], labels[start : start + 64]) for start in range(0, 64 * steps, 64)]


def record(
    folder: Path, model: nn.Module, steps: int, rate: float = 0.1, poison: tuple[int, str] | None = None
) -> Path:
    """Trains and records every step. `poison` plants a NaN in a parameter just before a step."""
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=rate), nn.CrossEntropyLoss()
    scope = gradscope.watch(model, optimizer, run_dir=folder, every=1)
    for step, (images, labels) in enumerate(batches(steps)):
        if poison is not None and poison[0] == step:
            with torch.no_grad():
                dict(model.named_parameters())[poison[1]].view(-1)[0] = float("nan")
        loss = criterion(model(images), labels)
        scope.loss(loss)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    scope.close()
    return folder


class Hostile(nn.Module):
    """A model whose layers have names that a page must not take for markup."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module(HOSTILE, nn.Linear(64, 32))
        self.add_module("<b>schicht</b> ünï", nn.Linear(32, 32))
        self.add_module("x" * 300, nn.Linear(32, 10))

    def forward(self, images: Tensor) -> Tensor:
        """One layer after the other."""
        for layer in self.children():
            images = torch.tanh(layer(images)) if layer.out_features != 10 else layer(images)
        return images


def record_all(root: Path) -> Path:
    """A folder of five runs: three sick, one healthy, one with hostile names."""
    exploding = mlp(nn.ReLU, 20)
    for parameter in exploding.parameters():
        if parameter.ndim == 2:
            nn.init.kaiming_normal_(parameter)
            parameter.data.mul_(2)
    record(root / "exploding", exploding, 10, rate=1e-9, poison=(8, "0.weight"))
    record(root / "hostile", Hostile(), 4)
    record(root / "healthy", mlp(nn.Tanh, 4), 20)
    record(root / "nan", mlp(nn.ReLU, 5), 16, poison=(10, "4.weight"))
    record(root / "sigmoid", mlp(nn.Sigmoid, 20), 12)
    return root
