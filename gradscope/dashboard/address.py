"""The address of a page: the whole state of the view, so that a link leads to the same view."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode

from gradscope.reports.metrics import DEFAULT_METRIC, METRICS

ORDERS = {"depth": "by depth", "severity": "worst first", "onset": "earliest onset first"}
_OF_A_RUN = {"": "overview", "layers": "layers", "timeline": "timeline", "checks": "checks", "about": "about"}
_NAMES = {"first": "from", "last": "to"}  # a query's words that are none of Python's


@dataclass(frozen=True)
class Address:
    """A page and what it shows; None and False: the default.

    Example:
        >>> Address("overview", "a b", finding="F1").href
        '/run/a%20b?finding=F1'
    """

    page: str = "runs"  # the name of a `Page`
    run: str | None = None
    finding: str | None = None  # "F1"; on the overview it is open in the drawer
    layer: str | None = None
    step: int | None = None
    metric: str = DEFAULT_METRIC
    order: str = "depth"  # of the map's rows, a key of `ORDERS`
    first: int | None = None  # what the step axis shows
    last: int | None = None
    rows: tuple[int, int] | None = None  # what the map's row axis shows: the first and the last, by number
    block: str | None = None  # the part of the model that the map shows, see `figures.map_blocks`
    brush: tuple[int, int] | None = None  # the steps whose changes are listed
    kind: str | None = None  # filters of the layer table
    find: str | None = None
    unhealthy: bool = False
    sort: str | None = None  # of a list or table, the page knows its words
    after: int | None = None  # how many rows of a table stand before its page
    severity: str | None = None  # filter of the findings
    muted: bool = False  # whether muted findings are shown
    a: str | None = None  # the two runs that are compared
    b: str | None = None
    by: str | None = None  # how their steps are aligned
    topic: str | None = None

    @property
    def path(self) -> str:
        """The address without its query."""
        if self.page == "learn":
            return f"/learn/{quote(self.topic, safe='')}" if self.topic else "/learn"
        if self.run is None or self.page in ("runs", "compare"):
            return "/compare" if self.page == "compare" else "/"
        name = f"/run/{quote(self.run, safe='')}"
        if self.page == "finding":
            return f"{name}/finding/{quote(self.finding or '', safe='')}"
        return name if self.page == "overview" else f"{name}/{self.page}"

    @property
    def search(self) -> str:
        """The query with its question mark; empty when everything is as by default."""
        in_path = ("page", "run", "topic", *(("finding",) if self.page == "finding" else ()))
        asked: dict[str, str] = {}
        for field in fields(self):
            value: Any = getattr(self, field.name)
            if field.name in in_path or value == field.default:
                continue
            text = "-".join(map(str, value)) if isinstance(value, tuple) else "1" if value is True else str(value)
            asked[_NAMES.get(field.name, field.name)] = text
        return f"?{urlencode(asked, quote_via=quote)}" if asked else ""

    @property
    def href(self) -> str:
        """The address as a link."""
        return self.path + self.search

    def at(self, **changes: Any) -> Address:
        """The same address but for some parts."""
        return replace(self, **changes)

    def of_run(self, page: str = "overview", **more: Any) -> Address:
        """A page of the same run, with nothing chosen on it but `more`."""
        return Address(page, self.run, **more)


def parse(pathname: str | None, search: str | None = None) -> Address:
    """The address that a browser shows; what cannot be understood is as by default.

    Example:
        >>> parse("/run/a/finding/F1", "?step=12") == Address("finding", "a", "F1", step=12)
        True
    """
    place = _parse_path(pathname or "/")
    asked = {key: values[0] for key, values in parse_qs((search or "").lstrip("?")).items()}
    metric, order = asked.get("metric", ""), asked.get("order", "")
    texts = {
        name: asked[name]
        for name in ("layer", "block", "kind", "find", "sort", "severity", "a", "b", "by")
        if name in asked
    }
    return place.at(
        **texts,
        finding=place.finding or asked.get("finding"),
        step=_number(asked.get("step")),
        after=_number(asked.get("after")),
        metric=metric if metric in METRICS else DEFAULT_METRIC,
        order=order if order in ORDERS else "depth",
        first=_number(asked.get("from")),
        last=_number(asked.get("to")),
        rows=_window(asked.get("rows")),
        brush=_window(asked.get("brush")),
        unhealthy=asked.get("unhealthy") == "1",
        muted=asked.get("muted") == "1",
    )


def _parse_path(pathname: str) -> Address:
    parts = [unquote(part) for part in pathname.strip("/").split("/")]
    match parts:
        case ["run", name]:
            return Address("overview", name)
        case ["run", name, "finding", finding]:
            return Address("finding", name, finding)
        case ["run", name, page] if page in _OF_A_RUN:
            return Address(_OF_A_RUN[page], name)
        case ["compare"]:
            return Address("compare")
        case ["learn"]:
            return Address("learn")
        case ["learn", topic]:
            return Address("learn", topic=topic)
    return Address()


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else None


def _window(text: str | None) -> tuple[int, int] | None:
    low, _, high = (text or "").partition("-")
    first, last = _number(low), _number(high)
    return None if first is None or last is None else (min(first, last), max(first, last))
