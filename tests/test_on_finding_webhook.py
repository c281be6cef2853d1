"""A webhook is told findings by a thread: real servers, one that answers and those that do not."""

from __future__ import annotations

import copy
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import gradscope
from gradscope.alerts import Alert, Webhook
from gradscope.alerts.webhook import MOST_WAITING
from gradscope.errors import WatchError
from gradscope.records import Diagnosis, Finding
from tests.forking import forked
from tests.test_on_finding import MLP, loop, nan_at
from tests.trainings import SICK


class Server(ThreadingHTTPServer):
    """Keeps what it is sent."""

    def __init__(self, status: int = 204) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.status = status
        self.received: list[tuple[dict[str, str], Any]] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/services/SECRET?key=SECRET"


class _Answer(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((dict(self.headers), json.loads(body)))
        self.send_response(self.server.status)
        if self.server.status in (301, 302):
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def do_GET(self) -> None:
        self.server.received.append((dict(self.headers), "GET"))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers are on this machine."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server() -> Iterator[Server]:
    """One that answers."""
    with Server() as server:
        yield server
        server.shutdown()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/SECRET"


def test_each_finding_is_posted_once(server: Server, tmp_path: Path) -> None:
    """The document has the envelope, the run, the finding as a report has it, and a line of text."""
    hook = Webhook(server.url, headers={"Authorization": "Bearer token"})
    loop(SICK["sigmoid 20, SGD"], tmp_path / "run", 30, hook)
    rules = [document["finding"]["rule"] for _, document in server.received]
    assert rules.count("vanishing-gradient") == 1
    headers, document = server.received[rules.index("vanishing-gradient")]
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Bearer token"
    assert (document["schema_version"], document["gradscope"]) == (1, gradscope.__version__)
    assert (document["event"], document["step"], document["verdict"]) == ("finding", 4, "unhealthy")
    assert document["run"] == {"id": "run", "model": "Sequential", "folder": str(tmp_path / "run")}
    assert document["finding"]["severity"] == "error"
    assert document["finding"]["suggestions"][0]["title"]
    assert document["text"].startswith("gradscope ▲ error step 0 vanishing-gradient: ")
    assert document["next_command"] == f"gradscope dashboard {tmp_path / 'run'}"


def test_numbers_that_json_does_not_know_are_posted_as_words(server: Server, tmp_path: Path) -> None:
    """A finding about a NaN arrives; that what arrives is JSON, the server has found out."""
    loop(MLP, tmp_path / "run", 60, server.url, disturb=nan_at(30), every=1)
    assert "non-finite" in [document["finding"]["rule"] for _, document in server.received]


def test_an_end_by_raise_is_posted_before_it(server: Server, tmp_path: Path) -> None:
    """Together with "raise" the webhook is told what ended the training."""
    with pytest.raises(gradscope.GradScopeError):
        loop(SICK["sigmoid 20, SGD"], tmp_path / "run", 30, ["raise", server.url])
    assert "vanishing-gradient" in [document["finding"]["rule"] for _, document in server.received]


@pytest.mark.parametrize(("status", "why"), [(500, "it answered 500"), (404, "it answered 404"), (302, "answered 302")])
def test_a_server_that_refuses_is_said_once(
    status: int, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr, in the diagnosis and in the run, without the path; a redirection is not followed, for it drops the body."""
    with Server(status) as server:
        scope, losses, _ = loop(SICK["ReLU 20, He x2, Adam"], tmp_path / "run", 40, server.url)
        server.shutdown()
    assert len(losses) == 40
    assert len(server.received) >= 1
    assert all(document != "GET" for _, document in server.received)
    err = capsys.readouterr().err
    assert err.count(why) == 1
    assert any(why in missing.why for missing in scope.diagnose().not_observed)
    run = gradscope.read_run(tmp_path / "run")
    assert sum(why in event.data.get("text", "") for event in run.events) == 1
    written = b"".join(file.read_bytes() for file in (tmp_path / "run").iterdir() if file.is_file())
    assert "SECRET" not in err + str(scope.diagnose())
    assert b"SECRET" not in written


def test_a_server_that_is_down_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody listens: the training goes on, and it is said why nobody was told."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    _, losses, _ = loop(SICK["sigmoid 20, SGD"], tmp_path / "run", 30, f"http://127.0.0.1:{port}/SECRET")
    assert len(losses) == 30
    err = capsys.readouterr().err
    assert err.count(f"findings do not reach http://127.0.0.1:{port}/…: Connection refused. The training goes on.") == 1


def test_a_server_that_hangs_delays_the_end_by_two_seconds_at_most(
    silent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The training does not wait for it, and its end not for long."""
    entered = time.perf_counter()
    loop(SICK["sigmoid 20, SGD"], tmp_path / "plain", 30, "log")
    plain = time.perf_counter() - entered
    entered = time.perf_counter()
    _, losses, _ = loop(SICK["sigmoid 20, SGD"], tmp_path / "run", 30, [silent, silent])
    assert time.perf_counter() - entered < 2 * plain + 2.5
    assert len(losses) == 30
    assert capsys.readouterr().err.count("no answer until the run's end, which waits no longer") == 2


def test_a_process_ends_though_a_server_hangs(silent: str, tmp_path: Path) -> None:
    """Also a program that closes nothing ends within two seconds of its training."""
    program = (
        "import atexit, sys, time\n"
        "atexit.register(lambda: print(time.time() - ended, flush=True))\n"  # the last to be called
        "import gradscope\n"
        "from tests.trainings import SICK, digits\n"
        "from torch import nn\n"
        "training = SICK['sigmoid 20, SGD']\n"
        "model = training.model(); optimizer = training.optimizer(model)\n"
        "images, labels = digits()\n"
        "scope = gradscope.watch(model, optimizer, run_dir=sys.argv[1], on_finding=sys.argv[2])\n"
        "for _ in range(8):\n"
        "    scope.loss(nn.CrossEntropyLoss()(model(images[:64]), labels[:64])).backward()\n"
        "    optimizer.step(); optimizer.zero_grad()\n"
        "ended = time.time()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "run"), silent],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 4  # two of them wait, the rest is for a busy machine
    assert "no answer until the run's end" in done.stderr
    assert gradscope.read_run(tmp_path / "run").info.state == "ended"


def alert() -> Alert:
    """One by hand."""
    finding = Finding("dead-units", "error", ("a",), 0, 1, "dead")
    return Alert(finding, Diagnosis("unhealthy", "dead"), 1, Path("runs/a"), "a line", "words", {"text": "a line"})


def test_a_crowd_of_findings_does_not_pile_up(silent: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What waits to be sent is bounded; that some are dropped is said once."""
    hook = Webhook(silent)
    for _ in range(MOST_WAITING + 20):
        hook.tell(alert())
    assert len(hook._waiting) <= MOST_WAITING
    assert capsys.readouterr().err.count("those after them are dropped") == 1
    hook.close(0.0)


def test_a_copy_and_a_forked_child_post_for_themselves(server: Server, tmp_path: Path) -> None:
    """Callbacks of frameworks are copied and pickled with their handlers; a child may train with its parent's."""
    webhook = Webhook(server.url, headers={"X-Key": "1"}, least="error")
    twins = copy.deepcopy(webhook), pickle.loads(pickle.dumps(webhook))
    for each in twins:
        assert (str(each), each.least) == (str(webhook), "error")
        each.tell(alert())
        each.close(5.0)

    def child() -> int:
        webhook.tell(alert())
        webhook.close(5.0)
        return 0

    assert forked(child, tmp_path).returncode == 0
    assert [(headers["X-Key"], body) for headers, body in server.received] == [("1", {"text": "a line"})] * 3


def test_no_thread_stays(server: Server) -> None:
    """The thread is there while something is to be sent, and again when there is more: no forked child meets it."""
    hook = Webhook(server.url)
    for number in range(1, 4):
        hook.tell(alert())
        hook.close(5.0)
        assert len(server.received) == number
        assert hook._thread is None


@pytest.mark.parametrize("value", ["a\nb", 3])
def test_a_header_that_cannot_be_sent_is_refused(value: Any) -> None:
    """A line end in a header would begin another one."""
    with pytest.raises(WatchError, match=r"the header 'X-Key' of a webhook is to be one line of text"):
        Webhook("https://example.org/x", headers={"X-Key": value})
