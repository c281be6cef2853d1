"""The three trainings that everything is measured on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn


def no_one_listens(loss: torch.Tensor) -> object:
    """What a loop does with its loss when nobody watches."""
    return loss


class Training:
    """A training that takes one step at a time.

    Attributes:
        loss: called with the loss before `backward`.
        stepped: called with the loss when the step is done.
    """

    def __init__(self, model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.model, self.batch = model, batch
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        self.criterion = nn.CrossEntropyLoss()
        self.loss: Callable[[torch.Tensor], object] = no_one_listens
        self.stepped: Callable[[torch.Tensor], object] = no_one_listens

    def step(self) -> tuple[float, float]:
        """Takes a step and gives its seconds on the clock and of the process's CPU time."""
        wall, cpu = time.perf_counter(), time.process_time()
        loss = self.criterion(self.model(self.batch[0]), self.batch[1])
        self.loss(loss)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.stepped(loss)
        return time.perf_counter() - wall, time.process_time() - cpu


class LanguageModel(nn.Module):
    """Embedding, pre-norm transformer, head: scores of the next token, shape `[N * tokens, words]`."""

    def __init__(self, words: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        block = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, words)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.embedding(tokens))).flatten(0, 1)


class Block(nn.Module):
    """A convolution with BatchNorm and in-place ReLU beside a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.body = nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


@dataclass(frozen=True)
class Subject:
    """A training by its name, made anew and always the same."""

    title: str
    make: Callable[[], Training]


def transformer(width: int = 256, layers: int = 6, batch: int = 16) -> Training:
    """6 layers of width 256 and 4 heads, 16 sequences of 64 tokens."""
    torch.manual_seed(0)
    tokens = torch.randint(0, 1000, (batch, 65))
    return Training(LanguageModel(1000, width, layers, 4), (tokens[:, :-1], tokens[:, 1:].flatten()))


def cnn(channels: int = 32, blocks: int = 6, batch: int = 64) -> Training:
    """6 residual blocks of 32 channels, 64 images of 3x32x32."""
    torch.manual_seed(0)
    stem = [nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]
    model = nn.Sequential(*stem, *(Block(channels) for _ in range(blocks)), *head)
    return Training(model, (torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))))


def mlp(width: int = 256, layers: int = 20, batch: int = 256) -> Training:
    """20 tanh layers of 256, 256 samples."""
    torch.manual_seed(0)
    hidden = [module for _ in range(layers) for module in (nn.Linear(width, width), nn.Tanh())]
    model = nn.Sequential(*hidden, nn.Linear(width, 10))
    return Training(model, (torch.randn(batch, width), torch.randint(0, 10, (batch,))))


SUBJECTS = (
    Subject("transformer, 6 layers, d 256, 16x64 tokens", transformer),
    Subject("CNN, 6 residual blocks, 32 channels, 64x3x32x32", cnn),
    Subject("MLP, 20x256 tanh, batch 256", mlp),
)
