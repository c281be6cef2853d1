"""Imports a framework, or says what to install."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

from gradscope.errors import MissingPackage


def framework(*modules: str, package: str) -> ModuleType:
    """The first of the modules that the program has imported already, else the first that can be imported.

    Args:
        modules: by their full names.
        package: what is to be installed where there is none of them.

    Raises:
        MissingPackage: none is installed.

    Example:
        >>> framework("not_there", "json", package="json").__name__
        'json'
    """
    for name in modules:
        if sys.modules.get(name) is not None:
            return sys.modules[name]
    missing: ModuleNotFoundError | None = None
    for name in modules:
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # it is there, and misses something itself
            missing = missing or error
    raise MissingPackage(
        f"this part of GradScope works inside {package}, which is not installed here. Install it with: pip install {package}"
    ) from missing
