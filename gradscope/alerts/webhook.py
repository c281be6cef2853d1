"""Findings for another computer: posted as JSON, by a thread that the training never waits for."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from gradscope.alerts.alert import Alert
from gradscope.alerts.handler import Handler
from gradscope.errors import WatchError
from gradscope.notices import say
from gradscope.records import Severity

TIMEOUT = 5.0  # seconds to connect, and between two signs of life
MOST_WAITING = 100  # findings; more than that are dropped, and that is said


class Webhook(Handler):
    """Posts a JSON document for each new finding; `text` in it is the line that chat services show.

    The training waits neither for the other side nor for the network, and its end no longer than two seconds. What goes
    wrong is said once on stderr, without the path of the address, which may be a secret. A redirection counts as wrong.

    Args:
        url: http or https.
        headers: beside Content-Type, e.g. `{"Authorization": "Bearer …"}`.
        least: findings that are less severe are not told.

    Raises:
        WatchError: it is no such address, or a header that cannot be sent.

    Example:
        >>> str(Webhook("https://example.org/services/T0/B0", headers={"Authorization": "Bearer x"}, least="error"))
        'https://example.org/…'
    """

    def __init__(self, url: str, *, headers: Mapping[str, str] | None = None, least: Severity = "warning") -> None:
        super().__init__(least)
        try:
            parts = urlsplit(url)
            known = parts.scheme in ("http", "https") and bool(parts.hostname)
            port = "" if parts.port is None else f":{parts.port}"
        except ValueError:  # a port that is none
            known = False
        if not known or not url.isprintable() or " " in url:
            raise WatchError(f"a webhook's address looks like https://example.org/path; it got {url!r:.80}.")
        self._shown = f"{parts.scheme}://{parts.hostname}{port}/…"
        self._headers = {"Content-Type": "application/json", "User-Agent": "gradscope", **(headers or {})}
        for name, value in self._headers.items():
            if not (isinstance(value, str) and f"{name}{value}".isprintable()):
                raise WatchError(f"the header {name!r} of a webhook is to be one line of text.")
        self._url = url
        self._begin()

    def _begin(self) -> None:
        """Has nothing to send, in this process."""
        self._opener = urllib.request.build_opener(_NoRedirection)
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None  # there while anything is to be sent
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        """What is not of this process: callbacks of frameworks are copied and pickled, with their handlers."""
        mine = ("_opener", "_waiting", "_changed", "_thread", "_process")
        return {name: value for name, value in self.__dict__.items() if name not in mine}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def __str__(self) -> str:
        return self._shown

    def tell(self, alert: Alert) -> None:
        """Leaves the document to the thread."""
        if os.getpid() != self._process:  # a forked child has no thread, and a lock that may be held for ever
            self._begin()
        body = json.dumps(alert.document, allow_nan=False).encode()
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                self._fail(f"{MOST_WAITING} findings were waiting to be sent: those after them are dropped")
                return
            self._waiting.append(body)
            if self._thread is None:
                thread = threading.Thread(target=self._send_all, name="gradscope webhook", daemon=True)
                try:
                    thread.start()
                    self._thread = thread
                except RuntimeError:  # the interpreter ends, or there are too many threads
                    self._waiting.clear()
                    self._fail("no thread could be started to send a finding")

    def close(self, seconds: float) -> None:
        """Waits until everything is sent."""
        if os.getpid() != self._process:
            return
        until = time.monotonic() + seconds
        with self._changed:
            while self._thread is not None and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            if self._thread is not None:
                self._fail("no answer until the run's end, which waits no longer")

    def _send_all(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._thread = None
                    self._changed.notify_all()
                    return
                body = self._waiting.popleft()
            try:
                self._send(body)
            except Exception as error:
                self._fail(_reason(error))

    def _send(self, body: bytes) -> None:
        request = urllib.request.Request(self._url, body, self._headers, method="POST")
        with self._opener.open(request, timeout=TIMEOUT):
            return

    def _fail(self, why: str) -> None:
        if not self.trouble:
            self.trouble = why
            say(f"gradscope: findings do not reach {self}: {why}. The training goes on.")


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive without what was posted."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _reason(error: Exception) -> str:
    """What went wrong, in a line without the address."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return f"it answered {error.code}"
    if isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError):
        return f"no answer within {TIMEOUT:.0f} seconds"
    if isinstance(error, urllib.error.URLError):
        return str(getattr(error.reason, "strerror", None) or error.reason).split("\n")[0]
    return type(error).__name__
