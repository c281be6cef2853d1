"""The dashboard as a process beside a training, see `gradscope/beside.py`: it ends with the process that it is for."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time

_PATIENCE = 0.5  # seconds between two looks at whether the training is still there
_FAREWELL = 3.0  # seconds to end in good order


def main(path: str, listener: int, process: int) -> None:
    """Serves the runs at `path` on a socket that listens already, for as long as the process that started it lives."""
    for kind in (signal.SIGTERM, signal.SIGINT):  # a shell may have started the training with SIGINT ignored
        signal.signal(kind, signal.default_int_handler)
    threading.Thread(target=_end_with, args=(process,), daemon=True).start()
    try:
        from gradscope.dashboard.app import create_app  # here, so that what is missing is one line too
        from gradscope.dashboard.server import serve_on

        os.nice(5)  # the training goes first
        with socket.socket(fileno=listener) as listening:
            serve_on(listening, create_app(path).server, lambda: None)
    except KeyboardInterrupt:
        return
    except Exception as error:  # one line: what else is on this terminal is the training's
        print(f"gradscope: the dashboard beside the training ended: {type(error).__name__}: {error}", file=sys.stderr)


def _end_with(process: int) -> None:
    """Ends this process with its parent, however that came to its end: whoever loses one is given another."""
    while os.getppid() == process:
        time.sleep(_PATIENCE)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_FAREWELL)
    os._exit(0)
