"""A unified diff for a terminal."""

from __future__ import annotations

from gradscope.reports import words
from gradscope.reports.look import Look

_COLOURS = (("---", "1"), ("+++", "1"), ("@@", "36"), ("+", "32"), ("-", "31"))


def render(patch: str, look: Look | None = None) -> str:
    r"""The diff as it is, for `patch -p0`; with colour where the look has it, and then nothing that steers a terminal.

    Example:
        >>> render("-lr = 1\n+lr = 0.1\n")
        '-lr = 1\n+lr = 0.1\n'
    """
    if look is None or not look.color:
        return patch
    coloured = []
    for line in patch.split("\n"):
        colour = next((code for start, code in _COLOURS if line.startswith(start)), "")
        shown = words.harmless(line.removesuffix("\r"), "\t")
        coloured.append(f"\x1b[{colour}m{shown}\x1b[0m" if colour else shown)
    return "\n".join(coloured)
