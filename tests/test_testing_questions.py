"""Each question of `check_model`: a model that fails it, and its twin that passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradscope.errors import UnhealthyModel, UnknownId, UnusableSample
from gradscope.records import Diagnosis, Finding
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Signals
from gradscope.testing import QUESTIONS, ModelCheck, check_model
from gradscope.testing.rules_found import first_of
from gradscope.testing.watching import Watched
from tests.trainings import digits, he, mlp, xavier

SLOW = "overfit-one-batch"


def ask(model: nn.Module, sample: Any = None, **options: Any) -> ModelCheck:
    """The check of a model on 32 digits."""
    images, labels = digits()
    sample = (images[:32], labels[:32]) if sample is None else sample
    return check_model(model, sample, **{"criterion": nn.CrossEntropyLoss(), "steps": 60, **options})


def net(*behind: nn.Module) -> nn.Sequential:
    """A healthy classifier of digits."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10), *behind)


def filled(value: float) -> nn.Sequential:
    """The classifier with one number in all places."""
    model = net()
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    return model


def positive() -> nn.Sequential:
    """Weights of a usual size, none of them below 0."""
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(6)), nn.Linear(64, 10))
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0, 0.1)
    return model


SICK_AT_INIT: dict[str, Callable[[], nn.Module]] = {
    "20 sigmoids": lambda: mlp(20, nn.Sigmoid),
    "20 ReLUs, torch's init": lambda: mlp(20, nn.ReLU),
    "ReLUs, He times 3": lambda: mlp(12, nn.ReLU, lambda weight: he(weight, 3)),
    "all zeros": lambda: filled(0.0),
    "all alike": lambda: filled(0.1),
    "all positive": positive,
}
HEALTHY_AT_INIT: dict[str, Callable[[], nn.Module]] = {
    "20 tanhs, Xavier": lambda: mlp(20, nn.Tanh, xavier),
    "12 ReLUs, He": lambda: mlp(12, nn.ReLU, he),
    "4 sigmoids": lambda: mlp(4, nn.Sigmoid, xavier),
}


@pytest.mark.parametrize("name", SICK_AT_INIT)
def test_a_signal_that_loses_its_size_fails(name: str) -> None:
    """`signal-at-init` names initializations that no depth survives."""
    torch.manual_seed(0)
    answer = ask(SICK_AT_INIT[name](), skip=[SLOW])["signal-at-init"]
    assert answer.outcome == "failed"
    assert answer.where
    assert answer.advice


@pytest.mark.parametrize("name", HEALTHY_AT_INIT)
def test_a_signal_that_keeps_its_size_passes(name: str) -> None:
    """`signal-at-init` leaves initializations alone that were made for their activation."""
    torch.manual_seed(0)
    assert ask(HEALTHY_AT_INIT[name](), skip=[SLOW])["signal-at-init"].outcome == "passed"


def test_what_theory_expects_stands_beside_what_was_measured() -> None:
    """The gain that theory expects of the same weights is within a decade of the one that failed: they are the reason."""
    torch.manual_seed(0)
    measured, *_, theory = ask(mlp(20, nn.Sigmoid), skip=[SLOW])["signal-at-init"].measured
    assert theory.name == "backward gain that theory expects of these weights at 0"
    assert theory.value == pytest.approx(measured.value, rel=9)


def test_weights_that_are_not_around_zero_are_told_by_theory_alone() -> None:
    """Positive weights of a usual size break no rule's threshold; the signal is decades off what independent ones give."""
    torch.manual_seed(0)
    answer = ask(positive(), skip=[SLOW])["signal-at-init"]
    assert "larger than independent weights of this size make it" in answer.message


