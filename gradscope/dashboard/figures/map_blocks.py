"""The parts of a model that the map can show alone, each layer in its own row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gradscope.records import Site
from gradscope.reports.layer_map import MOST_ROWS

_BETWEEN = " … "  # in the name of a stretch of neighbours: "layers.0 … layers.259"


class Block(NamedTuple):
    """A part of the model.

    Attributes:
        name: a module's path, or those of the first and the last of a stretch of small neighbours.
        rows: how many rows of the map it has.
    """

    name: str
    rows: int


def blocks(sites: Sequence[Site], most: int = MOST_ROWS) -> tuple[Block, ...]:
    """The parts, in the map's order: the largest modules of at most `most` rows, each row in one of them.

    Modules without modules inside them are taken together where they are neighbours.
    """
    return tuple(_of_level(0, [_path(site) for site in sites], most))


def rows_of(sites: Sequence[Site], block: str) -> list[int]:
    """Which sites belong to a part; any module's path is one. Empty where the model has no such part."""
    paths = [".".join(_path(site)) for site in sites]
    inside = [row for row, path in enumerate(paths) if _is_in(path, block)]
    first, between, last = block.partition(_BETWEEN)
    if inside or not between:
        return inside
    begins = [row for row, path in enumerate(paths) if _is_in(path, first)]
    ends = [row for row, path in enumerate(paths) if _is_in(path, last)]
    return list(range(begins[0], ends[-1] + 1)) if begins and ends else []


def _path(site: Site) -> list[str]:
    """The names that lead to a site's module."""
    return (site.module if site.role == "parameter" else site.path).split(".")


def _is_in(path: str, block: str) -> bool:
    return f"{path}.".startswith(f"{block}.")


def _of_level(depth: int, paths: list[list[str]], most: int) -> Iterator[Block]:
    """The parts of a module, given the paths of the rows inside it."""
    children: dict[str, list[list[str]]] = {}
    for path in paths:
        children.setdefault(".".join(path[: depth + 1]), []).append(path)
    small: list[Block] = []
    for name, inside in children.items():
        if all(path == inside[0] for path in inside):
            small.append(Block(name, len(inside)))
            continue
        yield from _together(small, most)
        small = []
        if len(inside) > most:
            yield from _of_level(depth + 1, inside, most)
        else:
            yield Block(name, len(inside))
    yield from _together(small, most)


def _together(small: list[Block], most: int) -> Iterator[Block]:
    """Neighbours as stretches of about equal length, as few as there must be."""
    stretches = -(-sum(block.rows for block in small) // most)
    for number in range(stretches):
        part = small[len(small) * number // stretches : len(small) * (number + 1) // stretches]
        if part:
            name = part[0].name if len(part) == 1 else f"{part[0].name}{_BETWEEN}{part[-1].name}"
            yield Block(name, sum(block.rows for block in part))
