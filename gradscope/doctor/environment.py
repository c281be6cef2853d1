"""What is installed, which devices there are, what is set in the environment, and where runs go."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gradscope import __version__

NEEDED = ("torch", "numpy", "pyarrow", "fsspec", "rich", "dash", "dash-mantine-components", "plotly")
ADAPTED = ("lightning", "transformers", "accelerate", "pytorch-ignite", "skorch")
EXPORTED_TO = ("tensorboard", "wandb", "mlflow", "mlflow-skinny", "prometheus-client", "opentelemetry-sdk")
OPTIONAL = ("scikit-learn", "ray", "pytest", *ADAPTED, *EXPORTED_TO)
SETTINGS = (
    "GRADSCOPE", "GRADSCOPE_DASHBOARD", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "TORCH_COMPILE_DISABLE", "NO_COLOR",
)  # fmt: skip


@dataclass(frozen=True)
class Environment:
    """The software and the devices.

    Attributes:
        packages: what GradScope needs, by name; "" where it is missing.
        optional: what parts of it work with; without those that are missing.
        devices: that torch can use, the CPU first.
        distributed: backends of torch.distributed.
        settings: of the environment, those that matter and are set.
    """

    gradscope: str
    python: str
    platform: str
    packages: dict[str, str]
    optional: dict[str, str]
    devices: tuple[str, ...]
    distributed: tuple[str, ...]
    settings: dict[str, str]


@dataclass(frozen=True)
class Storage:
    """Where runs go.

    Attributes:
        folder: that was asked about; it need not exist yet.
        writable: whether a run can be made there.
        links: whether `latest` can be a link there.
        free: bytes.
        problem: why not; "" where all is well.
    """

    folder: str
    writable: bool
    links: bool
    free: int
    problem: str = ""


def environment() -> Environment:
    """Looks at the interpreter, its packages and torch's devices."""
    optional = {name: found for name in OPTIONAL if (found := _version(name))}
    return Environment(
        __version__,
        platform.python_version(),
        platform.platform(terse=True),
        {name: _version(name) for name in NEEDED},
        optional,
        tuple(_devices()),
        tuple(_backends()),
        {name: os.environ[name] for name in SETTINGS if name in os.environ},
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _devices() -> list[str]:
    import torch

    threads = torch.get_num_threads()
    found = [f"CPU, {os.cpu_count()} cores, {threads} thread{'s' * (threads != 1)} of torch"]
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(number)
            found.append(f"cuda:{number} {about.name}, {about.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def _backends() -> list[str]:
    import torch.distributed as distributed

    if not distributed.is_available():
        return []
    asked = {"gloo": distributed.is_gloo_available, "nccl": distributed.is_nccl_available}
    return [name for name, there in asked.items() if there()]


def storage(folder: Path) -> Storage:
    """Tries to write where runs would go, and leaves nothing behind."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".gradscope-") as tried:
            return Storage(str(folder), True, _can_link(Path(tried)), shutil.disk_usage(place).free)
    except OSError as error:
        return Storage(str(folder), False, False, shutil.disk_usage(place).free, f"{place}: {error.strerror}")


def _can_link(folder: Path) -> bool:
    try:
        (folder / "link").symlink_to(folder)
    except OSError:
        return False
    return True
