"""Print the page of a rule (what it finds, why that hurts, how it is measured, what to do) or of a remedy."""

from __future__ import annotations

import difflib
from argparse import ArgumentParser, Namespace

from gradscope.cli._exit_codes import DONE
from gradscope.cli._output import add_output, look_for, put
from gradscope.errors import UnknownId

HELP = "a rule's or a remedy's page: why it hurts, how it is measured, what to do"
_MOST_NEAR = 4  # ids that are offered for one that nothing has


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument(
        "id", metavar="ID", help="a rule or remedy, e.g. vanishing-gradient; `gradscope rules` lists the rules"
    )
    add_output(parser)


def run(options: Namespace) -> int:
    """Prints the page."""
    from gradscope.catalogue import remedies, rules
    from gradscope.reports import json_text
    from gradscope.reports.envelope import envelope
    from gradscope.reports.page import render

    known = rules() | remedies()
    if options.id not in known:
        raise UnknownId(unknown("rule or remedy", options.id, list(known)))
    page = known[options.id].page()
    if options.format == "json":
        kind = "rule" if options.id in rules() else "remedy"
        put(json_text.render(envelope(id=options.id, kind=kind, page=page)), options)
    else:
        put(render(page, look_for(options)), options)
    return DONE


def unknown(noun: str, typed: str, known: list[str]) -> str:
    """What to say of an id that nothing has.

    Example:
        >>> unknown("rule", "dead-unit", ["dead-units", "non-finite"])
        "no rule is called 'dead-unit'; did you mean dead-units? There are: dead-units, non-finite."
        >>> unknown("rule", "dead", ["dead-units", "non-finite"])
        "no rule is called 'dead'; did you mean dead-units? There are: dead-units, non-finite."
    """
    word = typed.lower().replace("_", "-").replace(" ", "-")
    close = difflib.get_close_matches(word, known, 1) or [each for each in sorted(known) if word and word in each]
    hint = f"; did you mean {' or '.join(close[:_MOST_NEAR])}?" if close else "."
    return f"no {noun} is called {typed!r}{hint} There are: {', '.join(sorted(known))}."