@pytest.mark.parametrize(
    ("sample", "options", "outcome"),
    [
        ("digits", {}, "passed"),
        ("pixels", {}, "failed"),
        ("digits", {"criterion": nn.CrossEntropyLoss(reduction="sum")}, "passed"),
        ("numbers", {"criterion": nn.MSELoss()}, "passed"),
        ("years", {"criterion": nn.MSELoss()}, "failed"),
        ("years", {"criterion": nn.L1Loss()}, "failed"),
        ("yes or no", {"criterion": nn.BCEWithLogitsLoss()}, "passed"),
    ],
)
def test_the_first_loss_is_that_of_a_model_that_knows_nothing(
    sample: str, options: dict[str, Any], outcome: str
) -> None:
    """`initial-loss` compares with ln K, ln 2 or the best constant output, sums with a sum of these."""
    images, labels = digits()
    images, labels = images[:32], labels[:32]
    numbers = torch.randn(32, 10, generator=torch.Generator().manual_seed(0))
    samples = {
        "digits": (images, labels),
        "pixels": (images * 255, labels),
        "numbers": (images, numbers),
        "years": (images, numbers + 2000),
        "yes or no": (images, (numbers > 0).float()),
    }
    assert ask(net(), samples[sample], skip=[SLOW], **options)["initial-loss"].outcome == outcome


def test_a_model_that_knows_something_passes_and_is_told() -> None:
    """A first loss far below ln K is no fault: the model was trained before, or the inputs give the targets away."""
    labels = digits()[1]
    known = nn.functional.one_hot(labels[:32], 10).float() * 9
    model = nn.Linear(10, 10, bias=False)
    nn.init.eye_(model.weight)
    answer = ask(model, (known, labels[:32]), skip=[SLOW])["initial-loss"]
    assert answer.outcome == "passed"
    assert answer.message.endswith("the model knows something already, or its inputs give the targets away")


@pytest.mark.parametrize(
    ("model", "sample", "options", "said"),
    [
        (lambda: net(nn.Softmax(1)), "labels", {}, "Softmax is taken twice"),
        (lambda: net(nn.Linear(10, 1)), "numbers", {"criterion": nn.MSELoss()}, "broadcast against each other"),
    ],
)
def test_a_loss_that_does_not_fit_the_output_fails(
    model: Callable[[], nn.Module], sample: str, options: dict[str, Any], said: str
) -> None:
    """`loss-fits-output` names a softmax before cross-entropy and shapes that broadcast, and no other question does."""
    images, labels = digits()
    targets = labels[:32] if sample == "labels" else labels[:32] / 10
    check = ask(model(), (images[:32], targets), skip=[SLOW], **options)
    assert [answer.question for answer in check.failed] == ["loss-fits-output"]
    assert said in check["loss-fits-output"].message


class Cut(nn.Module):
    """Two layers, one or none of which learns, and one that is never called."""

    def __init__(self, *, cut: bool, used: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 32), nn.Linear(32, 10)
        if not used:
            self.spare = nn.Linear(3, 3)
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.first(x))
        return self.last(hidden.detach() if self.cut else hidden)


def test_parameters_without_a_gradient_are_named_with_the_reason() -> None:
    """`gradient-reach` tells detached, unused, frozen, forgotten and exactly zero apart."""
    torch.manual_seed(0)
    detached = ask(Cut(cut=True, used=False), skip=[SLOW])["gradient-reach"]
    assert "first.weight, first.bias are detached; spare.weight, spare.bias are unused" in detached.message
    assert detached.where == ("first.weight", "first.bias", "spare.weight", "spare.bias")
    frozen = net()
    frozen[0].requires_grad_(False)
    assert "0.weight, 0.bias are frozen" in ask(frozen, skip=[SLOW])["gradient-reach"].message
    zero = ask(filled(0.0), skip=[SLOW])["gradient-reach"]
    assert "0.weight, 0.bias, 2.weight and 2 more are exactly zero" in zero.message
    model = net()
    forgotten = torch.optim.SGD(model[0].parameters(), lr=0.1)
    said = ask(model, skip=[SLOW], optimizer=forgotten)["gradient-reach"].message
    assert "2.weight, 2.bias, 4.weight and 1 more are in no optimizer" in said


def test_parameters_that_are_frozen_on_purpose_can_be_left_out() -> None:
    """What `ignore` matches is not asked for."""
    model = net()
    model[0].requires_grad_(False)
    answer = ask(model, skip=[SLOW], ignore=["0.*"])["gradient-reach"]
    assert (answer.outcome, answer.message) == ("passed", "all 4 parameters get a gradient; those of 0.* were left out")


