"""Healthy trainings whose loss says little: games, moving targets, noise, differential equations."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.trainings import adam, mlp
from tests.zoo.data import Task, digits, split
from tests.zoo.loops import training
from tests.zoo.nets import he, net
from tests.zoo.program import Program, Training
from tests.zoo.train import Session


class Game(nn.Module):
    """A generator of points and a critic of them."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = net("8 | 64 relu 64 relu 2", he)
        self.critic = net("2 | 64 relu 64 relu 1", he)

    def forward(self, x: Tensor) -> Tensor:
        return self.critic(x)


def play(penalty: float) -> Callable[[Training, Session], None]:
    """A GAN: two steps of the critic, with a penalty on its gradient, then one of the generator."""

    def loop(training: Training, session: Session) -> None:
        game = training.model
        assert isinstance(game, Game)
        of_generator, of_critic = training.optimizers
        for step in session.steps():
            real, _ = training.batch(step)
            fake = game.generator(torch.randn(len(real), 8))
            between = (0.5 * real + 0.5 * fake.detach()).requires_grad_()
            slope = torch.autograd.grad(game.critic(between).sum(), between, create_graph=True)[0]
            of_critic.zero_grad()
            loss = F.softplus(game.critic(fake.detach())).mean() + F.softplus(-game.critic(real)).mean()
            session.loss(loss + penalty * slope.square().sum(-1).mean()).backward()
            of_critic.step()
            of_generator.zero_grad()
            session.loss(F.softplus(-game.critic(fake)).mean()).backward()
            of_generator.step()

    return loop


def game(seed: int) -> Training:
    """Points on a ring."""
    angles = torch.rand(1000, generator=torch.Generator().manual_seed(1)) * 2 * math.pi
    points = torch.stack([angles.cos(), angles.sin()], 1)
    task = split(points, points, lambda outputs, targets: math.nan)
    model = Game()
    optimizers = [
        torch.optim.Adam(part.parameters(), 1e-3, betas=(0.5, 0.99)) for part in (model.generator, model.critic)
    ]
    return Training(
        task, model, optimizers, F.mse_loss, task.batches(64, seed), 250, play(0.1), validates=False, examine=unknown
    )


def unknown(model: nn.Module) -> float:
    """Nothing to compare with."""
    return math.nan


class Values(nn.Module):
    """What each of four moves is worth, seen by a network that learns and by its earlier self."""

    def __init__(self) -> None:
        super().__init__()
        self.online = net("2 | 64 relu 64 relu 4", he)
        self.target = net("2 | 64 relu 64 relu 4", he).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.online(x)


def q_learning(training: Training, session: Session) -> None:
    """Deep Q-learning on a field of 5x5 places: targets from an earlier self, which is renewed now and then."""
    model = training.model
    assert isinstance(model, Values)
    moves = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])
    for step in session.steps():
        if step % 50 == 0:
            model.target.load_state_dict(model.online.state_dict())
        place = torch.randint(0, 5, (64, 2))
        move = torch.randint(0, 4, (64,))
        then = (place + moves[move]).clamp(0, 4)
        done = (then == 4).all(1).float()
        with torch.no_grad():
            worth = done + 0.9 * (1 - done) * model.target(then / 2 - 1.0).amax(1)
        training.optimizer.zero_grad()
        said = model(place / 2 - 1.0).gather(1, move[:, None])[:, 0]
        session.loss(F.smooth_l1_loss(said, worth)).backward()
        training.optimizer.step()


def field(seed: int) -> Training:
    """Deep Q-learning."""
    nothing = torch.zeros(64, 2)
    task = Task(nothing, nothing, nothing, nothing, lambda outputs, targets: math.nan)
    model = Values()
    optimizer = torch.optim.Adam(model.online.parameters(), 1e-3)
    return Training(
        task, model, [optimizer], F.mse_loss, task.batches(64, seed), 400, q_learning, validates=False, examine=unknown
    )


