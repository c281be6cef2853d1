"""The ground truths that GradScope's numbers are held against: each row has a test of its name in one of these files."""

from __future__ import annotations

import re
from pathlib import Path

ROWS = {  # what a row of theory says; its tests are named test_t<row>_…
    1: "a ReLU layer multiplies squared norms by σw²/2",
    2: "torch's default initialization passes on 1/√6 of the gradient with ReLU, 1/√3 without contraction",
    3: "uniform weights of a fixed range pass on √(n·.01/24)",
    4: "half of all ReLUs are active at the start",
    5: "deep tanh: q*, χ1, ξ of mean field",
    6: "critical σw² of tanh with σb² = .05: 1.761",
    7: "critical tanh: q_l ≈ 1/(2l), squared gradient as 1/depth",
    8: "deep sigmoid passes on 0.318 (He), 0.236 (Glorot)",
    9: "an activation's derivative at z",
    10: "BatchNorm stacks grow the gradient by √(E[φ'²]/Var φ)",
    11: "residual blocks without normalisation double the variance",
    12: "residual blocks with BatchNorm in the branch: E x_l² = l + 1",
    13: "pre-norm and post-norm transformers at the start",
    14: "dead paths: 1 - (1 - 2^-N)^L",
    15: "cross-entropy at zero logits: ln K and its gradient",
    16: "two softmaxes: floor ln(e + K - 1) - 1",
    17: "a softmax over one unit: all gradients exactly 0",
    18: "gradients at logits add up to 0",
    19: "residual and input scale: gradient, loss, curvature",
    20: "largest stable learning rate: 2/λ, 2(1 + μ)/λ, 38/η of Adam",
    21: "Adam's update over its learning rate",
    22: "gradients that are never zeroed add up",
    23: "clipping the norm keeps the direction",
    24: "an LSTM keeps the product of its forget gates",
    25: "an RNN multiplies by its recurrent weights at most",
    26: "<W_l, ∂L/∂W_l> is the same in every layer of a homogeneous network",
    27: "micro-batches average to the batch; a summed loss multiplies by it",
    28: "scale-invariant weights: <w, ∂L/∂w> = 0, ‖∇‖ as 1/‖w‖, turns of √(2ηλ)",
    29: "a bias before BatchNorm and a key bias get nothing",
    30: "attention: entropy ln n, logit variance 1, rank lost as 3^L",
    31: "rms(g/√v) is about 1 while Adam's gradients are stationary",
    32: "SELU's fixed point: mean 0, E y² = 1, E φ'² = 1.0716",
    33: "constant weights: all units of a layer stay one unit",
}


def rows_tested() -> dict[int, list[str]]:
    """The names of the tests of each row, from the files of this folder."""
    found: dict[int, list[str]] = {row: [] for row in ROWS}
    for file in Path(__file__).parent.glob("test_*.py"):
        for row, rest in re.findall(r"^def test_t(\d+)_(\w+)", file.read_text(encoding="utf-8"), re.MULTILINE):
            found.setdefault(int(row), []).append(rest)
    return found


def test_every_row_has_its_test() -> None:
    """Each of the 33 rows has at least one test, and no test is of a row that is not there."""
    found = rows_tested()
    assert [f"T{row}: {ROWS[row]}" for row in ROWS if not found[row]] == []
    assert list(found) == list(range(1, 34))
