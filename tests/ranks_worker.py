"""What one rank does in tests/test_ranks.py; a launcher starts several. Each scenario is a function."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from gradscope.recorder.ranks import this_rank
from tests.ranks_training import build, shard, train


class Rank:
    """This process, and where its scenarios write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number, self.world = dist.get_rank(), dist.get_world_size()
        self.said: dict[str, Any] = {}

    def train(self, name: str, *, watch: bool = True, **options: Any) -> list[torch.Tensor]:
        return train(self.folder / name if watch else None, rank=self.number, world=self.world, **options)

    def same_with_and_without(self, name: str, **options: Any) -> None:
        """Says whether the weights are, bit for bit, what they are without GradScope."""
        watched, alone = self.train(name, **options), self.train(name, watch=False, **options)
        self.said[name] = all(torch.equal(a, b) for a, b in zip(watched, alone, strict=True))


def ddp(rank: Rank) -> None:
    """DDP."""
    rank.same_with_and_without("ddp", wrap=DistributedDataParallel)


def fsdp2(rank: Rank) -> None:
    """fully_shard."""
    rank.same_with_and_without("fsdp2", wrap=shard)


def inner(rank: Rank) -> None:
    """The model inside of DDP is watched."""
    rank.train("inner", wrap=DistributedDataParallel, watch_inner=True, steps=2)


def accumulated(rank: Rank) -> None:
    """Two micro-batches a step; gradients are reduced with the second."""
    rank.same_with_and_without("accumulated-ddp", wrap=DistributedDataParallel, accumulate=2)
    rank.same_with_and_without("accumulated-fsdp2", wrap=shard, accumulate=2)


def options_of_ddp(rank: Rank) -> None:
    """What DDP can be told."""
    for name in ("find_unused_parameters", "static_graph", "gradient_as_bucket_view"):
        rank.same_with_and_without(name, wrap=lambda model, name=name: DistributedDataParallel(model, **{name: True}))


def one_rank_only(rank: Rank) -> None:
    """Only rank 0 watches, then only the last."""
    for alone in (0, rank.world - 1):
        rank.train(f"only-{alone}", watch=rank.number == alone, wrap=DistributedDataParallel)


def nan_on_the_last(rank: Rank) -> None:
    """The last rank is fed a NaN at step 2."""

    def disturb(step: int, x: torch.Tensor, model: nn.Module) -> None:
        if step == 2 and rank.number == rank.world - 1:
            x[0, 0] = float("nan")

    rank.train("nan", wrap=DistributedDataParallel, disturb=disturb, clip=1e9)


def drift(rank: Rank) -> None:
    """Rank 1's first weight is changed at step 2."""

    def disturb(step: int, x: torch.Tensor, model: nn.Module) -> None:
        if step == 2 and rank.number == 1:
            with torch.no_grad():
                next(model.parameters()).mul_(1.5)

    rank.train("drift", wrap=DistributedDataParallel, disturb=disturb)


def auto(rank: Rank) -> None:
    """The schedule decides which steps are recorded."""
    rank.train("auto", wrap=DistributedDataParallel, every="auto", overhead=0.9, steps=120)


def auto_alone(rank: Rank) -> None:
    """Shards of a model, and a schedule of one rank's own: whatever it reads is its own share."""
    rank.train("auto-alone", watch=rank.number == 0, wrap=shard, every="auto", overhead=0.9, steps=24, clip=0)
    rank.train("auto-fsdp2", wrap=shard, every="auto", overhead=0.9, steps=24, clip=0)


def zero(rank: Rank) -> None:
    """The optimizer is sharded, the model is not."""
    from torch.distributed.optim import ZeroRedundancyOptimizer

    def sharded(model: nn.Module) -> torch.optim.Optimizer:
        return ZeroRedundancyOptimizer(model.parameters(), torch.optim.Adam, lr=1e-2)

    rank.same_with_and_without("zero", wrap=DistributedDataParallel, optimizer=sharded)


def hybrid(rank: Rank) -> None:
    """Two copies, each sharded."""
    mesh = init_device_mesh("cpu", (2, rank.world // 2), mesh_dim_names=("replicate", "shard"))
    rank.same_with_and_without("hybrid", wrap=lambda model: shard(model, mesh))


def tensor_parallel(rank: Rank) -> None:
    """A layer is split by columns."""
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    def split(model: nn.Sequential) -> nn.Module:
        mesh = init_device_mesh("cpu", (rank.world,))
        return parallelize_module(model, mesh, {"3.linear": ColwiseParallel(output_layouts=Replicate())})

    # every rank sees the whole batch: the model is what is shared out
    watched, alone = train(rank.folder / "tensor-parallel", wrap=split, clip=0), train(None, wrap=split, clip=0)
    rank.said["tensor-parallel"] = all(torch.equal(a, b) for a, b in zip(watched, alone, strict=True))


def pipeline(rank: Rank) -> None:
    """Each rank has some of the layers."""
    from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

    import gradscope

    layers = list(build())
    share = -(-len(layers) // rank.world)
    model = nn.Sequential(*layers[rank.number * share : (rank.number + 1) * share])
    stage = PipelineStage(model, rank.number, rank.world, torch.device("cpu"))
    schedule = ScheduleGPipe(stage, 2, loss_fn=nn.functional.cross_entropy)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1) if list(model.parameters()) else None
    scope = gradscope.watch(model, optimizer, run_dir=rank.folder / "pipeline", every=1)
    for _ in range(2):
        if rank.number == 0:
            schedule.step(torch.ones(4, 16))
        elif rank.number == rank.world - 1:
            schedule.step(target=torch.zeros(4, dtype=torch.long))
        else:
            schedule.step()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()
    assert scope._recorder is not None
    rank.said["pipeline"] = scope._recorder.failure
    scope.close()


def experts(rank: Rank) -> None:
    """DDP is told to leave one parameter alone."""

    def wrap(model: nn.Module) -> nn.Module:
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, ["0.weight"])
        return DistributedDataParallel(model)

    rank.train("experts", wrap=wrap, steps=2)


def fsdp1(rank: Rank) -> None:
    """FullyShardedDataParallel."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    def wrap(model: nn.Module) -> nn.Module:
        return FullyShardedDataParallel(model, device_id=torch.device("cpu"))

    rank.train("fsdp1", wrap=wrap, steps=2)


def default_folder(rank: Rank) -> None:
    """No run_dir; two runs one after the other."""
    import gradscope

    os.chdir(rank.folder)
    for _ in range(2):
        model = DistributedDataParallel(build())
        scope = gradscope.watch(model, torch.optim.SGD(model.parameters(), lr=0.1))
        rank.said.setdefault("default-folder", []).append(str(scope.run_dir))
        scope.close()


def killed(rank: Rank) -> None:
    """Rank 1 dies at step 3."""

    def disturb(step: int, x: torch.Tensor, model: nn.Module) -> None:
        if step == 3 and rank.number == 1:
            os._exit(1)

    rank.train("killed", wrap=DistributedDataParallel, disturb=disturb, steps=6)


def main(folder: Path, names: list[str]) -> None:
    """Runs scenarios one after the other and writes down what they said."""
    before = this_rank()
    dist.init_process_group("gloo")
    rank = Rank(folder)
    rank.said["rank before and after"] = [list(before), list(this_rank())]
    for name in names:
        rank.said["began last"] = name
        (folder / f"said-{rank.number}.json").write_text(json.dumps(rank.said), encoding="utf-8")
        globals()[name](rank)
    (folder / f"said-{rank.number}.json").write_text(json.dumps(rank.said), encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
