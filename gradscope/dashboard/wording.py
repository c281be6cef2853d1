"""Numbers, steps and verdicts as people read them. The same words as in the terminal."""

from __future__ import annotations

import math

from gradscope.records import Check, Finding, Severity, VerdictName

SEVERITY_WORDS: dict[Severity, str] = {"error": "Error", "warning": "Warning", "note": "Note"}
SEVERITY_SHAPES: dict[Severity, str] = {"error": "▲", "warning": "■", "note": "●"}

# verdict -> shape, word for the tab, sentence, the severity whose colour it wears ("ok": none)
VERDICTS: dict[VerdictName, tuple[str, str, str, str]] = {
    "healthy": ("✓", "Healthy", "Training is healthy", "ok"),
    "watch": ("■", "Watch", "Keep an eye on this training", "warning"),
    "unhealthy": ("▲", "Unhealthy", "Training is unhealthy", "error"),
    "broken": ("▲", "Broken", "Training is broken", "error"),
    "not-enough-data": ("●", "Not enough data", "Not enough data yet", "note"),
}


def number(value: float | None, digits: int = 3) -> str:
    """A number to three significant digits; NaN and Inf as words, a real minus, "—" for not recorded.

    Example:
        >>> number(0.000123456), number(1234.5), number(float("-inf"))
        ('1.23e-4', '1,230', '−Inf')
    """
    if value is None:
        return "—"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Inf" if value > 0 else "−Inf"
    size = abs(value)
    if size < 1e5 and value == int(value):
        return f"{int(value):,}".replace("-", "−")
    if not 1e-3 <= size < 1e5:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        text = f"{mantissa}e{int(exponent):+d}"
    else:
        rounded = float(f"{value:.{digits}g}")
        text = f"{rounded:,.0f}" if abs(rounded) >= 10 ** (digits - 1) else f"{value:#.{digits}g}"
    return text.replace("-", "−", 1) if value < 0 else text


def decades(value: float) -> str:
    """Decades with their sign: "−8.50"."""
    return f"{value:+.2f}".replace("-", "−") if math.isfinite(value) else number(value)


def percent(share: float | None) -> str:
    """A share in [0, 1] as "1.8 %"."""
    if share is None or math.isnan(share):
        return "—"
    return f"{share * 100:.3g} %" if share >= 0.001 or share == 0 else "< 0.1 %"


def step(value: int | None) -> str:
    """A step number with thousands separated."""
    return "—" if value is None else f"{value:,}"


def plural(count: int, thing: str) -> str:
    """`2 layers`, `1 layer`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """A time span in its largest whole unit: "45 s", "3 min", "2 h", "4 days"."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def when(finding: Finding, newest: int | None) -> str:
    """Since when a finding holds and whether it still does."""
    first, last = finding.first_step, finding.last_step
    if newest is not None and last >= newest:
        return f"since step {step(first)}, still on"
    return f"step {step(first)}" if first == last else f"steps {step(first)} to {step(last)}"


def where(layers: tuple[str, ...], shown: int = 1) -> str:
    """The worst layers by name, and how many more."""
    names = ", ".join(layer or "(model)" for layer in layers[:shown])
    return f"{names} and {len(layers) - shown} more" if len(layers) > shown else names


def checks_summary(checks: tuple[Check, ...]) -> str:
    """`17 checks passed · 2 not applicable · 1 needs more data`."""
    count = {outcome: sum(check.outcome == outcome for check in checks) for outcome in CHECK_WORDS}
    said = [f"{plural(count['passed'], 'check')} passed"]
    said += [f"{count[outcome]} {CHECK_WORDS[outcome]}" for outcome in CHECK_WORDS if outcome != "passed"]
    return " · ".join(text for text in said if not text.startswith("0 "))


CHECK_WORDS = {"passed": "passed", "not-applicable": "not applicable", "needs-data": "waiting for more data"}