class Compares(nn.Module):
    """Which of two scores is larger: the last bias is in both."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.score = nn.Linear(64, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(self.hidden(x).relu()) - self.score(self.hidden(x.flip(1)).relu())


def test_a_bias_whose_gradient_is_zero_by_arithmetic_is_no_fault() -> None:
    """The last bias of two towers that are subtracted learns nothing, and need not (THEORY T29)."""
    model = Compares()
    images, labels = digits()
    nn.functional.cross_entropy(model(images[:32]), labels[:32]).backward()
    assert not model.score.bias.grad.any()
    assert ask(model, skip=[SLOW])["gradient-reach"].outcome == "passed"


class Shuffles(nn.Module):
    """Swaps dimensions by `view`, which mixes samples, or by a transpose."""

    def __init__(self, *, view: bool) -> None:
        super().__init__()
        self.first, self.last, self.by_view = nn.Linear(8, 8), nn.Linear(64, 10), view

    def forward(self, x: Tensor) -> Tensor:
        rows = self.first(x.view(-1, 8, 8))
        columns = rows.view(8, -1, 8) if self.by_view else rows.transpose(0, 1)
        return self.last(columns.transpose(0, 1).reshape(-1, 64))


class Tokens(nn.Module):
    """Reads tokens by an LSTM that takes them time first, as it is not told otherwise."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.cells = nn.LSTM(8, 16, batch_first=batch_first)
        self.head = nn.Linear(16, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.cells(self.embed(tokens))[0][:, -1])


class BatchMean(nn.Module):
    """Subtracts the batch's mean, through which no gradient goes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x - x.mean(0).detach())


def test_samples_that_are_mixed_fail() -> None:
    """`batch-independence` finds a view that should be a transpose, time for batch, and what no gradient shows."""
    torch.manual_seed(0)
    assert ask(Shuffles(view=False), skip=[SLOW])["batch-independence"].outcome == "passed"
    mixed = ask(Shuffles(view=True), skip=[SLOW])["batch-independence"]
    assert mixed.outcome == "failed"
    assert "permute is what swaps dimensions" in mixed.advice
    assert ask(BatchMean(), skip=[SLOW])["batch-independence"].outcome == "failed"
    words = torch.randint(20, (16, 6)), torch.arange(16) % 10
    assert ask(Tokens(batch_first=True), words, skip=[SLOW])["batch-independence"].outcome == "passed"
    swapped = ask(Tokens(batch_first=False), words, skip=[SLOW])["batch-independence"]
    assert (swapped.outcome, swapped.where) == ("failed", ("cells",))
    assert swapped.advice.startswith("cells has batch_first=False, so that it takes the batch for time")


def test_a_model_that_writes_on_its_input_is_asked_all_the_same() -> None:
    """Each pass gets the input as it was."""

    class Scales(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.mul_(2))

    assert ask(Scales(), skip=[SLOW])["batch-independence"].outcome == "passed"


def test_batch_norm_mixes_samples_by_design() -> None:
    """What BatchNorm does in training is no fault: it is asked in eval mode, and the answer says so."""
    model = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))
    answer = ask(model, skip=[SLOW])["batch-independence"]
    assert answer.outcome == "passed"
    assert answer.message.endswith("BatchNorm mixes them in training mode, by design")


@pytest.mark.parametrize(
    ("sample", "why"),
    [
        (lambda x, y: (x[:1], y[:1]), "the batch has one sample: hand over two or more"),
        (lambda x, y: (torch.ones(4, 64, dtype=torch.int64), y[:4]), "all samples of the batch are the same"),
    ],
)
def test_batch_independence_says_why_it_cannot_look(sample: Callable[[Tensor, Tensor], Any], why: str) -> None:
    """One sample, or tokens that are all the same, show nothing."""
    model: nn.Module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    given = sample(*digits())
    if not given[0].is_floating_point():
        model = nn.Sequential(nn.Embedding(3, 2), nn.Flatten(), nn.Linear(128, 10))
    answer = ask(model, given, skip=[SLOW])["batch-independence"]
    assert (answer.outcome, answer.message) == ("not-applicable", why)


def test_a_sum_over_the_batch_is_told_from_a_mean() -> None:
    """`sum-or-mean` measures both by the batch taken twice, and says what a sum means for the learning rate."""
    assert ask(net(), skip=[SLOW])["sum-or-mean"].outcome == "passed"
    answer = ask(net(), skip=[SLOW], criterion=nn.CrossEntropyLoss(reduction="sum"))["sum-or-mean"]
    assert answer.outcome == "failed"
    assert [each.value for each in answer.measured] == pytest.approx([2, 2])
    assert "an SGD learning rate by 32" in answer.advice


def test_a_loss_that_compares_samples_is_neither_sum_nor_mean() -> None:
    """A contrastive loss grows with the logarithm of the batch: the question does not apply."""

    def contrast(output: Tensor) -> Tensor:
        return nn.functional.cross_entropy(output @ output.T, torch.arange(len(output)))

    answer = ask(net(), digits()[0][:32], criterion=contrast, skip=[SLOW])["sum-or-mean"]
    assert answer.outcome == "not-applicable"
    assert answer.message.endswith("samples are compared with each other")


def test_a_batch_that_cannot_be_learned_fails() -> None:
    """`overfit-one-batch` fails where inputs say nothing of their labels, however often each label is right by guessing."""
    labels = digits()[1]
    assert ask(net())["overfit-one-batch"].outcome == "passed"
    alike = torch.ones(32, 64), labels[:32]
    assert ask(net(), alike)["overfit-one-batch"].outcome == "failed"
    rare = torch.ones(32, 64), (torch.arange(32) == 0).long()  # a guess alone brings 2.3 down to 0.14
    assert ask(net(), rare)["overfit-one-batch"].outcome == "failed"


def test_an_optimizer_that_cannot_learn_is_told_from_a_model_that_cannot() -> None:
    """With the user's own optimizer the question is whether that one can; if not, Adam is tried beside it."""
    answer = ask(net(), optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e-7), steps=150)[SLOW]
    assert answer.outcome == "failed"
    assert "with Adam at 0.001 it falls to" in answer.message
    assert answer.advice == "the model can learn this, your optimizer does not: look at its learning rate"
    model = net()
    assert ask(model, optimizer=torch.optim.SGD(model.parameters(), lr=0.5))[SLOW].outcome == "passed"
    assert ask(model, optimizer=torch.optim.LBFGS(model.parameters(), lr=0.5))[SLOW].outcome == "passed"


