"""What `gradscope doctor` found, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gradscope.reports import words
from gradscope.reports.envelope import Document
from gradscope.reports.look import Look
from gradscope.reports.terminal import render_table


def render(document: Document, look: Look | None = None) -> str:
    """The page, ending in a line end.

    Args:
        document: of `gradscope.doctor.Examination`, in the envelope.
        look: how the stream wants it.
    """
    look = look or Look()
    parts = [render_table(("", ""), [*_software(document), *_places(document)], look).lstrip("\n")]
    if document["probe"]:
        parts.append("Watching a small training\n" + render_table(("", ""), list(_probe(document["probe"])), look))
    rows = [(each["what"], each["why"]) for each in document["limits"]]
    parts.append("Cannot be observed here\n" + render_table(("", ""), rows, look))
    text = "\n".join("\n".join(line for line in part.splitlines() if line.strip()) + "\n" for part in parts)
    return text if look.unicode else words.ascii_only(text)


def _software(document: Document) -> Iterator[tuple[str, str]]:
    found = document["environment"]
    yield "gradscope", f"{found['gradscope']}, Python {found['python']}, {found['platform']}"
    yield "needs", ", ".join(f"{name} {version or 'MISSING'}" for name, version in found["packages"].items())
    optional = ", ".join(f"{name} {version}" for name, version in found["optional"].items())
    yield "works with", optional or "nothing else is installed"
    yield "devices", "; ".join(found["devices"])
    yield "processes", ", ".join(found["distributed"]) or "torch.distributed is not there"
    if found["settings"]:
        yield "set", ", ".join(f"{name}={value}" for name, value in found["settings"].items())


def _places(document: Document) -> Iterator[tuple[str, str]]:
    storage = document["storage"]
    free = f"{storage['free'] / 1e9:,.0f} GB free; a run takes 0.5 GB at most"
    if not storage["writable"]:
        yield "runs", f"{words.SHAPES['error'][0]} cannot be written: {storage['problem']}. Give watch() a run_dir."
    else:
        yield "runs", f"{storage['folder']}, {free}" + ("" if storage["links"] else "; no links, so no `latest`")


def _probe(probe: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "device", f"{probe['device']}, {probe['milliseconds']:.2g} ms a step, {probe['verdict']}"
    same = "yes" if probe["same"] else f"{words.SHAPES['error'][0]} NO: please report it with this page"
    yield "the same bit for bit", same
    yield "a step takes", f"{probe['auto']:.2f} times as long as alone, as it comes (every='auto')"
    yield "", f"{probe['every']:.2f} times with every step recorded (every=1)"
    yield "", f"{probe['noise']:.2f} times when nobody watches: what of this is the machine's own noise"
