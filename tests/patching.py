"""Records the runs of scripts, and notes by hand what a run knows of a script's lines."""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from gradscope.autowatch import Session, Target, run_program
from gradscope.records import Place, RunInfo, SourceFile
from tests.forking import forked

ROOT = Path(__file__).parent.parent
OPTIMIZERS = ("SGD", "Adam", "AdamW", "LBFGS", "RMSprop")
_CALLS = {"step": "step", "backward": "backward", "zero_grad": "zero-grad"}


def record(files: list[Path], first_steps: str = "clip") -> None:
    """Leaves a run beside each script: `a.py` → `a-run/`. As `gradscope run` does, but all of them in one fork.

    Every second step is recorded, and every single one where a name begins with `first_steps`: what happens there is over
    after step 1.
    """

    def run_all() -> int:
        warnings.simplefilter("ignore")  # pytest has them raised, and some are of what is wrong on purpose
        for file in files:
            os.chdir(file.parent)
            every = 1 if file.stem.startswith(first_steps) else 2
            code = run_program(Target.parse([file.name]), Session(run_dir=f"{file.stem}-run", every=every))
            assert code == 0, file
        return 0

    done = forked(run_all, files[0].parent)
    assert done.returncode == 0, done.stderr


def by_hand(file: Path, info: RunInfo) -> RunInfo:
    """What a run of the script knows of its lines."""
    text = file.read_bytes().decode("utf-8")
    sources = (SourceFile(str(file), text),)
    return replace(info, command=(file.name,), directory=str(file.parent), places=places(file), sources=sources)


def places(file: Path) -> tuple[Place, ...]:
    """The places of a script, found in its text."""
    return tuple(_places(str(file), ast.parse(file.read_bytes())))


def _places(file: str, tree: ast.Module) -> Iterator[Place]:
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield Place("class", file, node.lineno, node.name)
        if not isinstance(node, ast.Call):
            continue
        around = [each.lineno for each in statements if each.lineno <= node.lineno <= (each.end_lineno or 0)]
        line = max(around, default=node.lineno)  # a decorator is in no statement
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in OPTIMIZERS:
            yield Place("optimizer", file, line, name)
        elif name in _CALLS:
            yield Place(_CALLS[name], file, line)  # type: ignore[arg-type]
