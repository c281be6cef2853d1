"""Serves the page until Ctrl-C."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from werkzeug.serving import WSGIRequestHandler, make_server

from gradscope.dashboard.app import create_app
from gradscope.dashboard.guard import require_loopback
from gradscope.errors import AddressInUse

_TRIES = 20


def serve(
    path: Path | str, host: str = "127.0.0.1", port: int = 8050, on_ready: Callable[[str], None] | None = None
) -> None:
    """Serves the dashboard of a run, or of a folder of runs, until Ctrl-C.

    Args:
        path: a run folder or a folder of runs, a path or a URL.
        host: a loopback address.
        port: where to listen; the next free one up to 20 further when it is taken. 0: any free port.
        on_ready: called with the page's address once it can be opened.

    Raises:
        RunNotFound, NotARun: see `Runs`.
        UnsafeHost: others could reach `host`.
        AddressInUse: all these ports are taken.

    Example:
        >>> serve(Path("runs"), on_ready=print)  # doctest: +SKIP
        http://127.0.0.1:8050/
    """
    require_loopback(host)
    app = create_app(path)
    listener = _listen(host, port)
    address, actual_port = listener.getsockname()[:2]
    server = make_server(host, actual_port, app.server, threaded=True, request_handler=_Quiet, fd=listener.fileno())
    try:
        if on_ready is not None:
            name = f"[{address}]" if ":" in address else address
            on_ready(f"http://{name}:{actual_port}/")
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens on the first free port of `port … port + 20`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, min(port + _TRIES, 65535) + 1) if port else (0,):
        try:
            return socket.create_server((host, candidate), family=family, backlog=128)
        except OSError:
            continue
    raise AddressInUse(
        f"ports {port} to {port + _TRIES} on {host} are all taken. Give another one with --port, or --port 0 for any."
    )


class _Quiet(WSGIRequestHandler):
    """Says nothing: the terminal belongs to the user."""

    def log(self, type: str, message: str, *args: object) -> None:
        """Drops the line."""
