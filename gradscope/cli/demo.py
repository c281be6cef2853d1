"""Take a sick training on real data through diagnosis, trial and cure: each command is shown as you would type it."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from importlib.util import find_spec
from pathlib import Path

from gradscope.cli._exit_codes import DONE, INTERRUPTED
from gradscope.cli.dashboard import add_address, announce
from gradscope.cli.explain import unknown
from gradscope.errors import MissingPackage, UnknownId

HELP = "train a sick network; its diagnosis, a trial of the cures, and the cure, step by step"
DEFAULT_DEMO = "vanishing_gradient"
FOLDER = Path("gradscope-demo")
SEEDS, STEPS = 3, 100  # of the trial: about a minute on two free cores
CURES = {"skip_connection": "skip-connection"}  # what a demo is about, where another cure is suggested first


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    names = ", ".join(sorted(demos()))
    parser.add_argument(
        "name", metavar="NAME", nargs="?", default=DEFAULT_DEMO, help=f"{names} (default: {DEFAULT_DEMO})"
    )
    parser.add_argument("--no-trial", action="store_true", help="do not try the cures, which takes about a minute")
    parser.add_argument("--no-dashboard", action="store_true", help="end without showing the runs in the browser")
    add_address(parser)


def demos() -> dict[str, Path]:
    """The demo scripts by name: those packaged with GradScope, or those of the checkout it runs from."""
    package = Path(__file__).resolve().parent.parent
    folders = (package / "demos", package.parent / "demos")
    return {file.stem: file for folder in reversed(folders) for file in sorted(folder.glob("[!_]*.py"))}


def run(options: Namespace) -> int:
    """Copies the script, types the commands, then serves the runs that they made."""
    name, known = options.name.replace("-", "_"), demos()
    if name not in known:
        raise UnknownId(unknown("demo", options.name, list(known)))
    if find_spec("sklearn") is None:
        raise MissingPackage(
            "the demo needs scikit-learn for its data, and it is not installed. "
            "Install it with `pip install 'torch-gradscope[demo]'`."
        )
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    script = Path(shutil.copy(known[name], folder))
    code = _story(script, tried=not options.no_trial)
    if code or options.no_dashboard:
        return code
    from gradscope.dashboard import serve

    _say("The same in the browser. Ctrl-C ends it.")
    serve(folder / "runs", options.host, options.port, announce)
    return INTERRUPTED  # it serves until Ctrl-C


def _story(script: Path, tried: bool) -> int:
    """Sickness, diagnosis, trial, cure; the exit code of the first command that fails."""
    _say(f"Every command below can be typed in {script.parent.as_posix()}, where {script.name} has been copied to.")
    began = time.monotonic()
    if code := _type(script, "The training, unchanged and under observation.", "run", script.name):
        return code
    seconds = time.monotonic() - began
    if code := _type(script, "What is sick, since when, where, why, and what to do.", "report"):
        return code
    sick, verdict = _newest(script)
    if verdict in ("healthy", "not-enough-data"):
        _say("Nothing is sick, so there is nothing to cure.")
        return DONE
    if tried and (code := _try(script, sick, seconds)):
        return code
    fix = ("fix", f"runs/{sick}", "F1", *(("--remedy", CURES[script.stem]) if script.stem in CURES else ()))
    if code := _type(script, "The cure, as a change of the script's own lines.", *fix):
        return code
    if code := _type(script, "Write it. A backup of the script stays.", *fix, "--apply"):
        return code
    if code := _type(script, "The training again, as it is now.", "run", script.name):
        return code
    _say(f"The training was {verdict.replace('-', ' ')}. It is {_newest(script)[1].replace('-', ' ')} now.")
    return DONE


def _try(script: Path, sick: str, seconds: float) -> int:
    """Tries the cures, where the first can be tried from outside; Ctrl-C there is no failure."""
    count = _candidates(script.parent / "runs" / sick)
    if not count:
        _say("The best cure is a change that only you can make: it cannot be tried from outside, and goes untried.")
        return DONE
    jobs = os.cpu_count() or 1
    runs = SEEDS * (count + 2) + 1  # no change and a random change beside them, and one run twice
    took = 10 * math.ceil(seconds * (runs / jobs + 1) / 10)
    code = _type(
        script,
        f"Do the cures help? Each is tried beside no change and a random change: {runs} short runs, about {took} "
        "seconds. Ctrl-C goes on without.",
        *("trial", "--run", f"runs/{sick}", "--seeds", str(SEEDS), "--steps", str(STEPS), "--jobs", str(jobs)),
        script.name,
    )
    return DONE if code == INTERRUPTED else code


def _candidates(folder: Path) -> int:
    """How many cures of a run would be tried; 0 where the first of them needs an edit."""
    from gradscope.catalogue import remedies
    from gradscope.diagnosis import diagnose
    from gradscope.signals import Signals
    from gradscope.store import read_run
    from gradscope.trials.candidates import choose

    recorded = read_run(folder)
    signals = Signals(recorded)
    diagnosis = diagnose(recorded, signals)
    first = diagnosis.findings[0].suggestions
    if not first or remedies()[first[0].remedy].needs_edit:
        return 0
    return len(choose(diagnosis, signals)[0])


def _newest(script: Path) -> tuple[str, str]:
    """The newest run's name and verdict."""
    from gradscope.diagnosis import diagnose
    from gradscope.store import read_run, resolve_run

    folder = resolve_run(script.parent / "runs")
    return Path(folder).name, diagnose(read_run(folder)).verdict


def _say(text: str) -> None:
    print(f"\n# {text}", flush=True)


def _type(script: Path, heading: str, *words: str) -> int:
    """Shows a command and runs it in the script's folder; gives its exit code."""
    _say(heading)
    print(f"$ gradscope {shlex.join(words)}", flush=True)
    with subprocess.Popen([sys.executable, "-m", "gradscope", *words], cwd=script.parent) as process:
        while True:
            try:
                code = process.wait()
                return code if code >= 0 else INTERRUPTED
            except KeyboardInterrupt:  # the command was told too, and ends in its own way
                continue
