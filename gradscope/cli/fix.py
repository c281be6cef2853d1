"""Print the smallest change of your own program that does what a suggestion says, as a unified diff; --apply writes it."""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from gradscope.cli._bounded_run import read_bounded
from gradscope.cli._exit_codes import DONE
from gradscope.cli._output import add_output, look_for, put
from gradscope.cli._run_folder import ONE_RUN, location
from gradscope.cli.explain import unknown
from gradscope.errors import NoPatch, UnknownId

if TYPE_CHECKING:
    from gradscope.records import Diagnosis, Finding, Suggestion
    from gradscope.reports.look import Look
    from gradscope.signals import Signals

HELP = "print, or write, the smallest change of your program that does what a suggestion says"


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("path", metavar="RUN", type=location, help=ONE_RUN)
    parser.add_argument("finding", metavar="FINDING", help="F1, 1, or the rule's id, e.g. vanishing-gradient")
    parser.add_argument("--remedy", metavar="ID", help="this suggestion (default: the first that has a patch)")
    parser.add_argument("--apply", action="store_true", help="write the change, after a backup")
    add_output(parser)


def run(options: Namespace) -> int:
    """Prints the diff on stdout, or writes it; what it does and why goes to stderr."""
    from gradscope.reports import json_text
    from gradscope.reports.diff import render
    from gradscope.reports.envelope import envelope
    from gradscope.reports.look import look_of

    read = read_bounded(options.path)
    number, finding = _finding(read.diagnosis, options.finding)
    suggestion = _suggestion(finding, read.signals, options.remedy)
    passed = [] if options.remedy else _passed_over(suggestion, finding, read.signals)
    for line in [*passed, f"{number} {finding.rule}: {suggestion.title}.", f"{suggestion.location}. {suggestion.why}"]:
        print(_fitted(line, look_of(sys.stderr)), file=sys.stderr)
    wrote = _apply(suggestion, finding, read.signals) if options.apply else {}
    again = _next(read.run.info.command, finding.rule)
    if options.format == "json":
        said = {name: getattr(suggestion, name) for name in ("remedy", "title", "why", "location", "patch")}
        put(json_text.render(envelope(finding=number, rule=finding.rule, **said, wrote=wrote, next=again)), options)
    elif options.apply:
        lines = [f"wrote {file}, the old one is {backup}" for file, backup in wrote.items()]
        put("\n".join([*lines, again]) + "\n", options)
    else:
        put(render(suggestion.patch, look_for(options)), options)
    return DONE


def _fitted(text: str, look: Look) -> str:
    """A paragraph as the stream can show it."""
    from gradscope.reports.words import ascii_only, harmless

    said = harmless(text)
    return fill(said if look.unicode else ascii_only(said), look.width, break_long_words=False, break_on_hyphens=False)


def _apply(suggestion: Suggestion, finding: Finding, signals: Signals) -> dict[str, str]:
    """Writes the change; gives the file that holds the old text for each that was written."""
    from gradscope.patches import Program
    from gradscope.patches.write import check, write

    changed = _changed(suggestion, finding, signals)
    for file, (old, _) in changed.items():
        check(Path(file), old)  # all of them first: half a change is none
    program = Program(signals.run.info)
    named = {file: program.name_of(file) for file in changed}
    here = {file: name if Path(file) == Path.cwd() / name else file for file, name in named.items()}
    return {here[file]: write(Path(file), old, new).name for file, (old, new) in changed.items()}


def _next(command: Sequence[str], rule: str) -> str:
    again = f"gradscope run {shlex.join(command)}" if command else "the training again"
    return f"Next: {again}, then gradscope report to see whether {rule} is gone."


def _finding(diagnosis: Diagnosis, typed: str) -> tuple[str, Finding]:
    """The finding that was named, with its number.

    Raises:
        UnknownId: there is none.
    """
    findings = diagnosis.findings
    numbered = {f"F{place}": finding for place, finding in enumerate(findings, 1)}
    if not numbered:
        raise UnknownId(f"this run has no findings, so that there is nothing to fix: {diagnosis.headline}")
    digits = typed.upper().removeprefix("F")
    for number, finding in numbered.items():
        if number == f"F{digits}" or finding.rule == typed:
            return number, finding
    names = ", ".join(f"{number} {finding.rule}" for number, finding in numbered.items())
    raise UnknownId(f"this run has no finding {typed}. There are: {names}.")


def _suggestion(finding: Finding, signals: Signals, remedy: str | None) -> Suggestion:
    """The suggestion that was named, or the first with a patch.

    Raises:
        UnknownId: the finding has no such suggestion.
        NoPatch: it cannot be written as a change of these lines; says why, and shows the code to paste.
    """
    if finding.follows:
        raise NoPatch(
            f"{finding.rule} most likely follows from {finding.follows}: fix that one, and this one goes with it."
        )
    if not finding.suggestions:
        raise NoPatch(
            f"no remedy is known that fits the causes of {finding.rule}. See `gradscope explain {finding.rule}`."
        )
    known = {suggestion.remedy: suggestion for suggestion in finding.suggestions}
    if remedy is not None and remedy not in known:
        raise UnknownId(unknown("suggestion of this finding", remedy, list(known)))
    chosen = [known[remedy]] if remedy is not None else list(known.values())
    for suggestion in chosen:
        if suggestion.patch:
            return suggestion
    reasons = "".join(f"\n  {each.remedy}: {_why_not(each, finding, signals)}" for each in chosen)
    first = chosen[0]
    code = "\n".join(f"    {line}" for line in first.code.splitlines())
    raise NoPatch(
        f"there is no patch of your lines for this finding:{reasons}\nTo paste and fit by hand, for {first.remedy}:\n{code}"
    )


def _passed_over(taken: Suggestion, finding: Finding, signals: Signals) -> list[str]:
    """What is suggested ahead of what is taken, and why it is not that."""
    ahead = list(takewhile(lambda each: each is not taken, finding.suggestions))
    return [
        f"No patch for {each.remedy}, suggested ahead of this: {_why_not(each, finding, signals)}." for each in ahead
    ]


def _why_not(suggestion: Suggestion, finding: Finding, signals: Signals) -> str:
    from gradscope.catalogue import remedies

    if suggestion.remedy not in remedies():  # two that a trial tried together
        return "two remedies at once; ask for each of them with --remedy"
    try:
        remedies()[suggestion.remedy].patch(finding, signals)
    except NoPatch as reason:
        return str(reason)
    return "the lines are written in a way that was not foreseen"


def _changed(suggestion: Suggestion, finding: Finding, signals: Signals) -> dict[str, tuple[str, str]]:
    """The text of each file before and after."""
    from gradscope.catalogue import remedies
    from gradscope.patches import Program

    program = Program(signals.run.info)
    return program.changed(remedies()[suggestion.remedy].edits(finding, signals, program))
