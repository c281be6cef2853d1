"""A dashboard without a browser, in a process of its own: draws a run's overview each time it is told to.

Each line of its input is an address below the run; each line of its output says what drawing it took.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any


@dataclass(frozen=True)
class Drawn:
    """What one drawing took."""

    seconds: float
    payload: int  # bytes of JSON that go to the browser
    memory: int  # bytes that the process holds then
    peak: int  # the most bytes that it ever held
    left: int  # bytes of the run that it has not looked at yet


class Viewer:
    """The process, from outside."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.bench.viewer", str(folder)]
        root = Path(__file__).resolve().parents[2]
        self._process = Popen(command, stdin=PIPE, stdout=PIPE, text=True, cwd=root)

    def draw(self, query: str = "") -> Drawn:
        """Draws the overview."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(query, file=self._process.stdin, flush=True)
        return Drawn(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate(timeout=10)


@contextmanager
def viewer(folder: Path) -> Iterator[Viewer]:
    """The process, while it is needed."""
    running = Viewer(folder)
    try:
        yield running
    finally:
        running.close()


def _memory() -> tuple[int, int]:
    """The bytes of this process that are in memory now, and the most that ever were, on Linux."""
    status = Path("/proc/self/status").read_text()
    now, most = (int(re.findall(rf"{name}:\s+(\d+) kB", status)[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, most


def main() -> None:
    """The process, from inside."""
    started = time.perf_counter()  # the first drawing is that of a server that was just started
    from dash._utils import to_json

    from gradscope.dashboard.address import parse
    from gradscope.dashboard.app import create_app
    from gradscope.dashboard.live import refresh
    from gradscope.dashboard.memory import give_memory_back
    from gradscope.dashboard.pages import PAGES
    from gradscope.dashboard.runs import Runs

    give_memory_back()
    create_app(sys.argv[1])
    runs = Runs(sys.argv[1])
    name = runs.names()[0]
    shown: dict[str, Any] | None = None
    for line in sys.stdin:
        started = started or time.perf_counter()
        drawn = refresh(PAGES["overview"], runs, parse(f"/run/{name}", line.strip()), "light", shown)
        payload = sum(len(str(to_json(value))) for value in drawn.values())  # type: ignore[no-untyped-call]
        shown = drawn["shown"]
        seconds, snapshot = time.perf_counter() - started, runs.peek(name)
        assert not drawn["problem"], drawn["problem"]
        left = snapshot.left if snapshot else 0
        print(json.dumps(Drawn(seconds, payload, *_memory(), left).__dict__), flush=True)
        started = 0.0


if __name__ == "__main__":
    main()
