"""What breaks tools like this one on odd passes: checkpoints, GANs, penalties, transforms; named after their traps."""

from __future__ import annotations

import copy
import cProfile
import itertools
import pstats
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import gradscope
from gradscope.recorder.private import is_traced, is_transformed
from gradscope.records import Run
from gradscope.signals import Signals, budget
from gradscope.signals.mechanisms import sentence
from tests.specimens import (
    Attention,
    Checkpointed,
    Siamese,
    Specimen,
    assert_same,
    batch,
    classified,
    contrasted,
    gradients_by_torch,
    penalised,
    train,
)
from tests.trainings import mlp

CHECKPOINTS = ("reentrant", "non-reentrant", "nested reentrant", "nested non-reentrant")


def recorded(specimen: Specimen, folder: Path) -> tuple[Run, Signals]:
    """Trains bit for bit, and reads the run."""
    assert_same(train(specimen, folder), train(specimen, None))
    run = gradscope.read_run(folder)
    return run, Signals(run)


@pytest.mark.parametrize("how", CHECKPOINTS)
def test_checkpoint_counts_once(how: str, tmp_path: Path) -> None:
    """Activation checkpointing of any kind shows the very numbers, order, links, head and budget of keeping all."""
    _, kept = recorded(Specimen(lambda: Checkpointed("kept"), classified), tmp_path / "kept")
    run, signals = recorded(Specimen(lambda: Checkpointed(how), classified), tmp_path / "run")
    assert run.info.not_observed == ()
    assert run.steps["forwards"].tolist() == run.steps["backwards"].tolist() == [1, 1, 1]
    paths = [kept.sites[module].path for module in kept.modules]
    assert [signals.sites[module].path for module in signals.modules] == paths
    for quantity, field in itertools.product(("activation", "activation_gradient"), ("count", "sum_squares", "zeros")):
        ours, theirs = signals.values(quantity, field), kept.values(quantity, field)
        for path in paths:
            assert np.array_equal(ours[signals.site(path)], theirs[kept.site(path)])
    for path in paths:
        gain = kept.own_gain(kept.site(path))
        assert signals.own_gain(signals.site(path)) == pytest.approx(gain, abs=1e-6, nan_ok=True)
    assert [run.info.sites[head].path for head in run.info.heads] == ["head"]
    assert sentence(signals, 0) == sentence(kept, 0)
    tree, plain = budget(signals), budget(kept)
    assert tree is not None
    assert plain is not None
    assert tree.chain
    assert [part.name for part in tree.parts] == [part.name for part in plain.parts]


class Whole(nn.Module):
    """A head inside the checkpoint."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.stem, self.body, self.how = nn.Linear(64, 32), mlp(1, nn.Tanh, width=32), how
        self.body[0] = nn.Linear(32, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.body(x) if self.how == "kept" else checkpoint(self.body, x, use_reentrant=self.how == "reentrant")


@pytest.mark.parametrize("how", ["kept", "reentrant", "non-reentrant"])
def test_a_head_inside_a_checkpoint_is_found(how: str, tmp_path: Path) -> None:
    """The head is the last layer with parameters, also when it is only seen in the recompute."""
    run, signals = recorded(Specimen(lambda: Whole(how), classified), tmp_path / "run")
    assert [run.info.sites[head].path for head in run.info.heads] == ["body.2"]
    told = gradients_by_torch(Specimen(lambda: Whole("kept"), classified))
    norms = signals.norm("activation_gradient")
    for path, expected in told.items():
        assert norms[signals.site(path)] == pytest.approx(expected, rel=1e-5), path


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_sequence_of_checkpoints_is_measured_layer_by_layer(reentrant: bool, tmp_path: Path) -> None:
    """`checkpoint_sequential` runs several modules in one checkpoint: each layer's gradient is right, and the head."""

    class Segments(nn.Module):
        """Six layers in two segments."""

        def __init__(self, segments: int) -> None:
            super().__init__()
            self.stem = nn.Linear(64, 64)
            self.layers = mlp(2, nn.Tanh)
            self.segments = segments

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            if not self.segments:
                return self.layers(x)
            return checkpoint_sequential(self.layers, self.segments, x, use_reentrant=reentrant)

    run, signals = recorded(Specimen(lambda: Segments(2), classified), tmp_path / "run")
    told = gradients_by_torch(Specimen(lambda: Segments(0), classified), modules=lambda path, _: path != "layers")
    norms = signals.norm("activation_gradient")
    for path, expected in told.items():
        assert norms[signals.site(path)] == pytest.approx(expected, rel=1e-5), path
    assert run.steps["forwards"].tolist() == [1, 1, 1]
    assert [run.info.sites[head].path for head in run.info.heads] == ["layers.4"]


