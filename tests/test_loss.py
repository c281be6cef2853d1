"""The output side: what lies between the head and the loss, the loss of the best constant guess, and their sicknesses."""

from __future__ import annotations

import gc
import math
import warnings
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gradscope
from gradscope.records import Finding, LossPath, Run
from gradscope.rules.loss_stalled import LossStalled
from gradscope.rules.output_loss_mismatch import OutputLossMismatch
from gradscope.rules.rule import Rule
from gradscope.rules.unscaled_data import UnscaledData
from gradscope.signals import Signals
from gradscope.signals.loss import (
    bounded_logits_floor,
    double_softmax_floor,
    uniform_gradient,
    uniform_loss,
)
from gradscope.signals.progress import progress
from tests.losses import HEALTHY, MISMATCHES, STALLED, UNSCALED, Training

X = torch.randn(120, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(120) % 4
R = torch.randn(120, 4, generator=torch.Generator().manual_seed(1))
B = (torch.rand(120, 4, generator=torch.Generator().manual_seed(2)) > 0.4).float()
Q = torch.softmax(torch.randn(120, 4, generator=torch.Generator().manual_seed(3)), 1)
WEIGHTS = torch.tensor([1.0, 2.0, 3.0, 4.0])
ROWS = torch.arange(120)


def entropy(shares: Tensor) -> float:
    """Of a distribution."""
    return float(-(shares * shares.log()).sum())


def binary_entropy(labels: Tensor) -> float:
    """Of each column's share of ones, on average."""
    share = labels.mean(0)
    return float(-(share * share.log() + (1 - share) * (1 - share).log()).mean())


VARIANCE = float(R.var(0, unbiased=False).mean())
DEVIATION = float((R - R.median(0).values).abs().mean())
UNKNOWN = math.nan


def by_hand(probability: Tensor) -> Tensor:
    """A binary cross-entropy in logarithms."""
    label = B[:, 0]
    return -(label * torch.log(probability) + (1 - label) * torch.log(1 - probability)).mean()


def focal(output: Tensor) -> Tensor:
    """A focal loss in logarithms."""
    log = output.log_softmax(1)
    return -((1 - log.exp()) ** 2 * log).gather(1, Y[:, None]).mean()


# how it is written, kind, reduction, loss of the best constant guess
WAYS: dict[str, tuple[Callable[[Tensor], Tensor], str, str, float]] = {
    "cross_entropy": (lambda o: F.cross_entropy(o, Y), "cross-entropy", "mean", math.log(4)),
    "CrossEntropyLoss": (lambda o: nn.CrossEntropyLoss()(o, Y), "cross-entropy", "mean", math.log(4)),
    "sum": (lambda o: F.cross_entropy(o, Y, reduction="sum"), "cross-entropy", "sum", 120 * math.log(4)),
    "sum over N": (lambda o: F.cross_entropy(o, Y, reduction="sum") / 120, "cross-entropy", "mean", math.log(4)),
    "none, then mean": (lambda o: F.cross_entropy(o, Y, reduction="none").mean(), "cross-entropy", "mean", math.log(4)),
    "a quarter": (lambda o: F.cross_entropy(o, Y) / 4, "cross-entropy", "mean", math.log(4) / 4),
    "weighted classes": (lambda o: F.cross_entropy(o, Y, WEIGHTS), "cross-entropy", "mean", entropy(WEIGHTS / 10)),
    "label smoothing": (lambda o: F.cross_entropy(o, Y, label_smoothing=0.1), "cross-entropy", "mean", UNKNOWN),
    "class probabilities": (lambda o: F.cross_entropy(o, Q), "cross-entropy", "mean", entropy(Q.mean(0))),
    "nll_loss": (lambda o: F.nll_loss(F.log_softmax(o, 1), Y), "cross-entropy", "mean", math.log(4)),
    "nll_loss of raw outputs": (lambda o: F.nll_loss(o, Y), "nll", "mean", UNKNOWN),
    "indexed by hand": (
        lambda o: -torch.log(F.softmax(o, 1)[ROWS, Y]).mean(),
        "cross-entropy",
        "mean",
        math.log(4),
    ),
    "gathered by hand": (
        lambda o: -o.log_softmax(1).gather(1, Y[:, None]).mean(),
        "cross-entropy",
        "mean",
        math.log(4),
    ),
    "one-hot by hand": (
        lambda o: -(F.one_hot(Y, 4) * torch.log(o.softmax(1) + 1e-9)).sum(1).mean(),
        "cross-entropy",
        "mean",
        math.log(4),
    ),
    "one-hot in floats": (
        lambda o: -(F.one_hot(Y, 4).float() * torch.log(o.softmax(1) + 1e-9)).sum(1).mean(),
        "cross-entropy",
        "mean",
        math.log(4),
    ),
    "minus inside": (
        lambda o: (-F.one_hot(Y, 4).float() * o.log_softmax(1)).sum(1).mean(),
        "cross-entropy",
        "mean",
        math.log(4),
    ),
    "log-sum-exp": (
        lambda o: (torch.logsumexp(o, 1) - o.gather(1, Y[:, None])[:, 0]).mean(),
        "cross-entropy",
        "mean",
        math.log(4),
    ),
    "focal": (focal, "focal", "mean", UNKNOWN),
    "binary_cross_entropy": (
        lambda o: F.binary_cross_entropy(torch.sigmoid(o), B),
        "binary-cross-entropy",
        "mean",
        binary_entropy(B),
    ),
    "with logits": (
        lambda o: F.binary_cross_entropy_with_logits(o, B),
        "binary-cross-entropy-with-logits",
        "mean",
        binary_entropy(B),
    ),
    "binary by hand": (
        lambda o: by_hand(torch.sigmoid(o[:, 0])),
        "binary-cross-entropy",
        "mean",
        binary_entropy(B[:, 0]),
    ),
    "mse_loss": (lambda o: F.mse_loss(o, R), "squared-error", "mean", VARIANCE),
    "squares by hand": (lambda o: ((o - R) ** 2).mean(), "squared-error", "mean", VARIANCE),
    "squares the other way round": (lambda o: ((R - o) ** 2).mean(), "squared-error", "mean", VARIANCE),
    "products by hand": (lambda o: ((o - R) * (o - R)).mean(), "squared-error", "mean", VARIANCE),
    "half a sum of squares": (lambda o: 0.5 * ((o - R) ** 2).sum(), "squared-error", "sum", 240 * VARIANCE),
    "summed over outputs": (lambda o: ((o - R) ** 2).sum(1).mean(), "squared-error", "mean", 4 * VARIANCE),
    "squares of sigmoids": (
        lambda o: ((torch.sigmoid(o) - B) ** 2).mean(),
        "squared-error",
        "mean",
        float(B.var(0, unbiased=False).mean()),
    ),
    "root of it": (lambda o: torch.sqrt(F.mse_loss(o, R)), "root-squared-error", "mean", math.sqrt(VARIANCE)),
    "a minus": (lambda o: -F.mse_loss(o, R), "squared-error", "mean", -VARIANCE),
    "l1_loss": (lambda o: F.l1_loss(o, R), "absolute-error", "mean", DEVIATION),
    "absolute values by hand": (lambda o: (o - R).abs().mean(), "absolute-error", "mean", DEVIATION),
    "smooth_l1_loss": (lambda o: F.smooth_l1_loss(o, R), "huber", "mean", UNKNOWN),
    "kl_div": (
        lambda o: F.kl_div(o.log_softmax(1), Q, reduction="batchmean"),
        "kl-divergence",
        "mean",
        UNKNOWN,
    ),
    "triplets": (lambda o: F.triplet_margin_loss(o[:40], o[40:80], o[80:]), "triplet", "mean", UNKNOWN),
    "hinge": (lambda o: torch.clamp(1 - o * (2 * B - 1), min=0).mean(), "margin", "mean", UNKNOWN),
    "CosineEmbeddingLoss": (
        lambda o: nn.CosineEmbeddingLoss()(o[:60], o[60:], torch.ones(60)),
        "cosine-embedding",
        "mean",
        UNKNOWN,
    ),
    "a policy's": (lambda o: -(o.log_softmax(1).gather(1, Y[:, None])[:, 0] * R[:, 0]).mean(), "", "mean", UNKNOWN),
    "an entropy": (lambda o: -(o.softmax(1) * o.log_softmax(1)).sum(1).mean(), "", "mean", UNKNOWN),
    "two terms": (lambda o: F.cross_entropy(o, Y) + F.mse_loss(o, R), "cross-entropy", "mean", UNKNOWN),
}


def watched(
    loss: Callable[[Tensor], Tensor], folder: Path, steps: int = 2, model: nn.Module | None = None, **options: object
) -> Run:
    """A few steps of one Linear layer, or a model, on `X`."""
    torch.manual_seed(0)
    model = nn.Linear(6, 4) if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with gradscope.watch(model, optimizer, run_dir=folder, every=1, **options) as scope:  # type: ignore[arg-type]
        for _ in range(steps):
            output = model(X)
            scope.loss(loss(output)).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert scope._recorder is not None
    assert scope._recorder.failure is None, scope._recorder.failure
    return gradscope.read_run(folder)


def path_of(run: Run) -> LossPath:
    """What was read of a run's loss."""
    assert run.info.loss_path is not None
    return run.info.loss_path


@pytest.mark.parametrize("way", WAYS, ids=WAYS.keys())
def test_every_way_of_writing_a_loss_is_read(way: str, tmp_path: Path) -> None:
    """Modules, functions and what is written by hand: kind, reduction and the best constant guess's loss."""
    loss, kind, reduction, trivial = WAYS[way]
    run = watched(loss, tmp_path)
    path = path_of(run)
    assert (path.kind, path.reduction) == (kind, reduction)
    assert run.steps["trivial_loss"][-1] == pytest.approx(trivial, rel=1e-5, nan_ok=True)


def test_the_way_is_the_operations_in_order(tmp_path: Path) -> None:
    """From the head's end to the loss, activations in the model and in functions alike, with shapes and classes."""
    model = nn.Sequential(nn.Linear(6, 4), nn.Softmax(-1))
    path = path_of(watched(lambda o: F.cross_entropy(torch.sigmoid(o), Y), tmp_path, model=model))
    assert path.operations == ("SoftmaxBackward0", "SigmoidBackward0", "LogSoftmaxBackward0", "NllLossBackward0")
    assert path.softmax_dimensions == (1, 1)
    assert (path.output_shape, path.compared_shape, path.target_shape) == ((120, 4), (120, 4), (120,))
    assert (path.target_dtype, path.classes) == ("int64", 4)


def test_what_is_behind_no_head_is_not_on_the_way(tmp_path: Path) -> None:
    """A penalty on the weights adds its sum and nothing more; the loss of a constant guess is then not known."""
    model = nn.Linear(6, 4)
    run = watched(lambda o: F.mse_loss(o, R) + 0.1 * model.weight.square().sum(), tmp_path, model=model)
    assert path_of(run).operations == ("MseLossBackward0", "AddBackward0")
    assert np.isnan(run.steps["trivial_loss"]).all()


@pytest.mark.parametrize("written", [lambda o, t: F.mse_loss(o, t), lambda o, t: ((o - t) ** 2).mean()])
def test_broadcast_targets_are_seen_at_their_own_shape(written: Callable[..., Tensor], tmp_path: Path) -> None:
    """(N, 1) beside (N,): compared at (N, N)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = watched(lambda o: written(o, R[:, 0]), tmp_path, model=nn.Linear(6, 1))
    path = path_of(run)
    assert (path.output_shape, path.compared_shape, path.target_shape) == ((120, 1), (120, 120), (120,))
    assert run.steps["trivial_loss"][-1] == pytest.approx(float(R[:, 0].var(unbiased=False)), rel=1e-4)


class WithLoss(nn.Module):
    """Returns its loss, as models of Transformers do."""

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.body, self.head, self.criterion = nn.Linear(6, 8), nn.Linear(8, 4), criterion

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        logits = self.head(torch.relu(self.body(x)))
        return {"logits": logits, "loss": self.criterion(logits, Y)}


@pytest.mark.parametrize("given", [True, False])
def test_a_loss_inside_the_model_is_read(given: bool, tmp_path: Path) -> None:
    """Handed over or seen coming out of its module, the way begins at the head."""
    torch.manual_seed(0)
    model = WithLoss(nn.CrossEntropyLoss())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model, optimizer, run_dir=tmp_path, every=1) as scope:
        for _ in range(2):
            loss = model(X)["loss"]
            (scope.loss(loss) if given else loss).backward()
            optimizer.step()
            optimizer.zero_grad()
    run = gradscope.read_run(tmp_path)
    assert path_of(run).operations == ("LogSoftmaxBackward0", "NllLossBackward0")
    assert run.steps["trivial_loss"][-1] == pytest.approx(math.log(4))


def test_targets_are_summarised(tmp_path: Path) -> None:
    """Range, mean and size of what the loss compares with, at a site of their own."""
    run = watched(lambda o: F.mse_loss(o, R), tmp_path)
    signals = Signals(run)
    site = signals.site("", "target")
    for field, value in (("minimum", R.min()), ("maximum", R.max()), ("sum", R.sum()), ("count", R.numel())):
        assert signals.values("activation", field)[site] == pytest.approx([float(value)] * 2, rel=1e-4)


def test_packed_targets_are_left_alone(tmp_path: Path) -> None:
    """What somebody's hooks have packed is not unpacked for us; the kind is known all the same."""

    def loss(output: Tensor) -> Tensor:
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor):
            return F.cross_entropy(output, Y)

    path = path_of(watched(loss, tmp_path))
    assert (path.kind, path.target_shape) == ("cross-entropy", ())


