"""The findings, most likely root cause first; then what passed and what could not be seen."""

from __future__ import annotations

from dash import html

from gradscope.dashboard.address import Address
from gradscope.dashboard.figures.sparkline import draw_sparkline, sparkline_data
from gradscope.dashboard.parts.aria import aria
from gradscope.dashboard.parts.finding_list import listed, nothing_listed
from gradscope.dashboard.parts.tag import effect_tag, severity_tag
from gradscope.dashboard.wording import CHECK_WORDS, checks_summary, layer_label, when, where
from gradscope.records import Diagnosis, Finding
from gradscope.reports.words import count
from gradscope.signals import Signals
from gradscope.store.mutes import Mute


def finding_cards(
    diagnosis: Diagnosis,
    signals: Signals,
    newest_step: int | None,
    address: Address,
    mutes: tuple[Mute, ...] = (),
) -> list[html.Li]:
    """One link a finding, sorted and filtered as the address asks; a sentence when there is none."""
    if not diagnosis.findings:
        waiting = diagnosis.verdict == "not-enough-data"
        text = "No finding yet: the checks below wait for more steps." if waiting else "Nothing found."
        return [html.Li(text, className="card nothing")]
    shown = listed(diagnosis.findings, mutes, address)
    if not shown.findings:
        return [html.Li(nothing_listed(shown, address), className="card nothing")]
    numbers = {finding.rule: f"F{place}" for place, finding in reversed(list(enumerate(diagnosis.findings, 1)))}
    return [
        html.Li(
            _card(number, finding, signals, newest_step, address, mute, numbers.get(finding.follows or "")), key=number
        )
        for number, finding, mute in shown.findings
    ]


def _card(
    number: str,
    finding: Finding,
    signals: Signals,
    newest_step: int | None,
    address: Address,
    mute: Mute | None,
    root: str | None,
) -> html.A:
    line = sparkline_data(signals, finding)
    image = draw_sparkline(line)
    best = finding.suggestions[0] if finding.suggestions else None
    about = [
        number,
        when(finding, newest_step),
        *([f"follows from {root}"] if root else []),
        *(["muted"] if mute else []),
    ]
    return html.A(
        [
            html.Span(
                [severity_tag(finding.severity), html.Span(f" · {' · '.join(about)}", className="dimmed")],
                className="finding-head",
            ),
            html.Span(finding.message, className="finding-message"),
            html.Span(
                [
                    html.Span(_where(finding, signals), className="mono finding-where"),
                    html.Img(src=image, alt=line.what, className="sparkline") if image else None,
                ],
                className="finding-place",
            ),
            html.Span(["Fix: ", best.title, " ", effect_tag(best)], className="finding-fix") if best else None,
        ],
        id=f"card-{number}",
        href=address.at(finding=number, layer=None).href,
        className=f"card finding bar-{finding.severity}{' finding-muted' if mute else ''}",
        **aria(haspopup="dialog"),
    )


def _where(finding: Finding, signals: Signals) -> str:
    """The worst layer by its label, and how many more."""
    labels = {site.path: layer_label(site) for site in signals.sites if site.role == "output"}
    return where(tuple(labels.get(layer, layer) for layer in finding.layers))


def checks(diagnosis: Diagnosis) -> list[html.Details]:
    """What was examined without a finding, and what was not observed; folded where there are findings."""
    folded = []
    if diagnosis.passed:
        order = sorted(diagnosis.passed, key=lambda check: (list(CHECK_WORDS).index(check.outcome), check.rule))
        items = [
            html.Li(
                [
                    html.Span("✓ " if check.outcome == "passed" else "○ ", **aria(hidden="true")),
                    html.Span(check.rule, className="mono"),
                    html.Span(
                        f" {CHECK_WORDS[check.outcome]}{': ' + check.reason if check.reason else ''}",
                        className="dimmed",
                    ),
                ]
            )
            for check in order
        ]
        summary = html.Summary(checks_summary(diagnosis.passed))
        folded.append(html.Details([summary, html.Ul(items)], className="card", open=not diagnosis.findings))
    if diagnosis.not_observed:
        unseen = [
            html.Li([html.Span(missing.what, className="mono"), html.Span(f": {missing.why}", className="dimmed")])
            for missing in diagnosis.not_observed
        ]
        folded.append(
            html.Details(
                [html.Summary(f"{count(len(unseen), 'thing')} not observed"), html.Ul(unseen)], className="card"
            )
        )
    return folded
