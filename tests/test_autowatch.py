"""`autowatch`: what is found by itself, and that nothing of torch or of the training is changed by it."""

from __future__ import annotations

import ast
import copy
import gc
import inspect
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gradscope
from gradscope.autowatch import Session
from gradscope.errors import NotApplicable, WatchError
from gradscope.records import Run
from gradscope.store import read_run

HERE = str(Path(__file__))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs go into a folder of the test's own."""
    monkeypatch.chdir(tmp_path)


def net() -> nn.Sequential:
    """A small one, the same every time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))


def train(model: Callable[..., torch.Tensor], *optimizers: torch.optim.Optimizer, steps: int = 3) -> list[float]:
    """An ordinary loop; gives its losses."""
    losses = []
    for step in range(steps):
        loss = model(torch.full((8, 4), 0.1 * step)).sub(1).square().mean()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
    return losses


def sgd(*models: nn.Module) -> torch.optim.SGD:
    """One optimizer for all of them."""
    return torch.optim.SGD([each for model in models for each in model.parameters()], lr=0.1)


def runs(session: Session) -> list[Run]:
    """What was recorded of each model."""
    return [read_run(scope.run_dir) for scope in session.scopes if scope.run_dir is not None]


def names(session: Session) -> list[str]:
    """The models that were found."""
    return [run.info.model for run in runs(session)]


def test_what_was_made_before_is_found() -> None:
    """A model and an optimizer that exist when it is entered are watched from the first forward on."""
    model = net()
    optimizer = sgd(model)
    with gradscope.autowatch(every=1) as session:
        losses = train(model, optimizer)
    (run,) = runs(session)
    assert (run.info.model, run.info.optimizers[0].kind) == ("Sequential", "SGD")
    assert run.steps["loss"].tolist() == pytest.approx(losses)
    assert run.steps["forwards"].tolist() == [1, 1, 1]
    assert {place.what for place in run.info.places} == {"zero-grad", "backward", "step"}
    assert {place.file for place in run.info.places} == {HERE}


def test_torch_is_as_it_was_afterwards() -> None:
    """What was put in front of torch's functions is gone, also when the training raised."""
    functions = [
        (torch.optim.Optimizer, "__init__"),
        (torch.optim.Optimizer, "zero_grad"),
        (nn.Module, "zero_grad"),
        (torch.autograd, "backward"),
        (torch.amp.GradScaler, "scale"),
    ]
    before = [getattr(owner, name) for owner, name in functions]
    during = []

    def fail() -> None:
        during.extend(getattr(owner, name) for owner, name in functions)
        train(model := net(), sgd(model))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), gradscope.autowatch():
        fail()
    assert [getattr(owner, name) for owner, name in functions] == before
    assert all(one is not other for one, other in zip(before, during, strict=True))
    assert [inspect.signature(one) for one in before] == [inspect.signature(one) for one in during]


class Halving(torch.optim.Optimizer):
    """An optimizer of a user's own."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"factor": 0.5})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter -= group["factor"] * parameter.grad


def test_an_optimizer_of_the_users_own() -> None:
    """Subclasses, their signatures, copies and pickles are what they are without us; a copy that trains is found."""
    with gradscope.autowatch() as session:
        model = net()
        optimizer = Halving(model.parameters())
        train(model, optimizer)
        assert pickle.loads(pickle.dumps(optimizer)).state_dict() == optimizer.state_dict()
        again, its_optimizer = copy.deepcopy((model, optimizer))
        train(again, its_optimizer)
    assert names(session) == ["Sequential", "Sequential"]
    first, second = runs(session)
    assert (len(first.steps), first.info.optimizers[0].kind) == (3, "Halving")
    assert len(second.steps) == 2  # known from its first step on: nobody saw it being built
    assert [place.line for place in first.info.places if place.what == "optimizer"] == [
        line
        for line, text in enumerate(Path(HERE).read_text().splitlines(), 1)
        if text.startswith("        optimizer = Halving")
    ]


class Distilled(nn.Module):
    """A student, and a teacher that nobody trains."""

    def __init__(self) -> None:
        super().__init__()
        self.student, self.teacher = net(), net().requires_grad_(False)

    def training_step(self, x: torch.Tensor) -> torch.Tensor:
        """What a trainer calls: not `forward`."""
        return nn.MSELoss()(self.student(x), 1 + self.teacher(x))


def test_what_is_not_trained_is_not_watched() -> None:
    """A frozen teacher, a loss module and an average of the weights are no runs."""
    with gradscope.autowatch() as session:
        whole = Distilled()
        average = copy.deepcopy(whole.student)
        train(lambda x: whole.training_step(x) + 0 * average(x).sum(), sgd(whole.student))
    assert names(session) == ["Sequential"]


class Two(nn.Module):
    """Two parts that are called one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder, self.unused = nn.Linear(4, 3), nn.Linear(3, 1), nn.Linear(1, 1)

    def training_step(self, x: torch.Tensor) -> torch.Tensor:
        """What a trainer calls."""
        return self.decoder(self.encoder(x).relu())