def test_nothing_of_a_loss_is_kept(tmp_path: Path) -> None:
    """Outputs, targets and the graph die with their step."""
    model = nn.Linear(6, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model, optimizer, run_dir=tmp_path, every=1) as scope:
        output, target = model(X), R.clone()
        loss = scope.loss(((output - target) ** 2).mean())
        loss.backward()
        optimizer.step()
        kept = [weakref.ref(tensor) for tensor in (output, target, loss)]
        del output, target, loss
        gc.collect()
        assert [reference() for reference in kept] == [None] * 3


def test_targets_of_several_batches_add_up(tmp_path: Path) -> None:
    """The guess is judged by all targets so far, not by one batch's."""
    batches = iter([slice(0, 30), slice(30, 60), slice(60, 90), slice(90, 120)])
    run = watched(lambda o: F.mse_loss(o[(part := next(batches))], R[part]), tmp_path, steps=4)
    assert run.steps["trivial_loss"][-1] == pytest.approx(VARIANCE, rel=1e-5)


def test_too_few_labels_make_no_entropy(tmp_path: Path) -> None:
    """An entropy from fewer labels than it takes is no number: it would come out too small."""
    run = watched(lambda o: F.cross_entropy(o[:8], Y[:8]), tmp_path, steps=2)
    assert np.isnan(run.steps["trivial_loss"]).all()


