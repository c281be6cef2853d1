"""Going on with a run: a training that starts again from its checkpoint writes behind what it wrote before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn
from torch.nn.parameter import is_lazy

from gradscope.errors import AnotherModel
from gradscope.recorder.compiled import model_name, plain_path
from gradscope.records import RunInfo
from gradscope.store import last_step, part_folders, read_info
from gradscope.store.folders import open_folder


def take_up(info: RunInfo, folder: Path, part: Path, model: nn.Module) -> tuple[RunInfo, int]:
    """What is known of a run when it is resumed, and its first new step; of a new run where there is none.

    Args:
        info: as it would be of a new run.
        folder: of the run.
        part: of this rank in it.
        model: that is trained now.

    Raises:
        AnotherModel: the run is of a model with another class or other shapes.
        NotARun, UnsupportedSchema: what the folder holds cannot be resumed.
    """
    parts = [Path(each.location) for each in part_folders(open_folder(folder))] if folder.is_dir() else []
    if not parts:
        return info, 0
    earlier = read_info(part if part in parts else parts[0])
    _compare(earlier, model, folder)
    # ranks end a step apart when one of them was killed: all go on behind the furthest
    step = max((step for path in parts if (step := last_step(path)) is not None), default=-1) + 1
    if part not in parts:
        return replace(info, id=earlier.id, created=earlier.created), step
    known = {name: getattr(earlier, name) for name in ("id", "created", "sites", "links", "heads", "criterion")}
    return replace(info, **known), step


def _compare(earlier: RunInfo, model: nn.Module, folder: Path) -> None:
    """Refuses a model that the run is not of."""
    if earlier.model != model_name(model):
        raise AnotherModel(
            f"{folder} is a run of a {earlier.model}, and watch() was handed a {model_name(model)} to resume it with. "
            "Hand it the same model, or give another run_dir."
        )
    shapes = {site.path: site.shape for site in earlier.sites if site.role == "parameter"}
    for name, parameter in model.named_parameters():
        was = shapes.get(plain_path(name))
        if was is not None and not is_lazy(parameter) and was != tuple(parameter.shape):
            raise AnotherModel(
                f"in the run at {folder} {plain_path(name)} has the shape {list(was)}; in the model that watch() was "
                f"handed to resume it with, {list(parameter.shape)}. Hand it the same model, or give another run_dir."
            )
