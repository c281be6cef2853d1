"""List the sicknesses that GradScope looks for. `gradscope explain ID` tells more of one."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from gradscope.cli._exit_codes import DONE
from gradscope.cli._output import add_output, look_for, put

HELP = "list the sicknesses that GradScope looks for"


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    add_output(parser)


def run(options: Namespace) -> int:
    """Prints the table."""
    from gradscope.catalogue import rules
    from gradscope.reports import json_text
    from gradscope.reports.envelope import envelope
    from gradscope.reports.terminal import render_table

    rows = [(name, rule.summary) for name, rule in sorted(rules().items())]
    if options.format == "json":
        put(json_text.render(envelope(rules=[{"id": name, "summary": summary} for name, summary in rows])), options)
    else:
        put(render_table(("rule", "what it finds"), rows, look_for(options)), options)
    return DONE