# theory


@pytest.mark.parametrize(("classes", "loss", "gradient"), [(10, 2.302585, 0.948683), (2, 0.693147, 0.707107)])
def test_t15_a_cross_entropy_starts_at_ln_k(classes: int, loss: float, gradient: float, tmp_path: Path) -> None:
    """Equal logits cost ln K, and one sample's gradient has the norm √((1 - 1/K)² + (K - 1)/K²)."""
    model = nn.Linear(6, classes)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    run = watched(lambda o: F.cross_entropy(o, torch.arange(120) % classes), tmp_path, steps=1, model=model)
    assert float(run.steps["loss"][0]) == pytest.approx(loss, rel=1e-5)
    assert float(Signals(run).head_norm[0]) * math.sqrt(120) == pytest.approx(gradient, rel=1e-5)
    assert (uniform_loss(classes), uniform_gradient(classes)) == pytest.approx((loss, gradient), rel=1e-5)


@pytest.mark.parametrize(("classes", "floor"), [(2, 0.31326), (10, 1.46115), (1000, 5.90947)])
def test_t16_the_floor_of_a_double_softmax(classes: int, floor: float, tmp_path: Path) -> None:
    """Certain and right answers still cost ln(e + K - 1) - 1."""
    model = nn.Sequential(nn.Linear(6, classes), nn.Softmax(1))
    with torch.no_grad():
        model[0].weight.zero_()  # type: ignore[operator]
        model[0].bias.copy_(torch.tensor([100.0] + [0.0] * (classes - 1)))  # type: ignore[operator]
    run = watched(lambda o: F.cross_entropy(o, torch.zeros(120, dtype=torch.long)), tmp_path, steps=1, model=model)
    assert float(run.steps["loss"][0]) == pytest.approx(floor, rel=1e-5)
    assert double_softmax_floor(classes) == pytest.approx(floor, rel=1e-5)
    assert bounded_logits_floor(classes, 0.0, 1.0) == pytest.approx(floor, rel=1e-5)


