"""The report as Markdown, for an issue or the comment on a pull request: findings fold, names are never markup."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from gradscope import numerals
from gradscope.reports import words
from gradscope.reports.envelope import Document
from gradscope.reports.finding_markdown import code, finding_lines, plain
from gradscope.reports.finding_words import follows, run_facts, totals, waiting
from gradscope.reports.gate import conclusion
from gradscope.reports.page_words import percent

_MOST_MISSING = 20


def render(document: Document) -> str:
    """The report as GitHub's kind of Markdown, ending in a line end.

    Example:
        >>> from gradscope.diagnosis import diagnose
        >>> from gradscope.reports import document
        >>> from gradscope.rules.handwritten import run
        >>> sick = run({"<b>": 1e-9, "b": 1.0}, loss=2.3)
        >>> print(render(document(sick, diagnose(sick))).splitlines()[0])
        ## ▲ Unhealthy: Gradients vanish before &lt;b&gt;: &lt;b&gt; gets 1.00e-9 of the output's, since step 0.
    """
    severity = words.VERDICT_SEVERITY[document["verdict"]]
    shape = words.SHAPES[severity][0]
    checked = [f"**Check:** {plain(conclusion(document))}"] if "check" in document else []
    sections = [
        [f"## {shape} {words.VERDICT_WORDS[document['verdict']]}: {plain(document['headline'])}"],
        checked,
        [plain(run_facts(document["run"]))],
        _numbers(document["numbers"]),
        *([_finding(each, document)] for each in document["findings"]),
        _folded("Not observed", [f"{code(each['what'])}: {plain(each['why'])}" for each in document["not_observed"]]),
        _folded("Not judged yet", [plain(line) for line in waiting(document)]),
        _folded("Could not run; please report it", _reasons(document["checks"]["could_not_run"])),
        [_end(document)],
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _numbers(numbers: Document) -> list[str]:
    overhead = numbers["overhead"]["share"]
    cells = {
        "Loss": _latest(numbers["loss"]),
        "Gradient norm": _latest(numbers["gradient_norm"]),
        "Non-finite": _count(numbers["non_finite_tensors"], "tensors"),
        "Gain in range": _count(numbers["healthy_layers"], "layers"),
        "Overhead": "not measured" if overhead is None else percent(overhead),
    }
    return [f"| {' | '.join(cells)} |", f"|{'---|' * len(cells)}", f"| {' | '.join(cells.values())} |"]


def _latest(latest: Document) -> str:
    value, last = latest["value"], latest["last_finite"]
    if value is not None:
        return numerals.number(value)
    said = str(latest["value_words"])
    if last is None:
        return said
    return f"{said} (last {numerals.number(last)} at {words.step(latest['last_finite_step'])})"


def _count(count: Document, noun: str) -> str:
    return f"{count['number']:,} of {count['of']:,} {noun}" if count["of"] else f"no {noun} seen"


def _finding(finding: Document, document: Document) -> str:
    """One finding, folded but for its sentence; the first one is open."""
    first = finding is document["findings"][0]
    shape, message = words.SHAPES[finding["severity"]][0], _html(finding["message"])
    lines = [
        f"<details{' open' if first else ''}>",
        f"<summary>{shape} <strong>{finding['number']}</strong> {message}</summary>",
        "",
        *finding_lines(finding, follows=follows(finding, document["findings"])),
        "",
        "</details>",
    ]
    return "\n".join(lines)


def _html(text: str) -> str:
    """Text inside a line of HTML, where Markdown is not read, but mentions are."""
    return escape(words.harmless(text), quote=False).replace("@", "@<!-- -->")


def _folded(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    shown = [f"- {line}" for line in lines[:_MOST_MISSING]]
    hidden = len(lines) - _MOST_MISSING
    rest = [f"- and {hidden:,} more, see `-f json`"] if hidden > 0 else []
    return [f"<details>\n<summary>{title} ({len(lines):,})</summary>\n", *shown, *rest, "\n</details>"]


def _reasons(checks: Sequence[Document]) -> list[str]:
    return [f"{code(check['rule'])}: {plain(check['reason'])}" for check in checks]


def _end(document: Document) -> str:
    said = [totals(document["counts"])]
    if document["findings"]:
        said.append(f"Learn: {code('gradscope explain ' + document['findings'][0]['rule'])}.")
    said.append(f"Next: {code(document['next_command'])}.")
    return " ".join(said)
