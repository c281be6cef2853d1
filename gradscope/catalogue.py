"""Finds rules and remedies by importing their packages: adding one is adding a file. Two with one id are refused."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any, TypeVar

from gradscope.errors import CatalogueError

Entry = TypeVar("Entry")


def _collect(package_name: str, base_name: str) -> dict[str, Any]:
    """Instances of all subclasses of a package's base class that its modules define, by id, in order of id."""
    package = importlib.import_module(package_name)
    base = getattr(package, base_name)
    found: dict[str, Any] = {}
    for module_info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{package_name}.{module_info.name}")
        for value in vars(module).values():
            if not (isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__):
                continue
            identity = getattr(value, "id", None)
            if value is base or identity is None:
                continue
            if identity in found:
                raise CatalogueError(
                    f"{type(found[identity]).__module__} and {module.__name__} both have the id {identity!r}. "
                    "An id stands for one thing for ever; give the newer one another."
                )
            found[identity] = value()
    return dict(sorted(found.items()))


@cache
def rules() -> dict[str, Any]:
    """All rules by id: instances of `gradscope.rules.Rule`.

    Example:
        >>> "vanishing-gradient" in rules()
        True
    """
    return _collect("gradscope.rules", "Rule")


@cache
def remedies() -> dict[str, Any]:
    """All remedies by id: instances of `gradscope.remedies.Remedy`."""
    return _collect("gradscope.remedies", "Remedy")
