"""The report for a terminal: the verdict first, then why, then what to do."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gradscope import numerals
from gradscope.records import Severity, VerdictName
from gradscope.reports import words
from gradscope.reports.diff import changed_lines
from gradscope.reports.envelope import Document
from gradscope.reports.finding_words import (
    fix_command,
    follows,
    grade,
    measured,
    measured_rate,
    run_facts,
    seen,
    totals,
    waiting,
    where,
)
from gradscope.reports.look import Look
from gradscope.reports.page_words import percent
from gradscope.reports.strips import ASCII_BLOCKS, BLOCKS, Strip, legend, sparkline

STYLES: dict[Severity | None, str] = {
    "error": "bold red",
    "warning": "bold yellow",
    "note": "bold blue",
    None: "bold green",
}
_MOST_CHANGED = 16  # lines of a patch
_MOST_CAUSES, _MOST_SUGGESTIONS, _MOST_LAYERS, _MOST_EVIDENCE, _MOST_MISSING = 3, 3, 3, 4, 8


def render(document: Document, look: Look | None = None) -> str:
    """The report as text, ending in a line end. Without a look: 80 columns, Unicode, no colour.

    Args:
        document: what `reports.document` gave, also after a trip through JSON.
        look: how the stream wants it, see `look_of`.
    """
    look = look or Look()
    page = _Page(document, look)
    return printed(Group(*apart([list(section()) for section in page.sections])), look)


def render_brief(document: Document, look: Look | None = None) -> str:
    """The verdict, the five numbers and the findings alone, for who follows a run as it grows."""
    look = look or Look()
    page = _Page(document, look)
    return printed(Group(*apart([list(section()) for section in page.brief])), look)


def render_table(columns: Sequence[str], rows: Sequence[Sequence[str]], look: Look, spare: Sequence[str] = ()) -> str:
    """A plain table as text, ending in a line end; the last column wraps.

    Args:
        columns: their titles.
        rows: with as many cells as there are columns.
        look: how the stream wants it.
        spare: columns that are left out, in this order, as far as the stream is too narrow for all.

    Example:
        >>> print(render_table(("run", "size", "verdict"), [("a", "1 kB", "Healthy")], Look(12), ("size",)), end="")
        run  verdict
        a    Healthy
    """
    for title in spare:
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        if title in columns and sum(widths) + 2 * (len(widths) - 1) > look.width:
            kept = [place for place, name in enumerate(columns) if name != title]
            columns, rows = [columns[place] for place in kept], [[row[place] for place in kept] for row in rows]
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for column in columns[:-1]:
        table.add_column(column, no_wrap=True, style="bold")
    table.add_column(columns[-1], overflow="fold")
    for row in rows:
        said = map(words.harmless, row)  # a run's folder, say, is the user's text
        table.add_row(*(Text(text if look.unicode else words.ascii_only(text)) for text in said))
    return printed(table, look)


def printed(content: RenderableType, look: Look) -> str:
    """What rich would print, as text for a stream of this look."""
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=look.width,
        force_terminal=look.color,
        no_color=not look.color,
        color_system="standard" if look.color else None,  # sixteen colours: they follow the reader's own theme
        legacy_windows=False,
        markup=False,  # layer names are the user's text
        highlight=False,
        emoji=False,
        _environ={},  # `look` has decided already
    )
    console.print(content, crop=False)  # everything wraps by itself but code, which nobody could paste when cut
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def apart(sections: Sequence[list[RenderableType]]) -> Iterator[RenderableType]:
    """The sections that have something to say, an empty line between them."""
    for position, section in enumerate(filter(None, sections)):
        if position:
            yield Text("")
        yield from section


class _Page:
    """The sections of one report. A class because all of them need the document and the look."""

    def __init__(self, document: Document, look: Look) -> None:
        self.document = document
        self.look = look
        self.sections: tuple[Callable[[], Iterator[RenderableType]], ...] = (
            self._verdict,
            self._numbers,
            self._findings,
            self._details,
            self._strips,
            self._not_observed,
            self._end,
        )
        self.brief = self.sections[:3]

    # words

    def _say(self, text: str, style: str = "", keep: str = "") -> Text:
        """Text as this stream can show it, with nothing in it that could steer the terminal."""
        text = words.harmless(text, keep)
        return Text(text if self.look.unicode else words.ascii_only(text), style)

    def _shape(self, severity: Severity | None) -> Text:
        return Text(words.SHAPES[severity][0 if self.look.unicode else 1], STYLES[severity])

    def _labelled(self, label: str, *lines: Text) -> Iterator[RenderableType]:
        """Lines that hang beside a label; wrapped lines stay in their column."""
        table = Table.grid(padding=(0, 1), pad_edge=False)
        table.add_column(width=8, no_wrap=True)
        table.add_column(ratio=1, overflow="fold")
        for position, line in enumerate(lines):
            table.add_row(self._say("" if position else label, "dim"), line)
        yield Padding(table, (0, 0, 0, 4))

    # sections

    def _verdict(self) -> Iterator[RenderableType]:
        verdict = cast(VerdictName, self.document["verdict"])
        severity = words.VERDICT_SEVERITY[verdict]
        word = self._say(words.VERDICT_WORDS[verdict], STYLES[severity])
        yield Text.assemble(self._shape(severity), " ", word, ": ", self._say(self.document["headline"], "bold"))
        yield self._say(run_facts(self.document["run"]), "dim")

    def _numbers(self) -> Iterator[RenderableType]:
        numbers = self.document["numbers"]
        overhead = numbers["overhead"]["share"]
        cells = {
            "Loss": _latest(numbers["loss"]),
            "Gradient norm": _latest(numbers["gradient_norm"]),
            "Non-finite": _count(numbers["non_finite_tensors"], "tensors"),
            "Gain in range": _count(numbers["healthy_layers"], "layers"),
            "Overhead": ("not measured" if overhead is None else percent(overhead), ""),
        }
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", expand=False)
        for name in cells:
            table.add_column(name, overflow="fold")
        table.add_row(*(self._say(big, "bold") for big, _ in cells.values()))
        if any(small for _, small in cells.values()):
            table.add_row(*(self._say(small, "dim") for _, small in cells.values()))
        yield table

    def _findings(self) -> Iterator[RenderableType]:
        findings = self.document["findings"]
        if not findings:
            return
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", expand=True)
        table.add_column("", no_wrap=True)
        table.add_column("Severity", no_wrap=True)
        table.add_column("What", ratio=3, overflow="fold")
        table.add_column("Where", ratio=2, overflow="fold")
        table.add_column("Since", no_wrap=True)
        for finding in findings:
            severity = cast(Severity, finding["severity"])
            table.add_row(
                self._say(finding["number"], "bold"),
                Text.assemble(self._shape(severity), (f" {severity}", STYLES[severity])),
                self._say(finding["message"]),
                self._say(where(finding["layers"], 1)),
                self._say(words.step(finding["first_step"])),
            )
        yield table

    def _details(self) -> Iterator[RenderableType]:
        """Why and what to do, for all but the notes; those say all they have in the table unless they stand alone."""
        findings = self.document["findings"]
        told = [finding for finding in findings if finding["severity"] != "note"] or findings
        for position, finding in enumerate(told):
            if position:
                yield Text("")
            yield from self._finding(finding)

    def _finding(self, finding: Document) -> Iterator[RenderableType]:
        number = self._say(finding["number"], STYLES[finding["severity"]])
        yield Text.assemble(number, " ", self._say(finding["rule"], "bold"))
        yield from self._labelled("where", self._say(where(finding["layers"], _MOST_LAYERS)))
        yield from self._labelled("when", self._say(seen(finding, self.document["run"]["last_step"])))
        if leading := follows(finding, self.document["findings"]):
            yield from self._labelled("follows", self._say(leading))
        evidence, causes, suggestions = finding["evidence"], finding["causes"], finding["suggestions"]
        if evidence:
            lines = [self._say(_evidence(each)) for each in evidence[:_MOST_EVIDENCE]]
            yield from self._labelled("seen", *lines, *self._more(len(evidence) - _MOST_EVIDENCE))
        if causes:
            lines = [line for place, cause in enumerate(causes[:_MOST_CAUSES]) for line in self._cause(place, cause)]
            yield from self._labelled("why", *lines, *self._more(len(causes) - _MOST_CAUSES))
        for position, suggestion in enumerate(suggestions[:_MOST_SUGGESTIONS], 1):
            yield from self._suggestion(position, suggestion, finding)
        if len(suggestions) > _MOST_SUGGESTIONS:
            yield from self._labelled("", *self._more(len(suggestions) - _MOST_SUGGESTIONS))

    def _more(self, amount: int) -> list[Text]:
        return [self._say(f"and {amount} more, see -f json", "dim")] if amount > 0 else []

    def _cause(self, position: int, cause: Document) -> list[Text]:
        said = Text.assemble(self._say(grade(position, cause), "dim"), self._say(cause["explanation"]))
        rate = measured_rate(cause)
        return [said, self._say(words.sentence(rate), "dim")] if rate else [said]

    def _suggestion(self, position: int, suggestion: Document, finding: Document) -> Iterator[RenderableType]:
        _, basis, style = words.basis(suggestion)
        title = self._say(f"{position}. {suggestion['title']} ", "bold")
        lines = [Text.assemble(title, self._say(f"[{basis}]", style)), self._say(suggestion["why"])]
        if outcome := suggestion["trial"].get("outcome"):
            lines.append(self._say(words.sentence(outcome), style))
        if suggestion["location"]:
            lines.append(self._say(f"at {suggestion['location']}", "dim"))
        if suggestion["patch"]:
            lines.append(self._say(f"{fix_command(self.document['run'], finding, suggestion)} writes it", "dim"))
        yield from self._labelled("try" if position == 1 else "", *lines)
        changed = changed_lines(suggestion["patch"])
        if 0 < len(changed) <= _MOST_CHANGED:  # in the user's own names; a long one would hide the rest
            for change in changed:
                said = self._say(change, {"+": "green", "-": "red"}.get(change[:1], "dim"))
                yield Text.assemble(" " * 17, said, no_wrap=True, overflow="ignore")
        elif suggestion["code"]:
            code = self._say(suggestion["code"].expandtabs(4).strip("\n"), "cyan", keep="\n")
            for line in code.split("\n"):
                yield Text.assemble(" " * 17, line, no_wrap=True, overflow="ignore")

    def _strips(self) -> Iterator[RenderableType]:
        shown = [_strip(each) for each in self.document["strips"]]
        if not shown:
            return
        blocks = BLOCKS if self.look.unicode else ASCII_BLOCKS
        steps = [step for strip in shown for step in (strip.steps[0], strip.steps[-1])]
        which = "of the worst layers" if self.document["findings"] else "of the lowest and the highest layer"
        yield self._say(f"Backward gain {which}, {words.step(min(steps))} to {max(steps):,}", "bold")
        yield self._say("The gradient's norm at a layer over its norm at the model's output.", "dim")
        table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column(max_width=self.look.width // 3, overflow="fold")
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        for strip in shown:
            last = strip.words[-1] if strip.values[-1] is None else numerals.number(strip.values[-1])
            short = (last or "").partition(",")[0]
            table.add_row(
                self._say(strip.layer), Text(sparkline(strip, self.look.width // 2, blocks)), self._say(short)
            )
        yield table
        yield self._say(legend(shown, blocks), "dim")

    def _not_observed(self) -> Iterator[RenderableType]:
        missing = self.document["not_observed"]
        yield from self._listed("Not observed", [f"{each['what']}: {each['why']}" for each in missing])
        yield from self._listed("Not judged yet", waiting(self.document))
        failed = [f"{check['rule']}: {check['reason']}" for check in self.document["checks"]["could_not_run"]]
        yield from self._listed("Could not run; please report it", failed)

    def _listed(self, title: str, items: Sequence[str]) -> Iterator[RenderableType]:
        if items:
            yield self._say(title, "bold")
        for line in (*map(self._say, items[:_MOST_MISSING]), *self._more(len(items) - _MOST_MISSING)):
            yield Padding(line, (0, 0, 0, 2))

    def _end(self) -> Iterator[RenderableType]:
        yield self._say(totals(self.document["counts"]))
        if self.document["findings"]:
            rule = self.document["findings"][0]["rule"]
            yield Text.assemble(self._say("Learn: ", "dim"), self._say(f"gradscope explain {rule}"))
        yield Text.assemble(self._say("Next:  ", "dim"), self._say(self.document["next_command"], "bold"))


def _latest(latest: Document) -> tuple[str, str]:
    """The value and, where it is not finite, the last one that was."""
    value, last = latest["value"], latest["last_finite"]
    if value is not None:
        return numerals.number(value), ""
    known = latest["value_words"]
    return (
        known,
        f"last {numerals.number(last)} at {words.step(latest['last_finite_step'])}" if last is not None else "",
    )


def _count(count: Document, noun: str) -> tuple[str, str]:
    return (f"{count['number']:,} of {count['of']:,} {noun}", "") if count["of"] else (f"no {noun} seen", "")


def _evidence(evidence: Document) -> str:
    said = f"{evidence['name']}: {measured(evidence)}"
    judged = [] if evidence["threshold"] is None else [f"threshold {numerals.limit(evidence['threshold'])}"]
    judged += [f"healthy {evidence['healthy']}"] if evidence["healthy"] else []
    return f"{said} ({', '.join(judged)})" if judged else said


def _strip(content: dict[str, Any]) -> Strip:
    said = content.get("values_words", {})
    places = range(len(content["values"]))
    return Strip(
        content["layer"], tuple(content["steps"]), tuple(content["values"]), tuple(said.get(str(i)) for i in places)
    )