def test_parts_of_one_module() -> None:
    """Parts that one optimizer updates are watched as what they are parts of, that pass included."""
    with gradscope.autowatch(every=1) as session:
        model = Two()
        train(model.training_step, sgd(model))
    (run,) = runs(session)
    assert run.info.model == "Two"
    assert run.steps["forwards"].all()
    assert {site.path for site in run.info.sites if site.role == "output"} == {"encoder", "decoder"}


def test_parts_of_nothing() -> None:
    """Modules that one optimizer updates and nothing is around are a run each."""
    with gradscope.autowatch(run_dir="own") as session:
        first, second = nn.Linear(4, 3), nn.Linear(3, 1)
        losses = train(lambda x: second(first(x)), sgd(first, second))
    assert [scope.run_dir for scope in session.scopes] == [Path("own"), Path("own-2")]
    assert [run.info.sites[0].shape for run in runs(session)] == [(3, 4), (1, 3)]
    assert [run.steps["loss"].tolist() for run in runs(session)] == [pytest.approx(losses)] * 2


def test_losses_that_go_through_one_line() -> None:
    """Where one function calls backward for several models each has its own losses."""
    with gradscope.autowatch(every=1) as session:
        first, second = net(), nn.Linear(4, 1)
        for _ in range(3):
            ones = train(first, one := sgd(first), steps=1) if not session.scopes else train(first, one, steps=1)
            others = (
                train(second, other := sgd(second), steps=1)
                if len(session.scopes) < 2
                else train(second, other, steps=1)
            )
    assert [run.steps["loss"].tolist()[-1] for run in runs(session)] == [
        pytest.approx(ones[0]),
        pytest.approx(others[0]),
    ]
    assert [len(run.steps) for run in runs(session)] == [3, 3]


def test_a_steps_loss_is_what_its_gradient_is_of() -> None:
    """Of several backward passes of a step the losses add up, as their gradients do."""
    with gradscope.autowatch(every=1) as session:
        model = net()
        optimizer = sgd(model)
        expected = []
        for _ in range(3):
            parts = [model(torch.full((2, 4), value)).square().mean() / 2 for value in (1.0, 2.0)]
            for part in parts:
                part.backward()
            optimizer.step()
            optimizer.zero_grad()
            expected.append(sum(part.item() for part in parts))
    assert runs(session)[0].steps["loss"].tolist() == pytest.approx(expected)


def test_a_forward_that_nobody_sees() -> None:
    """A model whose `forward` is called directly is found when its optimizer steps."""
    with gradscope.autowatch() as session:
        model = nn.Linear(4, 1)
        train(model.forward, sgd(model))
    (run,) = runs(session)
    assert (run.info.model, len(run.steps)) == ("Linear", 2)


