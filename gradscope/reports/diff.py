"""A unified diff for a terminal."""

from __future__ import annotations

from gradscope.reports import words
from gradscope.reports.look import Look

_COLOURS = (("---", "1"), ("+++", "1"), ("@@", "36"), ("+", "32"), ("-", "31"))


def changed_lines(patch: str) -> list[str]:
    r"""What a unified diff takes away and puts in, moved to the left as far as all of it can be; "…" between two places.

    Example:
        >>> changed_lines("--- a\n+++ a\n@@ -1,2 +1,3 @@\n if x:\n-    y()\n+    z()\n b\n@@ -8 +9 @@\n-    c\n")
        ['-y()', '+z()', '…', '-c']
    """
    hunks: list[list[str]] = []
    for line in patch.split("\n"):
        if line.startswith("@@"):
            hunks.append([])
        elif hunks and line[:1] in ("+", "-") and not line.startswith(("--- ", "+++ ")):
            hunks[-1].append(line.rstrip().expandtabs(4))
    changed = [line[1:] for hunk in hunks for line in hunk]
    depth = min((len(line) - len(line.lstrip()) for line in changed if line), default=0)
    shown: list[str] = []
    for hunk in filter(None, hunks):
        shown += [*(("…",) if shown else ()), *(line[0] + line[1 + depth :] for line in hunk)]
    return shown


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
