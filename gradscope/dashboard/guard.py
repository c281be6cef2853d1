"""Who may look: which hosts are served, who must show a token, what may be sent, what the browser may load."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from dataclasses import dataclass
from html import escape
from urllib.parse import urlencode, urlsplit

from dash import Dash
from flask import Response, current_app, redirect, request

TOKEN = "token"  # in the address, once
_ACCESS = "GRADSCOPE_ACCESS"
# A notebook may show the page inside itself: Jupyter's is served on this machine, VS Code's has schemes of its own. A
# page from anywhere else must not: it could lay the page invisibly under its own buttons.
_NOTEBOOKS = "http://localhost:* http://127.0.0.1:* vscode-webview: vscode-file:"


@dataclass(frozen=True)
class Access:
    """Who may look: without a token this machine alone, with one whoever shows it."""

    token: str = ""
    names: frozenset[str] = frozenset()  # of this machine, by which it may be called beside "localhost"
    cookie: str = "gradscope-token"  # cookies are shared by all ports of a host: each server has its own


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be reached from this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def names_of_this_machine() -> frozenset[str]:
    """What others may call this machine by."""
    name = socket.gethostname().lower()
    return frozenset({name, socket.getfqdn().lower(), f"{name.partition('.')[0]}.local"})


def let_in(app: Dash, access: Access) -> None:
    """Sets who may look; without it this machine alone may."""
    app.server.config[_ACCESS] = access


def guard(app: Dash, inline_scripts: list[str]) -> None:
    """Refuses what does not come from the page's own readers, and forbids the page to load from anywhere else.

    Args:
        app: the app, all its callbacks registered.
        inline_scripts: sources such as `'sha256-…'` of the scripts that the page itself holds.
    """
    policy = "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' {' '.join(inline_scripts)}",
            "style-src 'self' 'unsafe-inline'",  # plotly and mantine set styles on elements
            "img-src 'self' data: blob:",  # a heatmap is a data: image
            "font-src 'self' data:",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'self'",
        )
    )

    def add_headers(response: Response) -> Response:
        embedded = "" if _access().token else f" {_NOTEBOOKS}"
        response.headers["Content-Security-Policy"] = policy + embedded
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        if "Cache-Control" not in response.headers:
            response.headers["Cache-Control"] = "no-store"
        return response

    before = app.server.before_request_funcs.setdefault(None, [])
    before[:0] = [_refuse_foreign_host, _refuse_foreign_sender, _ask_for_token]  # before anything of the app's own
    app.server.after_request(add_headers)


def _access() -> Access:
    access = current_app.config.get(_ACCESS, Access())
    assert isinstance(access, Access)
    return access


def _refuse_foreign_host() -> Response | None:
    """A page elsewhere must not read this one through a name of its own that leads here (DNS rebinding)."""
    name, access = _host_name(request.host), _access()
    if is_loopback(name) or (access.token and (name.lower() in access.names or _is_address(name))):
        return None
    return _words(403, f"This dashboard is not served as {request.host!r}. Open it by the address that was printed.")


def _refuse_foreign_sender() -> Response | None:
    """A page elsewhere must not make a reader's browser send something here."""
    if request.method in ("GET", "HEAD", "OPTIONS"):  # these change nothing
        return None
    origin = request.headers.get("Origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.host
    if foreign or request.headers.get("Sec-Fetch-Site") == "cross-site":
        return _words(403, "This came from another page than the dashboard's own, and was refused.")
    return None


def _ask_for_token() -> Response | None:
    """Lets in who shows the token: once in the address, from then on in a cookie."""
    access = _access()
    if not access.token or _same(request.cookies.get(access.cookie), access.token):
        return None
    if not _same(request.args.get(TOKEN), access.token):
        return _words(
            401,
            "This dashboard asks for a token. Open the whole address that `gradscope dashboard` printed, with the "
            "?token=… at its end; it is printed once, where the dashboard was started.",
        )
    rest = [(name, value) for name, value in request.args.items(multi=True) if name != TOKEN]
    target = request.path + (f"?{urlencode(rest)}" if rest else "")
    answer = _onward(target)
    answer.set_cookie(access.cookie, access.token, httponly=True, samesite="Strict")
    return answer


def _onward(target: str) -> Response:
    """Leads to the address without the token."""
    target = "/" + target.lstrip("/\\")  # never to another host
    if request.headers.get("Sec-Fetch-Site") != "cross-site":
        return redirect(target, 303)  # type: ignore[return-value]
    # After a link from elsewhere the browser holds a strict cookie back until a page of ours has asked for the next.
    page = f'<!doctype html><meta http-equiv="refresh" content="0; url={escape(target, quote=True)}"><p>One moment …'
    return Response(page, 200, mimetype="text/html")


def _same(shown: str | None, token: str) -> bool:
    """Whether it is the token, in a time that does not tell how much of it is right."""
    return shown is not None and hmac.compare_digest(shown.encode(), token.encode())


def _host_name(host: str) -> str:
    return host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]


def _is_address(name: str) -> bool:
    """Whether it is an address rather than a name: no name server can lead that elsewhere."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _words(status: int, text: str) -> Response:
    return Response(text + "\n", status, mimetype="text/plain")
