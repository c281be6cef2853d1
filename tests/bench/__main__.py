"""The command line of `make bench`."""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
from pathlib import Path

from tests.bench.contenders import CONTENDERS
from tests.bench.large import show_large
from tests.bench.soak import soak
from tests.bench.table import put_into, render
from tests.bench.trainings import SUBJECTS
from tests.bench.turns import Patience, Ratio, measure

README = Path(__file__).resolve().parents[2] / "README.md"


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--readme", action="store_true", help="put the table into the README")
    parser.add_argument("--soak", action="store_true", help="10,000 steps: does memory stay where it is?")
    parser.add_argument("--big", action="store_true", help="only the dashboard over the largest run")
    parser.add_argument("--turns", type=int, default=Patience.turns)
    parser.add_argument("--seconds", type=float, default=Patience.seconds, help="of a turn")
    parser.add_argument("--only", default="", help="rows with this in their name; not for the README")
    options = parser.parse_args()
    if options.readme and options.only:
        parser.error("--readme takes the whole table; leave --only out")
    if options.soak:
        for every in (1, "auto"):
            growth = soak(every, 10_000, warm_up=1_000)
            print(f"every={every!r}: {growth / 1e6:+.1f} MB between step 1,000 and step 10,000", flush=True)
        return
    if options.big:
        show_large()
        return
    contenders = [contender for contender in CONTENDERS if options.only in contender.title]
    missing = [contender.needs for contender in contenders if not _is_here(contender.needs)]
    if missing:
        sys.exit(f"{', '.join(missing)}: not here. `make bench` installs what it compares with.")
    patience = Patience(options.turns, options.seconds)
    ratios: dict[str, dict[str, Ratio]] = {}
    for subject in SUBJECTS:
        print(subject.title, flush=True)
        ratios[subject.title] = {}
        for title, ratio in measure(subject, contenders, patience):
            said = "" if ratio.said is None else f"  says {ratio.said:.3f} itself"
            print(f"  {title:50} {ratio.wall:7.3f}  cpu {ratio.cpu:7.3f}{said}", flush=True)
            ratios[subject.title][title] = ratio
    table = render(ratios, patience, contenders)
    print(f"\n{table}")
    if not options.only:
        show_large()
    if options.readme:
        README.write_text(put_into(README.read_text(encoding="utf-8"), table), encoding="utf-8")


def _is_here(package: str) -> bool:
    """Whether a package that a contender needs is installed; torchexplorer needs the program `dot` as well."""
    found = not package or importlib.util.find_spec(package) is not None
    return found and (package != "torchexplorer" or shutil.which("dot") is not None)


if __name__ == "__main__":
    main()
