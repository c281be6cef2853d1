"""The table of ratios, and its place in the README."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Mapping, Sequence

import torch

from tests.bench.contenders import CONTENDERS, Contender
from tests.bench.trainings import SUBJECTS
from tests.bench.turns import Patience, Ratio

BEGIN, END = "<!-- make bench ARGS=--readme: begin -->", "<!-- make bench ARGS=--readme: end -->"


def header(subjects: Sequence[str] = tuple(subject.title for subject in SUBJECTS)) -> list[str]:
    """The first line's cells."""
    return ["watched by", *subjects, "goal"]


def titles(contenders: Sequence[Contender] = CONTENDERS) -> list[str]:
    """The first column's cells."""
    return [contender.title for contender in contenders]


def render(
    ratios: Mapping[str, Mapping[str, Ratio]], patience: Patience, contenders: Sequence[Contender] = CONTENDERS
) -> str:
    """The table and what it was measured on, as Markdown, from the ratios by training and contender."""
    lines = [_line(header(tuple(ratios))), _line(["---"] * (len(ratios) + 2))]
    for contender in contenders:
        cells = [_cell(of_subject.get(contender.title)) for of_subject in ratios.values()]
        goals = " / ".join(f"{goal:.3f}".rstrip("0").ljust(4, "0") for goal in contender.goals) or "–"
        lines.append(_line([contender.title, *cells, goals]))
    return "\n".join([*lines, "", machine(patience)])


def machine(patience: Patience) -> str:
    """What was measured, on what and when."""
    return (
        "A step's time over that of the training alone, in brackets the same of CPU time: medians over turns in one "
        f"process. Turns: {patience.turns}; CPU cores: {os.cpu_count()}; threads of torch {torch.get_num_threads()}; "
        f"torch {torch.__version__.split('+')[0]}; {datetime.date.today():%d %B %Y}. %: the share of steps that was "
        "recorded in full."
    )


def put_into(text: str, table: str) -> str:
    """A README's text with this table between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"the README has no place for the table; it expects the lines\n{BEGIN}\n{END}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def cells(text: str) -> list[list[str]]:
    """The table's lines in a README, as lists of cells; the rule under the first is left out."""
    table = text.partition(BEGIN)[2].partition(END)[0]
    lines = re.findall(r"^\| (.*) \|$", table, flags=re.MULTILINE)
    return [line.split(" | ") for line in lines if set(line) - set("-| ")]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(ratio: Ratio | None) -> str:
    if ratio is None:
        return "–"
    share = "" if ratio.recorded is None else f", {ratio.recorded:.0%}".replace("%", " %")
    return f"{ratio.wall:.3f} ({ratio.cpu:.3f}){share}"
