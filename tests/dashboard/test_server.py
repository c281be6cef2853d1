"""Who can reach the page, and where it listens."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from flask.testing import FlaskClient

from gradscope.dashboard import create_app
from gradscope.dashboard.guard import Access, is_loopback, let_in, names_of_this_machine
from gradscope.dashboard.server import listen
from gradscope.errors import AddressInUse, RunNotFound
from tests.conftest import SaveRun
from tests.dashboard.conftest import Server

TOKEN = "a-token-that-nobody-guesses"
HOME = {"Host": "127.0.0.1:8050"}


def client_of(path: Path, access: Access | None = None) -> FlaskClient:
    """A client of the app over these runs."""
    app = create_app(path)
    if access is not None:
        let_in(app, access)
    return app.server.test_client()  # type: ignore[no-any-return]


@pytest.fixture
def guarded(save_run: SaveRun) -> FlaskClient:
    """A client of an app that asks for a token."""
    return client_of(save_run(), Access(TOKEN, frozenset({"gpu7"})))


@pytest.mark.parametrize("host", ["evil.example", "192.168.1.7:8050", "127.0.0.1.evil.example", "[::2]:80"])
def test_a_foreign_host_is_refused(save_run: SaveRun, host: str) -> None:
    """[29] A page elsewhere cannot read the dashboard through a name that leads here, not even the runs' names."""
    client = client_of(save_run())
    for path in ("/", "/_dash-layout", "/assets/gradscope.css", "/run/run/run.json"):
        answer = client.get(path, headers={"Host": host})
        assert answer.status_code == 403
        assert "not served as" in answer.text
        assert "Location" not in answer.headers


