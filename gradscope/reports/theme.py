"""The colours of the figures, light and dark (UI.md §7: distinguishable in all four kinds of colour vision).

The page's own colours are CSS variables in `assets/gradscope.css`; these are the same values for what plotly draws.
"""

from __future__ import annotations

from dataclasses import dataclass

from gradscope.records import Severity

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif'
MONO = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace'


@dataclass(frozen=True)
class Theme:
    """One colour scheme."""

    text: str
    dimmed: str
    line: str
    card: str
    diverging: tuple[str, ...]  # vanishing … healthy … exploding, evenly spaced
    non_finite: str
    not_recorded: str
    severity: dict[Severity, str]
    first_line: str
    second_line: str
    third_line: str
    band: str  # the healthy band, see-through


LIGHT = Theme(
    text="#1B2430",
    dimmed="#4E5A69",
    line="#E3E7EC",
    card="#FFFFFF",
    diverging=("#16265C", "#2F6DB5", "#8FC1E3", "#F1F0EC", "#F2B36B", "#D2551B", "#6E1200"),
    non_finite="#000000",
    not_recorded="#CDD2DA",
    severity={"error": "#8B0A2A", "warning": "#A35F00", "note": "#1F4FE0"},
    first_line="#0B5CAD",
    second_line="#B44A06",
    third_line="#0F7F68",
    band="rgba(15, 127, 104, 0.13)",
)
DARK = Theme(
    text="#E8ECF1",
    dimmed="#A4AFBD",
    line="#2E3540",
    card="#1A1E24",
    diverging=("#86BEFA", "#4785CE", "#27507F", "#262A31", "#7A4B1C", "#CC7628", "#F3B765"),
    non_finite="#FFFFFF",
    not_recorded="#3A414C",
    severity={"error": "#FF5263", "warning": "#F8A81F", "note": "#7F9BE0"},
    first_line="#6FB1F0",
    second_line="#F0A35A",
    third_line="#2BD9B5",
    band="rgba(43, 217, 181, 0.16)",
)


def theme(scheme: str | None) -> Theme:
    """The theme of a colour scheme's name; light for an unknown one."""
    return DARK if scheme == "dark" else LIGHT
