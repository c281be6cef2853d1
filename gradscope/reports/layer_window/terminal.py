"""Everything around one step for some layers, for a terminal: the training first, then each layer in tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gradscope.numerals import limit, number
from gradscope.reports import words
from gradscope.reports.comparison.words import decades
from gradscope.reports.envelope import Document
from gradscope.reports.level_line import level_line
from gradscope.reports.look import Look
from gradscope.reports.loss_line import scale_of
from gradscope.reports.page_words import percent
from gradscope.reports.strips import ASCII_BLOCKS, BLOCKS, NON_FINITE, NOT_RECORDED, UNDEFINED, Strip, legend, sparkline
from gradscope.reports.terminal import apart, printed

_SHORT = {NON_FINITE: "NaN, Inf", UNDEFINED: "undefined", NOT_RECORDED: "·", "exactly 0 is handed back": "closed"}
_ONLY_IN_JSON = ("activation_rms",)  # the norm says it, and a line has little room
_AT_A_STEP = ("weight_norm", "weight_gradient_norm", "update_norm", "update_ratio")
_OF_WEIGHTS = (*_AT_A_STEP, "weight_non_finite", "weight_gradient_non_finite")
_MOST_PARAMETERS, _MOST_EVENTS = 12, 20


def render(document: Document, look: Look | None = None) -> str:
    """The page as text, ending in a line end. Without a look: 80 columns, Unicode, no colour.

    Args:
        document: what `window_document` gave, also after a trip through JSON.
        look: how the stream wants it.
    """
    page = _Page(document, look or Look())
    sections = [list(page.head()), list(page.training()), list(page.events())]
    sections += [list(page.layer(each)) for each in document["layers"]]
    sections.append(list(page.end()))
    return printed(Group(*apart(sections)), page.look)


class _Page:
    """The sections of one window. A class because all of them need the document and the look."""

    def __init__(self, document: Document, look: Look) -> None:
        self.document = document
        self.look = look
        self.blocks = BLOCKS if look.unicode else ASCII_BLOCKS

    def _say(self, text: str, style: str = "") -> Text:
        """Text as this stream can show it, with nothing in it that could steer the terminal."""
        text = words.harmless(text)
        return Text(text if self.look.unicode else words.ascii_only(text), style)

    def head(self) -> Iterator[RenderableType]:
        """Which run, and around which step."""
        run, step = self.document["run"], self.document["step"]
        yield Text.assemble(self._say(f"{run['name']}: ", "bold"), self._say(f"{run['facts']}."))
        if step is None:
            yield self._say("Nothing was recorded yet: there is no step to look at.")
            return
        steps, asked = self.document["steps"], self.document["asked"]
        shown = f"the recorded steps {steps[0]:,} to {steps[-1]:,}" if len(steps) > 1 else "no other recorded step"
        if asked is not None and asked != step:
            yield self._say(f"Step {asked:,} was not recorded in full; step {step:,} is the nearest that was.")
        yield self._say(f"Around step {step:,} ({self.document['why']}): {shown}.")
        if run["note"]:
            yield self._say(run["note"], "dim")

    def _steps_table(self, columns: Mapping[str, Sequence[str]]) -> Iterator[RenderableType]:
        """A row for each step, the one in the middle marked."""
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        for name in ("step", *columns):
            table.add_column(self._say(name), justify="right", overflow="fold", vertical="bottom")
        for place, step in enumerate(self.document["steps"]):
            chosen = step == self.document["step"]
            mark = (">" if not self.look.unicode else "▸") if chosen else " "
            cells = [f"{mark} {step:,}", *(values[place] for values in columns.values())]
            table.add_row(*(self._say(cell, "bold" if chosen else "") for cell in cells))
        yield Padding(table, (0, 0, 0, 2))

    def training(self) -> Iterator[RenderableType]:
        """What belongs to the whole training."""
        told = self.document["training"]
        columns = {"loss": _cells(told["loss"]), "gradient norm": _cells(told["gradient_norm"])}
        if _differ(told["gradient_norm"], told["clipped_gradient_norm"]):
            columns["as clipped"] = _cells(told["clipped_gradient_norm"])
        rates = told["learning_rates"]
        for group, rate in enumerate(rates, 1):
            columns[f"learning rate {group}" if len(rates) > 1 else "learning rate"] = _cells(rate, limit)
        if any(scale not in (1.0, None) for scale in told["loss_scale"]["values"]):
            columns["loss scale"] = _cells(told["loss_scale"], limit)
        if self.document["step"] is None:
            return
        yield self._say("Training", "bold")
        yield from self._steps_table(columns)
        between = told["not_recorded_between"]
        if between:
            those = f"{words.count(between, 'step')} between or after them {'were' if between > 1 else 'was'}"
            yield self._say(f"  {those} not recorded in full: of those only the loss and the like are known.", "dim")
        yield from self._loss_line(told["loss_line"])

    def _loss_line(self, line: Document) -> Iterator[RenderableType]:
        values = np.array([math.nan if value is None else value for value in line["values"]], np.float64)
        scale = scale_of(values)
        if scale is None or len(values) < 3:
            return
        width = self.look.width - 10
        picked = np.unique(np.linspace(0, len(values) - 1, min(width, len(values))).astype(int))
        heights = [_height(values[place], scale.logarithmic) for place in picked]
        low, high = (10.0**end if scale.logarithmic else end for end in (scale.low, scale.high))
        yield Text(f"  loss {level_line(heights, scale.low, scale.high, self.blocks)}")
        span = self.document["span"]
        axis = "log scale, " if scale.logarithmic else ""
        said = f"       steps {span[0]:,} to {span[1]:,}, {axis}from {number(low)} to {number(high)}"
        yield self._say(said, "dim")

    def events(self) -> Iterator[RenderableType]:
        """What happened there."""
        events = self.document["events"]
        if not events:
            return
        yield self._say("What happened", "bold")
        table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(overflow="fold", ratio=1)
        for event in events[:_MOST_EVENTS]:
            table.add_row(self._say(words.step(event["step"]), "dim"), self._say(event["text"]))
        yield Padding(table, (0, 0, 0, 2))
        if len(events) > _MOST_EVENTS:
            yield self._say(f"  and {len(events) - _MOST_EVENTS:,} more, see -f json", "dim")

    def layer(self, layer: Document) -> Iterator[RenderableType]:
        """One layer in numbers."""
        named = f", named by {', '.join(layer['findings'])}" if layer["findings"] else ""
        yield Text.assemble(self._say(layer["name"], "bold"), self._say(f"  {layer['label']}{named}", "dim"))
        shown = [each for each in layer["quantities"] if each["id"] not in _ONLY_IN_JSON and not _is_plain(each)]
        output = {each["title"]: _numbers(each) for each in shown if each["id"] not in _OF_WEIGHTS}
        weights = {each["title"]: _numbers(each) for each in shown if each["id"] in _OF_WEIGHTS}
        if output:
            yield from self._steps_table(output)
        if weights:
            yield from self._steps_table(weights)
        if not output and not weights:
            yield self._say("  Nothing of it was recorded in these steps.")
        elif layer["not_recorded"]:
            yield self._say(f"  Not recorded in these steps: {', '.join(layer['not_recorded'])}.", "dim")
        for why in layer["not_observed"]:
            yield self._say(f"  Not observed: {why}", "dim")
        yield from self._parameters(layer)
        yield from self._sizes(layer["sizes"])
        yield from self._whole_run(layer)

    def _parameters(self, layer: Document) -> Iterator[RenderableType]:
        """Each parameter at the step, where there are several."""
        parameters = layer["parameters"]
        if len(parameters) < 2 or self.document["step"] is None:
            return
        place = self.document["steps"].index(self.document["step"])
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        titles = ("parameter", "shape", "weight norm", "gradient", "update norm", "update / weight")
        for position, title in enumerate(titles):
            table.add_column(self._say(title), overflow="fold", justify="left" if position < 2 else "right")
        for each in parameters[:_MOST_PARAMETERS]:
            known = {one["id"]: _numbers(one)[place] for one in each["quantities"]}
            shape = "×".join(map(str, each["shape"])) or "scalar"
            frozen = "" if each["trainable"] else " (frozen)"
            cells = [f"{each['name'].rpartition('.')[2]}{frozen}", shape]
            cells += [known.get(name, _SHORT[NOT_RECORDED]) for name in _AT_A_STEP]
            table.add_row(*map(self._say, cells))
        yield self._say(f"  Its parameters at step {self.document['step']:,}")
        yield Padding(table, (0, 0, 0, 4))
        if layer["parameters_owned"] > _MOST_PARAMETERS:
            yield self._say(f"    and {layer['parameters_owned'] - _MOST_PARAMETERS:,} more", "dim")

    def _sizes(self, sizes: Sequence[Document]) -> Iterator[RenderableType]:
        """Histograms on one axis, a character a decade."""
        if not sizes:
            return
        first, length = sizes[0]["first"], len(sizes[0]["shares"])
        yield self._say(f"  Sizes of entries at step {self.document['step']:,}, a decade a character", "")
        grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
        for each in sizes:
            most = max(each["shares"])
            blank = "·" if self.look.unicode else " "
            line = [
                level_line([share / most], 0.0, 1.0, self.blocks) if share > 0 else blank for share in each["shares"]
            ]
            grid.add_row(self._say(each["of"], "dim"), Text("".join(line), no_wrap=True, overflow="crop"))
        yield Padding(grid, (0, 0, 0, 4))
        yield self._say(f"    from 1e{first:d} to 1e{first + length:d}", "dim")

    def _whole_run(self, layer: Document) -> Iterator[RenderableType]:
        """The backward gain over the whole run."""
        told = layer["whole_run"]
        if told is None or not told["steps"]:
            return
        said = told.get("values_words", {})
        places = range(len(told["values"]))
        strip = Strip(
            layer["name"], tuple(told["steps"]), tuple(told["values"]), tuple(said.get(str(i)) for i in places)
        )
        if all(word == NOT_RECORDED for word in strip.words):
            return
        line = sparkline(strip, self.look.width - 30, self.blocks)
        ends = f"{strip.steps[0]:,} to {strip.steps[-1]:,}"
        yield self._say(f"  Backward gain over the recorded steps {ends}")
        yield Text(f"    {line}", no_wrap=True, overflow="crop")
        yield Padding(self._say(legend([strip], self.blocks), "dim"), (0, 0, 0, 4))

    def end(self) -> Iterator[RenderableType]:
        """What is left out, and what to type next."""
        left = self.document["matched"] - len(self.document["layers"])
        if left > 0:
            yield self._say(f"{words.count(left, 'more layer')} of that name: narrow the pattern to see them.")
        yield Text.assemble(self._say("Next:  ", "dim"), self._say(self.document["next_command"], "bold"))


def _is_plain(quantity: Document) -> bool:
    """A share that is 0 at every step that is known."""
    broken = NON_FINITE in quantity.get("values_words", {}).values()
    return bool(quantity["share"]) and not any(quantity["values"]) and not broken


def _cells(column: Document, say: Callable[[float], str] = number) -> list[str]:
    """The values in words; where there is none, why."""
    said = column.get("values_words", {})
    return [
        _SHORT.get(said[str(place)], said[str(place)]) if value is None else say(value)
        for place, value in enumerate(column["values"])
    ]


def _numbers(quantity: Document) -> list[str]:
    """The values as their kind of number is said."""
    return _cells(quantity, percent if quantity["share"] else decades if quantity["id"] == "own_gain" else number)


def _differ(one: Document, other: Document) -> bool:
    """Whether clipping did anything."""
    pairs = zip(one["values"], other["values"], strict=True)
    return any(a is not None and b is not None and b < 0.999 * a for a, b in pairs)


def _height(value: float, logarithmic: bool) -> float | None:
    if not math.isfinite(value):
        return None
    if not logarithmic:
        return float(value)
    return math.log10(value) if value > 0 else None
