"""Run a training script, or -m MODULE, unchanged and under observation."""

from __future__ import annotations

import sys
from argparse import REMAINDER, ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING

from gradscope.errors import WatchError

if TYPE_CHECKING:
    from gradscope.alerts import Handler

HELP = "run a training script unchanged, and say what is sick"


def arguments(parser: ArgumentParser) -> None:
    """Adds the options; what comes behind the script is the script's."""
    parser.allow_abbrev = False  # the script's own options may begin like ours
    parser.usage = "%(prog)s [options] SCRIPT [ARGUMENT ...]\n       %(prog)s [options] -m MODULE [ARGUMENT ...]"
    add_options(parser)
    parser.add_argument("-m", dest="module", metavar="MODULE", nargs=REMAINDER, help="run a module, as python -m does")
    parser.add_argument("program", metavar="SCRIPT", nargs=REMAINDER, help="the script, and what it is given")


def add_options(parser: ArgumentParser) -> None:
    """Adds how to record; what is not given is as `gradscope.watch` has it."""
    parser.add_argument("--run-dir", metavar="FOLDER", help="record into this folder (default: a new one in runs)")
    parser.add_argument("--every", metavar="K", type=_every, help='record every K-th step in full (default: "auto")')
    parser.add_argument(
        "--overhead", metavar="SHARE", type=_share, help="of the training's time, at most (default: 0.03)"
    )
    parser.add_argument(
        "--include", metavar="PATTERN", action="append", help="modules to look at, 'encoder.*'; may be repeated"
    )
    parser.add_argument("--exclude", metavar="PATTERN", action="append", help="modules to leave out; may be repeated")
    parser.add_argument("--exact", action="store_true", default=None, help="every statistic from every entry; slow")
    parser.add_argument("--compiled", choices=("boundary", "full"), help="how much of torch.compile'd code to see")
    parser.add_argument("--on-non-finite", choices=("locate",), help="say which line made the first NaN or Inf")
    parser.add_argument(
        "--on-finding",
        metavar="print|log|raise|URL",
        type=_handler,
        action="append",
        help="say each new finding on stderr or to Python's logging, end the training at an error, or post JSON to an "
        "address; may be repeated",
    )


_OPTIONS = ("run_dir", "every", "overhead", "include", "exclude", "exact", "compiled", "on_non_finite", "on_finding")


def run(options: Namespace) -> int:
    """Runs the program; its exit code is ours."""
    from gradscope.autowatch import Session, Target, run_program
    from gradscope.cli import leave_streams_alone
    from gradscope.notices import say

    words = ["-m", *options.module] if options.module is not None else options.program
    target = Target.parse(words[1:] if words[:1] == ["--"] else words)
    given = {name: value for name in _OPTIONS if (value := getattr(options, name)) is not None}
    session = Session(**given)
    leave_streams_alone()
    stream = sys.stderr  # the program may put another one in its place, or close it
    try:
        return run_program(target, session)
    finally:
        said = session.summary()
        if said:
            say(said, stream)


def _every(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"expected auto or a whole number of steps of 1 or more, got {text}")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ArgumentTypeError(
            f"expected a share of the training's time above 0 and up to 1, such as 0.03, got {text}"
        )
    return share


def _handler(text: str) -> Handler:
    from gradscope.alerts import handlers_of

    try:
        return handlers_of(text)[0]
    except WatchError:
        raise ArgumentTypeError(
            f"expected print, log, raise, or an address like https://example.org/path, got {text}"
        ) from None