def test_code_without_gradients_inside_a_model_is_no_checkpoint(tmp_path: Path) -> None:
    """A part that runs under `no_grad` inside a forward (a target network, a quantiser) is listed, not waited for."""

    class Target(nn.Module):
        """Predicts what a part of it that does not learn says."""

        def __init__(self) -> None:
            super().__init__()
            self.online, self.target = nn.Linear(64, 8), nn.Linear(64, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                aim = self.target(x)
            return (self.online(x) - aim).square().mean()

    run, _ = recorded(Specimen(Target, lambda model, step: model(batch(step)[0])), tmp_path / "run")
    assert [missing.what for missing in run.info.not_observed] == ["target"]
    assert [run.info.sites[head].path for head in run.info.heads] == ["online"]


def test_gradient_penalty_passes_are_separate(tmp_path: Path) -> None:
    """The gradients of `autograd.grad` inside a step (WGAN-GP) are not the step's; those of its own backward are."""
    critic = Specimen(lambda: nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 1)), penalised)
    run, signals = recorded(critic, tmp_path / "run")
    assert run.steps["forwards"].tolist() == [3, 3, 3]
    assert run.steps["backwards"].tolist() == [1, 1, 1]
    torch.manual_seed(0)
    model = critic.make()
    squares: dict[str, float] = {}
    inside = [True]

    def listen(path: str) -> Callable[..., None]:
        def after(_: nn.Module, __: Any, output: torch.Tensor) -> None:
            def add(gradient: torch.Tensor) -> None:
                if not inside[0]:
                    squares[path] = squares.get(path, 0.0) + float(gradient.detach().double().square().sum())

            output.register_hook(add)

        return after

    for path, module in model.named_children():
        module.register_forward_hook(listen(path))
    loss = penalised(model, 0)
    inside[0] = False
    loss.backward()
    norms = signals.norm("activation_gradient")
    for path, expected in squares.items():
        assert norms[signals.site(path), 0] == pytest.approx(np.sqrt(expected), rel=1e-4)


def bce(output: torch.Tensor, real: bool) -> torch.Tensor:
    """The GAN's loss for samples that should pass for real or for fake."""
    target = torch.full_like(output, float(real))
    return nn.functional.binary_cross_entropy_with_logits(output, target)


