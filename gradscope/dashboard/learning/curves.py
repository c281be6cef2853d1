"""The numbers that the lessons' curves draw, computed; tests/dashboard/test_learn.py compares them with torch."""

from __future__ import annotations

import math

import numpy as np

from gradscope.dashboard.figures.lesson_lines import Curves, Line
from gradscope.dashboard.learning.networks import Array, flow, network, sigmoid

CLASSES = 10
NEGATIVES = 127  # of a batch of 128, as in the demo
MARGIN = 0.5  # there too


def _range(low: float, high: float, points: int = 121) -> Array:
    return np.linspace(low, high, points)


def squared_error() -> Curves:
    """The gradient of a squared, an absolute and a Huber error for the output."""
    e = _range(-4, 4)
    lines = (
        Line("squared\nerror", e, 2 * e),
        Line("Huber, δ = 1", e, np.clip(e, -1, 1)),
        Line("absolute\nerror", e, np.sign(e)),
    )
    return Curves(lines, "output − target", "∂L/∂output", (-4, -2, 0, 2, 4), (-8, -4, 0, 4, 8))


def binary_cross_entropy() -> Curves:
    """The gradient for the logit z where the target is 1: its size."""
    z = _range(-8, 4)
    s = sigmoid(z)
    lines = (
        Line("cross-entropy\non the logit", z, 1 - s),
        Line("sigmoid taken\ntwice", z, (1 - sigmoid(s)) * s * (1 - s)),
        Line("squared error\non σ(z)", z, 2 * (1 - s) * s * (1 - s)),
    )
    return Curves(lines, "logit z of a sample whose target is 1", "|∂L/∂z|", (-8, -4, 0, 4), (0, 0.5, 1))


def cross_entropy() -> Curves:
    """The loss of 10 classes when the right one's logit leads the others, which are 0; and with softmax taken twice."""
    z = _range(-4, 12)
    p = np.exp(z) / (np.exp(z) + CLASSES - 1)
    wrong = (1 - p) / (CLASSES - 1)
    twice = np.log(np.exp(p) + (CLASSES - 1) * np.exp(wrong)) - p
    lines = (
        Line("softmax taken\ntwice", z, twice),
        Line("cross-entropy", z, -np.log(p)),
    )
    return Curves(
        lines, "lead of the right class's logit", "loss (10 classes)", (-4, 0, 4, 8, 12), (0, 1, 2, 3, 4, 5, 6)
    )


def focal() -> Curves:
    """The gradient for the logit over the probability p that the right class of two has, for some gammas: its size."""
    p = _range(0.005, 0.995)

    def slope(gamma: float) -> Array:
        inner = (1 - p) ** gamma - gamma * p * (1 - p) ** max(gamma - 1, 0) * np.log(p)
        return np.abs((1 - p) * inner)

    lines = tuple(
        Line(name, p, slope(gamma))
        for name, gamma in (
            ("γ = 0: cross-\nentropy", 0),
            ("γ = 2", 2),
            ("γ = 5", 5),
            ("γ = 100, as\nin the demo", 100),
        )
    )
    return Curves(lines, "probability p of the right class", "|∂L/∂z|", (0, 0.25, 0.5, 0.75, 1), (0, 0.5, 1, 1.5))


def triplet() -> Curves:
    """The loss over how much farther the positive is than the negative, and its gradient for that distance."""
    gap = _range(-1.5, 1.5, 301)
    lines = (
        Line("loss", gap, np.maximum(gap + MARGIN, 0)),
        Line("gradient", gap, (gap + MARGIN > 0).astype(float)),
    )
    return Curves(
        lines, "d(anchor, positive) − d(anchor, negative)", "", (-1.5, -0.5, 0, 0.5, 1.5), (0, 0.5, 1, 1.5, 2)
    )


