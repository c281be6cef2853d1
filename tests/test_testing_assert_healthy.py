"""`assert_healthy`: a short training that has to be healthy, and what is said when it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gradscope
from gradscope.errors import UnhealthyTraining, UnknownId, UnusableSample
from gradscope.records import Finding
from gradscope.testing import assert_healthy
from gradscope.testing.words import at_least
from tests.trainings import HEALTHY, SICK, digits

LOSS = nn.CrossEntropyLoss()
IMAGES, LABELS = digits()
BATCH = IMAGES[:64], LABELS[:64]


def net() -> nn.Sequential:
    """A healthy classifier of digits."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def loader() -> DataLoader[tuple[torch.Tensor, ...]]:
    """Digits in batches of 64."""
    return DataLoader(TensorDataset(IMAGES, LABELS), 64, shuffle=True)


@pytest.mark.parametrize("name", [name for name in HEALTHY if "regression" not in name])
def test_healthy_trainings_pass(name: str) -> None:
    """No error is found in 20 steps of a training that goes well, with its own optimizer."""
    torch.manual_seed(0)
    training = HEALTHY[name]
    model = training.model()
    assert assert_healthy(model, loader(), LOSS, optimizer=training.optimizer(model)).verdict != "not-enough-data"


@pytest.mark.parametrize("name", ["sigmoid 20, Adam", "ReLU 20, torch's init, SGD", "tanh 20, init x8, SGD"])
def test_sick_trainings_fail(name: str) -> None:
    """What is sick from the start is found in 20 steps."""
    torch.manual_seed(0)
    training = SICK[name]
    model = training.model()
    with pytest.raises(UnhealthyTraining, match=r"vanishing-gradient|exploding-gradient"):
        assert_healthy(model, loader(), LOSS, optimizer=training.optimizer(model))


def test_the_message_reads_like_a_diagnosis() -> None:
    """It says the verdict, and of each finding what, where, when, the numbers, why, what to do and where to read on."""
    torch.manual_seed(0)
    with pytest.raises(AssertionError) as caught:
        assert_healthy(SICK["sigmoid 20, Adam"].model(), BATCH, LOSS)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("Sequential: Unhealthy: Gradients vanish before layer ")
    assert lines[2].startswith("▲ F1 Gradients vanish before layer ")
    assert lines[2].endswith("(error, vanishing-gradient)")
    for part in (
        *("where: 0, 2, 4 and ", "when:  step 0 to 19", "saw:   backward gain at 0, step "),
        *("why:   activation-contracts", "try:   Swap the hidden activations: ", "torch.nn.ELU()"),
        *(
            "more:  gradscope explain vanishing-gradient",
            "A copy of it was trained for 20 steps.",
            'To accept it: allow=["vanishing-gradient"]',
        ),
    ):
        assert part in str(caught.value)
    assert max(map(len, lines[1:])) <= 130


def test_what_is_allowed_does_not_count() -> None:
    """Neither does what follows from it."""
    torch.manual_seed(0)
    model = SICK["sigmoid 20, Adam"].model()
    diagnosis = assert_healthy(model, BATCH, LOSS, allow=["vanishing-gradient"])
    assert "vanishing-gradient" in {finding.rule for finding in diagnosis.findings}
    fast = torch.optim.SGD(net().parameters(), lr=100.0)
    with pytest.raises(UnhealthyTraining, match="learning-rate-too-high"):
        assert_healthy(net(), BATCH, LOSS, optimizer=lambda parameters: type(fast)(parameters, lr=100.0))


def test_what_follows_from_an_allowed_finding_counts_no_more_than_it() -> None:
    """A reason that is accepted takes its consequences with it; a consequence does not take its reason."""
    steps = Finding("learning-rate-too-high", "error", (), 0, 9, "The steps are too long")
    broken = Finding("non-finite", "error", (), 3, 9, "Loss is NaN", follows="learning-rate-too-high")
    assert at_least([steps, broken], "error") == [steps, broken]
    assert at_least([steps, broken], "error", ["learning-rate-too-high"]) == []
    assert at_least([steps, broken], "error", ["non-finite"]) == [steps]


