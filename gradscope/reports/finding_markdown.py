"""A finding as Markdown, for an issue or a chat."""

from __future__ import annotations

import re

from gradscope import numerals
from gradscope.records import Finding, Suggestion
from gradscope.reports.words import SHAPES, basis, harmless, sentence, step

_MOST_LAYERS, _MOST_SUGGESTIONS = 5, 2


def finding_markdown(number: str, finding: Finding, run: str = "") -> str:
    """The finding with its evidence, causes and suggestions; names of the user's are code, never markup.

    Args:
        number: "F1".
        finding: what to say.
        run: the run's name.
    """
    shape = SHAPES[finding.severity][0]
    since = step(finding.first_step)
    until = "" if finding.last_step == finding.first_step else f" to {step(finding.last_step)}"
    lines = [
        f"### {shape} {number}: {plain(finding.message)}",
        "",
        f"{finding.severity} · `{finding.rule}` · {since}{until}{f' · run {code(run)}' if run else ''}",
    ]
    if finding.layers:
        more = len(finding.layers) - _MOST_LAYERS
        named = ", ".join(code(layer or "(model)") for layer in finding.layers[:_MOST_LAYERS])
        lines += ["", f"**Where:** {named}{f' and {more} more' if more > 0 else ''}"]
    if finding.evidence:
        lines += ["", "| Measured | Here | Healthy | Threshold |", "|---|---|---|---|"]
        for each in finding.evidence:
            threshold = "" if each.threshold is None else numerals.limit(each.threshold)
            here = f"{numerals.number(each.value)} {each.unit}".strip()
            lines.append(f"| {' | '.join(map(_cell, (each.name, here, each.healthy, threshold)))} |")
    for cause in finding.causes:
        lines += ["", f"**Why ({cause.confidence:.0%}):** {plain(sentence(cause.explanation))}"]
    for suggestion in finding.suggestions[:_MOST_SUGGESTIONS]:
        lines += ["", *_suggestion(suggestion)]
    return "\n".join(lines) + "\n"


def _suggestion(item: Suggestion) -> list[str]:
    trial = item.trial or {}
    _, said, _ = basis({"basis": item.basis, "effect": trial.get("effect", "")})
    outcome = f" {plain(sentence(str(trial['outcome'])))}" if trial.get("outcome") else ""
    lines = [f"**Try:** {plain(item.title)} ({said}).{outcome} {plain(item.why)}"]
    if item.patch or item.code:
        lines += ["", *_fenced(item.patch or item.code, "diff" if item.patch else "python")]
    return lines


def plain(text: str) -> str:
    r"""Text that Markdown leaves as it is.

    Example:
        >>> plain("a_b <img> *c*")
        'a\\_b &lt;img&gt; \\*c\\*'
    """
    text = harmless(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", text)


def code(text: str) -> str:
    """Text as code, whatever it holds.

    Example:
        >>> code("a`b")
        '`` a`b ``'
    """
    text = harmless(text)
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return f"{ticks}{space}{text}{space}{ticks}"


def _cell(text: str) -> str:
    return plain(text).replace("\n", " ")


def _fenced(text: str, language: str) -> list[str]:
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return [f"{ticks}{language}", harmless(text.rstrip("\n"), keep="\n\t"), ticks]