class Gan:
    """The usual loop: a discriminator and a generator with an optimizer each, and what plain torch says of D's step."""

    def __init__(self, folder: Path | None, detach: bool, zero: str, none: bool) -> None:
        torch.manual_seed(0)
        self.d = nn.Sequential(nn.Linear(64, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
        self.g = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 64))
        self.steps_d, self.steps_g = (torch.optim.Adam(net.parameters(), lr=1e-3) for net in (self.d, self.g))
        self.scopes = [] if folder is None else [self._watch(folder / "d", self.d), self._watch(folder / "g", self.g)]
        self.detach, self.zero, self.none = detach, zero, none
        self.told: list[dict[str, float]] = []

    def _watch(self, folder: Path, net: nn.Module) -> gradscope.Scope:
        return gradscope.watch(net, self.steps_d if net is self.d else self.steps_g, run_dir=folder, every=1)

    def _zero(self, optimizer: torch.optim.Optimizer, when: str) -> None:
        if self.zero == when:
            optimizer.zero_grad(set_to_none=self.none)

    def step_d(self, step: int) -> None:
        fake = self.g(torch.randn(8, 8))
        self._zero(self.steps_d, "before")
        outputs: list[tuple[str, torch.Tensor]] = []
        handles = []
        for path, module in self.d.named_children():

            def keep(_: nn.Module, __: Any, output: torch.Tensor, path: str = path) -> None:
                output.retain_grad()
                outputs.append((path, output))

            handles.append(module.register_forward_hook(keep))
        loss = bce(self.d(batch(step)[0]), True) + bce(self.d(fake.detach() if self.detach else fake), False)
        for handle in handles:
            handle.remove()
        for scope in self.scopes[:1]:
            scope.loss(loss)
        loss.backward()
        told = {"loss": float(loss.detach())}
        for path, output in outputs:
            told[path] = float(np.hypot(told.get(path, 0.0), float(output.grad.norm())))
        told["all"] = float(np.sqrt(sum(float(p.grad.square().sum()) for p in self.d.parameters())))
        self.told.append(told)
        self.steps_d.step()
        self._zero(self.steps_d, "after")
        self._zero(self.steps_g, "after")

    def step_g(self, step: int) -> None:
        self._zero(self.steps_g, "before")
        loss = bce(self.d(self.g(torch.randn(8, 8))), True)
        for scope in self.scopes[1:]:
            scope.loss(loss)
        loss.backward()
        self.steps_g.step()
        self._zero(self.steps_g, "after")
        self._zero(self.steps_d, "after")


@pytest.mark.parametrize("none", [True, False], ids=["to None", "to 0"])
@pytest.mark.parametrize("zero", ["before", "after"])
@pytest.mark.parametrize("detach", [True, False], ids=["detached", "attached"])
@pytest.mark.parametrize("first", ["D", "G"])
def test_gan_D_ignores_G_pass(first: str, detach: bool, zero: str, none: bool, tmp_path: Path) -> None:
    """D's records are exactly those of its own two passes, whoever steps first and wherever gradients are zeroed."""
    trained = []
    for folder in (tmp_path, None):
        gan = Gan(folder, detach, zero, none)
        for step in range(3):
            for turn in (gan.step_d, gan.step_g) if first == "D" else (gan.step_g, gan.step_d):
                turn(step)
        for scope in gan.scopes:
            scope.close()
            assert scope._recorder is not None
            assert scope._recorder.failure is None
        trained.append([value.clone() for net in (gan.d, gan.g) for value in net.state_dict().values()])
    assert_same(*trained)
    run = gradscope.read_run(tmp_path / "d")
    signals = Signals(run)
    norms = signals.norm("activation_gradient")
    assert run.steps["forwards"].tolist() == [2, 2, 2]
    assert run.steps["backwards"].tolist() == [1, 1, 1]
    for path in ("0", "1", "2"):
        assert norms[signals.site(path)] == pytest.approx([told[path] for told in gan.told], rel=1e-4)
    assert run.steps["gradient_norm"] == pytest.approx([told["all"] for told in gan.told], rel=1e-4)
    assert run.steps["loss"] == pytest.approx([told["loss"] for told in gan.told], rel=1e-6)
    for folder in ("d", "g"):
        info = gradscope.read_run(tmp_path / folder).info
        assert [info.sites[head].path for head in info.heads] == ["2"]
        assert info.not_observed == ()
    assert gradscope.read_run(tmp_path / "g").steps["forwards"].tolist() == [1, 1, 1]


def test_gradients_zeroed_before_a_step_are_no_part_of_it(tmp_path: Path) -> None:
    """A backward whose gradients are zeroed again (an adversarial example's) leaves nothing in the step."""

    def adversarial(model: nn.Module, step: int) -> torch.Tensor:
        pixels, labels = batch(step)
        pixels = pixels.clone().requires_grad_()
        nn.functional.cross_entropy(model(pixels), labels).backward()
        assert pixels.grad is not None
        model.zero_grad()
        return nn.functional.cross_entropy(model((pixels + 0.1 * pixels.grad.sign()).detach()), labels)

    specimen = Specimen(lambda: mlp(1, nn.Tanh), adversarial)
    run, signals = recorded(specimen, tmp_path / "run")
    assert run.steps["forwards"].tolist() == run.steps["backwards"].tolist() == [1, 1, 1]
    assert signals.values("activation", "count")[signals.site("0")].tolist() == [8 * 64.0] * 3


