"""Show runs in the browser, live while training goes on. Ctrl-C ends it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from gradscope.cli._exit_codes import INTERRUPTED
from gradscope.cli._numbers import whole
from gradscope.cli._run_folder import add_run

HELP = "show runs in the browser, live while training goes on"


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    add_run(parser, "RUN_OR_FOLDER", "one run, or a folder of runs; a path or a URL (default: runs)")
    add_address(parser)
    parser.add_argument("--open", action="store_true", help="open the page in the browser too")
    parser.add_argument("--expert", action="store_true", help="leave out what explains terms and charts")


def add_address(parser: ArgumentParser) -> None:
    """Adds where the page is served."""
    parser.add_argument("--port", type=whole(0, 65535), default=8050, help="default: 8050; 0 takes any that is free")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="default: 127.0.0.1, so that only this machine can see it; with 0.0.0.0 whoever has the token in the address",
    )


def run(options: Namespace) -> int:
    """Serves the page until it is stopped."""
    from gradscope.dashboard import serve

    def ready(url: str) -> None:
        announce(url)
        if options.open:
            import webbrowser

            webbrowser.open(url)

    serve(options.path, options.host, options.port, ready, expert=options.expert)
    return INTERRUPTED  # it serves until Ctrl-C


def announce(url: str) -> None:
    """Prints the page's address, at once: a program may wait for this line."""
    print(url, flush=True)
