"""Ways of writing a loss, and trainings whose loss does or does not fit, that the tests share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from torch import Tensor, nn
from torch.nn import functional

import gradscope
from gradscope.records import Run
from tests.trainings import digits

Loss = Callable[[Tensor, Tensor], Tensor]


def standardised(values: Tensor) -> Tensor:
    """Each column with mean 0 and deviation 1."""
    return (values - values.mean(0)) / values.std(0)


def layers(*widths: int, last: nn.Module | None = None, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers of these widths with an activation between them, and `last` at the end."""
    modules: list[nn.Module] = []
    for number, (before, after) in enumerate(pairwise(widths)):
        modules += [nn.Linear(before, after)] + ([activation()] if number < len(widths) - 2 else [])
    return nn.Sequential(*modules, *([] if last is None else [last]))


class Views(nn.Module):
    """Embeds two noisy views of each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = layers(64, 64, 32)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(torch.cat([x + 0.3 * torch.randn_like(x), x + 0.3 * torch.randn_like(x)]))


def times(model: nn.Sequential, layer: int, factor: float) -> nn.Sequential:
    """The model with one layer's weights and biases multiplied."""
    with torch.no_grad():
        for parameter in model[layer].parameters():
            parameter.mul_(factor)
    return model


def _data() -> dict[str, tuple[Tensor, Tensor]]:
    images, labels = digits()
    pixels = (images - images.min()) / (images.max() - images.min())
    tables = {
        name: tuple(torch.tensor(part, dtype=torch.float32) for part in load(return_X_y=True))
        for name, load in (("iris", load_iris), ("wine", load_wine), ("cancer", load_breast_cancer))
    }
    raw, progression = load_diabetes(return_X_y=True, scaled=False)
    features, target = torch.tensor(raw, dtype=torch.float32), torch.tensor(progression, dtype=torch.float32)[:, None]
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    return {
        "digits": (images, labels),
        "pixels": (pixels, labels),
        "pixels to 255": (pixels * 255, labels),
        "pixels divided twice": (pixels / 255, labels),
        "digits with other labels": (images, labels[order]),
        "iris": (standardised(tables["iris"][0]), tables["iris"][1].long()),
        "wine": (tables["wine"][0], tables["wine"][1].long()),
        "wine standardised": (standardised(tables["wine"][0]), tables["wine"][1].long()),
        "cancer": (standardised(tables["cancer"][0]), tables["cancer"][1]),
        "cancer raw": tables["cancer"],  # type: ignore[dict-item]
        "diabetes": (standardised(features), standardised(target)),
        "diabetes, positive": (standardised(features), target / 100),
        "diabetes, raw targets": (standardised(features), target),
    }


DATA = _data()


@dataclass(frozen=True)
class Training:
    """A model, its loss and its data."""

    data: str
    model: Callable[[], nn.Module]
    loss: Loss
    rate: float = 1e-3
    adam: bool = True
    batch: int = 64
    maximize: bool = False

    def record(self, folder: Path, steps: int, seed: int = 0) -> Run:
        """Runs it under GradScope and reads the run."""
        torch.manual_seed(seed)
        model = self.model()
        kind = torch.optim.Adam if self.adam else torch.optim.SGD
        optimizer = kind(model.parameters(), lr=self.rate, maximize=self.maximize)
        inputs, targets = DATA[self.data]
        order = torch.Generator().manual_seed(seed)
        with gradscope.watch(model, optimizer, run_dir=folder) as scope:
            for _ in range(steps):
                batch = torch.randint(0, len(inputs), (self.batch,), generator=order)
                loss = scope.loss(self.loss(model(inputs[batch]), targets[batch]))
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
        assert scope._recorder is not None
        assert scope._recorder.failure is None, scope._recorder.failure
        return gradscope.read_run(folder)


def one_hot(labels: Tensor) -> Tensor:
    """Ten columns, one of them 1."""
    return functional.one_hot(labels, 10).float()


