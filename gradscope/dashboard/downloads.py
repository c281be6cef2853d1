"""What a chart shows, as CSV and as JSON: plain addresses that a script can ask too."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable
from typing import Any

from dash import Dash, html
from dash.development.base_component import Component
from flask import Response, request

from gradscope.dashboard.address import Address, parse
from gradscope.dashboard.download_tables import TABLES, Table
from gradscope.dashboard.runs import Runs
from gradscope.errors import GradScopeError, RunNotFound

_TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # a spreadsheet runs a cell that begins so


def register_downloads(app: Dash, runs: Runs) -> None:
    """Adds `/run/<name>/data/<what>.csv` and `.json` to an app; the query says what of it, as in the page's address."""

    def answer(name: str, what: str, ending: str) -> Response:
        query = f"?{request.query_string.decode('utf-8', 'replace')}"
        return respond(runs, parse("/", query).at(run=name), what, ending)

    app.server.add_url_rule(
        "/run/<name>/data/<what>.<any(csv, json):ending>", "gradscope_data", answer, methods=["GET"]
    )


def respond(runs: Runs, address: Address, what: str, ending: str) -> Response:
    """The file, or a line that says why there is none.

    Args:
        runs: where the runs are.
        address: the run, and what of it.
        what: a key of `TABLES`.
        ending: "csv" or "json".
    """
    if what not in TABLES:
        return _refusal(404, f"no data named {what!r}; there is {', '.join(TABLES)}.")
    try:
        table = TABLES[what](runs.get(address.run or ""), address)
    except RunNotFound as error:
        return _refusal(404, str(error))
    except GradScopeError as error:
        return _refusal(422, str(error))
    if table is None:
        return _refusal(404, f"this run has no layer {address.layer!r}.")
    write: Callable[[Table], str] = as_csv if ending == "csv" else as_json
    response = Response(write(table), content_type=_TYPES[ending])
    run = re.sub(r"[^A-Za-z0-9._-]+", "-", address.run or "").strip("-.")[:80]
    response.headers["Content-Disposition"] = f'attachment; filename="{run or "run"}-{what}.{ending}"'
    return response


def _refusal(status: int, why: str) -> Response:
    return Response(f"{why}\n", status=status, content_type="text/plain; charset=utf-8")


def as_csv(table: Table) -> str:
    """The table with a head line; what a spreadsheet would run as a formula is marked as text.

    Example:
        >>> as_csv(Table(("layer", "gain"), [["=1+1", 0.5], ["a", float("nan")]]))
        "layer,gain\\r\\n'=1+1,0.5\\r\\na,NaN\\r\\n"
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([_cell(name) for name in table.columns])
    writer.writerows([_cell(value) for value in row] for row in table.rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value}" if value.lstrip(" ").startswith(_FORMULA) or value.startswith(_FORMULA) else value
    return str(_plain(value)) if value is not None else ""


def as_json(table: Table) -> str:
    """The table as an object: what it is, its columns, its rows; NaN and Inf as words."""
    rows = [[_plain(value) for value in row] for row in table.rows]
    return json.dumps({**table.about, "columns": list(table.columns), "rows": rows}, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """A value that JSON can hold, with the digits that were measured and no others."""
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Inf" if value > 0 else "-Inf"


def data_links(address: Address, what: str) -> list[Component]:
    """Links to what a chart shows, for its card."""
    if address.run is None:
        return []
    base = f"{Address('overview', address.run).path}/data/{what}"
    links = [
        html.A(ending.upper(), href=f"{base}.{ending}{address.search}", className="download", download="")
        for ending in _TYPES
    ]
    return [html.P(["Data as ", links[0], " ", links[1]], className="data-links")]
