"""The dashboard beside a training: its process, its address, and the notebook that shows it."""

from __future__ import annotations

import atexit
import importlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gradscope.notices import say

OFF = "GRADSCOPE_DASHBOARD"  # "off" in the environment: none is started, as in the runs of a trial
_HEIGHT = 720  # pixels, in a notebook
_FAREWELL = 3.0  # seconds that its process has to end
_PROGRAM = """
import sys
sys.path[:] = [part for part in sys.path if part] + [sys.argv[1]]  # not the training's folder: a module of the user's
from gradscope.dashboard.beside import main                        # must not stand for one that the dashboard needs
main(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
"""


class Beside:
    """A dashboard in a process of its own, which ends with this one.

    Attributes:
        url: the page's address; it may be opened at once, the answer comes when the process is ready.
    """

    def __init__(self, served: Path) -> None:
        self._owner = os.getpid()
        package = str(Path(__file__).resolve().parent.parent)
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, package, str(served), str(listener.fileno()), str(self._owner)],
                pass_fds=(listener.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # that is for what the training says; what goes wrong is said on stderr
                start_new_session=True,  # a Ctrl-C is for the training
            )
        atexit.register(self.stop)

    @property
    def lives(self) -> bool:
        """Whether its process is there and this one's own; a fork has a copy of this object, and no child."""
        return os.getpid() == self._owner and self._process.poll() is None

    def stop(self) -> None:
        """Ends the process."""
        if self.lives:
            self._process.terminate()
            try:
                self._process.wait(_FAREWELL)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


_STARTED: dict[Path, Beside] = {}  # by what they serve


def announce(run: Path) -> None:
    """Starts the dashboard of a run beside its training and says where it is."""
    address = start(run)
    if address is not None:
        say(f"gradscope: dashboard at {address}")


def start(run: Path) -> str | None:
    """The address of a run's page, its dashboard started unless it is there; None where it cannot be, which is said.

    Never raises: a training goes on without a dashboard.
    """
    if os.environ.get(OFF, "").lower() == "off":
        return None
    try:
        served = _served(run)
        if served not in _STARTED or not _STARTED[served].lives:
            _STARTED[served] = Beside(served)
    except Exception as error:
        say(f"gradscope: the dashboard could not be started ({error}); the training goes on without it")
        return None
    return address(run)


def address(run: Path) -> str | None:
    """The address of a run's page; None when no dashboard shows it."""
    beside = _STARTED.get(_served(run))
    if beside is None or not beside.lives:
        return None
    return f"{beside.url}run/{quote(run.resolve().name, safe='')}"


def show(run: Path, report: Callable[[], str], html: Callable[[], str]) -> None:
    """Shows a run's dashboard inside a notebook; elsewhere its report in words, with the page's address.

    Args:
        run: its folder.
        report: what is printed where there is no notebook.
        html: what a notebook shows when no dashboard can be started.
    """
    if not in_notebook():
        known = address(run)
        print(report().rstrip() + (f"\n\nDashboard: {known}" if known else ""))
        return
    display: Any = importlib.import_module("IPython.display")  # it is there: this is a notebook

    url = start(run)
    if url is None:
        display.display(display.HTML(html()))
    else:
        display.display(display.IFrame(url, "100%", _HEIGHT))
        display.display(display.HTML(f'<a href="{url}" target="_blank" rel="noopener">{url}</a>'))


def in_notebook() -> bool:
    """Whether the program runs in a notebook's kernel, whose outputs a browser shows."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _served(run: Path) -> Path:
    """What the dashboard of a run serves: in `runs/` its siblings too, so that one process is enough for a notebook."""
    run = run.resolve()
    return run.parent if run.parent.name == "runs" else run
