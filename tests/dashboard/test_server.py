"""Who can reach the page, and where it listens."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from gradscope.dashboard import create_app, serve
from gradscope.dashboard.guard import is_loopback
from gradscope.dashboard.server import _listen
from gradscope.errors import AddressInUse, RunNotFound, UnsafeHost
from tests.conftest import SaveRun
from tests.dashboard.conftest import Server


@pytest.mark.parametrize("host", ["evil.example", "192.168.1.7:8050", "127.0.0.1.evil.example", "[::2]:80"])
def test_a_foreign_host_is_refused(save_run: SaveRun, host: str) -> None:
    """[29] A page elsewhere cannot read the dashboard through a name that leads here."""
    client = create_app(save_run()).server.test_client()
    assert client.get("/", headers={"Host": host}).status_code == 403
    assert client.get("/_dash-layout", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8050", "localhost:1", "[::1]:8050", "localhost"])
def test_this_machine_is_served(save_run: SaveRun, host: str) -> None:
    """Loopback names are answered, with a policy that lets the page load from here only."""
    answer = create_app(save_run()).server.test_client().get("/", headers={"Host": host})
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "unsafe-eval" not in policy


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "myhost"])
def test_others_are_not_served(save_run: SaveRun, host: str) -> None:
    """An address that others can reach is refused, with what to do instead."""
    with pytest.raises(UnsafeHost, match=r"others can reach it.*127\.0\.0\.1.*ssh -L"):
        serve(save_run(), host=host)


def test_loopback_is_more_than_one_address() -> None:
    """All of 127/8, ::1 and localhost, and nothing that only looks like them."""
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "a.localhost")] == [True] * 5
    assert [is_loopback(host) for host in ("10.0.0.1", "localhost.evil.example", "", "::ffff:8.8.8.8")] == [False] * 4


def test_a_taken_port_leads_to_the_next() -> None:
    """The first free of 20 ports is taken; when none is, the message says which were tried."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with _listen("127.0.0.1", port) as free:
            assert port < free.getsockname()[1] <= port + 20


def test_no_free_port_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them taken: which, and what to do."""

    def refuse(*_: object, **__: object) -> socket.socket:
        raise OSError("taken")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(AddressInUse, match=r"ports 8050 to 8070 on 127\.0\.0\.1 are all taken.*--port"):
        _listen("127.0.0.1", 8050)


def test_a_missing_run_is_said_before_serving(tmp_path: Path) -> None:
    """A wrong path is an error of the command, not a page."""
    with pytest.raises(RunNotFound):
        create_app(tmp_path / "gone")


def test_the_command_prints_one_address_and_nothing_else(save_run: SaveRun, serve_path: Callable[..., Server]) -> None:
    """[1] One line on stdout; requests are not logged."""
    server = serve_path(save_run())
    with urlopen(server.url, timeout=5) as answer:
        assert answer.status == 200
    assert server.stop() == ""


def test_the_dashboard_needs_no_torch() -> None:
    """Importing it brings no torch."""
    program = "import sys, gradscope.dashboard; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
