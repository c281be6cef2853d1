"""Many processes: real ones, over gloo, as a launcher starts them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import gradscope
from gradscope.errors import RunExists, WatchError
from gradscope.recorder import private, ranks
from gradscope.recorder.agreement import LOOK, SCHEDULE_FILE, SharedSchedule
from gradscope.recorder.parallel import unwrapped
from gradscope.recorder.ranks import Rank, restarted, shared_folder, this_rank
from gradscope.recorder.schedule import FIRST_STEPS
from gradscope.records import QUANTITIES, Run
from gradscope.signals import Signals, budget
from gradscope.store import part_folder, read_run
from gradscope.store.reader import RunReader
from tests.ranks_training import STEPS, build, shard, train

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(gradscope.__file__).parent


class Launched:
    """What several processes left behind."""

    def __init__(self, folder: Path, world: int, *scenarios: str) -> None:
        self.folder, self.world = folder, world
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        self.done = subprocess.run(
            [*command, "-m", "tests.ranks_worker", str(folder), *scenarios],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,  # a hang is a failure
            check=False,
        )
        files = [folder / f"said-{rank}.json" for rank in range(world)]
        assert all(file.exists() for file in files), self.done.stderr[-4000:]
        errors = [line for line in self.done.stderr.splitlines() if line.startswith("[rank")]
        self.said: list[dict[str, Any]] = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        assert {said["began last"] for said in self.said} == {scenarios[-1]}, "\n".join(errors)[:8000]

    def run(self, name: str) -> Run:
        """The merged run of a scenario."""
        return read_run(self.folder / name)

    def part(self, name: str, rank: int) -> Run:
        """What one rank wrote of it."""
        return RunReader(part_folder(self.folder / name, rank)).read()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Launched:
    """Two processes; the last scenario kills one of them."""
    usual = ("ddp", "fsdp2", "inner", "accumulated", "options_of_ddp", "one_rank_only", "drift", "auto", "auto_alone")
    rare = ("zero", "tensor_parallel", "pipeline", "experts", "fsdp1", "default_folder", "killed")
    return Launched(tmp_path_factory.mktemp("two"), 2, *usual, *rare)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Launched:
    """Four processes."""
    return Launched(tmp_path_factory.mktemp("four"), 4, "ddp", "fsdp2", "hybrid", "nan_on_the_last", "one_rank_only")


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """The same trainings in this process alone."""
    folder = tmp_path_factory.mktemp("single")
    train(folder / "plain")
    train(folder / "accumulated", accumulate=2)
    train(folder / "unclipped", clip=0)
    train(folder / "longer", clip=0, steps=24)
    return {path.name: read_run(path) for path in folder.iterdir() if not path.is_symlink()}


@pytest.fixture(params=[2, 4])
def launched(request: pytest.FixtureRequest) -> Launched:
    """Two and four processes."""
    found: Launched = request.getfixturevalue({2: "two", 4: "four"}[request.param])
    return found


def rows_of(run: Run) -> dict[tuple[int, str, str, str], Any]:
    """The rows of a run by step, path, role and quantity."""
    sites = run.info.sites
    return {
        (int(row["step"]), sites[row["site"]].path, sites[row["site"]].role, QUANTITIES[row["quantity"]]): row
        for row in run.summaries
    }


WHOLE = QUANTITIES[: QUANTITIES.index("first_moment")]  # of whole tensors; what is looked at closer is a rank's own
KEPT = QUANTITIES[: QUANTITIES.index("slope")]  # and what an optimizer keeps


def assert_same_numbers(expected: Run, actual: Run, quantities: tuple[str, ...] = KEPT) -> None:
    """The same places, steps and quantities, and in them the same exact statistics, to rounding."""
    one, many = ({key: row for key, row in rows_of(run).items() if key[3] in quantities} for run in (expected, actual))
    assert sorted(one) == sorted(many)
    for key, row in one.items():
        assert many[key]["count"] == row["count"], key
        for name in ("sum_squares", "minimum", "maximum", "weight_dot"):
            scale = abs(row[name]) if name != "weight_dot" else np.sqrt(row["sum_squares"])
            np.testing.assert_allclose(
                many[key][name], row[name], rtol=2e-4, atol=2e-5 * scale, err_msg=f"{key} {name}"
            )


# the same numbers as in one process


@pytest.mark.parametrize("wrapper", ["ddp", "fsdp2"])
def test_merged_numbers_are_those_of_one_process(launched: Launched, single: dict[str, Run], wrapper: str) -> None:
    """Activations, their gradients, weights, gradients and updates of all ranks together are those of one process on
    the same global batch, at the same sites.
    """
    expected, actual = single["plain"], launched.run(wrapper)
    assert_same_numbers(expected, actual)
    for name in ("loss", "gradient_norm", "clipped_gradient_norm"):
        np.testing.assert_allclose(actual.steps[name], expected.steps[name], rtol=1e-4, err_msg=name)
    assert set(actual.info.links) == set(expected.info.links)
    assert actual.info.heads == expected.info.heads
    assert actual.info.not_observed == expected.info.not_observed
    assert actual.rank_facts == ()


@pytest.mark.parametrize("wrapper", ["ddp", "fsdp2"])
def test_weights_are_bit_for_bit_what_they_are_without(launched: Launched, wrapper: str) -> None:
    """GradScope changes no bit of a training on many processes."""
    assert [said[wrapper] for said in launched.said] == [True] * launched.world


def test_ddp_factor(launched: Launched, single: dict[str, Run]) -> None:
    """DDP averages, so a rank's own activation gradients are world-size times too large; merged they are right."""
    expected = Signals(single["plain"])
    parts = [Signals(launched.part("ddp", rank)) for rank in range(launched.world)]
    assert [part.run.info.averaged for part in parts] == [launched.world] * launched.world
    raw = sum(part.values("activation_gradient", "sum_squares")[part.site("0")] for part in parts)
    whole = expected.values("activation_gradient", "sum_squares")[expected.site("0")]
    np.testing.assert_allclose(raw, launched.world**2 * whole, rtol=1e-4)
    merged = Signals(launched.run("ddp"))
    np.testing.assert_allclose(merged.head_norm, expected.head_norm, rtol=1e-4)
    np.testing.assert_allclose(merged.backward_gain, expected.backward_gain, rtol=1e-4)