@pytest.mark.parametrize("times", [1, 2])
def test_backward_twice_over_one_graph(times: int, tmp_path: Path) -> None:
    """Each backward over a retained graph counts: two equal ones bring twice the squares, branches included."""

    class Skip(nn.Module):
        """A residual layer."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.side, self.head = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.tanh(self.first(x))
            return self.head(x + self.side(x))

    squares = []
    for backwards in (1, times):
        torch.manual_seed(0)
        model = Skip()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        with gradscope.watch(model, optimizer, run_dir=tmp_path / f"{len(squares)}", every=1) as scope:
            loss = scope.loss(classified(model, 0))
            for number in range(backwards):
                loss.backward(retain_graph=number < backwards - 1)
            optimizer.step()
        run = gradscope.read_run(tmp_path / f"{len(squares)}")
        assert run.steps["backwards"].tolist() == [backwards]
        signals = Signals(run)
        squares.append(signals.values("activation_gradient", "sum_squares"))
        assert np.isfinite(squares[-1][signals.site("side", "input")]).all()
    assert squares[1] == pytest.approx(times * squares[0], rel=1e-5, nan_ok=True)


def test_backward_to_chosen_inputs(tmp_path: Path) -> None:
    """`backward(inputs=...)` that leaves the model's parameters alone is no training pass; one to some of them is."""
    model = mlp(1, nn.Tanh)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        pixels = batch(0)[0].clone().requires_grad_()
        model(pixels).sum().backward(inputs=[pixels])
        loss = scope.loss(classified(model, 0))
        loss.backward(inputs=[model[2].weight])
        optimizer.step()
        assert scope._recorder is not None
        assert scope._recorder.failure is None
    run = gradscope.read_run(tmp_path / "run")
    signals = Signals(run)
    assert run.steps["forwards"].tolist() == [1]
    assert np.isfinite(signals.norm("gradient")[signals.site("2.weight", "parameter"), 0])
    assert np.isnan(signals.norm("gradient")[signals.site("0.weight", "parameter"), 0])


def test_default_device_context(tmp_path: Path) -> None:
    """Under `torch.device("meta")` as the default device everything of ours is still where the model is."""
    specimen = Specimen(lambda: mlp(1, nn.Tanh), classified)
    plain = train(specimen, None)
    torch.manual_seed(0)
    model = specimen.make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    pairs = [batch(step) for step in range(3)]
    losses = []
    with torch.device("meta"), gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        for pixels, labels in pairs:
            loss = scope.loss(nn.functional.cross_entropy(model(pixels), labels))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
        assert scope._recorder is not None
        assert scope._recorder.failure is None
    assert_same([losses[0], *model.state_dict().values()], [plain[0], *plain[-5:-1]])
    assert gradscope.read_run(tmp_path / "run").steps["recorded"].all()


def test_mha_out_proj_listed_not_observed(tmp_path: Path) -> None:
    """A module that is used as a function is listed; its parameters are recorded all the same."""
    run, signals = recorded(Specimen(Attention, classified), tmp_path / "run")
    assert [missing.what for missing in gradscope.diagnose(run).not_observed] == ["attention.out_proj"]
    for name in ("in_proj_weight", "out_proj.weight", "out_proj.bias"):
        parameter = signals.site(f"attention.{name}", "parameter")
        assert np.isfinite(signals.norm("gradient")[parameter]).all()
        assert np.isfinite(signals.update_ratio[parameter]).sum() >= 2  # biases begin at 0


def test_attention_is_given_one_tensor_three_times(tmp_path: Path) -> None:
    """The part of a shared input's gradient that came back through attention is counted once, not once an argument."""
    _, signals = recorded(Specimen(Attention, classified), tmp_path / "run")
    torch.manual_seed(0)
    model = Attention()
    parts: list[torch.Tensor] = []
    original = model.attention.forward

    def through_a_copy(x: torch.Tensor, *_: torch.Tensor) -> Any:
        alias = x.view_as(x)
        alias.register_hook(parts.append)
        return original(alias, alias, alias)

    model.attention.forward = through_a_copy
    classified(model, 0).backward()
    measured = signals.norm("activation_gradient")[signals.site("attention", "input"), 0]
    assert measured == pytest.approx(float(parts[0].norm()), rel=1e-4)


