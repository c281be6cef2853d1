"""The words, shapes and digits that all formats share, so that terminal, page and JSON say the same."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from gradscope.records.words import EFFECTS as EFFECTS
from gradscope.records.words import SHAPES as SHAPES
from gradscope.records.words import VERDICT_SEVERITY as VERDICT_SEVERITY
from gradscope.records.words import VERDICT_WORDS as VERDICT_WORDS


def basis(suggestion: Mapping[str, Any]) -> tuple[str, str, str]:
    """What a suggestion of a document rests on: shape, words, colour.

    Example:
        >>> basis({"basis": "measured", "effect": "failed"}), basis({"basis": "needs your edit", "effect": ""})
        (('✗', 'tried, did not help', 'red'), ('○', 'not tried: needs your edit', 'dim'))
    """
    if suggestion["effect"] in EFFECTS or suggestion["basis"] == "measured":
        shape, _, said, colour = EFFECTS.get(suggestion["effect"], EFFECTS["helped"])
        return shape, said, colour
    if suggestion["basis"] == "needs your edit":
        return "○", "not tried: needs your edit", "dim"
    return "", "estimate", "dim"


_ASCII = str.maketrans(
    {
        "…": "...",
        "‖": "||",
        "−": "-",
        "–": "-",
        "—": "-",
        "·": "-",
        "×": "x",
        "→": "->",
        "←": "<-",
        "≤": "<=",
        "≥": ">=",
        "≈": "~",
        "±": "+-",
        "√": "sqrt",
        "∂": "d",
        "Δ": "d",
        "δ": "d",
        "²": "^2",
        "“": '"',
        "”": '"',
        "‘": "'",
        "’": "'",
        "\N{NO-BREAK SPACE}": " ",
        **dict(SHAPES.values()),
        "◐": "[part]",
        "✗": "[no]",
        "○": "[?]",
    }
)


def step(value: int) -> str:
    """A step as people read it.

    Example:
        >>> step(1143)
        'step 1,143'
    """
    return f"step {value:,}"


def count(amount: int, noun: str) -> str:
    """An amount with its noun.

    Example:
        >>> count(1, "error"), count(2, "error")
        ('1 error', '2 errors')
    """
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def sentence(text: str) -> str:
    """A text with a capital and a full stop.

    Example:
        >>> sentence("sickness gone in 5 of 5")
        'Sickness gone in 5 of 5.'
    """
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def harmless(text: str, keep: str = "") -> str:
    r"""Text of the user with everything that could steer a terminal spelled out instead.

    Control characters (so every ANSI escape), direction overrides, invisible and lone surrogate characters become
    their escapes. Those in `keep` stay, e.g. the line ends of code.

    Example:
        >>> harmless("layers.\x1b[31m0\n")
        'layers.\\x1b[31m0\\n'
    """
    return "".join(_escape(char) if _steers(char) and char not in keep else char for char in text)


def _steers(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")


def ascii_only(text: str) -> str:
    r"""The text in ASCII: our own signs by their look, everything else by its escape.

    Example:
        >>> ascii_only("▲ ‖g‖ ≤ 0.1 … 20 in größe")
        '[X] ||g|| <= 0.1 ... 20 in gr\\xf6\\xdfe'
    """
    return text.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")


_TOO_FAR_APART = 3  # times, the highest of a few seeds over the lowest: the machine did something else meanwhile


def cost_of_a_step(trial: Mapping[str, Any]) -> str:
    """How long a step takes with a remedy, against none; where the seeds do not agree on more or less, that is said.

    Example:
        >>> cost_of_a_step({"step_time": 1.5, "step_time_low": 1.4, "step_time_high": 1.62})
        'A step takes 1.50 times as long (1.40 … 1.62 over the seeds).'
        >>> cost_of_a_step({"step_time": 1.1, "step_time_low": 0.8, "step_time_high": 1.36})
        'A step takes no measurably different time: 0.80 … 1.36 times over the seeds.'
    """
    span = f"{trial['step_time_low']:.2f} … {trial['step_time_high']:.2f}"
    if trial["step_time_high"] > _TOO_FAR_APART * trial["step_time_low"]:
        return f"How long a step takes could not be measured: {span} times over the seeds."
    if trial["step_time_low"] < 1 < trial["step_time_high"]:
        return f"A step takes no measurably different time: {span} times over the seeds."
    return f"A step takes {trial['step_time']:.2f} times as long ({span} over the seeds)."