def test_numbers_that_are_not_finite_end_the_questions() -> None:
    """Where the first pass gives NaN, that is the answer, and all others say so."""
    model = net()
    with torch.no_grad():
        model[0].weight[0, 0] = float("nan")
    check = ask(model)
    assert check["finite"].message == "weights hold 1 number that is NaN or Inf"
    assert {answer.outcome for answer in check.answers[1:]} == {"not-applicable"}
    images, labels = digits()
    assert "the output" in ask(net(), (images[:32] * float("inf"), labels[:32]))["finite"].message


def test_other_rules_are_asked_too() -> None:
    """An error of a rule that no question stands for fails the last one: here a forgotten module, made anew each time."""
    answer = ask(net(), skip=[SLOW])["other-rules"]
    assert answer.outcome == "passed"
    assert answer.message.endswith("rules find nothing in 5 watched steps")


def test_a_check_reads_like_a_diagnosis() -> None:
    """Its text has a line for what failed, one for each question, and under those that failed: why, and what to do."""
    text = str(ask(net(nn.Softmax(1)), skip=[SLOW]))
    lines = text.splitlines()
    assert lines[0] == "Sequential: 1 question of 8 failed, 1 could not be asked: loss-fits-output."
    assert [line.split()[1] for line in lines[2:] if line[0] in "✓▲○"] == list(QUESTIONS)
    for part in (
        "measured: lowest loss that is possible: 1.46",
        "where: ",
        "why: ",
        "try: ",
        "model[5] = torch.nn.Identity()",
    ):
        assert part in text


def test_names_of_the_user_cannot_steer_a_terminal() -> None:
    """A module's name with an escape sequence in it is shown spelled out."""
    model = net()
    model.add_module("\x1b[31m", nn.Linear(10, 10).requires_grad_(False))
    text = str(ask(model, skip=[SLOW]))
    assert "\x1b" not in text
    assert "\\x1b[31m.weight" in text


