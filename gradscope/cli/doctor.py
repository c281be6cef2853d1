"""Say what is installed, what can be observed here and what not, and what watching a small training costs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from gradscope.cli._exit_codes import DONE
from gradscope.cli._output import add_output, look_for, put
from gradscope.cli._run_folder import DEFAULT_FOLDER

HELP = "versions, devices, what cannot be observed here, and what watching costs"


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument(
        "path", metavar="FOLDER", nargs="?", type=Path, default=DEFAULT_FOLDER, help="where runs go (default: runs)"
    )
    parser.add_argument("--no-probe", action="store_true", help="do not train, which takes a few seconds")
    add_output(parser)


def run(options: Namespace) -> int:
    """Prints what was found."""
    from gradscope.doctor import examine
    from gradscope.reports import examination, json_text
    from gradscope.reports.envelope import envelope

    document = envelope(**examine(options.path, probing=not options.no_probe).to_document())
    if options.format == "json":
        put(json_text.render(document), options)
    else:
        put(examination.render(document, look_for(options)), options)
    return DONE
