"""The report as one page: a file without a script that loads nothing, to be opened, mailed, printed and kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from gradscope.reports import words
from gradscope.reports.cards import Card
from gradscope.reports.envelope import Document
from gradscope.reports.finding_words import run_facts, totals, waiting
from gradscope.reports.html.data import PageData
from gradscope.reports.html.findings import contents, effect_tag, finding
from gradscope.reports.html.map import chart
from gradscope.reports.html.skeleton import footer, skeleton
from gradscope.reports.html.text import listed, shown
from gradscope.reports.metrics import METRICS
from gradscope.reports.page_words import VERDICT_SENTENCES


def render(data: PageData) -> str:
    """The page as text, all names and messages escaped.

    Example:
        >>> from gradscope.diagnosis import diagnose
        >>> from gradscope.reports.html.data import page_data
        >>> from gradscope.rules.handwritten import run
        >>> sick = run({"<b>": 1e-9, "b": 1.0}, loss=2.3)
        >>> page = render(page_data(sick, diagnose(sick)))
        >>> page[:15], "<b>" in page
        ('<!DOCTYPE html>', False)
    """
    document = data.document
    metric = METRICS[data.map.metric]
    shape, tone = _look(document)
    findings = [finding(each, document, data.muted.get(each["number"])) for each in document["findings"]]
    body = [
        _verdict(document, shape, tone),
        f'<dl class="numbers">{"".join(map(_card, data.cards))}</dl>',
        *(["<h2>Findings, most likely root cause first</h2>", contents(document, data.muted)] if findings else []),
        f'<h2>{metric.title} by layer and step <span class="dimmed">· {metric.symbol}</span></h2>',
        chart(data),
        *(["<h2>Why, and what to do</h2>", *findings] if findings else []),
        *_checks(document),
        *_not_observed(document),
        _run(document),
        _footer(document),
    ]
    title = f"{shape} {words.VERDICT_WORDS[document['verdict']]} · {document['run']['id']} · gradscope"
    return skeleton(title, body)


def _look(document: Document) -> tuple[str, str]:
    """The verdict's shape and the class of its colour."""
    severity = words.VERDICT_SEVERITY[document["verdict"]]
    return words.SHAPES[severity][0], severity or "ok"


def _verdict(document: Document, shape: str, tone: str) -> str:
    best = next((each["suggestions"][0] for each in document["findings"] if each["suggestions"]), None)
    following = ""
    if best is not None:
        following = f'<p class="next">Next: <strong>{shown(best["title"])}</strong> {effect_tag(best)}</p>'
    return (
        f'<div class="verdict tone-{tone}"><p class="verdict-word"><span aria-hidden="true">{shape}</span> '
        f"{VERDICT_SENTENCES[document['verdict']]}</p><h1>{shown(document['headline'])}</h1>{following}</div>\n"
        f'<p class="facts dimmed">{shown(run_facts(document["run"]))} {totals(document["counts"])}</p>'
    )


def _card(card: Card) -> str:
    tone = f" tone-{card.tone}" if card.tone else ""
    return (
        f'<div class="card"><dt>{card.label}</dt><dd class="number{tone}">{shown(card.value)}</dd>'
        f'<dd class="note">{shown(card.note)}</dd></div>'
    )


def _checks(document: Document) -> list[str]:
    """What was looked for and not found, and what could not be judged."""
    checks = document["checks"]
    parts = []
    if checks["passed"]:
        parts += ["<h2>Checks that passed</h2>", f"<p>{shown(', '.join(checks['passed']))}.</p>"]
    for title, lines in (
        ("Not judged yet", waiting(document)),
        ("Not applicable", _reasons(checks["not_applicable"])),
        ("Could not run; please report it", _reasons(checks["could_not_run"])),
    ):
        parts += [f"<h2>{title}</h2>", listed(lines)] if lines else []
    return parts


def _reasons(checks: Sequence[Document]) -> list[str]:
    return [f"{check['rule']}: {check['reason']}" if check["reason"] else check["rule"] for check in checks]


def _not_observed(document: Document) -> list[str]:
    missing = [f"{each['what']}: {each['why']}" for each in document["not_observed"]]
    return ["<h2>Not observed</h2>", listed(missing)] if missing else []


def _run(document: Document) -> str:
    run = document["run"]
    optimizers = [
        ", ".join([each["kind"], *(f"{name} {value:g}" for name, value in _rates(each["options"]))])
        for each in run["optimizers"]
    ]
    facts = {
        "Run": run["id"],
        "Folder": run["folder"],
        "Started": datetime.fromtimestamp(run["created"], timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "Script": run["script"],
        "Model": run["model"],
        "Loss": run["criterion"],
        "Optimizer": "; ".join(optimizers),
        "Device": run["device"],
        **{name: str(version) for name, version in run["versions"].items()},
    }
    rows = "".join(f"<dt>{shown(name)}</dt><dd>{shown(value)}</dd>" for name, value in facts.items() if value)
    return f'<h2>The run and its versions</h2>\n<dl class="facts-list">{rows}</dl>'


def _rates(options: Document) -> list[tuple[str, float]]:
    """What an optimizer was told, as far as it is a number that does something."""
    return [(name, value) for name, value in options.items() if isinstance(value, int | float) and value]


def _footer(document: Document) -> str:
    said = []
    if document["findings"]:
        said.append(f"Learn: <code>gradscope explain {shown(document['findings'][0]['rule'])}</code>.")
    said.append(f"Next: <code>{shown(document['next_command'])}</code>.")
    return footer(document["gradscope"], said)
