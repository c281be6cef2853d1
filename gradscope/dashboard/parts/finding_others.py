"""What leads to a finding, what follows from it, and the rest of the same kind."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from gradscope.dashboard.parts.finding_view import FindingView
from gradscope.dashboard.parts.tag import severity_tag
from gradscope.dashboard.wording import when
from gradscope.records import Diagnosis, Finding

Numbered = list[tuple[str, Finding]]


def related(number: str, finding: Finding, diagnosis: Diagnosis) -> dict[str, Numbered]:
    """Other findings by how they belong to this one."""
    others = [(f"F{place}", each) for place, each in enumerate(diagnosis.findings, 1) if f"F{place}" != number]
    return {
        "Most likely follows from": [(name, each) for name, each in others if each.rule == finding.follows],
        "Most likely leads to": [(name, each) for name, each in others if each.follows == finding.rule],
        "The same sickness elsewhere": [(name, each) for name, each in others if each.rule == finding.rule],
    }


def others_section(view: FindingView) -> list[Component]:
    """The section of a finding's page; nothing where it stands alone."""
    parts: list[Component] = []
    for title, found in related(view.number, view.finding, view.snapshot.diagnosis).items():
        if found:
            parts += [
                view.heading(title, below=1),
                html.Ul([html.Li(_link(view, *each)) for each in found], className="plain related"),
            ]
    return [view.heading("Other findings"), *parts] if parts else []


def _link(view: FindingView, number: str, finding: Finding) -> list[Component]:
    return [
        severity_tag(finding.severity),
        html.A(f" {number} · {finding.message}", href=view.href(number)),
        html.Span(f" · {when(finding, view.newest_step)}", className="dimmed"),
    ]
