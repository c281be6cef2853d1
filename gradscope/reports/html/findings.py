"""The findings of a report's page: when, where, why, what to do, and whether it helped."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone

from gradscope import numerals
from gradscope.reports import words
from gradscope.reports.envelope import Document
from gradscope.reports.finding_words import fix_command, follows, grade, measured, measured_rate, seen, where
from gradscope.reports.html.lines import trial_picture
from gradscope.reports.html.text import diff, severity_tag, shown
from gradscope.reports.page_words import ABSENT
from gradscope.reports.trial_curves import trial_curves_data
from gradscope.store.mutes import Mute

_MOST_LAYERS = 5
_TONES = {"green": "ok", "yellow": "partly", "red": "failed"}


def contents(document: Document, muted: Mapping[str, Mute]) -> str:
    """One line for each finding, which leads to it; those that somebody has muted stay, and are marked."""
    lines = [
        f"<li><strong>{finding['number']}</strong> {severity_tag(finding['severity'])}"
        f'<a href="#{finding["number"]}">{shown(finding["message"])}</a>'
        f'<span class="dimmed onset">{"muted · " if finding["number"] in muted else ""}'
        f"{words.step(finding['first_step'])}</span></li>"
        for finding in document["findings"]
    ]
    return f'<ol class="contents card">{"".join(lines)}</ol>'


def finding(item: Document, document: Document, mute: Mute | None = None) -> str:
    """One finding with all that is known of it, and the mute that holds for it."""
    rows = [
        ("Muted", "" if mute is None else shown(_why_muted(mute))),
        ("Where", f'<span class="mono">{shown(where(item["layers"], _MOST_LAYERS))}</span>'),
        ("When", seen(item, document["run"]["last_step"])),
        ("Follows", shown(follows(item, document["findings"]))),
        ("Seen", _evidence(item["evidence"])),
        ("Why", _causes(item["causes"])),
        ("Try", _suggestions(item, document["run"])),
    ]
    said = "".join(f"<dt>{name}</dt><dd>{content}</dd>" for name, content in rows if content)
    return (
        f'<article class="card finding bar-{item["severity"]}" id="{item["number"]}">'
        f'<p class="finding-head">{severity_tag(item["severity"])} <span class="dimmed">· {item["number"]} · '
        f'{shown(item["rule"])}</span></p><h3>{shown(item["message"])}</h3><dl class="said">{said}</dl></article>'
    )


def _why_muted(mute: Mute) -> str:
    day = datetime.fromtimestamp(mute.time, timezone.utc).date().isoformat()
    return f"On {day}: {mute.reason}" if mute.reason else f"On {day}, no reason was given."


def _evidence(evidence: list[Document]) -> str:
    if not evidence:
        return ""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Measured", "Here", "Healthy", "Threshold"))
    rows = []
    for each in evidence:
        limit = ABSENT if each["threshold"] is None else numerals.limit(each["threshold"])
        values = (measured(each), each["healthy"] or ABSENT, limit)
        cells = "".join(f"<td>{shown(value)}</td>" for value in values)
        rows.append(f'<tr><th scope="row">{shown(each["name"])}</th>{cells}</tr>')
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _causes(causes: list[Document]) -> str:
    lines = [
        f'<li><span class="dimmed">{shown(grade(position, cause))}</span>{shown(words.sentence(cause["explanation"]))}'
        f"{_rate(cause)}</li>"
        for position, cause in enumerate(causes)
    ]
    return f'<ul class="list">{"".join(lines)}</ul>' if lines else ""


def _rate(cause: Document) -> str:
    said = measured_rate(cause)
    return f'<div class="dimmed">{shown(words.sentence(said))}</div>' if said else ""


def _suggestions(item: Document, run: Document) -> str:
    """The best one in full, the others folded."""
    first, *others = item["suggestions"] or [None]
    if first is None:
        if item["follows"]:
            return "Mend what leads to it: this goes with it."
        return "" if item["severity"] == "note" else "No remedy is known that fits its causes."
    folded = [
        f"<details><summary><strong>{shown(each['title'])}</strong> {effect_tag(each)}</summary>"
        f"<div>{_suggestion(each, item, run)}</div></details>"
        for each in others
    ]
    head = f'<p class="suggestion-head"><strong>{shown(first["title"])}</strong> {effect_tag(first)}</p>'
    return f"{head}{_suggestion(first, item, run)}{''.join(folded)}"


def effect_tag(suggestion: Document) -> str:
    """What a suggestion rests on: a trial of this run, or "estimate"."""
    shape, said, colour = words.basis(suggestion)
    shaped = f'<span aria-hidden="true">{shape}</span> ' if shape else ""
    return f'<span class="tag tag-{_TONES.get(colour, "estimate")}">{shaped}{said}</span>'


def _suggestion(item: Document, finding: Document, run: Document) -> str:
    trial = item["trial"]
    parts = [f"<p>{shown(item['why'])}</p>"]
    if trial.get("outcome"):
        parts.append(f"<p><strong>{shown(words.sentence(str(trial['outcome'])))}</strong></p>")
    curves = trial_curves_data(trial)
    parts += [trial_picture(curves)] if curves is not None else []
    if all(isinstance(trial.get(name), int | float) for name in ("step_time", "step_time_low", "step_time_high")):
        parts.append(f'<p class="dimmed">{words.cost_of_a_step(trial)}</p>')
    if item["needs_edit"] and not item["effect"]:
        parts.append(f'<p class="dimmed">{shown(words.sentence(item["needs_edit"]))}</p>')
    if item["location"]:
        parts.append(f'<p class="dimmed">At <span class="mono">{shown(item["location"])}</span></p>')
    if item["patch"]:
        parts.append(f"<pre>{diff(item['patch'])}</pre>")
        parts.append(f'<p class="dimmed">Write it: <code>{shown(fix_command(run, finding, item))}</code></p>')
    elif item["code"]:
        parts.append(f"<pre>{shown(item['code'].strip(chr(10)), keep=chr(10) + chr(9))}</pre>")
    if trial.get("command"):
        parts.append(f'<p class="dimmed">Measure it again: <code>{shown(str(trial["command"]))}</code></p>')
    return "".join(parts)
