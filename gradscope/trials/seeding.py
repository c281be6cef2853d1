"""Matched seeds: the same number gives every arm of a trial the same data order and the same first weights."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

APART = 1000  # between the seeds of two numbers: programs count up from theirs, for workers and for ranks
_SEEDS = ((random, "seed"), (np.random, "seed"), (torch, "manual_seed"), (torch.random, "manual_seed"))
_NUMPYS, _TORCHS = 2**32, 2**64  # seeds that they take are smaller, and programs draw theirs from all of them
_SEED_PYTHON, _SEED_NUMPY, _SEED_TORCH = random.seed, np.random.seed, torch.manual_seed  # as they are before `begin`


def begin(number: int) -> None:
    """Seeds all generators, and shifts what the program seeds itself, so that each number is another training.

    Number 0 is the program as it is. A generator that the program makes for itself (`torch.Generator`,
    `numpy.random.default_rng`) keeps its own seed.
    """
    _seed(number)
    if number:
        for module, name in _SEEDS:
            setattr(module, name, _shifted(getattr(module, name), APART * number))


def _seed(number: int) -> None:
    _SEED_PYTHON(number)
    _SEED_NUMPY(number)
    _SEED_TORCH(number)


def _shifted(seed: Callable[..., Any], by: int) -> Callable[..., Any]:
    def shifted(*arguments: Any, **named: Any) -> Any:
        if arguments:
            arguments = (_moved(arguments[0], by), *arguments[1:])
        for name in ("seed", "a"):  # of torch and numpy, and of Python's random
            if name in named:
                named[name] = _moved(named[name], by)
        return seed(*arguments, **named)

    return shifted


def _moved(seed: Any, by: int) -> Any:
    """Another seed, that is taken where the first one is; what is no number stays."""
    if not isinstance(seed, (int, np.integer)):
        return seed
    return int(seed) + by if seed < 0 else (int(seed) + by) % (_NUMPYS if seed < _NUMPYS else _TORCHS)


@contextmanager
def untouched(number: int) -> Iterator[None]:
    """What is drawn inside depends on the number only, and nothing outside depends on what is drawn inside."""
    python, numpy_state = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=devices):
        _seed(number)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)