def test_fsdp2_chain_identity(launched: Launched) -> None:
    """Under FSDP2 the gains of a chain's parts add up to the chain's, and no wrapper is one of the parts."""
    tree = budget(Signals(launched.run("fsdp2")))
    assert tree is not None
    assert tree.chain
    assert [part.name for part in tree.parts] == ["0", "1", "2", "3", "4"]
    np.testing.assert_allclose(sum(part.decades for part in tree.parts[1:]), tree.decades, atol=1e-5)


def test_uneven_and_empty_shards_are_counted_once(four: Launched) -> None:
    """Fifteen rows over four ranks, three rows over four: every entry is counted by exactly one rank."""
    shards = [rows_of(four.part("fsdp2", rank)) for rank in (1, 2, 3)]
    key = (0, "4.1.weight", "parameter", "weight")
    assert shards[2][key]["count"] == 0  # the last of four shards of three rows
    assert rows_of(four.run("fsdp2"))[key]["count"] == 3 * 16


def test_hybrid_shards_count_once(four: Launched, single: dict[str, Run]) -> None:
    """Two copies of two shards: the merged numbers are those of one process, and no bit of the training changed."""
    assert [said["hybrid"] for said in four.said] == [True] * 4
    assert_same_numbers(single["plain"], four.run("hybrid"))


@pytest.mark.parametrize("wrapper", ["ddp", "fsdp2"])
def test_accumulated_gradients_are_reduced_once(two: Launched, single: dict[str, Run], wrapper: str) -> None:
    """With `no_sync` (FSDP2: delayed reduction) until the last backward pass, gradients are those of the step."""
    assert [said[f"accumulated-{wrapper}"] for said in two.said] == [True, True]
    run = two.run(f"accumulated-{wrapper}")
    assert_same_numbers(single["accumulated"], run)
    assert run.steps["backwards"].tolist() == [2] * STEPS


