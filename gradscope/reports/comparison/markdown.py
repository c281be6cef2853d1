"""A comparison of two runs as Markdown, for an issue or a pull request: names are never markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from gradscope.reports.comparison import words as said
from gradscope.reports.envelope import Document
from gradscope.reports.finding_markdown import code, fenced, plain
from gradscope.reports.words import SHAPES, harmless

_MOST_LAYERS, _MOST_NAMES, _MOST_SETTINGS = 20, 20, 100


def render(document: Document) -> str:
    """The comparison as GitHub's kind of Markdown, ending in a line end.

    Args:
        document: what `comparison_document` gave.
    """
    sections = [
        [f"## {plain(document['conclusion'])}"],
        _sides(document),
        _settings(document),
        *(_source(change) for change in document["sources"]),
        _findings(document),
        _layers(document),
        _losses(document),
        _notes(document["notes"]),
        [f"Next: {code(document['next_command'])}."],
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table of cells that are Markdown already."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _cell(text: str) -> str:
    """A user's text in a table: code, which only a bar could end."""
    return code(text).replace("|", "\\|") if text else ""


def _sides(document: Document) -> list[str]:
    rows = []
    for letter in "ab":
        side = document[letter]
        shape, word, _ = said.verdict_of(side)
        facts = plain(said.side_facts(side))
        rows.append((f"**{letter.upper()}**", f"{shape} {word}", plain(side["headline"]), facts))
    return _table(("", "Verdict", "", "Run"), rows)


def _settings(document: Document) -> list[str]:
    differing = said.differing(document)
    title = f"### {said.settings_title(document)}"
    if not differing:
        return [title, "", "Nothing that GradScope records of the set-up differs."]
    rows = [(plain(said.setting_name(each)), _cell(each["a"]), _cell(each["b"])) for each in differing[:_MOST_SETTINGS]]
    return [title, "", *_table(("Setting", "A", "B"), rows), *_more(len(differing) - _MOST_SETTINGS)]


def _more(amount: int) -> list[str]:
    return ["", f"And {amount:,} more, see `-f json`."] if amount > 0 else []


def _source(change: Document) -> list[str]:
    if not change["diff"]:
        return [plain(said.source_words(change)) + "."]
    words = escape(harmless(said.source_words(change)), quote=False).replace(
        "@", "@<!-- -->"
    )  # Markdown is not read there
    summary = f"<summary>{words}</summary>"
    return ["<details>", summary, "", *fenced(change["diff"], "diff"), "", "</details>"]


def _findings(document: Document) -> list[str]:
    found = said.findings(document)
    if not found:
        return []
    rows = [
        (
            each.state,
            said.numbers_of(each),
            f"{SHAPES[each.shown['severity']][0]} {each.shown['severity']}",
            f"{plain(each.shown['message'])} ({code(each.shown['rule'])}, since {said.since(each)})",
            _names(each.shown["layers"], 3),
        )
        for each in found
    ]
    return ["### Findings", "", *_table(("In B", "Finding", "Severity", "What", "Where"), rows)]


def _names(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(_cell(name or "(model)") for name in names[:most]) + more if names else "the whole model"


def _layers(document: Document) -> list[str]:
    pairs = said.by_distance(document)
    lines = []
    if pairs:
        rows = [
            (_cell(pair["layer"]), *(said.decades(pair[name]) for name in ("gain_a", "gain_b", "decades")))
            for pair in pairs[:_MOST_LAYERS]
        ]
        lines = [
            f"### {said.layers_title(document)}",
            "",
            said.GAIN_WORDS,
            "",
            *_table(("Layer", "A", "B", "B − A"), rows),
        ]
        lines += _more(len(pairs) - _MOST_LAYERS)
    for letter in "ab":
        names = document[f"layers_only_{letter}"]
        if names:
            lines += ["", f"{said.amount_alone(names, letter.upper())}: {_names(names, _MOST_NAMES)}."]
    return lines


def _losses(document: Document) -> list[str]:
    rows = [("last", *(plain(said.last_loss(document[letter])) for letter in "ab"))]
    shared = said.shared_loss(document)
    rows += [shared] if shared is not None else []
    return ["### Loss", "", *_table(("", "A", "B"), rows)]


def _notes(notes: Sequence[str]) -> list[str]:
    return ["### Notes", "", *(f"- {plain(note)}" for note in notes)] if notes else []
