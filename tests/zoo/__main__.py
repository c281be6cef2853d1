"""The command line of `make zoo`."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.zoo.animals import PROGRAMS, find
from tests.zoo.benchmark import write_benchmark
from tests.zoo.many import run_all
from tests.zoo.tally import Result, better_than_random, counts, mistakes, table

README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- make zoo ARGS=--readme: begin -->", "<!-- make zoo ARGS=--readme: end -->"


def main() -> None:
    """Trains, judges, prints."""
    parser = argparse.ArgumentParser(
        prog="make zoo", description="Sick and healthy trainings, and what is said of them."
    )
    parser.add_argument(
        "--only", default="", help="programs whose id begins with one of these words, separated by commas"
    )
    parser.add_argument("--fast", action="store_true", help="those that `make test` runs too")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="keep the trainings in this folder, replacing what is there")
    parser.add_argument(
        "--rejudge", type=Path, help="judge the trainings kept in this folder again; nothing is trained"
    )
    parser.add_argument(
        "--cures", action="store_true", help="also try what is suggested: up to four trainings more each"
    )
    parser.add_argument("--every", type=int, help="record every k-th step in full, not as the overhead allows")
    parser.add_argument("--show", action="store_true", help="print everything that is said of each program")
    parser.add_argument("--list", action="store_true", help="print the programs and end")
    parser.add_argument(
        "--benchmark",
        action="store_true",
        help="put into the package how often the cause that is named first was right",
    )
    parser.add_argument(
        "--readme", action="store_true", help="put the table into the README; with --cures and --benchmark"
    )
    options = parser.parse_args()
    chosen = find(options.only, fast=options.fast)
    if (options.readme or options.benchmark) and len(chosen) < len(PROGRAMS):
        parser.error("--readme and --benchmark take the whole zoo; leave --only and --fast out")
    if options.list:
        for program in chosen:
            print(f"{program.id:40} {'sick   ' if program.sick else 'healthy'} {program.title}")
        return
    with tempfile.TemporaryDirectory() as place:
        folder = options.rejudge or options.keep or Path(place)
        results = run_all(
            chosen,
            range(options.seeds),
            folder,
            jobs=options.jobs,
            again=options.rejudge is None,
            cures=options.cures or options.readme,
            every=options.every or "auto",
            say=_say(options.show),
        )
    said = f"{table(results)}\n\n{counts(results)} {better_than_random(results)}".rstrip()
    print("\n".join(["", *mistakes(results), "", said]))
    if options.benchmark or options.readme:
        write_benchmark(results)
    if options.readme:
        README.write_text(put_into(README.read_text(encoding="utf-8"), said), encoding="utf-8")


def put_into(text: str, said: str) -> str:
    """A README's text with this table between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"the README has no place for the table; it expects the lines\n{BEGIN}\n{END}")
    return f"{before}{BEGIN}\n{said}\n{END}{after}"


def _say(everything: bool) -> Callable[[Result], None]:
    def say(result: Result) -> None:
        end = result.end
        print(
            f"{result.program.id:40} {result.seed} {result.label:9} error {result.outcome.error:6.3f} "
            f"loss {result.outcome.first_loss:9.3g} -> {result.outcome.last_loss:9.3g} {result.outcome.seconds:5.1f} s  "
            f"{end.text[:110] or end.verdict} {result.outcome.broke}",
            flush=True,
        )
        if everything:
            for said in result.said:
                print(f"    {said.moment}: {said.verdict}  {said.text}  -> {', '.join(said.remedies)}")
            for peer, sayings in result.peers.items():
                print(
                    f"    {peer}: {'; '.join(f'{said.moment}: {said.text}' for said in sayings if said.alarm) or 'quiet'}"
                )

    return say


if __name__ == "__main__":
    main()
