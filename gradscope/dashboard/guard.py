"""Keeps the page to this machine: which hosts are served and what the browser may load."""

from __future__ import annotations

import ipaddress

from dash import Dash
from flask import Response, abort, request

from gradscope.errors import UnsafeHost


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be reached from this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def require_loopback(host: str) -> None:
    """Refuses to listen beyond this machine.

    Raises:
        UnsafeHost: `host` is not a loopback address.
    """
    if not is_loopback(host):
        raise UnsafeHost(
            f"the dashboard would listen on {host}, where others can reach it, and it has no password yet. "
            "Expected a loopback address such as 127.0.0.1. To look at it from another machine, "
            "forward the port: ssh -L 8050:127.0.0.1:8050 THIS-MACHINE"
        )


def guard(app: Dash, inline_scripts: list[str]) -> None:
    """Refuses requests that name another host (DNS rebinding) and forbids the page to load from anywhere else.

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

    def check_host() -> None:
        host = request.host
        name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
        if not is_loopback(name):
            abort(403)

    def add_headers(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"  # the layout asks which run its page shows
        if "Cache-Control" not in response.headers:
            response.headers["Cache-Control"] = "no-store"
        return response

    app.server.before_request(check_host)
    app.server.after_request(add_headers)
