"""Serves the page until Ctrl-C."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from werkzeug.serving import WSGIRequestHandler, make_server

from gradscope.dashboard.app import create_app
from gradscope.dashboard.guard import TOKEN, Access, is_loopback, let_in, names_of_this_machine
from gradscope.dashboard.memory import give_memory_back
from gradscope.errors import AddressInUse
from gradscope.notices import say

_TRIES = 20


def serve(
    path: Path | str,
    host: str = "127.0.0.1",
    port: int = 8050,
    on_ready: Callable[[str], None] | None = None,
    expert: bool = False,
) -> None:
    """Serves the dashboard of a run, or of a folder of runs, until Ctrl-C.

    Args:
        path: a run folder or a folder of runs, a path or a URL.
        host: where to listen. Where others can reach that, the page's address holds a token without which nothing is
            shown.
        port: where to listen; the next free one up to 20 further when it is taken. 0: any free port.
        on_ready: called with the page's address once it can be opened.
        expert: leaves out what explains the page to learners.

    Raises:
        RunNotFound, NotARun: see `Runs`.
        AddressInUse: all these ports are taken, or the machine has no such address.

    Example:
        >>> serve(Path("runs"), on_ready=print)  # doctest: +SKIP
        http://127.0.0.1:8050/
    """
    give_memory_back()
    app = create_app(path, expert=expert)
    with listen(host, port) as listener:
        address, actual_port = listener.getsockname()[:2]
        query = ""
        if not is_loopback(address):
            access = Access(secrets.token_urlsafe(24), names_of_this_machine(), f"gradscope-token-{actual_port}")
            let_in(app, access)
            query = f"?{TOKEN}={access.token}"
            say(
                f"gradscope: the dashboard listens on {host}, where others can reach it. Whoever has this address sees "
                "the runs and can start trials of them; it is sent unencrypted. Safer: leave out --host and forward "
                f"the port, ssh -L {actual_port}:127.0.0.1:{actual_port} THIS-MACHINE"
            )
            address = _outward(listener.family) if address in ("0.0.0.0", "::") else address
        serve_on(listener, app.server, lambda: on_ready and on_ready(f"{_origin(address, actual_port)}/{query}"))


def serve_on(listener: socket.socket, application: object, on_ready: Callable[[], object]) -> None:
    """Answers what comes in at a socket that listens, until Ctrl-C."""
    address, port = listener.getsockname()[:2]
    server = make_server(address, port, application, threaded=True, request_handler=_Quiet, fd=listener.fileno())  # type: ignore[arg-type]
    try:
        on_ready()
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on the first free port of `port … port + 20`.

    Raises:
        AddressInUse: none is free, or the host is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, min(port + _TRIES, 65535) + 1) if port else (0,):
        try:
            return socket.create_server((host, candidate), family=family, backlog=128)
        except socket.gaierror as error:
            raise AddressInUse(f"nothing is known of the host {host!r}: {error.strerror}.") from error
        except OSError:
            continue
    raise AddressInUse(
        f"ports {port} to {port + _TRIES} on {host} are all taken. Give another one with --port, or --port 0 for any."
    )


def _origin(address: str, port: int) -> str:
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _outward(family: socket.AddressFamily) -> str:
    """The address by which others reach this machine; loopback when it has no network."""
    far, here = ("2001:db8::1", "::1") if family == socket.AF_INET6 else ("192.0.2.1", "127.0.0.1")
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((far, 9))  # only chooses a way: nothing is sent, and nobody has this address
            return str(probe.getsockname()[0])
        except OSError:
            return here


class _Quiet(WSGIRequestHandler):
    """Says nothing: the terminal belongs to the user."""

    def log(self, type: str, message: str, *args: object) -> None:
        """Drops the line."""