@pytest.mark.parametrize("option", ["find_unused_parameters", "static_graph", "gradient_as_bucket_view"])
def test_options_of_ddp_do_no_harm(two: Launched, single: dict[str, Run], option: str) -> None:
    """Whatever DDP was told, gradients are read after the reduction and no bit changes."""
    assert [said[option] for said in two.said] == [True, True]
    assert_same_numbers(single["plain"], two.run(option))


def test_watching_the_inner_model_is_watching_ddp(two: Launched) -> None:
    """The model watched before or after it was wrapped has the same paths, and the averaging is known."""
    inner, wrapped = two.run("inner"), two.run("ddp")
    assert [site.path for site in inner.info.sites] == [site.path for site in wrapped.info.sites]
    assert (inner.info.parallel, inner.info.averaged, inner.info.model) == ("DDP", 2, "Sequential")


def test_an_optimizer_that_is_sharded_itself_is_watched(two: Launched, single: dict[str, Run]) -> None:
    """ZeroRedundancyOptimizer updates a share of the parameters on each rank; the updates are all there."""
    assert [said["zero"] for said in two.said] == [True, True]
    assert_same_numbers(single["plain"], two.run("zero"), WHOLE)


# what others complain about


def test_wandb_9866_no_gradients_with_fsdp(two: Launched) -> None:
    """Under FSDP every trained parameter has its gradient."""
    signals = Signals(two.run("fsdp2"))
    counts = signals.values("gradient", "count")[signals.parameters]
    assert (counts == [[np.prod(signals.sites[i].shape)] * STEPS for i in signals.parameters]).all()


def test_wandb_9774_histograms_of_dtensors(two: Launched) -> None:
    """Sharded parameters have their histogram: it is taken from the local shard, no operation sees a DTensor."""
    run = two.run("fsdp2")
    row = rows_of(run)[(0, "2.weight", "parameter", "weight")]
    assert row["histogram"].sum() == row["count"] - row["zeros"] > 0
    assert all(site.sharded for site in run.info.sites if site.role == "parameter")


def test_wandb_7423_gpus_hang() -> None:
    """No code of ours talks to another rank: there is nothing that a rank-local decision could make hang."""
    talk = r"\b(all_?reduce|all_?gather\w*|reduce_?scatter\w*|broadcast|barrier|redistribute|full_tensor)\s*\("
    talk += r"|distributed\.(i?send|i?recv|scatter|gather|reduce|init_process_group|new_group)\b"
    assert re.search(talk, "torch.distributed.barrier()")
    texts = {file.name: file.read_text(encoding="utf-8") for file in PACKAGE.rglob("*.py")}
    assert {name: re.findall(talk, text) for name, text in texts.items() if re.search(talk, text)} == {}


def test_composer_3920_monitors_break_with_fsdp2(launched: Launched) -> None:
    """Update ratios and gradient norms under FSDP2 are finite for every parameter, on every rank's behalf."""
    signals = Signals(launched.run("fsdp2"))
    assert np.isfinite(signals.update_ratio[signals.parameters][:, 1:]).all()
    assert np.isfinite(signals.run.steps["gradient_norm"]).all()


def test_weathergenerator_2724_spikes_on_one_rank_are_seen(four: Launched) -> None:
    """A NaN on rank 3 alone is found, whoever is asked, and rank 3 is named."""
    diagnosis = gradscope.diagnose(four.run("nan"))
    assert diagnosis.verdict == "broken"
    assert diagnosis.findings[0].message == (
        "Loss is NaN since step 2; it began in the activation of the model on rank 3"
    )


def test_watch_on_rank_0_only_does_not_hang(launched: Launched, single: dict[str, Run]) -> None:
    """One rank that watches is enough, rank 0 or another; the run is readable and names those that did not."""
    for alone in (0, launched.world - 1):
        run = launched.run(f"only-{alone}")
        assert len(run.steps) == STEPS
        assert [part.name for part in sorted((launched.folder / f"only-{alone}").glob("rank-*"))] == (
            [f"rank-{alone}"] if alone else []
        )
        assert_same_numbers(single["plain"], run, ("weight", "gradient", "update"))
        (missing,) = run.info.not_observed
        assert missing.why == "nothing was written there: was watch() called?"
        assert gradscope.diagnose(run).verdict == "healthy"


