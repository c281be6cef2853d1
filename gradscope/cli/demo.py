"""Train a sick network on real data, print its diagnosis and show it in the browser until Ctrl-C."""

from __future__ import annotations

import runpy
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from gradscope.cli._exit_codes import INTERRUPTED
from gradscope.cli._run_folder import DEFAULT_FOLDER
from gradscope.cli.dashboard import add_address, announce
from gradscope.cli.explain import unknown
from gradscope.errors import MissingPackage, UnknownId

HELP = "train a sick network, print its diagnosis, show it in the browser"
DEFAULT_DEMO = "vanishing_gradient"


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    names = ", ".join(sorted(demos()))
    parser.add_argument(
        "name", metavar="NAME", nargs="?", default=DEFAULT_DEMO, help=f"{names} (default: {DEFAULT_DEMO})"
    )
    parser.add_argument("--no-dashboard", action="store_true", help="end after the diagnosis")
    add_address(parser)


def demos() -> dict[str, Path]:
    """The demo scripts by name: those packaged with GradScope, or those of the checkout it runs from."""
    package = Path(__file__).resolve().parent.parent
    folders = (package / "demos", package.parent / "demos")
    return {file.stem: file for folder in reversed(folders) for file in sorted(folder.glob("[!_]*.py"))}


def run(options: Namespace) -> int:
    """Runs the script, which records and prints, then serves the run that it made."""
    name, known = options.name.replace("-", "_"), demos()
    if name not in known:
        raise UnknownId(unknown("demo", options.name, list(known)))
    _run_script(known[name])
    if not options.no_dashboard:
        from gradscope.dashboard import serve
        from gradscope.store import resolve_run

        print("\nThe same in the browser (Ctrl-C ends it):", file=sys.stderr)
        serve(resolve_run(DEFAULT_FOLDER), options.host, options.port, announce)
        return INTERRUPTED  # it serves until Ctrl-C
    return 0


def _run_script(file: Path) -> None:
    typed, sys.argv = sys.argv, [str(file)]
    try:
        runpy.run_path(str(file), run_name="__main__")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "sklearn":
            raise
        raise MissingPackage(
            "the demo needs scikit-learn for its data, and it is not installed. "
            "Install it with `pip install 'torch-gradscope[demo]'`."
        ) from error
    finally:
        sys.argv = typed
    sys.stdout.flush()