def similarity() -> Curves:
    """The gradient for the similarity of the pair that belongs together, at some temperatures: its size."""
    s = _range(-1, 1)

    def slope(temperature: float) -> Array:
        return sigmoid(math.log(NEGATIVES) - s / temperature) / temperature  # the softmax of all others

    lines = tuple(Line(f"τ = {t:g}", s, slope(t)) for t in (0.001, 0.01, 0.1, 1.0))
    title = "similarity of the right pair; all 127 others are at 0"
    return Curves(lines, title, "|∂L/∂similarity|", (-1, -0.5, 0, 0.5, 1), (-4, -2, 0, 2, 4), log=True)


BETA_1, BETA_2, EPS = 0.9, 0.999, 1e-8


def noisy_gradient() -> Array:
    """A gradient of 0.5 in noise of 1 for 100 steps, then without any; 200 steps."""
    draw = np.random.default_rng(3)
    return np.where(np.arange(200) < 100, 0.5, 0.0) + draw.normal(0, 1, 200)


def moments(gradient: Array) -> tuple[Array, Array]:
    """Adam's two moments at each step, their bias corrected."""
    first = second = 0.0
    corrected = []
    for step, g in enumerate(gradient.tolist(), 1):
        first = BETA_1 * first + (1 - BETA_1) * g
        second = BETA_2 * second + (1 - BETA_2) * g * g
        corrected.append((first / (1 - BETA_1**step), second / (1 - BETA_2**step)))
    found = np.array(corrected)
    return found[:, 0], found[:, 1]


def adam() -> Curves:
    """Adam's moments of a noisy gradient."""
    g = noisy_gradient()
    steps = np.arange(1.0, len(g) + 1)
    m, v = moments(g)
    lines = (
        Line("gradient g", steps, g, marks=True),
        Line("√v: its size", steps, np.sqrt(v)),
        Line("m: its mean", steps, m),
    )
    return Curves(lines, "step", "", (0, 50, 100, 150, 200), (-2, -1, 0, 1, 2))


def adam_step() -> Curves:
    """The length of Adam's step over the learning rate for a constant gradient, beside that of SGD."""
    g = 10 ** _range(-14, 2)
    lines = (
        Line("SGD", g, g),
        Line("Adam,\neps 1e-8", g, g / (g + EPS)),
        Line("Adam,\neps 1e-16", g, g / (g + 1e-16)),
    )
    return Curves(
        lines, "size of the gradient", "step / learning rate", (-14, -10, -6, -2, 2), (-14, -10, -6, -2, 2),
        log=True, log_x=True,
    )  # fmt: skip


def dropout() -> Curves:
    """The signal-to-noise ratio that dropout leaves, (1 - p) / p each layer, for one layer and for three."""
    p = _range(0.02, 0.98)
    one = (1 - p) / p
    lines = (Line("one layer", p, one), Line("three layers", p, one**3))
    return Curves(lines, "dropout rate p", "signal to noise", (0, 0.25, 0.5, 0.75, 1), (-5, -3, -1, 1, 3), log=True)


def derivatives() -> Curves:
    """What an activation passes on of the gradient."""
    z = _range(-6, 6)
    lines = (
        Line("ReLU", z, (z > 0).astype(float)),
        Line("tanh", z, 1 - np.tanh(z) ** 2),
        Line("sigmoid", z, sigmoid(z) * (1 - sigmoid(z))),
    )
    return Curves(lines, "input z of the activation", "derivative", (-6, -3, 0, 3, 6), (0, 0.25, 0.5, 0.75, 1))


DEPTH = 20
CHAINS = {
    "ReLU, He": ("relu", math.sqrt(2), False, False),
    "tanh,\nXavier": ("tanh", 1.0, False, False),
    "sigmoid,\nXavier": ("sigmoid", 1.0, False, False),
}
SKIPS = {
    "with skips": ("tanh", 0.8, True, False),
    "without": ("tanh", 0.8, False, False),
}
SCALES = {
    "2 × He": ("relu", 2 * math.sqrt(2), False, False),
    "He: √(2/n)": ("relu", math.sqrt(2), False, False),
    "½ × He": ("relu", 0.5 * math.sqrt(2), False, False),
}
NORMALISED = {
    "2 × He": ("relu", 2 * math.sqrt(2), False, False),
    "2 × He, with\nLayerNorm": ("relu", 2 * math.sqrt(2), False, True),
    "½ × He, with\nLayerNorm": ("relu", 0.5 * math.sqrt(2), False, True),
    "½ × He": ("relu", 0.5 * math.sqrt(2), False, False),
}