def binary(output: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of probabilities; what is none is cut off."""
    return functional.binary_cross_entropy(output[:, 0].clamp(0, 1), target)


def binary_logits(output: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of logits."""
    return functional.binary_cross_entropy_with_logits(output[:, 0], target)


def focal(gamma: float) -> Loss:
    """A focal loss."""

    def loss(output: Tensor, target: Tensor) -> Tensor:
        entropy = functional.cross_entropy(output, target, reduction="none")
        return ((1 - torch.exp(-entropy)) ** gamma * entropy).mean()

    return loss


def contrastive(temperature: float) -> Loss:
    """InfoNCE between the two halves of a batch."""

    def loss(output: Tensor, _: Tensor) -> Tensor:
        unit = functional.normalize(output, dim=1)
        half = len(unit) // 2
        return functional.cross_entropy(unit[:half] @ unit[half:].T / temperature, torch.arange(half))

    return loss


def triplet(output: Tensor, target: Tensor) -> Tensor:
    """Neighbours of one class against samples of others."""
    order = torch.argsort(target)
    output, target = output[order], target[order]
    same = target[:-1] == target[1:]
    anchors, positives = output[:-1][same], output[1:][same]
    return functional.triplet_margin_loss(anchors, positives, output.flip(0)[: len(anchors)])


def regression(last: nn.Module | None = None) -> nn.Sequential:
    """Ten features, one output."""
    return layers(10, 64, 64, 1, last=last)


def classifier(last: nn.Module | None = None) -> nn.Sequential:
    """64 features, ten outputs."""
    return layers(64, 64, 64, 10, last=last)


CE, MSE = functional.cross_entropy, functional.mse_loss

# what is wrong with each, as the rule's first cause and the first layer
MISMATCHES: dict[str, tuple[Training, str, str]] = {
    "softmax before the softmax": (Training("digits", lambda: classifier(nn.Softmax(1)), CE), "output-activation", "4"),
    "the same, SGD": (Training("digits", lambda: classifier(nn.Softmax(-1)), CE, 0.1, False), "output-activation", "4"),
    "the same, three classes": (
        Training("iris", lambda: layers(4, 16, 3, last=nn.Softmax(1)), CE, 0.01, batch=16),
        "output-activation",
        "2",
    ),
    "softmax over one unit": (
        Training("cancer", lambda: layers(30, 32, 1, last=nn.Softmax(1)), binary),
        "output-activation",
        "2",
    ),
    "softmax over one unit, squared error": (
        Training("diabetes", lambda: regression(nn.Softmax(1)), MSE),
        "output-activation",
        "4",
    ),
    "cross-entropy of one output": (Training("diabetes", regression, CE), "output-activation", "4"),
    "softmax over the batch": (
        Training("digits", lambda: classifier(nn.LogSoftmax(0)), functional.nll_loss),
        "output-activation",
        "4",
    ),
    "sigmoid before the softmax": (Training("digits", lambda: classifier(nn.Sigmoid()), CE), "output-activation", "4"),
    "tanh before the softmax": (Training("digits", lambda: classifier(nn.Tanh()), CE), "output-activation", "4"),
    "ReLU before a binary cross-entropy": (
        Training("cancer", lambda: layers(30, 32, 1, last=nn.ReLU()), binary),
        "output-activation",
        "2",
    ),
    "nothing before a binary cross-entropy": (
        Training("cancer", lambda: layers(30, 32, 1), binary),
        "output-activation",
        "2",
    ),
    "sigmoid twice": (
        Training("cancer", lambda: layers(30, 32, 1, last=nn.Sigmoid()), binary_logits),
        "output-activation",
        "2",
    ),
    "targets below 0 under a sigmoid": (
        Training("diabetes", lambda: regression(nn.Sigmoid()), MSE),
        "output-activation",
        "4",
    ),
    "targets below 0 under a ReLU": (
        Training("diabetes", lambda: regression(nn.ReLU()), MSE),
        "output-activation",
        "4",
    ),
    "raw targets under tanh": (
        Training("diabetes, raw targets", lambda: regression(nn.Tanh()), MSE),
        "output-activation",
        "4",
    ),
    "a sigmoid saturated at wrong answers": (
        Training(
            "digits", lambda: times(classifier(nn.Sigmoid()), 4, 300), lambda o, y: MSE(o, one_hot(y)), 0.1, False
        ),
        "loss-mismatch",
        "4",
    ),
    "(N, 1) beside (N,)": (Training("diabetes", regression, lambda o, y: MSE(o, y[:, 0])), "loss-mismatch", "4"),
    "the same by hand": (
        Training("diabetes", regression, lambda o, y: ((o - y[:, 0]) ** 2).mean()),
        "loss-mismatch",
        "4",
    ),
    "NLLLoss of raw outputs": (Training("digits", classifier, functional.nll_loss), "loss-mismatch", "4"),
    "NLLLoss of probabilities": (
        Training("digits", lambda: classifier(nn.Softmax(1)), functional.nll_loss),
        "loss-mismatch",
        "4",
    ),
    "KLDivLoss of probabilities": (
        Training(
            "digits",
            lambda: classifier(nn.Softmax(1)),
            lambda o, y: functional.kl_div(o, one_hot(y) * 0.9 + 0.01, reduction="batchmean"),
        ),
        "loss-mismatch",
        "4",
    ),
    "logarithm of clipped outputs": (
        Training("digits", classifier, lambda o, y: -(one_hot(y) * torch.log(o.clamp(1e-10, 1))).sum(1).mean()),
        "output-activation",
        "4",
    ),
    "cross-entropy of numbers": (
        Training("diabetes", regression, lambda o, y: -(y * torch.log(o.clamp(1e-10, 1))).mean()),
        "loss-mismatch",
        "4",
    ),
    "labels of 1 and 2": (
        Training("cancer", lambda: layers(30, 32, 1), lambda o, y: binary_logits(o, y + 1)),
        "loss-mismatch",
        "2",
    ),
    "a minus too many": (Training("diabetes", regression, lambda o, y: -MSE(o, y), 0.01, False), "loss-mismatch", "4"),
    "a minus too few": (
        Training(
            "digits", classifier, lambda o, y: functional.log_softmax(o, 1).gather(1, y[:, None]).mean(), 0.01, False
        ),
        "loss-mismatch",
        "4",
    ),
    "uphill": (Training("digits", classifier, CE, 0.01, False, maximize=True), "loss-mismatch", "4"),
    "a sum at a mean's learning rate": (
        Training("digits", classifier, lambda o, y: CE(o, y, reduction="sum"), 0.1, False, 128),
        "loss-reduction",
        "4",
    ),
    "focal loss with gamma 100": (Training("digits", classifier, focal(100.0), 0.1, False), "loss-mismatch", "4"),
    "embeddings of 1e-8": (
        Training("digits", lambda: times(layers(64, 64, 32), 2, 1e-8), contrastive(0.1), 0.1, False),
        "init-too-small",
        "2",
    ),
}

UNSCALED: dict[str, tuple[Training, str, str]] = {
    "pixels to 255, SGD": (Training("pixels to 255", classifier, CE, 0.1, False), "unscaled-input", "0"),
    "pixels divided twice": (Training("pixels divided twice", classifier, CE, 0.1, False), "unscaled-input", "0"),
    "wine": (Training("wine", lambda: layers(13, 32, 3), CE, 0.01, False, 32), "unscaled-input", "0"),
    "cancer": (Training("cancer raw", lambda: layers(30, 32, 1), binary_logits, 0.01, False), "unscaled-input", "0"),
    "raw targets": (Training("diabetes, raw targets", regression, MSE, 0.01, False), "unscaled-target", "4"),
    "raw targets, a step too small to reach them": (
        Training("diabetes, raw targets", regression, MSE, 1e-5),
        "unscaled-target",
        "4",
    ),
}

STALLED: dict[str, tuple[Training, str, str]] = {
    "other samples' labels": (
        Training("digits with other labels", classifier, CE, 1e-4),
        "loss-mismatch",
        "4",
    ),
    "a learning rate of 1e-6": (Training("digits", classifier, CE, 1e-6, False), "learning-rate-too-low", "4"),
    "a dead layer": (
        Training("digits", lambda: _with_bias(classifier(), -50.0), CE, 0.1, False),
        "dead-path",
        "1",
    ),
    "20 sigmoids": (
        Training("digits", lambda: layers(64, *[64] * 20, 10, activation=nn.Sigmoid), CE, 0.1, False),
        "activation-contracts",
        "40",
    ),
}


def _with_bias(model: nn.Sequential, value: float) -> nn.Sequential:
    nn.init.constant_(model[0].bias, value)  # type: ignore[arg-type]
    return model


HEALTHY: dict[str, Training] = {
    "logits": Training("digits", classifier, CE),
    "logits, SGD": Training("digits", classifier, CE, 0.1, False),
    "logits, slow SGD": Training("digits", classifier, CE, 0.01, False),
    "log-softmax and NLLLoss": Training("digits", lambda: classifier(nn.LogSoftmax(1)), functional.nll_loss),
    "softmax and a logarithm": Training(
        "digits", lambda: classifier(nn.Softmax(1)), lambda o, y: -torch.log(o.gather(1, y[:, None]) + 1e-8).mean()
    ),
    "squared error of probabilities": Training(
        "digits", lambda: classifier(nn.Softmax(1)), lambda o, y: MSE(o, one_hot(y))
    ),
    "squared error of sigmoids": Training("digits", lambda: classifier(nn.Sigmoid()), lambda o, y: MSE(o, one_hot(y))),
    "binary cross-entropy": Training("cancer", lambda: layers(30, 32, 1, last=nn.Sigmoid()), binary),
    "binary cross-entropy with logits": Training("cancer", lambda: layers(30, 32, 1), binary_logits),
    "squared error": Training("diabetes", regression, MSE),
    "squared error by hand": Training("diabetes", regression, lambda o, y: ((o - y) ** 2).mean(), 0.05, False),
    "absolute error": Training("diabetes", regression, functional.l1_loss),
    "Huber": Training("diabetes", regression, functional.huber_loss),
    "a ReLU under positive targets": Training("diabetes, positive", lambda: regression(nn.ReLU()), MSE),
    "raw targets, Adam": Training("diabetes, raw targets", regression, MSE, 1e-2),
    "a sum at a small learning rate": Training(
        "digits", classifier, lambda o, y: CE(o, y, reduction="sum"), 1e-3, False
    ),
    "focal loss with gamma 2": Training("digits", classifier, focal(2.0)),
    "triplets": Training("digits", lambda: layers(64, 64, 32), triplet),
    "contrastive, temperature 0.1": Training("digits", Views, contrastive(0.1)),
    "label smoothing": Training("digits", classifier, lambda o, y: CE(o, y, label_smoothing=0.1)),
    "an entropy bonus": Training(
        "digits", classifier, lambda o, y: CE(o, y) + 0.01 * (o.softmax(1) * o.log_softmax(1)).sum(1).mean()
    ),
    "pixels": Training("pixels", classifier, CE, 0.1, False),
    "pixels to 255, Adam": Training("pixels to 255", classifier, CE),
    "pixels to 255, normalised behind the first layer": Training(
        "pixels to 255",
        lambda: nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10)),
        CE,
    ),
    "wine standardised": Training("wine standardised", lambda: layers(13, 32, 3), CE, batch=32),
    "a full batch": Training("iris", lambda: layers(4, 16, 3), CE, 0.1, False, 150),
    "batches of 4": Training("digits", classifier, CE, 0.01, False, 4),
    "hinge": Training(
        "cancer", lambda: layers(30, 32, 1), lambda o, y: torch.clamp(1 - o[:, 0] * (2 * y - 1), min=0).mean()
    ),
}