@pytest.mark.parametrize("host", ["127.0.0.1:8050", "localhost:1", "[::1]:8050", "localhost"])
def test_this_machine_is_served(save_run: SaveRun, host: str) -> None:
    """Loopback names are answered, with a policy that lets the page load from here only and notebooks embed it."""
    answer = client_of(save_run()).get("/run/run", headers={"Host": host})
    assert answer.status_code == 200
    policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    frames = policy.pop("frame-ancestors")
    assert frames == "'self' http://localhost:* http://127.0.0.1:* vscode-webview: vscode-file:"
    assert policy["default-src"] == "'self'"
    assert not re.search(r"http|\*|unsafe-eval", " ".join(policy.values()))
    assert "unsafe-inline" not in policy["script-src"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_what_another_page_sends_is_refused(save_run: SaveRun, headers: dict[str, str]) -> None:
    """[29] A page elsewhere cannot start a trial or mute a finding through the reader's browser."""
    answer = client_of(save_run()).post("/_dash-update-component", json={}, headers={**HOME, **headers})
    assert answer.status_code == 403
    assert "another page" in answer.text


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://127.0.0.1:8050", "Sec-Fetch-Site": "same-origin"}])
def test_what_the_page_itself_sends_is_taken(save_run: SaveRun, headers: dict[str, str]) -> None:
    """The page's own requests, and those of a program without a browser, come through."""
    body = {"output": "nothing.at.all", "inputs": []}
    answer = client_of(save_run()).post("/_dash-update-component", json=body, headers={**HOME, **headers})
    assert answer.status_code != 403


def test_without_the_token_nothing_is_shown(guarded: FlaskClient) -> None:
    """[29] Pages, data, assets and downloads: all say that a token is asked for, none says more."""
    for path in (
        "/",
        "/run/run",
        "/_dash-layout",
        "/assets/gradscope.css",
        "/run/run/run.json",
        "/?token=wrong",
        "/?token=ä",
    ):
        answer = guarded.get(path, headers=HOME)
        assert answer.status_code == 401
        assert "?token=" in answer.text
        assert "Location" not in answer.headers
    guarded.set_cookie("gradscope-token", "wrong", domain="127.0.0.1")
    assert guarded.post("/_dash-update-component", json={}, headers=HOME).status_code == 401


def test_the_token_is_shown_once_and_kept_in_a_cookie(guarded: FlaskClient) -> None:
    """[29] The address loses it at once; the cookie is out of reach of scripts and of other sites."""
    answer = guarded.get(f"/run/run/layers?layer=a&token={TOKEN}&step=3", headers=HOME)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/run/run/layers?layer=a&step=3")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert guarded.get("/run/run", headers=HOME).status_code == 200
    assert "frame-ancestors 'self'" in guarded.get("/run/run", headers=HOME).headers["Content-Security-Policy"]
    assert "http" not in guarded.get("/run/run", headers=HOME).headers["Content-Security-Policy"]


def test_a_link_from_elsewhere_goes_on_by_itself(guarded: FlaskClient) -> None:
    """A browser would hold a strict cookie back on a redirect that another site began: a page of ours leads on."""
    answer = guarded.get(f"/?token={TOKEN}&find=%22%3E%3Cb", headers={**HOME, "Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200
    assert 'content="0; url=/?find=%22%3E%3Cb"' in answer.text
    assert TOKEN not in answer.text


def test_a_token_leads_to_no_other_host(guarded: FlaskClient) -> None:
    """However the path is written, the redirect stays here."""
    answer = guarded.get(f"//evil.example/?token={TOKEN}", headers=HOME)
    assert not answer.headers.get("Location", "/").startswith("//")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("gpu7:8050", 401),
        ("GPU7", 401),
        ("192.168.1.7:8050", 401),
        ("localhost", 401),
        ("evil.example", 403),
        ("gpu7.evil.example", 403),
    ],
)
def test_a_token_lets_this_machines_names_in(guarded: FlaskClient, host: str, status: int) -> None:
    """[29] With a token its own names and addresses are asked for it; a foreign name is refused all the same."""
    assert guarded.get("/", headers={"Host": host}).status_code == status


def test_this_machine_has_a_name() -> None:
    """What others may call it by, in small letters."""
    assert socket.gethostname().lower() in names_of_this_machine()


@pytest.fixture
def open_server(save_run: SaveRun) -> Iterator[tuple[str, str]]:
    """A server that listens everywhere: its address and what it wrote to stderr once it is there."""
    command = [sys.executable, "-m", "gradscope", "dashboard", str(save_run()), "--port", "0", "--host", "0.0.0.0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().strip()
        yield url, process.stderr.readline()
        process.terminate()
        process.communicate()


def test_listening_everywhere_warns_and_asks_for_the_token(open_server: tuple[str, str]) -> None:
    """[29] `--host 0.0.0.0` prints one address with a token, a warning, and shows nothing without it."""
    url, warning = open_server
    parts = urlsplit(url)
    token = parts.query.removeprefix("token=")
    assert len(token) >= 32
    assert parts.hostname != "0.0.0.0"
    assert re.search("others can reach it.*unencrypted.*ssh -L", warning)
    assert token not in warning

    def ask(path: str, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", parts.port or 0, timeout=10)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer

    assert ask("/").status == 401
    shown = ask(f"/?{parts.query}")
    assert shown.status == 303
    cookie = (shown.getheader("Set-Cookie") or "").partition(";")[0]
    assert cookie.startswith(f"gradscope-token-{parts.port}=")
    assert ask("/run/run", Cookie=cookie).status == 200


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e", "..%2f..%2fetc", "%2e%2e%2fsecret", "..%5csecret", "link", "secret%00"]
)
def test_no_name_leads_out_of_the_folder(save_run: SaveRun, tmp_path: Path, name: str) -> None:
    """[29] Dots, encoded slashes and links: neither a file nor a run from outside of the folder is read."""
    outside = save_run(name="secret")
    inside = tmp_path / "runs"
    save_run(name="runs/one")
    save_run(name="runs/two")
    (inside / "link").symlink_to(outside)
    client = client_of(inside)
    answer = client.get(f"/run/{name}/run.json", headers=HOME)
    assert answer.status_code in (200, 301, 308, 404)
    assert "handwritten" not in answer.text
    assert '"created"' not in answer.text


def test_a_file_that_is_a_link_outside_is_not_handed_out(save_run: SaveRun, tmp_path: Path) -> None:
    """[29] A run whose run.json leads elsewhere is no way to read that."""
    folder = save_run(name="runs/one")
    client = client_of(tmp_path / "runs")
    assert '"created"' in client.get("/run/one/run.json", headers=HOME).text
    secret = tmp_path / "secret.json"
    (folder / "run.json").rename(secret)
    (folder / "run.json").symlink_to(secret)
    assert client.get("/run/one/run.json", headers=HOME).status_code == 404


def test_loopback_is_more_than_one_address() -> None:
    """All of 127/8, ::1 and localhost, and nothing that only looks like them."""
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "a.localhost")] == [True] * 5
    assert [is_loopback(host) for host in ("10.0.0.1", "localhost.evil.example", "", "::ffff:8.8.8.8")] == [False] * 4


def test_a_taken_port_leads_to_the_next() -> None:
    """The first free of 20 ports is taken; when none is, the message says which were tried."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with listen("127.0.0.1", port) as free:
            assert port < free.getsockname()[1] <= port + 20


def test_no_free_port_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them taken: which, and what to do."""

    def refuse(*_: object, **__: object) -> socket.socket:
        raise OSError("taken")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(AddressInUse, match=r"ports 8050 to 8070 on 127\.0\.0\.1 are all taken.*--port"):
        listen("127.0.0.1", 8050)


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