def test_siamese_merge(tmp_path: Path) -> None:
    """Two calls of one tower in one forward record what one call with both images would."""
    _, apart = recorded(Specimen(Siamese, contrasted), tmp_path / "apart")
    _, at_once = recorded(Specimen(lambda: Siamese(at_once=True), contrasted), tmp_path / "at once")
    for quantity in ("activation", "activation_gradient"):
        for path in ("tower", "tower.0", "tower.1", "tower.2"):
            one, two = (signals.norm(quantity)[signals.site(path)] for signals in (apart, at_once))
            assert one == pytest.approx(two, rel=1e-5)
    assert apart.run.steps["gradient_norm"] == pytest.approx(at_once.run.steps["gradient_norm"], rel=1e-5)


def test_transforms_and_traces_are_left_alone(tmp_path: Path) -> None:
    """Calls inside torch.func transforms are said not to be seen, `jit.trace` sees a clean model, and nothing fails."""
    model = mlp(1, nn.Tanh)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    pixels = batch(0)[0]

    def output(given: dict[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        assert is_transformed()
        return torch.func.functional_call(model, given, (image,)).sum()

    def traced_inside(module: nn.Module, args: Any) -> None:
        seen.append(is_traced())

    seen: list[bool] = []
    assert not is_transformed()
    assert not is_traced()
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.func.vmap(torch.func.grad(output), in_dims=(None, 0))(parameters, pixels)
        torch.func.jvp(lambda x: output(parameters, x), (pixels,), (pixels,))
        handle = model.register_forward_pre_hook(traced_inside)
        traced = torch.jit.trace(model, pixels)
        handle.remove()
        assert seen
        assert seen[0]
        scope.loss(classified(model, 0)).backward()
        optimizer.step()
        assert scope._recorder is not None
        assert scope._recorder.failure is None
    kinds = {node.kind() for node in traced.inlined_graph.nodes()}
    assert kinds <= {"prim::GetAttr", "aten::linear", "aten::tanh"}
    run = gradscope.read_run(tmp_path / "run")
    assert run.steps["forwards"].tolist() == [1]
    assert [str(missing) for missing in run.info.not_observed] == [
        "calls inside torch.func transforms: tensors hold no numbers of their own there"
    ]


def test_averaged_copies_are_not_recorded(tmp_path: Path) -> None:
    """SWA's and EMA's copies run, train and validate unseen; inference mode is no training."""
    torch.manual_seed(0)
    model = mlp(1, nn.Tanh)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model, optimizer, run_dir=tmp_path / "run", every=1) as scope:
        averaged = AveragedModel(model)
        for step in range(3):
            scope.loss(classified(model, step)).backward()
            optimizer.step()
            optimizer.zero_grad()
            averaged.update_parameters(model)
            classified(averaged, 0).backward()
            classified(copy.deepcopy(model), 0).backward()
            with torch.inference_mode():
                model(batch(0, 50)[0])
                averaged(batch(0, 50)[0])
    run = gradscope.read_run(tmp_path / "run")
    assert run.steps["forwards"].tolist() == [1, 1, 1]
    assert run.summaries["count"][run.summaries["quantity"] == 0].max() == 8 * 64


def test_one_watched_model_may_feed_another(tmp_path: Path) -> None:
    """Two models that train together, each with its own run, do not mix their sites or heads."""
    torch.manual_seed(0)
    one, two = nn.Linear(64, 32), mlp(1, nn.Tanh, width=32)
    two[0] = nn.Linear(32, 32)
    steps = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (one, two)]
    scopes = [
        gradscope.watch(net, step, run_dir=tmp_path / name, every=1)
        for net, step, name in zip((one, two), steps, "ab", strict=True)
    ]
    for number in range(3):
        pixels, labels = batch(number)
        loss = nn.functional.cross_entropy(two(torch.relu(one(pixels))), labels)
        for scope in scopes:
            scope.loss(loss)
        loss.backward()
        for step in steps:
            step.step()
            step.zero_grad()
    for scope in scopes:
        scope.close()
    for name, head in (("a", ""), ("b", "2")):
        run = gradscope.read_run(tmp_path / name)
        assert [run.info.sites[index].path for index in run.info.heads] == [head]
        assert run.steps["forwards"].tolist() == [1, 1, 1]
        assert run.info.not_observed == ()


