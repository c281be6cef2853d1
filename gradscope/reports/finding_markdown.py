"""A finding as Markdown, for an issue or a chat."""

from __future__ import annotations

import re

from gradscope import numerals
from gradscope.records import Finding
from gradscope.reports.document import finding_document
from gradscope.reports.envelope import Document
from gradscope.reports.finding_words import grade, measured, measured_rate
from gradscope.reports.words import SHAPES, basis, harmless, sentence, step

_MOST_LAYERS, _MOST_SUGGESTIONS = 5, 2


def finding_markdown(number: str, finding: Finding, run: str = "") -> str:
    """The finding with its evidence, causes and suggestions; names of the user's are code, never markup.

    Args:
        number: "F1".
        finding: what to say.
        run: the run's name.
    """
    said = finding_document(number, finding)
    title = f"### {SHAPES[finding.severity][0]} {number}: {plain(finding.message)}"
    return "\n".join([title, "", *finding_lines(said, f" · run {code(run)}" if run else "")]) + "\n"


def finding_lines(finding: Document, more: str = "", follows: str = "") -> list[str]:
    """The lines of a finding of the document, without its title.

    Args:
        finding: one of the document's.
        more: what else belongs into the line of facts, as Markdown.
        follows: of which finding it is a consequence, in words.
    """
    since, until = step(finding["first_step"]), step(finding["last_step"])
    when = since if since == until else f"{since} to {until}"
    lines = [f"{finding['severity']} · {code(finding['rule'])} · {when}{more}"]
    if finding["layers"]:
        hidden = len(finding["layers"]) - _MOST_LAYERS
        named = ", ".join(code(layer or "(model)") for layer in finding["layers"][:_MOST_LAYERS])
        lines += ["", f"**Where:** {named}{f' and {hidden:,} more' if hidden > 0 else ''}"]
    if follows:
        lines += ["", f"**Follows:** {plain(follows)}"]
    if finding["evidence"]:
        lines += ["", "| Measured | Here | Healthy | Threshold |", "|---|---|---|---|"]
        for each in finding["evidence"]:
            threshold = "" if each["threshold"] is None else numerals.limit(each["threshold"])
            lines.append(f"| {' | '.join(map(plain, (each['name'], measured(each), each['healthy'], threshold)))} |")
    for place, cause in enumerate(finding["causes"]):
        rate = measured_rate(cause)
        known = f" {plain(sentence(rate))}" if rate else ""
        lines += ["", f"**Why:** {grade(place, cause)}{plain(sentence(cause['explanation']))}{known}"]
    for suggestion in finding["suggestions"][:_MOST_SUGGESTIONS]:
        lines += ["", *_suggestion(suggestion)]
    others = [f"{plain(each['title'])} ({basis(each)[1]})" for each in finding["suggestions"][_MOST_SUGGESTIONS:]]
    return [*lines, "", f"**Or:** {'; '.join(others)}."] if others else lines


def _suggestion(item: Document) -> list[str]:
    _, said, _ = basis(item)
    outcome = item["trial"].get("outcome")
    tried = f" {plain(sentence(str(outcome)))}" if outcome else ""
    place = f" At {code(item['location'])}." if item["location"] else ""
    lines = [f"**Try:** {plain(item['title'])} ({said}).{tried} {plain(sentence(item['why']))}{place}"]
    if item["patch"] or item["code"]:
        lines += ["", *fenced(item["patch"] or item["code"], "diff" if item["patch"] else "python")]
    return lines


def plain(text: str) -> str:
    r"""Text that Markdown leaves as it is, and that calls nobody.

    Example:
        >>> plain("a_b <img> *c* @d")
        'a\\_b &lt;img&gt; \\*c\\* @<!-- -->d'
    """
    text = harmless(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", text)
    return text.replace("@", "@<!-- -->")  # a mention is looked for after Markdown has been read: no escape helps


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


def fenced(text: str, language: str) -> list[str]:
    """A block of code, whatever it holds.

    Example:
        >>> fenced("x = 1", "python")
        ['```python', 'x = 1', '```']
    """
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return [f"{ticks}{language}", harmless(text.rstrip("\n"), keep="\n\t"), ticks]