def test_a_check_can_raise() -> None:
    """`raise_if_failed` raises an AssertionError with the whole text, but for what is allowed."""
    check = ask(net(), criterion=nn.CrossEntropyLoss(reduction="sum"), skip=[SLOW])
    with pytest.raises(UnhealthyModel, match=r"1 question of 8 failed.*(?s:.*)allow=\[\"sum-or-mean\"\]") as caught:
        check.raise_if_failed()
    assert isinstance(caught.value, AssertionError)
    assert not check.passed
    check.raise_if_failed(allow=["sum-or-mean"])
    ask(net(), skip=[SLOW]).raise_if_failed()


def test_unknown_questions_are_refused() -> None:
    """A question's id that does not exist is an error that lists those that do."""
    with pytest.raises(UnknownId, match=r"skip= expected ids of questions \(finite, .*it got 'overfit'"):
        ask(net(), skip=["overfit"])
    check = ask(net(), skip=[SLOW])
    with pytest.raises(UnknownId, match="allow= expected"):
        check.raise_if_failed(allow=["sum"])
    with pytest.raises(UnknownId, match="nothing"):
        check["nothing"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ask(net(), "images"), "sample= expected a tensor, a tuple such as .* it got str"),
        (
            lambda: ask(net(), torch.ones(4, 3)),
            "cannot be run on the sample: RuntimeError: .*its last entry is the target",
        ),
        (lambda: ask(net(), {"x": torch.ones(4, 64)}, target="y"), "target= names no entry of the sample; it has x"),
        (
            lambda: ask(net(), criterion=nn.CrossEntropyLoss(reduction="none")),
            r"a tensor of shape \(32,\). Take its mean",
        ),
        (lambda: ask(net(), iter([])), "the loader gives no batch"),
        (lambda: check_model(nn.Linear, torch.ones(1)), r"expected a torch.nn.Module; it got type"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(call: Callable[[], object], said: str) -> None:
    """The error says what was expected, what came, and what to do."""
    with pytest.raises(UnusableSample, match=said):
        call()


def test_a_model_that_cannot_be_copied_is_refused() -> None:
    """Nothing is tried on the original."""
    model = net()
    model.lock = (each for each in ())  # type: ignore[assignment]
    with pytest.raises(UnusableSample, match=r"Sequential cannot be copied, and .* Let copy.deepcopy\(model\) work"):
        ask(model)


def test_without_a_loss_what_needs_none_is_asked() -> None:
    """A bare tensor is enough for signal, gradient and independence; the rest says what it needs."""
    check = check_model(net(), digits()[0][:32])
    assert check.passed
    assert check["gradient-reach"].outcome == check["batch-independence"].outcome == "passed"
    assert check["sum-or-mean"].message == "no loss is known: pass criterion= and a target, or loss="


def test_switched_off_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """GRADSCOPE=off leaves the questions that need a watched run unanswered, and the others answered."""
    monkeypatch.setenv("GRADSCOPE", "off")
    check = ask(net(), skip=[SLOW])
    assert check["signal-at-init"].message == "GRADSCOPE=off in the environment"
    assert check["gradient-reach"].outcome == "passed"


def test_an_answer_depends_on_no_question_before_it() -> None:
    """A model that draws random numbers in its forward pass is given the same ones at each question."""

    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x + torch.randn_like(x))

    model = Noisy()
    alone = ask(model, skip=[question for question in QUESTIONS if question != SLOW])
    assert ask(model)[SLOW] == alone[SLOW]


def test_what_came_with_the_steps_is_no_matter_of_the_initialization() -> None:
    """A finding of a later step answers no question about the start."""

    def seen(step: int) -> Watched:
        finding = Finding("vanishing-gradient", "error", ("a",), step, 4, "Gradients vanish before a")
        return Watched(Diagnosis("unhealthy", "It is sick.", (finding,)), Signals(by_hand({"a": 1.0, "b": 1.0})))

    assert first_of(seen(0), ["vanishing-gradient"]) is not None
    assert first_of(seen(3), ["vanishing-gradient"]) is None
