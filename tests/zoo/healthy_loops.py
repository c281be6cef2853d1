"""Healthy trainings whose loop or loss looks sick: skipped steps, double backward, games, moving targets, floors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.trainings import adam, mlp, sgd
from tests.zoo import loops
from tests.zoo.basics_loss import embedding, focal, triplet
from tests.zoo.data import Task, digits, friedman, split
from tests.zoo.loops import training
from tests.zoo.nets import he, net
from tests.zoo.program import Program, Training
from tests.zoo.train import Session

Build = Callable[[int], Training]


def classify(optimizer: Any, loss: Any = F.cross_entropy, depth: int = 3, **more: Any) -> Build:
    """A ReLU network on the digits."""
    return lambda seed: training(digits(), mlp(depth, nn.ReLU, he), optimizer, loss, seed, **more)


def mixed_precision(training: Training, session: Session) -> None:
    """Half precision with a scale of the loss that is too large at first, so that steps are skipped."""
    scaler = training.options["scaler"]
    for step in session.steps():
        x, y = training.batch(step)
        training.optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = training.loss(training.model(x), y)
        scaler.scale(session.loss(loss)).backward()
        scaler.step(training.optimizer)
        scaler.update()


def scaled(seed: int) -> Training:
    """A network in mixed precision."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=50)
    model = mlp(3, nn.ReLU, he)
    return training(
        digits(),
        model,
        sgd(0.05),
        F.cross_entropy,
        seed,
        loop=mixed_precision,
        options={"scaler": scaler},
        validates=False,
    )


def sharpness_aware(training: Training, session: Session) -> None:
    """SAM: a second backward from weights that are a little uphill."""
    parameters = list(training.model.parameters())
    for step in session.steps():
        x, y = training.batch(step)
        training.optimizer.zero_grad()
        session.loss(training.loss(training.model(x), y)).backward()
        norm = torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()
        uphill = [0.05 * p.grad / (norm + 1e-12) for p in parameters if p.grad is not None]
        with torch.no_grad():
            for parameter, move in zip(parameters, uphill, strict=True):
                parameter.add_(move)
        training.optimizer.zero_grad()
        training.loss(training.model(x), y).backward()
        with torch.no_grad():
            for parameter, move in zip(parameters, uphill, strict=True):
                parameter.sub_(move)
        training.optimizer.step()


def quasi_newton(training: Training, session: Session) -> None:
    """LBFGS with its closure."""
    x, y = training.batch(0)
    for _ in session.steps():

        def closure() -> Tensor:
            training.optimizer.zero_grad()
            loss = session.loss(training.loss(training.model(x), y))
            loss.backward()
            return loss

        training.optimizer.step(closure)  # type: ignore[arg-type]


class UNet(nn.Module):
    """Down, up, and across."""

    def __init__(self) -> None:
        super().__init__()
        self.down = net("1x24x24 | c8k3p relu c8k3p relu", he)
        self.pool = nn.MaxPool2d(2)
        self.middle = net("8x12x12 | c16k3p relu c16k3p relu", he)
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.end = net("16x24x24 | c8k3p relu c1k1", he)

    def forward(self, x: Tensor) -> Tensor:
        across = self.down(x)
        return self.end(torch.cat([across, self.up(self.middle(self.pool(across)))], 1))


def spots(seed: int) -> Training:
    """Dice loss on one small spot in noise, 1.5 % of the points."""
    dice = torch.Generator().manual_seed(8)
    x = torch.randn(300, 1, 24, 24, generator=dice) * 0.3
    y = torch.zeros_like(x)
    for image, (row, column) in enumerate(torch.randint(0, 21, (300, 2), generator=dice).tolist()):
        y[image, 0, row : row + 3, column : column + 3] = 1
    return training(split(x + y, y, overlap_error), UNet(), adam(3e-3), dice_loss, seed, size=16, steps=150)


def dice_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """One less the overlap."""
    said = outputs.sigmoid()
    return 1 - (2 * (said * targets).sum() + 1) / (said.sum() + targets.sum() + 1)


