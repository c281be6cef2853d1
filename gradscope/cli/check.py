"""Judge a run for CI: exit 0 where nothing counts, 1 for findings at or above --fail-on, 4 where too little was recorded."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gradscope.cli._exit_codes import DONE, FINDINGS, NOT_ENOUGH_DATA
from gradscope.cli._formats import Judged, add_formats, judged, text_of
from gradscope.cli._output import look_for, put
from gradscope.cli._run_folder import add_run
from gradscope.errors import BaselineError, ReportNotWritable

if TYPE_CHECKING:
    from gradscope.reports.envelope import Document

HELP = "judge a run for CI: the exit code says whether something is sick"
_CODES = {"passed": DONE, "failed": FINDINGS, "not-enough-data": NOT_ENOUGH_DATA}


def arguments(parser: ArgumentParser) -> None:
    """Adds the options."""
    add_run(parser)
    parser.add_argument(
        "--fail-on",
        choices=("note", "warning", "error"),
        default="error",
        help="the least severity that fails; muted findings never do (default: error)",
    )
    parser.add_argument(
        "--baseline", metavar="FILE", type=Path, help="findings in this file do not count, so that only new ones fail"
    )
    parser.add_argument(
        "--write-baseline", metavar="FILE", type=Path, help="write all findings that count to this file, and pass"
    )
    parser.add_argument(
        "--github",
        action="store_true",
        help="also print annotations for GitHub Actions, and add the report to the summary of its step; -o keeps the "
        "report itself apart",
    )
    parser.add_argument("--exit-zero", action="store_true", help="exit with 0 whatever was found")
    add_formats(parser)


def run(options: Namespace) -> int:
    """Prints the report with the outcome, and gives the exit code."""
    from gradscope.reports import github, markdown

    read = judged(options.path)
    document = _checked(read, options)
    text = _text(read, document, options)
    if options.github:
        put(text if options.output else github.quietly(text), options)
        sys.stdout.write(github.render(document, github.root(os.environ)))
        _summarise(markdown.render(document), os.environ)
    else:
        put(text, options)
    return DONE if options.exit_zero else _CODES[document["check"]["outcome"]]


def _checked(read: Judged, options: Namespace) -> Document:
    """The document with what does not count, and the outcome."""
    from gradscope.reports.baseline import read_baseline
    from gradscope.reports.gate import gate
    from gradscope.store.folders import open_folder
    from gradscope.store.mutes import mute_of, read_mutes

    findings = read.document["findings"]
    mutes = read_mutes(open_folder(read.folder))
    told = zip(findings, read.diagnosis.findings, strict=True)
    muted = {each["number"]: mute.reason for each, finding in told if (mute := mute_of(finding, mutes)) is not None}
    baseline = read_baseline(options.baseline) if options.baseline else ()
    known = {
        each["number"]: str(options.baseline)
        for each in findings
        if each["number"] not in muted and any(one.holds(each) for one in baseline)
    }
    if options.write_baseline:
        known = _written(read.document, muted, options.write_baseline) or known
    return gate(read.document, options.fail_on, muted, known)


def _written(document: Document, muted: Mapping[str, str], file: Path) -> dict[str, str]:
    """Writes the findings that are not muted as a baseline; gives them, by number, with the file."""
    from gradscope.reports.baseline import baseline_text

    counted = [each for each in document["findings"] if each["number"] not in muted]
    if document["verdict"] == "not-enough-data":
        print("gradscope: no baseline was written: too little was recorded to judge.", file=sys.stderr)
        return {}
    try:
        file.write_text(baseline_text(counted), encoding="utf-8")
    except OSError as error:
        raise BaselineError(f"cannot write the baseline {file}: {error.strerror}. Name another file.") from error
    print(f"baseline written to {file}", file=sys.stderr)
    return {each["number"]: str(file) for each in counted}


def _text(read: Judged, document: Document, options: Namespace) -> str:
    """The report; the outcome ends it in a terminal, and is said on stderr where it stands apart or in no words."""
    from gradscope.reports.gate import conclusion, conclusion_text
    from gradscope.reports.words import harmless

    text = text_of(read, document, options)
    if options.format == "terminal":
        text += f"\n{conclusion_text(document, look_for(options))}"
    if options.format != "terminal" or options.output:
        print(f"gradscope check: {harmless(conclusion(document))}", file=sys.stderr)
    return text


def _summarise(text: str, environment: Mapping[str, str]) -> None:
    """Appends to the summary of a step of GitHub Actions, where there is one."""
    file = environment.get("GITHUB_STEP_SUMMARY")
    if not file:
        return
    try:
        with open(file, "a", encoding="utf-8", errors="backslashreplace") as summary:
            summary.write(text)
    except OSError as error:
        raise ReportNotWritable(
            f"cannot write the summary to {file}, which GITHUB_STEP_SUMMARY names: {error.strerror}. "
            "Unset it, or leave out --github."
        ) from error
