"""A diagnosis as a notebook shows it: one piece of HTML without a script or a style sheet.

The notebook's own colours, light or dark, stay; only bars and shapes have one, which stands out from both.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from gradscope.records.words import EFFECTS, SHAPES, VERDICT_SEVERITY, VERDICT_WORDS

if TYPE_CHECKING:
    from gradscope.records.finding import Diagnosis, Finding, Severity, Suggestion

COLOURS: dict[Severity | None, str] = {"error": "#D63A55", "warning": "#B87414", "note": "#5B7FE0", None: "#15907A"}
_MOST_SUGGESTIONS, _MOST_LAYERS = 2, 3  # shown of a finding; `report()` and the dashboard have them all
_QUIET = "opacity:.8;font-size:92%"
_CODE = "white-space:pre-wrap;overflow-wrap:anywhere;background:rgba(127,127,127,.14);padding:8px;border-radius:4px"


def to_html(diagnosis: Diagnosis) -> str:
    """The verdict, the findings and what to do, all text escaped."""
    severity = VERDICT_SEVERITY[diagnosis.verdict]
    parts = [
        f"<div><strong>{_shape(severity)} {escape(VERDICT_WORDS[diagnosis.verdict])}</strong></div>",
        f'<div style="font-size:120%;font-weight:600;overflow-wrap:anywhere">{escape(diagnosis.headline)}</div>',
        *(_finding(number, finding) for number, finding in enumerate(diagnosis.findings, 1)),
        _checks(diagnosis),
        _not_observed(diagnosis),
    ]
    return (
        f'<section aria-label="Diagnosis by GradScope" style="border-left:6px solid {COLOURS[severity]};'
        f'padding:4px 12px;max-width:900px;line-height:1.45">{"".join(parts)}</section>'
    )


def _shape(severity: Severity | None) -> str:
    return f'<span aria-hidden="true" style="color:{COLOURS[severity]}">{SHAPES[severity][0]}</span>'


def _finding(number: int, finding: Finding) -> str:
    since = f"step {finding.first_step:,}"
    until = "" if finding.last_step == finding.first_step else f" to {finding.last_step:,}"
    follows = f" · follows from {escape(finding.follows)}" if finding.follows else ""
    names = [f"<code>{escape(layer or '(model)')}</code>" for layer in finding.layers[:_MOST_LAYERS]]
    more = f" and {len(finding.layers) - _MOST_LAYERS:,} more" if len(finding.layers) > _MOST_LAYERS else ""
    where = f" · {', '.join(names)}{more}" if names else ""
    causes = "".join(f"<div>Why: {escape(str(cause))}</div>" for cause in finding.causes[:1])
    suggestions = "".join(_suggestion(each) for each in finding.suggestions[:_MOST_SUGGESTIONS])
    return (
        f'<div style="border-left:4px solid {COLOURS[finding.severity]};padding-left:10px;margin:10px 0;'
        f'overflow-wrap:anywhere"><div>{_shape(finding.severity)} <strong>{finding.severity.capitalize()} F{number}: '
        f'{escape(finding.message)}</strong></div><div style="{_QUIET}">{escape(finding.rule)} · {since}{until}'
        f"{where}{follows}</div>{causes}{suggestions}</div>"
    )


def _suggestion(suggestion: Suggestion) -> str:
    shape, _, measured, _ = EFFECTS.get(str((suggestion.trial or {}).get("effect", "")), ("", "", "", ""))
    basis = f"{shape} {measured}" if measured else suggestion.basis
    place = f' <span style="{_QUIET}">{escape(suggestion.location)}</span>' if suggestion.location else ""
    code = f'<pre style="{_CODE}">{escape(suggestion.code)}</pre>' if suggestion.code else ""
    return (
        f'<details><summary>Try: {escape(suggestion.title)} <span style="{_QUIET}">({escape(basis)})</span></summary>'
        f"<div>{escape(suggestion.why)}{place}</div>{code}</details>"
    )


def _checks(diagnosis: Diagnosis) -> str:
    outcomes = [check.outcome for check in diagnosis.passed]
    words = {
        "passed": "passed",
        "needs-data": "need more data",
        "not-applicable": "not applicable",
        "could-not-run": "could not run",
    }
    said = [f"{outcomes.count(name)} {text}" for name, text in words.items() if name in outcomes]
    return f'<div style="{_QUIET}">Checks: {", ".join(said)}.</div>' if said else ""


def _not_observed(diagnosis: Diagnosis) -> str:
    if not diagnosis.not_observed:
        return ""
    lines = "".join(f"<li>{escape(str(missing))}</li>" for missing in diagnosis.not_observed)
    number = len(diagnosis.not_observed)
    return f'<details style="{_QUIET}"><summary>Not observed: {number}</summary><ul>{lines}</ul></details>'
