"""Print a rule's page: what it finds, why that hurts, how it is measured, what to do, and its sources."""

from __future__ import annotations

import difflib
import sys
from argparse import ArgumentParser, Namespace

from gradscope.errors import UnknownId

HELP = "a rule's page: why it hurts, how it is measured, what to do"


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("id", metavar="ID", help="a rule, e.g. vanishing-gradient; `gradscope rules` lists them")


def run(options: Namespace) -> int:
    """Prints the page."""
    from gradscope.catalogue import rules
    from gradscope.reports.look import look_of
    from gradscope.reports.page import render

    known = rules()
    if options.id not in known:
        raise UnknownId(unknown("rule", options.id, list(known)))
    sys.stdout.write(render(known[options.id].page(), look_of(sys.stdout)))
    return 0


def unknown(noun: str, typed: str, known: list[str]) -> str:
    """What to say of an id that nothing has.

    Example:
        >>> unknown("rule", "dead-unit", ["dead-units", "non-finite"])
        "no rule is called 'dead-unit'; did you mean dead-units? There are: dead-units, non-finite."
    """
    close = difflib.get_close_matches(typed.lower().replace("_", "-").replace(" ", "-"), known, 1)
    hint = f"; did you mean {close[0]}?" if close else "."
    return f"no {noun} is called {typed!r}{hint} There are: {', '.join(sorted(known))}."
