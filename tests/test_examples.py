"""The examples in the docstrings run and give what they show."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import gradscope

MODULES = [
    module.name
    for module in pkgutil.walk_packages(gradscope.__path__, "gradscope.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", ["gradscope", *MODULES])
def test_examples_in_docstrings_give_what_they_show(name: str) -> None:
    """Every example in a docstring of the package runs as it stands."""
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS, raise_on_error=False, verbose=False)
    assert failed == 0
