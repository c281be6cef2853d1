"""What this machine offers to GradScope: versions, devices, what cannot be observed here, and what watching costs.

environment.py   what is installed, found and set
limits.py        what nobody can observe here, and why
probe.py         a small training, alone and watched: is it the same bit for bit, and what does watching cost
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gradscope.doctor.environment import Environment, Storage, environment, storage
from gradscope.doctor.limits import Limit, limits
from gradscope.doctor.probe import Probe, probe

__all__ = ["Examination", "examine"]


@dataclass(frozen=True)
class Examination:
    """All of it.

    Attributes:
        probe: None where it was not asked for.
    """

    environment: Environment
    storage: Storage
    limits: tuple[Limit, ...]
    probe: Probe | None

    def to_document(self) -> dict[str, Any]:
        """The same as dicts, lists, strings and numbers."""
        return asdict(self)


def examine(folder: Path, *, probing: bool = True) -> Examination:
    """Looks at everything.

    Args:
        folder: where runs are to be recorded.
        probing: also train, for a few seconds.

    Example:
        >>> import tempfile
        >>> found = examine(Path(tempfile.gettempdir()), probing=False)
        >>> found.storage.writable
        True
    """
    return Examination(environment(), storage(folder), limits(), probe() if probing else None)
