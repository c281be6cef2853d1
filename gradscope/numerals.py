"""How numbers are said, so that a finding's sentence, the terminal, the page and JSON show the same digits."""

from __future__ import annotations

import math
from collections.abc import Sequence


def number(value: float) -> str:
    """A measured number with 3 significant digits and a real minus; NaN and Inf as words.

    Example:
        >>> number(0.5), number(-1234.5), number(0.000123456), number(float("inf"))
        ('0.500', '−1,230', '1.23e-4', 'Inf')
    """
    if not math.isfinite(value):
        return non_finite_word(value)
    size = abs(value)
    if size and not 1e-3 <= size < 1e5:
        mantissa, _, exponent = f"{size:.2e}".partition("e")
        text = f"{mantissa}e{int(exponent):+d}"
    elif float(f"{size:.3g}") >= 100:
        text = f"{float(f'{size:.3g}'):,.0f}"
    else:
        text = f"{size:#.3g}" if size else "0"
    return f"−{text}" if value < 0 else text


def limit(value: float) -> str:
    """A number that was chosen, not measured: without the zeros that would claim precision.

    Example:
        >>> limit(1e-3), limit(1e-6), limit(20.0)
        ('0.001', '1e-6', '20')
    """
    digits, exponent_mark, exponent = f"{value:.3g}".partition("e")
    return f"{digits}e{int(exponent)}" if exponent_mark else digits


def non_finite_word(value: float) -> str:
    """NaN, Inf or -Inf."""
    if math.isnan(value):
        return "NaN"
    return "Inf" if value > 0 else "-Inf"


def ranks_in_words(ranks: Sequence[int]) -> str:
    """Ranks inside a sentence.

    Example:
        >>> ranks_in_words([3]), ranks_in_words([0, 2]), ranks_in_words([1, 2, 3, 7])
        ('rank 3', 'ranks 0 and 2', 'ranks 1 to 3 and 7')
    """
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and runs[-1][-1] == rank - 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    spans = [span for run in runs for span in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run))]
    words = ", ".join(spans[:-1]) + (" and " if len(spans) > 1 else "") + spans[-1]
    return f"rank{'s' * (len(ranks) > 1)} {words}"
