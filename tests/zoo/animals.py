"""All programs of the zoo, by id."""

from __future__ import annotations

from functools import cache

from tests.zoo import (
    autotrainer,
    basics_deep,
    basics_loss,
    basics_norm,
    basics_optimizer,
    basics_time,
    deepchecker,
    healthy_games,
    healthy_loops,
    healthy_networks,
    healthy_usual,
)
from tests.zoo.program import Program

PROGRAMS: tuple[Program, ...] = (
    *basics_deep.PROGRAMS,
    *basics_loss.PROGRAMS,
    *basics_norm.PROGRAMS,
    *basics_time.PROGRAMS,
    *basics_optimizer.PROGRAMS,
    *autotrainer.PROGRAMS,
    *deepchecker.PROGRAMS,
    *healthy_networks.PROGRAMS,
    *healthy_loops.PROGRAMS,
    *healthy_games.PROGRAMS,
    *healthy_usual.PROGRAMS,
)


@cache
def _by_id() -> dict[str, Program]:
    return {program.id: program for program in PROGRAMS}


def by_id(name: str) -> Program:
    """The program of this id.

    Raises:
        KeyError: there is none.
    """
    return _by_id()[name]


def find(words: str = "", *, fast: bool = False) -> list[Program]:
    """Programs whose id begins with one of these words, separated by commas; all of them without words."""
    wanted = [word.lower() for word in words.split(",") if word]
    return [
        program
        for program in PROGRAMS
        if (not wanted or program.id.lower().startswith(tuple(wanted))) and (program.fast or not fast)
    ]