def test_t17_a_softmax_over_one_unit_gives_no_gradient(tmp_path: Path) -> None:
    """Its output is 1 and every gradient is exactly 0."""
    model = nn.Sequential(nn.Linear(6, 1), nn.Softmax(1))
    run = watched(lambda o: F.mse_loss(o, R[:, :1]), tmp_path, model=model)
    assert Signals(run).head_norm.tolist() == [0.0, 0.0]
    assert path_of(run).softmax_dimensions == (1,)


def test_t18_gradients_of_the_last_bias_sum_to_zero(tmp_path: Path) -> None:
    """Σ_k ∂CE/∂logit_k = 0."""
    signals = Signals(watched(lambda o: F.cross_entropy(o, Y), tmp_path))
    bias = signals.site("bias", "parameter")
    assert signals.values("gradient", "sum")[bias] == pytest.approx([0.0, 0.0], abs=1e-7)
    assert signals.norm("gradient")[bias].min() > 1e-3


def test_t19_a_squared_error_scales_with_its_residual(tmp_path: Path) -> None:
    """A residual times c makes the gradient times c and the loss times c²; inputs times c the weight's times c."""

    def measured(residual: float, inputs: float) -> tuple[float, float]:
        model = nn.Linear(6, 4)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        folder = tmp_path / f"{residual}-{inputs}"
        wrapped = nn.Sequential(Scaled(inputs), model)
        run = watched(lambda o: F.mse_loss(o, residual * R), folder, steps=1, model=wrapped)
        signals = Signals(run)
        return float(run.steps["loss"][0]), float(signals.norm("gradient")[signals.site("1.weight", "parameter")][0])

    loss, gradient = measured(1.0, 1.0)
    assert measured(10.0, 1.0) == pytest.approx((100 * loss, 10 * gradient), rel=1e-5)
    assert measured(1.0, 255.0) == pytest.approx((loss, 255 * gradient), rel=1e-5)