class Variational(nn.Module):
    """An autoencoder through noise; gives the picture, the means and the log variances side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = net("64 | 64 relu 16", he)
        self.decoder = net("8 | 64 relu 64", he)

    def forward(self, x: Tensor) -> Tensor:
        mean, log_variance = self.encoder(x).chunk(2, -1)
        code = mean + torch.randn_like(mean) * (log_variance / 2).exp() if self.training else mean
        return torch.cat([self.decoder(code), mean, log_variance], -1)


def evidence(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared error and the distance of the code from a normal distribution."""
    picture, mean, log_variance = outputs[:, :64], outputs[:, 64:72], outputs[:, 72:]
    distance = (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1) / 2
    return ((picture - targets).square().sum(-1) + 0.5 * distance).mean()


def variational(seed: int) -> Training:
    """A variational autoencoder of the digits."""
    base = digits()
    task = Task(
        base.x, base.x, base.held_x, base.held_x, lambda said, x: float((said[:, :64] - x).square().mean() / x.var())
    )
    return training(task, Variational(), adam(2e-3), evidence, seed, steps=400)


class Denoiser(nn.Module):
    """Says which noise was added to a digit; the noise, and how much of it there is, come with the input."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net("65 | 128 gelu 128 gelu 64")

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def diffusion(training: Training, session: Session) -> None:
    """Noise prediction: the loss has a floor and is as noisy as its inputs."""
    for step in session.steps():
        x, _ = training.batch(step)
        noise, level = torch.randn_like(x), torch.rand(len(x), 1)
        noisy = torch.cat([(1 - level).sqrt() * x + level.sqrt() * noise, level], -1)
        training.optimizer.zero_grad()
        session.loss((training.model(noisy) - noise).square().mean()).backward()
        training.optimizer.step()


def denoise(seed: int) -> Training:
    """Diffusion on the digits."""
    return training(
        digits(), Denoiser(), adam(2e-3), F.mse_loss, seed, loop=diffusion, steps=400, validates=False, examine=unknown
    )


def bandit(training: Training, session: Session) -> None:
    """Policy gradient: the "loss" has any sign and no meaning of its own."""
    for step in session.steps():
        x, y = training.batch(step)
        chance = torch.distributions.Categorical(logits=training.model(x))
        chosen = chance.sample()
        reward = (chosen == y).float()
        training.optimizer.zero_grad()
        session.loss(-(chance.log_prob(chosen) * (reward - reward.mean())).mean()).backward()
        training.optimizer.step()


def physics(training: Training, session: Session) -> None:
    """A solution of y'' = -y whose derivatives come from a double backward."""
    for _ in session.steps():
        t = torch.linspace(0, 3, 64)[:, None].requires_grad_()
        y = training.model(t)
        first = torch.autograd.grad(y.sum(), t, create_graph=True)[0]
        second = torch.autograd.grad(first.sum(), t, create_graph=True)[0]
        start = y[0].square().sum() + (first[0] - 1).square().sum()
        training.optimizer.zero_grad()
        session.loss((second + y).square().mean() + start).backward()
        training.optimizer.step()


def oscillator(seed: int) -> Training:
    """A network that learns a differential equation."""
    t = torch.linspace(0, 3, 64)[:, None]
    task = Task(t, t.sin(), t, t.sin(), lambda said, y: float((said - y).square().mean().sqrt() / y.std()))
    return training(
        task, net("1 | 32 tanh 32 tanh 1"), adam(5e-3), F.mse_loss, seed, loop=physics, steps=500, validates=False
    )


PROGRAMS = (
    Program("H29-q-learning", "deep Q-learning", field, fast=True),
    Program("H36-gan", "a GAN with a gradient penalty", game, fast=True),
    Program("H42-variational", "a variational autoencoder", variational),
    Program("H42-diffusion", "noise prediction", denoise),
    Program(
        "H42-bandit",
        "policy gradient",
        lambda seed: training(
            digits(), mlp(2, nn.ReLU, he), adam(2e-3), F.cross_entropy, seed, loop=bandit, steps=500, validates=False
        ),
        fast=True,
    ),
    Program("H42-physics", "a differential equation, double backward", oscillator),
)