# what goes wrong


def test_a_killed_rank_leaves_a_readable_run(two: Launched) -> None:
    """When rank 1 dies at step 3 and takes the job down, the three steps before are there, whole."""
    assert two.done.returncode != 0
    run = two.run("killed")
    assert run.steps["step"].tolist() == [0, 1, 2]
    before = {key: row for key, row in rows_of(two.run("ddp")).items() if key[0] < 3}
    assert {key: row["sum_squares"] for key, row in rows_of(run).items()} == {
        key: row["sum_squares"] for key, row in before.items()
    }
    assert two.part("killed", 1).info.state == "recording"


def test_ranks_that_drift_apart_are_told(two: Launched) -> None:
    """Weights that were changed on one rank only are a finding, with the step since when."""
    (finding,) = [f for f in gradscope.diagnose(two.run("drift")).findings if f.rule == "unequal-replicas"]
    assert finding.first_step == 2
    assert "0.weight" in finding.message
    assert finding.severity == "error"


def test_tensor_parallel_is_stated(two: Launched, single: dict[str, Run]) -> None:
    """Under tensor parallelism weights, gradients and updates are right and activations are said to be missing."""
    run = two.run("tensor-parallel")
    assert [said["tensor-parallel"] for said in two.said] == [True, True]
    assert (run.info.parallel, run.info.shards) == ("tensor parallel", 2)
    assert [missing.what for missing in run.info.not_observed] == ["activations and their gradients"]
    assert_same_numbers(single["unclipped"], run, ("weight", "gradient", "update"))
    assert {QUANTITIES[row["quantity"]] for row in run.summaries} <= set(KEPT) - {"activation", "activation_gradient"}


def test_a_pipeline_is_stated(two: Launched) -> None:
    """Pipeline stages are not put together; each rank's part is a run of its own, and the merged one says so."""
    assert [said["pipeline"] for said in two.said] == [None, None]
    run = two.run("pipeline")
    assert run.info.parallel == "pipeline"
    assert any(missing.what == "ranks other than 0" for missing in run.info.not_observed)
    assert len(two.part("pipeline", 1).summaries) > 0


def test_parameters_that_ddp_leaves_to_each_rank_are_stated(two: Launched) -> None:
    """Where DDP was told to ignore parameters (experts, say), the ranks' parts are not put together, nor compared."""
    run = two.run("experts")
    (missing,) = run.info.not_observed
    assert missing.why.startswith("DDP leaves 0.weight to each rank, as it was told")
    assert run.rank_facts == ()


def test_fsdp1_is_stated(two: Launched) -> None:
    """What FSDP1 hides is listed as not observed; the loss is there."""
    run = two.run("fsdp1")
    assert [missing.what for missing in run.info.not_observed] == ["everything but the loss"]
    assert np.isfinite(run.steps["loss"]).all()
    assert len(run.summaries) == 0


# where they write and when


def test_all_ranks_find_the_same_new_folder(two: Launched) -> None:
    """Without run_dir, the ranks of a job name one folder without asking each other, and another for the next run."""
    first, second = two.said
    assert first["default-folder"] == second["default-folder"]
    assert len(set(first["default-folder"])) == 2
    for folder in first["default-folder"]:
        assert (two.folder / folder / "run.json").exists()
        assert (two.folder / folder / "rank-1" / "run.json").exists()
    assert (two.folder / "runs" / "latest").resolve().name == Path(first["default-folder"][1]).name


def test_the_rank_is_known_before_and_after_the_process_group(two: Launched) -> None:
    """The launcher's environment says what torch.distributed says later."""
    assert [said["rank before and after"] for said in two.said] == [[[0, 2], [0, 2]], [[1, 2], [1, 2]]]
    assert this_rank() == (0, 1)


