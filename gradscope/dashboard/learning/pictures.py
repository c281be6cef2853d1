"""The pictures of the lessons and of the glossary by name: what each draws, and what it shows in words."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from gradscope.dashboard.figures.lesson_bars import Bars, draw_bars
from gradscope.dashboard.figures.lesson_boxes import Boxes, draw_boxes
from gradscope.dashboard.figures.lesson_cells import Cells, draw_cells
from gradscope.dashboard.figures.lesson_dots import Dots, draw_dots
from gradscope.dashboard.figures.lesson_lines import Curves, draw_curves
from gradscope.dashboard.figures.lesson_ruler import Ruler, draw_ruler
from gradscope.dashboard.learning import curves
from gradscope.dashboard.learning.diagrams import DIAGRAMS
from gradscope.dashboard.learning.picture import Picture, still
from gradscope.reports.theme import theme

SAMPLES, CHANNELS, POSITIONS, GROUPS = 4, 6, 3, 2


def together(kind: str) -> NDArray[np.bool_]:
    """Which numbers share statistics with the first one, shape `[samples, channels, positions]`."""
    mask = np.zeros((SAMPLES, CHANNELS, POSITIONS), bool)
    index: dict[str, tuple[slice | int, slice | int]] = {
        "batch": (slice(None), 0),
        "layer": (0, slice(None)),
        "instance": (0, 0),
        "group": (0, slice(0, CHANNELS // GROUPS)),
    }
    mask[index[kind]] = True
    return mask


def _cells(kind: str) -> Callable[[], Cells]:
    def data() -> Cells:
        mask = together(kind)
        return Cells(mask, mask.size // int(mask.sum()))

    return data


_CHAIN = Boxes(
    ("layer 1", "layer 2", "layer 3", "loss"),
    ("× f′₁", "× f′₂", "× f′₃", "∂L/∂h = 1"),
    forward="signal",
    backward="gradient",
    legend="solid, to the right: the signal; dashed, to the left: the gradient, times each layer's slope",
)

PICTURES: dict[str, Picture] = {
    "squared-error": Picture(
        curves.squared_error,
        "The gradient of the squared error grows with the error without bound; Huber's and the absolute error's "
        "stay at 1.",
    ),
    "binary-cross-entropy": Picture(
        curves.binary_cross_entropy,
        "For a wrong answer the gradient of the cross-entropy is 1; with a second sigmoid, and for a squared "
        "error, it is nearly 0.",
    ),
    "cross-entropy": Picture(
        curves.cross_entropy,
        "The cross-entropy falls to 0 as the right logit leads; with softmax taken twice it stops at 1.46.",
    ),
    "focal": Picture(
        curves.focal,
        "The larger gamma, the smaller the gradient of samples that are already likely; at 100 nothing is left "
        "above p = 0.1.",
    ),
    "triplet": Picture(
        curves.triplet,
        "Below a gap of minus the margin loss and gradient are 0; above it the loss rises and the gradient is 1.",
    ),
    "similarity": Picture(
        curves.similarity,
        "The lower the temperature, the larger the gradient of a pair that is not the most alike: 1,000 at 0.001.",
    ),
    "adam": Picture(
        curves.adam,
        "Single gradients scatter; the first moment follows their mean, the root of the second moment stays near "
        "their size.",
    ),
    "adam-step": Picture(
        curves.adam_step,
        "SGD's step is as long as the gradient; Adam's is 1 until the gradient falls below eps, then it shrinks too.",
    ),
    "norm-batch": Picture(_cells("batch"), "BatchNorm takes one channel of all samples together."),
    "norm-layer": Picture(_cells("layer"), "Over one sample's channels and positions: all of them are taken together."),
    "norm-instance": Picture(_cells("instance"), "InstanceNorm takes one channel of one sample together."),
    "norm-group": Picture(_cells("group"), "GroupNorm takes a group of channels of one sample together."),
    "dropout": Picture(
        curves.dropout,
        "One layer of dropout 0.5 leaves as much signal as noise; three layers of 0.95 leave a ten-thousandth.",
    ),
    "skip-boxes": Picture(
        still(
            Boxes(
                ("h", "layer f", "h + f(h)", "layer f", "h + f(h)"),
                forward="signal",
                backward="gradient",
                skips=((0, 2), (2, 4)),
                legend="the gradient passes a block times 1 + f′ instead of f′",
            )
        ),
        "Arcs lead around each layer and add its input to its output.",
    ),
    "skips": Picture(
        curves.skips,
        "Without skip connections the backward gain of 40 tanh layers falls by four decades; with them it stays "
        "between 1 and 15.",
    ),
    "skips-forward": Picture(
        curves.skips_forward,
        "Without skip connections the signal fades with depth; with them it grows slowly, to five times its size.",
    ),
    "derivatives": Picture(
        curves.derivatives,
        "The sigmoid's derivative is 0.25 at most and nearly 0 outside of -5 to 5; tanh's is 1 at 0 only; ReLU's "
        "is 0 or 1.",
    ),
    "chain": Picture(still(_CHAIN), "The gradient is multiplied by the slope of each layer on its way back."),
    "chains": Picture(
        curves.chains,
        "Along 20 layers sigmoids lose some 13 decades of the gradient, tanh layers one, ReLU with He "
        "initialization hardly any.",
    ),
    "learning-rates": Picture(
        curves.learning_rates,
        "With a learning rate over 2 / curvature the distance to the minimum grows each step; far below it hardly "
        "falls.",
    ),
    "accumulation": Picture(
        curves.accumulation,
        "Without zero_grad a steady gradient grows with each step, noise with the root of their number.",
    ),
    "clipping": Picture(curves.clipping, "Clipping leaves gradients below the bound alone and cuts longer ones to it."),
    "scales": Picture(
        curves.scales,
        "Weights twice He's let the gradient grow by 6 decades over 20 layers, half of them let it fade by 6; He "
        "keeps it.",
    ),
    "normalised": Picture(
        curves.normalised,
        "With LayerNorm in each layer the backward gain does not depend on the size of the weights any more.",
    ),
    **DIAGRAMS,
}


@cache
def draw(name: str, scheme: str) -> str:
    """A picture as SVG, in a colour scheme.

    Raises:
        KeyError: no such picture.
    """
    data, colours = PICTURES[name].data(), theme(scheme)
    match data:
        case Curves():
            return draw_curves(data, colours)
        case Cells():
            return draw_cells(data, colours)
        case Ruler():
            return draw_ruler(data, colours)
        case Bars():
            return draw_bars(data, colours)
        case Dots():
            return draw_dots(data, colours)
        case Boxes():
            return draw_boxes(data, colours)
