"""The address: the whole state of the view."""

from __future__ import annotations

import pytest

from gradscope.dashboard.address import Address, parse

ADDRESSES = [
    Address(),
    Address("overview", "a run/with ünï", finding="F1", step=3),
    Address("overview", "r", layer="<b>&", step=0, metric="update-ratio", order="onset", first=2, last=9),
    Address("finding", "r", finding="F12"),
    Address("layers", "r", layer="fc", kind="Linear", find="a b", unhealthy=True, sort="-gain"),
    Address("timeline", "r", brush=(3, 9), order="severity"),
    Address("overview", "r", first=2, last=9, rows=(0, 40), block="blocks.0 … blocks.<9>"),
    Address("checks", "r"),
    Address("about", "r"),
    Address("compare", a="x", b="y", by="share"),
    Address("learn"),
    Address("learn", topic="adam"),
]


@pytest.mark.parametrize("address", ADDRESSES, ids=lambda address: address.href)
def test_an_address_is_what_its_link_says(address: Address) -> None:
    """[17] A link and the view that it leads to are one."""
    path, _, search = address.href.partition("?")
    assert parse(path, search) == address


@pytest.mark.parametrize("path", ["/", "/nowhere", "/run", "/run/a/b/c/d/e", "/run/a/nopage", ""])
def test_a_path_that_is_none_leads_to_the_runs(path: str) -> None:
    """An unknown path is no error."""
    assert parse(path) == Address()


def test_nonsense_in_a_query_is_ignored() -> None:
    """What cannot be understood is as by default."""
    assert parse("/run/a", "?metric=x&step=-1&from=1e9&to=&order=up&brush=9&unhealthy=yes&zz=1") == Address(
        "overview", "a"
    )
    assert parse("/run/a", "?brush=9-3").brush == (3, 9)
    assert parse("/run/a", f"?step={'9' * 40}").step is None


def test_a_path_of_slashes_cannot_name_a_folder_above() -> None:
    """A run's name is one part of the path, whatever is written in it."""
    assert parse("/run/..%2F..%2Fetc").run == "../../etc"
    assert Address("overview", "../../etc").href == "/run/..%2F..%2Fetc"
