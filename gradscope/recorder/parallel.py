"""What keeps the models of many ranks together, found out on each rank by looking, never by asking the others."""

from __future__ import annotations

import inspect
import sys
from pathlib import PurePath
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gradscope.recorder.private import active_ddp, gradient_divisor
from gradscope.records import NotObserved, RunInfo

_TOLD_ONCE = "read one rank's part (rank-1, say) as a run of its own to see the others"


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside of DDP, so that its paths are those of the training in one process."""
    while isinstance(model, DistributedDataParallel):
        model = model.module
    return model


class Parallelism:
    """What is known of how the ranks train together.

    Attributes:
        facts: fields of `RunInfo`.
        blind: why activations are not recorded; "" when they are.
        blind_to_parameters: whether nothing but the loss can be recorded.

    Args:
        model: as it is watched.
        info: says which rank this is; a single one needs no looking.
    """

    def __init__(self, model: nn.Module, info: RunInfo) -> None:
        self.facts: dict[str, Any] = {}
        self.blind = ""
        self.blind_to_parameters = False
        self._world = info.world_size
        self._looked = self._world == 1
        if not self._looked:
            self._look_for_shards(model)

    def look(self) -> str:
        """Finds out in a forward pass who called for it; gives why it cannot be recorded, "" when it can."""
        ddp = active_ddp() if self._world > 1 and "parallel" not in self.facts else None
        if ddp is not None:
            self._say_ddp(ddp)
        if not self._looked:
            self._looked = True
            if "torch.distributed.pipelining" in sys.modules and _called_by("pipelining"):
                why = f"its layers lie on other ranks; {_TOLD_ONCE}"
                self.facts.update(parallel="pipeline", not_merged=why)
        return self.blind

    def not_observed(self) -> list[NotObserved]:
        """What cannot be seen of such a training, and why."""
        if self._world == 1:
            return []
        if self.blind_to_parameters:
            return [NotObserved("everything but the loss", self.blind)]
        found = [NotObserved("activations and their gradients", self.blind)] if self.blind else []
        if "parallel" not in self.facts and self._looked:
            why = "neither DDP nor fully_shard was seen; gradients are those of one rank, as backward left them"
            found.append(NotObserved("how the ranks share their gradients", why))
        return found

    def _say(self, kind: str, *, averaged: float, size: int, **facts: Any) -> None:
        self.facts.update(parallel=kind, averaged=averaged, **facts)
        if size != self._world:
            why = f"{kind} runs over {size} of {self._world} ranks at a time; {_TOLD_ONCE}"
            self.facts.setdefault("not_merged", why)

    def _say_ddp(self, ddp: DistributedDataParallel) -> None:
        self._say("DDP", averaged=ddp.process_group.size(), size=ddp.process_group.size())
        own = [name for name, _ in ddp.module.named_parameters() if name in ddp.parameters_to_ignore]
        if own:
            self.facts.setdefault("not_merged", f"DDP leaves {own[0]} to each rank, as it was told; {_TOLD_ONCE}")

    def _look_for_shards(self, model: nn.Module) -> None:
        fsdp = sys.modules.get("torch.distributed.fsdp")
        modules = list(model.modules())
        if fsdp is not None and any(isinstance(module, fsdp.FullyShardedDataParallel) for module in modules):
            self.facts["parallel"] = "FSDP1"
            self.blind = "FullyShardedDataParallel (FSDP1) hides the parameters; use fully_shard (FSDP2)"
            self.blind_to_parameters = True
            return
        inside = [module for module in modules if isinstance(module, DistributedDataParallel)]
        if inside:  # the whole of it when torch.compile wraps DDP
            self._say_ddp(inside[0])
            if {*model.parameters()} > {*inside[0].parameters()}:
                why = f"DDP wraps only a part of the model, the rest is each rank's own; {_TOLD_ONCE}"
                self.facts.setdefault("not_merged", why)
            return
        spread: list[Any] = [parameter for parameter in model.parameters() if hasattr(parameter, "device_mesh")]
        meshes = {(parameter.device_mesh, parameter.placements) for parameter in spread}
        wrapped = fsdp is not None and any(isinstance(module, fsdp.FSDPModule) for module in modules)
        if wrapped and meshes:
            self._say_fsdp(model, meshes)
        elif meshes:
            self._say_tensor_parallel(meshes)

    def _say_fsdp(self, model: nn.Module, meshes: set[tuple[Any, Any]]) -> None:
        mesh = next(iter(meshes))[0]
        one_way = all(
            other == mesh and placements[-1].is_shard() and not any(place.is_shard() for place in placements[:-1])
            for other, placements in meshes
        )
        if not one_way or mesh.ndim > 2:
            self._say_tensor_parallel(meshes, "FSDP2 and tensor parallel")
            return
        averaged = gradient_divisor(model) or mesh.size()
        replica = mesh.get_coordinate()[0] if mesh.ndim == 2 else 0
        self._say("FSDP2", averaged=averaged, size=mesh.size(), shards=mesh.size(mesh.ndim - 1), replica=replica)

    def _say_tensor_parallel(self, meshes: set[tuple[Any, Any]], kind: str = "tensor parallel") -> None:
        mesh = next(iter(meshes))[0]
        self.blind = f"{kind}: what a module returns may be one rank's share of it or the whole, and it does not say"
        self._say(kind, averaged=1.0, size=mesh.size(), shards=mesh.size())
        if mesh.ndim > 1 or any(other != mesh for other, _ in meshes):
            self.facts.setdefault("not_merged", f"its parameters are sharded in two ways at once; {_TOLD_ONCE}")


def _called_by(part: str) -> bool:
    """Whether code of this part of torch.distributed is among our callers."""
    frame = inspect.currentframe()
    while frame is not None:
        if {"distributed", part} <= set(PurePath(frame.f_code.co_filename).parts):
            return True
        frame = frame.f_back
    return False
