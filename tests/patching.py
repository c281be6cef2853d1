"""Runs scripts under `gradscope run` in one fresh process, and notes by hand what a run knows of a script's lines."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from gradscope.records import Place, RunInfo, SourceFile

ROOT = Path(__file__).parent.parent
OPTIMIZERS = ("SGD", "Adam", "AdamW", "LBFGS", "RMSprop")
_CALLS = {"step": "step", "backward": "backward", "zero_grad": "zero-grad"}


def record(files: list[Path]) -> None:
    """Leaves a run beside each script: `a.py` → `a-run/`. torch is imported once for all of them."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "tests.patching", *map(str, files)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def _record_here(files: list[str]) -> int:
    from gradscope.cli import main

    codes = []
    for file in map(Path, files):
        os.chdir(file.parent)
        began = time.process_time()
        codes.append(main(["run", "--every", "1", "--run-dir", f"{file.stem}-run", file.name]))
        print(f"^ {file}: exit code {codes[-1]}, {time.process_time() - began:.1f} s", file=sys.stderr)
    return max(codes)


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


if __name__ == "__main__":
    sys.exit(_record_here(sys.argv[1:]))
