"""A comparison of two runs for a terminal: both verdicts first, then what was set, what was found and how they ran."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gradscope.numerals import number
from gradscope.reports import words
from gradscope.reports.comparison import words as said
from gradscope.reports.diff import changed_lines
from gradscope.reports.envelope import Document
from gradscope.reports.finding_words import where
from gradscope.reports.level_line import level_line, resampled
from gradscope.reports.look import Look
from gradscope.reports.loss_line import scale_of
from gradscope.reports.strips import ASCII_BLOCKS, BLOCKS
from gradscope.reports.terminal import STYLES, apart, printed

_STATE_STYLES = {said.GONE: "green", said.STILL: "yellow", said.NEW: "bold red"}
_MOST_SETTINGS, _MOST_CHANGED, _MOST_LAYERS, _MOST_NAMES = 24, 16, 8, 6
_LONGEST_SETTING = 160  # characters of a value
_MOST_BAR = 12  # decades


def render(document: Document, look: Look | None = None) -> str:
    """The comparison as text, ending in a line end. Without a look: 80 columns, Unicode, no colour.

    Args:
        document: what `comparison_document` gave, also after a trip through JSON.
        look: how the stream wants it.
    """
    page = _Page(document, look or Look())
    sections = [list(section()) for section in page.sections]
    return printed(Group(*apart(sections)), page.look)


class _Page:
    """The sections of one comparison. A class because all of them need the document and the look."""

    def __init__(self, document: Document, look: Look) -> None:
        self.document = document
        self.look = look
        self.sections: tuple[Callable[[], Iterator[RenderableType]], ...] = (
            self._verdicts,
            self._settings,
            self._sources,
            self._findings,
            self._layers,
            self._losses,
            self._notes,
            self._end,
        )

    def _say(self, text: str, style: str = "") -> Text:
        """Text as this stream can show it, with nothing in it that could steer the terminal."""
        text = words.harmless(text)
        return Text(text if self.look.unicode else words.ascii_only(text), style)

    def _table(self, *columns: str) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        for column in columns:
            table.add_column(self._say(column), overflow="fold")
        return table

    def _verdicts(self) -> Iterator[RenderableType]:
        for letter in "ab":
            side = self.document[letter]
            shape, word, severity = said.verdict_of(side)
            style = STYLES[severity]
            head = Text.assemble(self._say(letter.upper(), "bold"), " ", self._say(f"{shape} {word}", style), ": ")
            yield Text.assemble(head, self._say(side["headline"]))
        for letter in "ab":
            yield self._say(f"{letter.upper()} is {said.side_facts(self.document[letter])}.", "dim")
        yield self._say(self.document["conclusion"], "bold")

    def _settings(self) -> Iterator[RenderableType]:
        yield self._say(said.settings_title(self.document), "bold")
        differing = said.differing(self.document)
        if not differing:
            yield self._say("Nothing that GradScope records of the set-up differs.", "dim")
            return
        table = self._table("Setting", "A", "B")
        for setting in differing[:_MOST_SETTINGS]:
            values = (_cut(setting[letter]) for letter in "ab")
            table.add_row(self._say(said.setting_name(setting)), *map(self._say, values))
        yield table
        yield from self._more(len(differing) - _MOST_SETTINGS)

    def _more(self, amount: int) -> Iterator[RenderableType]:
        if amount > 0:
            yield self._say(f"and {amount:,} more, see -f json", "dim")

    def _sources(self) -> Iterator[RenderableType]:
        for change in self.document["sources"]:
            yield self._say(said.source_words(change), "bold")
            lines = changed_lines(change["diff"])
            for line in lines[:_MOST_CHANGED]:
                style = {"+": "green", "-": "red"}.get(line[:1], "dim")
                yield Text.assemble("  ", self._say(line, style), no_wrap=True, overflow="ignore")
            if len(lines) > _MOST_CHANGED:
                yield self._say(f"  and {len(lines) - _MOST_CHANGED:,} more lines, see -f markdown", "dim")

    def _findings(self) -> Iterator[RenderableType]:
        found = said.findings(self.document)
        if not found:
            return
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", expand=True)
        for column in ("In B", "Finding", "Severity"):
            table.add_column(column, no_wrap=True)
        table.add_column("What", ratio=3, overflow="fold")
        table.add_column("Where", ratio=2, overflow="fold")
        for each in found:
            line = each.shown
            shape = words.SHAPES[line["severity"]][0]
            table.add_row(
                self._say(each.state, _STATE_STYLES[each.state]),
                self._say(said.numbers_of(each)),
                self._say(f"{shape} {line['severity']}", STYLES[line["severity"]]),
                self._say(f"{line['message']}, since {said.since(each)}"),
                self._say(where(line["layers"], 2)),
            )
        yield self._say("Findings", "bold")
        yield table

    def _layers(self) -> Iterator[RenderableType]:
        pairs = said.by_distance(self.document)
        if pairs:
            yield self._say(said.layers_title(self.document), "bold")
            yield self._say(said.GAIN_WORDS, "dim")
            table = self._table("Layer")
            for column in ("A", "B", "B − A"):
                table.add_column(self._say(column), justify="right", no_wrap=True)
            table.add_column("", no_wrap=True)
            for pair in pairs[:_MOST_LAYERS]:
                values = [self._say(said.decades(pair[name])) for name in ("gain_a", "gain_b", "decades")]
                table.add_row(self._say(pair["layer"]), *values, self._say(self._bar(pair["decades"])))
            yield table
            yield from self._more(len(pairs) - _MOST_LAYERS)
        for letter in "ab":
            names = self.document[f"layers_only_{letter}"]
            if names:
                yield self._say(said.alone(names, letter.upper(), _MOST_NAMES), "" if pairs else "bold")

    def _bar(self, difference: float | None) -> str:
        """A block for each decade; where the difference is larger than the bar, its end says so."""
        size = 0.0 if difference is None else abs(difference)
        block = "█" if self.look.unicode else "#"
        return block * min(round(size), _MOST_BAR) + ("…" if size > _MOST_BAR + 0.5 else "")

    def _losses(self) -> Iterator[RenderableType]:
        yield self._say("Loss", "bold")
        table = self._table("", "A", "B")
        table.add_row(self._say("last", "dim"), *(self._say(said.last_loss(self.document[letter])) for letter in "ab"))
        shared = said.shared_loss(self.document)
        if shared is not None:
            at, a, b = shared
            table.add_row(self._say(at, "dim"), self._say(a), self._say(b))
        yield table
        yield from self._loss_lines()

    def _loss_lines(self) -> Iterator[RenderableType]:
        """Both losses by the axis that they are aligned by, on one scale."""
        lines = {letter: self.document["loss"][letter] for letter in "ab"}
        at = [place for line in lines.values() for place in line["at"]]
        values = np.array([v for line in lines.values() for v in line["values"] if v is not None], np.float64)
        scale = scale_of(values)
        if scale is None or len(at) < 3:
            return
        blocks = BLOCKS if self.look.unicode else ASCII_BLOCKS
        for letter, line in lines.items():
            height = [_height(value, scale.logarithmic) for value in line["values"]]
            drawn = resampled(line["at"], height, min(at), max(at), self.look.width - 8)
            yield Text(f"  {letter.upper()} {level_line(drawn, scale.low, scale.high, blocks)}")
        axis = "log scale, " if scale.logarithmic else ""
        low, high = (10.0**end if scale.logarithmic else end for end in (scale.low, scale.high))
        yield self._say(f"  {_span(low, high)}, {axis}by {said.AXES[self.document['aligned_by']]}", "dim")

    def _notes(self) -> Iterator[RenderableType]:
        notes: Sequence[str] = self.document["notes"]
        if notes:
            yield self._say("Notes", "bold")
        for note in notes:
            yield Padding(self._say(note), (0, 0, 0, 2))

    def _end(self) -> Iterator[RenderableType]:
        yield Text.assemble(self._say("Next:  ", "dim"), self._say(self.document["next_command"], "bold"))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SETTING else f"{text[: _LONGEST_SETTING - 1]}…"


def _height(value: float | None, logarithmic: bool) -> float | None:
    if value is None or not logarithmic:
        return value
    return math.log10(value) if value > 0 else None


def _span(low: float, high: float) -> str:
    return f"from {number(low)} to {number(high)}"