def test_before_training_comes_before_the_first_forward() -> None:
    """The callback is given the model and its optimizers; what it changes counts from the first pass on."""
    seen: list[Any] = []

    def treat(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
        seen.append((model, optimizers))
        model.register_forward_pre_hook(lambda _, args: (args[0] + 1,))
        assert isinstance(model, nn.Sequential)
        model[1] = nn.ReLU()
        optimizers[0].param_groups[0]["lr"] = 0.01

    with Session(before_training=treat, every=1) as session:
        model = net()
        optimizer = sgd(model)
        losses = train(model, optimizer)
    assert seen == [(model, [optimizer])]
    by_hand = net()
    by_hand[1] = nn.ReLU()
    expected = train(lambda x: by_hand(x + 1), torch.optim.SGD(by_hand.parameters(), lr=0.01))
    assert losses == expected
    (run,) = runs(session)
    assert "ReLU()" in [site.label for site in run.info.sites]
    assert run.learning_rates.tolist() == [[0.01]] * 3


class Enough(BaseException):
    """How a trial ends a program."""


def test_after_step_counts_and_may_end_the_program() -> None:
    """The callback is told each closed step, and what it raises, if no Exception, passes through."""
    told: list[tuple[int, int]] = []

    def count(scope: gradscope.Scope, steps: int) -> None:
        told.append((session.scopes.index(scope), steps))
        if steps == 4:
            raise Enough

    session = Session(after_step=count)
    model = net()
    with pytest.raises(Enough), session:
        train(model, sgd(model), steps=10)
    assert told == [(0, 1), (0, 2), (0, 3), (0, 4)]
    assert [len(run.steps) for run in runs(session)] == [4]
    assert isinstance(session.raised, Enough)


def test_an_error_of_ours_is_said_and_the_training_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever goes wrong with us, the training is what it is without us."""
    expected = train(model := net(), sgd(model))

    def wrong(*_: object) -> None:
        raise ValueError("not like this\nat all")

    with Session(before_training=wrong) as session:
        model = net()
        assert train(model, sgd(model)) == expected
    assert session.scopes == []
    assert capsys.readouterr().err == (
        "gradscope: nothing new is watched from now on, the training goes on: ValueError: not like this\n"
    )
    Path("file").write_text("")
    with Session(run_dir="file/run") as session:
        model = net()
        assert train(model, sgd(model)) == expected
    said = f"gradscope: a Sequential is not watched: cannot write a run to {Path.cwd()}/file/run"
    assert capsys.readouterr().err.startswith(said)


def test_a_program_that_watches_itself_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """A scope of the program's own stays the one that records; the session knows it."""
    told: list[int] = []
    with Session(after_step=lambda scope, steps: told.append(steps)) as session:
        model = net()
        optimizer = sgd(model)
        with gradscope.watch(model, optimizer) as scope:
            train(model, optimizer)
            assert session.scopes == [scope]
            assert told == [1, 2, 3]
    assert capsys.readouterr().err.count("recording to") == 1
    assert not read_run(scope.run_dir or "").steps["has_loss"].any()  # for it was not handed over


def test_one_at_a_time() -> None:
    """A second session in one process is refused, with what to do."""
    with gradscope.autowatch():
        with pytest.raises(WatchError) as refused, gradscope.autowatch():
            pass
        assert str(refused.value) == (
            "this process is watched already: leave the first autowatch() before another is entered."
        )


def test_off(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With GRADSCOPE=off it does nothing and says nothing."""
    monkeypatch.setenv("GRADSCOPE", "off")
    before = torch.autograd.backward
    with gradscope.autowatch() as session:
        assert torch.autograd.backward is before
        train(model := net(), sgd(model))
    assert session.scopes == []
    assert session.missing == "GRADSCOPE=off in the environment"
    assert "".join(capsys.readouterr()).strip() == ""


def test_a_plain_watch_knows_its_lines() -> None:
    """`watch` notes where the optimizer steps, where backward is called and where classes are defined."""
    model = Two()
    optimizer = sgd(model)
    with gradscope.watch(model, optimizer, every=1) as scope:
        train(model.training_step, optimizer)
    lines = Path(HERE).read_text().splitlines()
    places = {
        (place.what, place.of, lines[place.line - 1].strip()) for place in read_run(scope.run_dir or "").info.places
    }
    assert places == {
        ("class", "Two", "class Two(nn.Module):"),
        ("step", "SGD", "optimizer.step()"),
        ("backward", "", "loss.backward()"),
    }


def test_nothing_of_the_model_is_kept_alive() -> None:
    """A model, its optimizer and its last loss are free when the program lets go of them, though the session goes on."""
    import gc
    import weakref

    with gradscope.autowatch() as session:
        model = net()
        optimizer = sgd(model)
        train(model, optimizer)
        gone = weakref.ref(model), weakref.ref(optimizer), weakref.ref(model[0].weight)
        del model, optimizer
        gc.collect()
        assert [each() for each in gone] == [None] * 3
    assert names(session) == ["Sequential"]


class Named(nn.Module):
    """A model that is fed by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, *, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x)
        return out


def test_what_is_put_on_keyword_arguments_counts_from_the_first_pass_on() -> None:
    """A hook that changes them, put on before the training, changes those of the call in which the model is found."""

    def double(module: nn.Module, args: Any, kwargs: Any) -> Any:
        return args, {**kwargs, "x": 2 * kwargs["x"]}

    torch.manual_seed(0)
    model = Named()
    by_hand = copy.deepcopy(model)
    optimizer = sgd(model)
    with Session(before_training=lambda it, _: it.register_forward_pre_hook(double, with_kwargs=True) and None):
        losses = train(lambda x: model(x=x + 1), optimizer)
    assert losses == train(lambda x: by_hand(x=2 * (x + 1)), sgd(by_hand))


def test_what_a_hook_raises_in_the_first_pass_is_raised() -> None:
    """A remedy that finds that it cannot act is not taken for an error of ours, which would end the watching only."""

    def refuse(*_: Any) -> None:
        raise NotApplicable("not with this input")

    model = net()
    with (
        pytest.raises(NotApplicable, match="not with this input"),
        Session(before_training=lambda it, _: it.register_forward_pre_hook(refuse) and None),
    ):
        train(model, sgd(model))


@pytest.mark.parametrize("stream", ["closed", "none", "its own"])
def test_a_program_may_do_with_stderr_what_it_likes(
    stream: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Closed, taken away or sent elsewhere: what we say goes where stderr was before, and never into stdout."""
    taken = io.StringIO()
    with gradscope.autowatch() as session:
        if stream == "closed":
            taken.close()
        monkeypatch.setattr("sys.stderr", None if stream == "none" else taken)
        train(model := net(), sgd(model))
    assert len(session.scopes) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("gradscope: recording to runs/")) == ("", 1)
    assert stream == "closed" or taken.getvalue() == ""


def test_a_program_may_go_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of the folder in the middle of a training: the run stays where it is, whole, and is read there."""
    (tmp_path / "elsewhere").mkdir()
    with gradscope.autowatch(every=1) as session:
        model = net()
        optimizer = sgd(model)
        train(model, optimizer)
        monkeypatch.chdir(tmp_path / "elsewhere")
        train(model, optimizer)
        assert session.scopes[0].diagnose().verdict == "healthy"
    assert session.scopes[0].run_dir is not None
    run = read_run(tmp_path / session.scopes[0].run_dir)
    assert (len(run.steps), run.info.state) == (6, "ended")
    assert session.summary().endswith(f"gradscope report {session.scopes[0].run_dir}")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_loss_that_runs_through_another_model_leaves_no_line_there() -> None:
    """The line of a generator's backward pass is none of the discriminator's, though its graph runs through it."""
    with gradscope.autowatch(every=1) as session:
        made, judge = nn.Linear(4, 4), nn.Linear(4, 1)
        of_made, of_judge = sgd(made), sgd(judge)
        for _ in range(3):
            of_judge.zero_grad()
            judge(made(torch.ones(2, 4)).detach()).sum().backward()
            of_judge.step()
            of_made.zero_grad()
            judge(made(torch.ones(2, 4))).sum().backward()
            of_made.step()
    lines = Path(HERE).read_text().splitlines()
    found = {
        run.info.sites[0].shape: [
            lines[place.line - 1].strip() for place in run.info.places if place.what == "backward"
        ]
        for run in runs(session)
    }
    assert found == {
        (1, 4): ["judge(made(torch.ones(2, 4)).detach()).sum().backward()"],
        (4, 4): ["judge(made(torch.ones(2, 4))).sum().backward()"],
    }


def test_a_program_that_makes_models_without_end(capsys: pytest.CaptureFixture[str]) -> None:
    """The first 20 are watched; that the others are not is said once."""
    with gradscope.autowatch(every=1) as session:
        for _ in range(23):
            model = nn.Linear(4, 1)
            train(model, sgd(model), steps=2)
    assert len(session.scopes) == 20
    said = "gradscope: this program trains more than 20 models: those after them are not watched\n"
    assert capsys.readouterr().err.count(said) == 1


def test_an_optimizer_that_waits_for_its_model_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a step is called from is found out once, not by reading the program again at every step."""
    read: list[object] = []
    walk = ast.walk
    waits = sgd(nn.Linear(1, 1))
    with gradscope.autowatch(every=1):
        model = net()
        optimizer = sgd(model)
        train(model, optimizer)
        monkeypatch.setattr("ast.walk", lambda tree: read.append(tree) or walk(tree))
        train(model, optimizer, steps=5)
    assert read == []
    assert waits.param_groups


def test_a_scaler_of_an_earlier_training_is_not_taken_for_this_ones() -> None:
    """One that is alone is taken; of several that which was made since; nobody guesses between two."""
    from gradscope.autowatch.candidates import living_scalers, the_scaler

    gc.collect()
    assert the_scaler(frozenset()) is None
    before = torch.amp.GradScaler("cpu")
    assert the_scaler({before}) is before
    since, idle = torch.amp.GradScaler("cpu"), torch.amp.GradScaler("cpu", enabled=False)
    assert the_scaler({before}) is since
    assert the_scaler(frozenset()) is None
    assert idle not in living_scalers()