def test_ranks_record_the_same_steps(two: Launched) -> None:
    """Under every="auto" all ranks record the first steps and then the same ones, by a schedule that rank 0 says."""
    recorded = [np.unique(part.summaries["step"]).tolist() for part in (two.run("auto"), two.part("auto", 1))]
    assert recorded[0] == recorded[1]
    assert recorded[0][:FIRST_STEPS] == list(range(FIRST_STEPS))
    assert len(recorded[0]) > FIRST_STEPS
    assert (two.folder / "auto" / SCHEDULE_FILE).exists()


def test_norms_between_recorded_steps_are_over_all_shards(two: Launched, single: dict[str, Run]) -> None:
    """A gradient norm that is taken without recording the step is each rank's own, put together when read."""
    run, expected = two.run("auto-fsdp2"), single["longer"]
    between = ~run.steps["recorded"] & np.isfinite(run.steps["clipped_gradient_norm"])
    assert between.sum() >= LOOK - FIRST_STEPS
    norms, whole = (each.steps["clipped_gradient_norm"][between] for each in (run, expected))
    np.testing.assert_allclose(norms, whole, rtol=1e-3)
    alone = two.run("auto-alone")
    assert len(alone.steps) == 24
    assert np.isnan(alone.steps["clipped_gradient_norm"]).all()  # of one share nobody can tell the whole


def follow(schedule: SharedSchedule, steps: range, cost: float) -> list[int]:
    """Lets a schedule go through steps of one second, whose recording costs so many seconds."""
    wanted = []
    for step in steps:
        wants = schedule.wants(step)
        wanted += [step] * wants
        schedule.spent(1.0 + cost * wants, cost * wants, wants)
    return wanted


def test_the_stride_follows_rank_0s_budget(tmp_path: Path) -> None:
    """Rank 0 spends no more than its share; the others do the same steps although theirs cost ten times as much."""
    leader, other = SharedSchedule(0.05, tmp_path, 0), SharedSchedule(0.05, tmp_path, 1)
    steps, both = [], []
    for block in range(0, 4096, LOOK):
        steps += follow(leader, range(block, block + LOOK), 0.5)
        both += follow(other, range(block, block + LOOK), 5.0)
    assert steps == both
    assert len(steps) * 0.5 <= 0.05 * 4096
    assert len(steps) * 0.5 >= 0.01 * 4096


def test_a_rank_that_reads_late_records_multiples(tmp_path: Path) -> None:
    """Strides are powers of two: what a rank with an old one records, or misses, is never off the others' grid."""
    leader = SharedSchedule(0.05, tmp_path, 0)
    steps = follow(leader, range(2048), 0.5)
    late = SharedSchedule(0.05, tmp_path, 1)
    pairs = {*range(0, 2048, LOOK), *range(1, 2048, LOOK)}  # a curvature takes two gradients
    assert set(follow(late, range(2048), 0.5)) <= {*range(FIRST_STEPS), *pairs}
    assert 2 * json.loads((tmp_path / SCHEDULE_FILE).read_text(encoding="utf-8"))["stride"] == steps[-1] - steps[-3]


def test_without_rank_0_each_rank_goes_by_its_own_budget(tmp_path: Path) -> None:
    """Where rank 0 does not watch there is no schedule to read, and the others still record."""
    alone = follow(SharedSchedule(0.05, tmp_path, 1), range(4096), 0.5)
    assert len(alone) > FIRST_STEPS
    assert len(alone) * 0.5 <= 0.05 * 4096
    assert not (tmp_path / SCHEDULE_FILE).exists()


def test_a_torn_schedule_is_as_good_as_none(tmp_path: Path) -> None:
    """What cannot be read is not followed, and nothing fails."""
    (tmp_path / SCHEDULE_FILE).write_text("{", encoding="utf-8")
    assert len(follow(SharedSchedule(0.05, tmp_path, 1), range(1024), 0.5)) > FIRST_STEPS


def test_a_leap_of_the_loss_is_recorded_by_the_rank_that_sees_it(tmp_path: Path) -> None:
    """An alarm needs no agreement: the rank that has it records its next step."""
    schedule = SharedSchedule(0.05, tmp_path, 1)
    follow(schedule, range(24), 0.5)
    for _ in range(3):
        schedule.saw_loss(1.0)
    schedule.saw_loss(float("nan"))
    assert schedule.wants(25)