def _backward(kinds: dict[str, tuple[str, float, bool, bool]], decades: tuple[float, ...], depth: int) -> Curves:
    layers = np.arange(depth + 1.0)
    lines = tuple(
        Line(name, layers, flow(network(activation, depth, gain, skip, normalised))[1])
        for name, (activation, gain, skip, normalised) in kinds.items()
    )
    ticks = tuple(np.linspace(0, depth, 5))
    title = "layer (0: the input; the gradient comes from the right)"
    return Curves(lines, title, "backward gain", ticks, decades, log=True, band=(-1, math.log10(20), "healthy"))


def chains() -> Curves:
    """The backward gain along 20 layers of different activations."""
    return _backward(CHAINS, (-15, -12, -9, -6, -3, 0, 3), DEPTH)


def scales() -> Curves:
    """The backward gain along 20 ReLU layers whose weights are too large, right and too small."""
    return _backward(SCALES, (-6, -3, 0, 3, 6), DEPTH)


def normalised() -> Curves:
    """The same with and without a normalisation in each layer."""
    return _backward(NORMALISED, (-6, -3, 0, 3, 6), DEPTH)


def skips() -> Curves:
    """The backward gain along 40 tanh layers, with and without skip connections."""
    return _backward(SKIPS, (-6, -4, -2, 0, 2), 2 * DEPTH)


def skips_forward() -> Curves:
    """The size of the signal along the same layers."""
    layers = np.arange(2 * DEPTH + 1.0)
    lines = tuple(
        Line(name, layers, flow(network(activation, 2 * DEPTH, gain, skip))[0])
        for name, (activation, gain, skip, _) in SKIPS.items()
    )
    ticks = tuple(np.linspace(0, 2 * DEPTH, 5))
    return Curves(
        lines,
        "layer (the signal comes from the left)",
        "size of the signal / the input's",
        ticks,
        (-5, -3, -1, 1),
        log=True,
    )


def learning_rates() -> Curves:
    """The distance to the minimum of ½λw² under gradient descent: times |1 - ηλ| each step."""
    steps = np.arange(31.0)
    lines = tuple(
        Line(name, steps, np.maximum(abs(1 - rate) ** steps, 1e-9))
        for name, rate in (
            ("ηλ = 2.5: it\nexplodes", 2.5),
            ("ηλ = 1.9: it\nrattles", 1.9),
            ("ηλ = 0.5", 0.5),
            ("ηλ = 0.02: it\ncrawls", 0.02),
        )
    )
    return Curves(lines, "step", "distance to the minimum", (0, 10, 20, 30), (-6, -4, -2, 0, 2, 4, 6), log=True)


def accumulation() -> Curves:
    """The gradient that the optimizer sees when nobody zeroes it: a steady one grows like t, noise like √t."""
    steps = np.arange(1.0, 101)
    draw = np.random.default_rng(0)
    noise = np.linalg.norm(np.cumsum(draw.normal(0, 1, (100, 400)), axis=0), axis=1) / 20
    lines = (
        Line("steady, not\nzeroed", steps, steps),
        Line("noise, not\nzeroed", steps, noise),
        Line("zeroed", steps, np.ones(100)),
    )
    return Curves(
        lines, "steps without zero_grad()", "gradient norm / one step's", (1, 25, 50, 75, 100), (0, 25, 50, 75, 100)
    )


def clipping() -> Curves:
    """The gradient norm after clipping to 1, over that before."""
    norm = 10 ** _range(-2, 3)
    lines = (Line("not clipped", norm, norm), Line("clipped\nto 1", norm, np.minimum(norm, 1)))
    return Curves(
        lines, "gradient norm before", "after", (-2, -1, 0, 1, 2, 3), (-2, -1, 0, 1, 2, 3), log=True, log_x=True
    )