class Scaled(nn.Module):
    """Multiplies."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


# progress


def test_progress_is_read_in_medians(tmp_path: Path) -> None:
    """Levels at the start and now, the lowest, and the noise between steps."""
    run = HEALTHY["logits"].record(tmp_path, 200)
    went = progress(Signals(run))
    assert went is not None
    assert went.count == 200
    assert went.start == pytest.approx(float(np.median(run.steps["loss"][:5])))
    assert went.now == pytest.approx(float(np.median(run.steps["loss"][-20:])))
    assert went.best <= went.now < went.start
    assert went.still_falling()
    assert 0 < went.noise < went.start
    assert went.trivial == pytest.approx(math.log(10), rel=0.02)


# sick and healthy trainings


def findings(run: Run, *rules: Rule) -> list[Finding]:
    """What rules find in a run."""
    signals = Signals(run)
    return [finding for rule in rules if rule.applies(signals) is None for finding in rule.check(signals)]


def begun(run: Run, steps: int) -> Run:
    """The run as it was after its first steps."""
    taken = run.steps["step"] < steps
    return replace(
        run,
        steps=run.steps[taken],
        learning_rates=run.learning_rates[taken],
        summaries=run.summaries[run.summaries["step"] < steps],
    )


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", MISMATCHES, ids=MISMATCHES.keys())
def test_a_mismatch_is_found_from_the_start(name: str, seed: int, tmp_path: Path) -> None:
    """Each is named with its cause and the head, when a few dozen steps are there and later."""
    training, cause, layer = MISMATCHES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns of broadcast targets
        run = training.record(tmp_path, 150, seed)
    for steps in (40, 150):
        (finding,) = findings(begun(run, steps), OutputLossMismatch())
        assert finding.severity != "note"
        assert (finding.causes[0].id, finding.layers[0], finding.first_step) == (cause, layer, 0)


@pytest.mark.parametrize(
    ("rule", "name"),
    [(UnscaledData(), name) for name in UNSCALED] + [(LossStalled(), name) for name in STALLED],
    ids=[*UNSCALED, *STALLED],
)
def test_a_training_that_comes_to_nothing_is_found(rule: Rule, name: str, tmp_path: Path) -> None:
    """Unscaled data and what else keeps a loss where a constant guess is."""
    training, cause, layer = (UNSCALED | STALLED)[name]
    (finding,) = findings(training.record(tmp_path, 300), rule)
    assert finding.severity != "note"
    assert (finding.causes[0].id, finding.layers[0]) == (cause, layer)


@pytest.mark.parametrize("name", HEALTHY, ids=HEALTHY.keys())
def test_a_loss_that_fits_is_left_alone(name: str, tmp_path: Path) -> None:
    """At the start, in the middle and at the end."""
    run = HEALTHY[name].record(tmp_path, 400)
    rules = (OutputLossMismatch(), UnscaledData(), LossStalled())
    assert [str(finding) for steps in (10, 60, 130, 250, 400) for finding in findings(begun(run, steps), *rules)] == []


def test_a_loss_that_was_lost_again_is_found(tmp_path: Path) -> None:
    """Learned, then thrown away by a learning rate: since when, and why."""
    torch.manual_seed(0)
    training: Training = HEALTHY["logits, SGD"]
    run = training.record(tmp_path, 300)
    steps = run.steps.copy()
    steps["loss"][200:] = 2.4
    (finding,) = findings(replace(run, steps=steps), LossStalled())
    assert finding.severity == "error"
    assert finding.causes[0].id == "learning-rate-too-high"
    assert 195 <= finding.first_step <= 230