def test_several_machines_need_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no folder can be agreed on, watch says so and what to do."""
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(
        WatchError, match=r"rank 1 of 4 .* Give every rank the same run_dir=, or start them with torchrun"
    ):
        shared_folder("Net", Rank(1, 4))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "my/job")
    assert shared_folder("OtherNet", Rank(1, 4)) == Path("runs/my-job-OtherNet")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert shared_folder("ThirdNet", Rank(1, 4)) == Path("runs/slurm-7-0-0-ThirdNet")


def test_a_restarted_job_writes_beside_the_earlier_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the launcher starts failed ranks again, their run does not collide with the first attempt's."""
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    assert restarted(Path("runs/a")) == Path("runs/a")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    assert restarted(Path("runs/a")) == Path("runs/a-restart2")


def test_jobs_are_told_apart_by_their_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one machine the name holds when the launcher started and its number; watching again gives another name."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(ranks, "_asked", type(ranks._asked)())
    names = [shared_folder("Net", Rank(0, 2)).name for _ in range(2)]
    assert re.fullmatch(rf"\d{{8}}-\d{{6}}-{os.getppid()}-Net", names[0])
    assert names[1] == f"{names[0]}-2"


def test_a_rank_never_overwrites_a_run(tmp_path: Path) -> None:
    """A folder that holds a part of the same rank is refused, rank by rank."""
    train(tmp_path / "run", steps=1)
    with pytest.raises(RunExists):
        train(tmp_path / "run", steps=1)


def _spawned(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    os.chdir(folder)
    model = DistributedDataParallel(build())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradscope.watch(model, optimizer, every=1):
        for _ in range(2):
            model(torch.ones(4, 16)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    dist.destroy_process_group()


def test_spawned_processes_are_ranks_too(tmp_path: Path) -> None:
    """`mp.spawn` sets no environment; the process group knows the ranks and the parent names the folder."""
    mp.spawn(_spawned, (str(tmp_path),), nprocs=2)
    (folder,) = (path for path in (tmp_path / "runs").iterdir() if not path.is_symlink())
    run = read_run(folder)
    assert (run.info.world_size, run.info.averaged, len(run.steps)) == (2, 2, 2)
    assert (folder / "rank-1" / "run.json").exists()


# private names of torch


@pytest.fixture
def group() -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_the_active_ddp_is_known_inside_of_its_forward(group: None) -> None:
    """torch says which DDP wrapper's forward is running, and none outside."""
    model = build()
    wrapped = DistributedDataParallel(model)
    seen: list[Any] = []
    handle = model.register_forward_hook(lambda *_: seen.append(private.active_ddp()))
    wrapped(torch.ones(2, 16))
    handle.remove()
    assert seen == [wrapped]
    assert private.active_ddp() is None
    assert unwrapped(wrapped) is model


def test_what_fully_shard_keeps_is_known(group: None) -> None:
    """torch says what FSDP2 divides by, which shard a gathered parameter has, and what it has not reduced yet."""
    from torch.distributed.fsdp import FSDPModule

    model = shard(build())
    assert isinstance(model, FSDPModule)
    assert private.gradient_divisor(model) is None
    model.set_gradient_divide_factor(3.0)
    assert private.gradient_divisor(model) == 3.0
    shards = {id(parameter) for parameter in model.parameters()}
    model.set_requires_gradient_sync(False)
    model(torch.ones(2, 16)).sum().backward()
    assert sum(gradient is not None for gradient in private.unreduced_gradients(model)) == len(shards)
    assert {id(parameter) for parameter in private.sharded_parameters(model).values()} == shards
    assert private.gradient_divisor(nn.Linear(1, 1)) is None


def test_a_callback_after_backward_comes_after_ddps_own(group: None) -> None:
    """Among ranks the callback runs when the reduction is over, also when a static graph delays it."""
    model = DistributedDataParallel(build(), static_graph=True)
    output = model(torch.ones(2, 16))
    seen: list[bool] = []

    def check() -> None:
        seen.append(all(parameter.grad is not None for parameter in model.parameters()))

    output.grad_fn.register_prehook(lambda _: private.after_backward(check))
    output.sum().backward()
    assert seen == [True]
