"""List the sicknesses that GradScope looks for. `gradscope explain ID` tells more of one."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from gradscope.cli._output import add_color

HELP = "list the sicknesses that GradScope looks for"


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    add_color(parser)


def run(options: Namespace) -> int:
    """Prints the table."""
    from gradscope.catalogue import rules
    from gradscope.reports.look import look_of
    from gradscope.reports.terminal import render_table

    rows = [(name, rule.summary) for name, rule in sorted(rules().items())]
    sys.stdout.write(render_table(("rule", "what it finds"), rows, look_of(sys.stdout, options.color)))
    return 0