def overlap_error(outputs: Tensor, targets: Tensor) -> float:
    """One less the overlap of what is said with what is there."""
    said = (outputs > 0).float()
    return float(1 - 2 * (said * targets).sum() / (said.sum() + targets.sum()).clamp(min=1))


def smoothed(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with labels smoothed by 0.2: it stops far above 0."""
    return F.cross_entropy(outputs, labels, label_smoothing=0.2)


def hinge(outputs: Tensor, labels: Tensor) -> Tensor:
    """Multi-class hinge loss: exactly 0 for what is right by a margin."""
    return F.multi_margin_loss(outputs, labels)


def distilled(seed: int) -> Training:
    """Taught by the soft answers of another network."""
    teacher = net("64 | 128 relu 10", he)
    optimizer = torch.optim.Adam(teacher.parameters(), 3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(teacher(digits().x), digits().y).backward()
        optimizer.step()
    base = digits()
    with torch.no_grad():
        task = replace(
            base,
            y=(teacher(base.x) / 3).softmax(-1),
            held_y=(teacher(base.held_x) / 3).softmax(-1),
            error=lambda outputs, targets: base.error(outputs, targets.argmax(-1)),
        )
    return training(task, mlp(2, nn.ReLU, he), adam(2e-3), F.cross_entropy, seed)


def counts(seed: int) -> Training:
    """Poisson regression: how many events a rate gives."""
    base = friedman()
    dice = torch.Generator().manual_seed(6)
    task = Task(
        base.x,
        torch.poisson((base.y + 1.5).exp(), generator=dice),
        base.held_x,
        torch.poisson((base.held_y + 1.5).exp(), generator=dice),
        lambda said, y: float((said.exp() - y).square().mean().sqrt() / y.std()),
    )
    return training(task, net("9 | 64 relu 64 relu 1", he), adam(2e-3), F.poisson_nll_loss, seed, steps=400)


def lbfgs(model: nn.Module) -> torch.optim.Optimizer:
    """LBFGS with a line search."""
    return torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5, line_search_fn="strong_wolfe")


PROGRAMS = (
    Program(
        "H23-focal",
        "focal loss, gamma 2, long after it has converged",
        classify(adam(2e-3), focal(2), steps=800),
        fast=True,
    ),
    Program(
        "H24-triplet",
        "most triplets satisfied, long after",
        embedding(triplet(0.5, hardest=False), adam(2e-3), size=24, steps=500),
    ),
    Program("H24-hinge", "hinge loss, nearly all of it exactly 0", classify(adam(2e-3), hinge, steps=800), fast=True),
    Program(
        "H27-accumulation",
        "8 micro-batches a step, averaged",
        classify(sgd(0.05), loop=loops.micro_batches(8, averaged=True), size=8, steps=150),
        fast=True,
    ),
    Program("H28-mixed-precision", "half precision, steps skipped at first", scaled, fast=True),
    Program("H30-dice", "Dice loss on 1.5 % of the points", spots),
    Program("H36-sam", "SAM: two backward passes a step", classify(sgd(0.05), loop=sharpness_aware, steps=200)),
    Program("H39-smoothing", "smoothed labels", classify(adam(2e-3), smoothed, steps=600), fast=True),
    Program("H39-distillation", "taught by another network", distilled),
    Program(
        "H42-lbfgs",
        "LBFGS",
        lambda seed: training(
            digits(), mlp(2, nn.Tanh, None), lbfgs, F.cross_entropy, seed, loop=quasi_newton, size=512, steps=30
        ),
    ),
    Program("H42-poisson", "Poisson regression", counts),
    Program("H42-clipped", "the gradient's norm clipped at 0.1", classify(sgd(0.2, 0.9), loop=loops.clipped(0.1))),
    Program(
        "H42-absolute",
        "absolute error",
        lambda seed: training(friedman(), net("9 | 64 relu 64 relu 1", he), adam(3e-3), F.l1_loss, seed),
    ),
)