@pytest.mark.parametrize(("fail_on", "raises"), [("error", False), ("warning", True), ("note", True)])
def test_severities_that_count_can_be_chosen(fail_on: str, raises: bool) -> None:
    """A warning fails when warnings are to fail: a parameter that no optimizer holds."""
    model = net()

    def run() -> None:
        assert_healthy(model, BATCH, LOSS, optimizer=torch.optim.SGD(model[0].parameters(), 0.1), fail_on=fail_on)  # type: ignore[arg-type]

    if not raises:
        run()
        return
    with pytest.raises(UnhealthyTraining, match="untrained-parameter"):
        run()


def test_a_softmax_before_cross_entropy_fails() -> None:
    """Faults of the program are found as well as those of the training."""
    with pytest.raises(UnhealthyTraining, match=r"Softmax is taken twice(?s:.*)torch.nn.Identity"):
        assert_healthy(nn.Sequential(net(), nn.Softmax(1)), BATCH, LOSS)


def test_a_model_that_gives_its_loss_itself_needs_no_criterion() -> None:
    """Transformers models, given labels, and any function of model and sample."""
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 50, "n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 4}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    tokens = torch.randint(50, (8, 12), generator=torch.Generator().manual_seed(0))
    assert assert_healthy(model, {"input_ids": tokens, "labels": tokens}, steps=5).verdict == "healthy"

    def loss(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        return model(images).square().mean()

    assert assert_healthy(net(), BATCH[0], steps=5, loss=loss).verdict == "healthy"


def test_the_run_can_be_kept(tmp_path: Path) -> None:
    """In `run_dir` it can be read afterwards, and the message says how."""
    assert_healthy(net(), BATCH, LOSS, 7, run_dir=tmp_path / "kept")
    assert len(gradscope.read_run(tmp_path / "kept").steps) == 7
    with pytest.raises(UnhealthyTraining, match=r"The run: gradscope dashboard .*sick"):
        assert_healthy(nn.Sequential(net(), nn.Softmax(1)), BATCH, LOSS, run_dir=tmp_path / "sick")


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda: assert_healthy(net(), BATCH, LOSS, 2), UnusableSample, "steps= has to be 3 or more.* it is 2"),
        (
            lambda: assert_healthy(net(), BATCH, LOSS, fail_on="fatal"),
            UnusableSample,
            "note, warning, error; it is 'fatal'",
        ),  # type: ignore[arg-type]
        (lambda: assert_healthy(net(), BATCH, LOSS, allow=["nan"]), UnknownId, "ids of rules .* it got 'nan'"),
        (lambda: assert_healthy(LOSS, "x"), UnusableSample, "it got str"),
        (lambda: assert_healthy(print, BATCH), UnusableSample, "expected a torch.nn.Module; it got builtin"),  # type: ignore[arg-type]
        (
            lambda: assert_healthy(net().requires_grad_(False), BATCH, LOSS),
            UnhealthyTraining,
            "nothing of it can learn",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(call: Callable[[], object], kind: type[Exception], said: str) -> None:
    """The error says what was expected, what came, and what to do."""
    with pytest.raises(kind, match=said):
        call()


def test_switched_off_it_warns_and_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """GRADSCOPE=off is a wish of the user's; that nothing was looked at is said."""
    monkeypatch.setenv("GRADSCOPE", "off")
    with pytest.warns(UserWarning, match="looked at nothing: GRADSCOPE=off"):
        assert assert_healthy(nn.Sequential(net(), nn.Softmax(1)), BATCH, LOSS).verdict == "not-enough-data"


def test_an_error_of_the_training_is_the_users(tmp_path: Path) -> None:
    """A shape that does not fit is raised as it would be without us."""
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        assert_healthy(net(), (torch.ones(4, 3), LABELS[:4]), LOSS)
