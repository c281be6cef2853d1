"""What a run was, in short texts by name, for tools that keep such beside the numbers."""

from __future__ import annotations

from datetime import datetime, timezone

from gradscope import __version__
from gradscope.records import Diagnosis, OptimizerInfo, RunInfo


def facts(info: RunInfo, diagnosis: Diagnosis | None = None) -> dict[str, str]:
    """The facts. The command that trained and its folder are left out: they may hold what others are not to see.

    Example:
        >>> facts(RunInfo("a", "Net", 0.0, device="cuda:0"))["created"]
        '1970-01-01T00:00:00+00:00'
    """
    versions = {f"version.{name}": version for name, version in info.versions.items() if name != "gradscope"}
    told = {
        "run": info.id,
        "model": info.model,
        "created": datetime.fromtimestamp(info.created, timezone.utc).isoformat(),
        "state": info.state,
        "device": info.device,
        "processes": str(info.world_size),
        "parallel": info.parallel,
        "criterion": info.criterion,
        "optimizer": ", ".join(_optimizer(each) for each in info.optimizers),
        "recorded_by": info.versions.get("gradscope", ""),
        "exported_by": __version__,
        **versions,
    }
    if diagnosis is not None:
        told |= {"verdict": diagnosis.verdict, "headline": diagnosis.headline}
    return {name: text for name, text in told.items() if text}


def _optimizer(optimizer: OptimizerInfo) -> str:
    return f"{optimizer.kind}({', '.join(f'{name}={value:g}' for name, value in optimizer.options.items())})"
