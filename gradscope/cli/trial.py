"""Try the suggested cures on the training itself, beside no change and a random change, and rank them by effect."""

from __future__ import annotations

import sys
from argparse import REMAINDER, ArgumentParser, ArgumentTypeError, Namespace

from gradscope.cli._exit_codes import DONE, INTERRUPTED
from gradscope.cli._numbers import whole
from gradscope.cli._output import add_output, look_for, put

HELP = "try the suggested cures, with controls, and rank them by measured effect"


_OURS = ("--steps", "--seeds", "--remedy", "--jobs", "--time-limit", "--memory-limit")  # easily put behind the script


def arguments(parser: ArgumentParser) -> None:
    """Adds the options; what comes behind the script is the script's."""
    parser.allow_abbrev = False  # the script's own options may begin like ours
    parser.epilog = (
        "Each run is a process of its own, stopped after --steps optimizer steps. What comes behind the script belongs to "
        "it, and what it writes to disk each run writes. The outcomes are stored with the run of seed 0 without a change."
    )
    parser.usage = "%(prog)s [options] SCRIPT [ARGUMENT ...]\n       %(prog)s [options] -m MODULE [ARGUMENT ...]"
    parser.add_argument(
        "--steps", metavar="N", type=whole(2, 10**9), default=100, help="optimizer steps of each run (default: 100)"
    )
    parser.add_argument(
        "--seeds", metavar="K", type=whole(1, 20), default=5, help="matched seeds (default: 5, at most 20)"
    )
    parser.add_argument(
        "--remedy",
        metavar="ID",
        action="append",
        default=[],
        help="try this cure; may be repeated (default: those that are suggested)",
    )
    parser.add_argument("--jobs", metavar="J", type=whole(1), help="runs at once (default: half the cores; 1 on a GPU)")
    parser.add_argument("--on", metavar="ray[://HOST:PORT]", type=_engine, help="run on Ray, here or on a cluster")
    parser.add_argument(
        "--time-limit",
        metavar="SECONDS",
        type=float,
        help="of one run (default: 10 times what the first run took, and 60 more)",
    )
    parser.add_argument(
        "--memory-limit", metavar="MIB", type=whole(1), help="of one run (default: its share of what is free)"
    )
    parser.add_argument(
        "--run", metavar="RUN", dest="recorded", help="take the cures from this run, and store them there"
    )
    add_output(parser)
    parser.add_argument(
        "-m", dest="module", metavar="MODULE", nargs=REMAINDER, help="try a module, as python -m runs it"
    )
    parser.add_argument("program", metavar="SCRIPT", nargs=REMAINDER, help="the script, and what it is given")


def _engine(text: str) -> str:
    if text != "ray" and not text.startswith("ray://"):
        raise ArgumentTypeError(f"expected ray or ray://HOST:PORT, got {text}")
    return text


def run(options: Namespace) -> int:
    """Prints the outcomes. That no cure helped does not change the exit code: a trial that ended is a success."""
    import signal
    from contextlib import suppress

    from gradscope.reports import json_text, trial
    from gradscope.trials import try_program
    from gradscope.trials.experiment import Options

    with suppress(ValueError):  # only the main thread may
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` keeps what is done, as Ctrl-C does
    words = ["-m", *options.module] if options.module is not None else options.program
    for word in words:
        if word.partition("=")[0] in _OURS:
            print(f"gradscope: {word} stands behind the program and is given to it; ours go before it", file=sys.stderr)
    report = try_program(
        words[1:] if words[:1] == ["--"] else words,
        Options(
            steps=options.steps,
            seeds=options.seeds,
            remedies=tuple(options.remedy),
            jobs=options.jobs,
            time_limit=options.time_limit,
            memory_limit=options.memory_limit and options.memory_limit * 2**20,
            run=options.recorded,
            on=options.on,
        ),
    )
    content = report.to_document()
    text = json_text.render(content) if options.format == "json" else trial.render(content, look_for(options))
    put(text, options)
    return INTERRUPTED if report.interrupted else DONE
