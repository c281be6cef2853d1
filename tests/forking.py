"""Programs in forks of the test's own process, where torch is imported already: a process of its own costs seconds."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from gradscope.cli import main


def forked(run: Callable[[], int], folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs something in a fork, in a folder; gives its exit code and what it wrote."""
    out, err = folder / f"{run.__name__}.out", folder / f"{run.__name__}.err"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pytest has no threads that hold locks of ours
        process = os.fork()
    if process == 0:
        code = 1
        try:
            for number, file in ((1, out), (2, err)):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
            os.chdir(folder)
            torch.set_num_threads(1)  # the pool of threads is the parent's
            code = run()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return subprocess.CompletedProcess([], code, out.read_text(), err.read_text())


def by_python(file: Path, arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """A script as `python` runs it."""

    def plain() -> int:
        sys.argv[:] = [str(file), *arguments]
        sys.path[0] = str(file.parent)
        try:
            runpy.run_path(str(file), run_name="__main__")
        except SystemExit as ending:
            return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
        return 0

    return forked(plain, folder)


def by_us(words: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """A command line of GradScope."""

    def watched() -> int:
        return main(words)

    return forked(watched, folder)