def test_a_checkpoint_around_the_whole_model_counts_once(tmp_path: Path) -> None:
    """A model that is called inside a reentrant checkpoint is recorded from its recompute."""

    def around(model: nn.Module, step: int) -> torch.Tensor:
        pixels, labels = batch(step)
        return nn.functional.cross_entropy(
            checkpoint(model, pixels.clone().requires_grad_(), use_reentrant=True), labels
        )

    run, signals = recorded(Specimen(lambda: mlp(1, nn.Tanh), around), tmp_path / "run")
    assert run.steps["forwards"].tolist() == run.steps["backwards"].tolist() == [1, 1, 1]
    assert [run.info.sites[head].path for head in run.info.heads] == ["2"]
    assert not any("no forward pass was seen" in missing.why for missing in run.info.not_observed)
    told = gradients_by_torch(Specimen(lambda: mlp(1, nn.Tanh), classified))
    norms = signals.norm("activation_gradient")
    for path, expected in told.items():
        assert norms[signals.site(path)] == pytest.approx(expected, rel=1e-5), path


class Block(nn.Module):
    """A residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.tanh(self.linear(self.norm(x)))


def _calls(function: Callable[[], object]) -> int:
    """How many functions a function calls, which no other process disturbs."""
    profile = cProfile.Profile()
    profile.runcall(function)
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


def _work(blocks: int, folder: Path) -> list[int]:
    """Calls in the first recorded step, in the second, and in a diagnosis with the budget."""
    torch.manual_seed(0)
    model = nn.Sequential(*(Block() for _ in range(blocks)))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with gradscope.watch(model, optimizer, run_dir=folder, every=1) as scope:

        def step() -> None:
            scope.loss(model(torch.ones(2, 4)).square().mean()).backward()
            optimizer.step()
            optimizer.zero_grad()

        steps = [_calls(step), _calls(step)]
        assert scope._recorder is not None
        assert scope._recorder.failure is None

    def ask() -> None:
        signals = Signals(gradscope.read_run(folder))
        gradscope.diagnose(signals.run)
        sentence(signals, 0)

    return [*steps, _calls(ask)]


def test_two_thousand_modules_cost_what_one_costs(tmp_path: Path) -> None:
    """From 500 to 2,000 modules a recorded step, the first one too, and the diagnosis grow in proportion."""
    few, many = (_work(blocks, tmp_path / f"{blocks}") for blocks in (170, 680))
    growth = [after / before for before, after in zip(few, many, strict=True)]
    assert max(growth) < 4.5, growth  # four times the modules


class Flat(nn.Module):
    """Residual blocks that are no modules of their own: every block's output reaches all later ones."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(blocks))
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = x + torch.tanh(layer(x))
        return self.head(x)


def test_a_long_flat_residual_model_is_measured_like_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the ways into a layer only the nearest are told apart; what each layer did to the gradient is the same."""
    gains = []
    for most in (8, 1000):
        monkeypatch.setattr("gradscope.recorder.graph._MOST_SOURCES", most)
        train(Specimen(lambda: Flat(40), lambda m, s: m(torch.ones(2, 4)).square().mean()), tmp_path / f"{most}", 1)
        run = gradscope.read_run(tmp_path / f"{most}")
        signals = Signals(run)
        gains.append(np.array([signals.own_gain(signals.site(f"layers.{number}"))[0] for number in range(40)]))
        assert [run.info.sites[head].path for head in run.info.heads] == ["head"]
    assert np.isfinite(gains[0]).all()
    assert np.array_equal(*gains)
