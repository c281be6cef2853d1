"""A finding in full: its page, its drawer, its place in the list, its Markdown."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradscope.dashboard.address import Address
from gradscope.dashboard.figures.trial_curves import NO_CHANGE, RANDOM_CHANGE, draw_trial_curves, trial_curves_data
from gradscope.dashboard.live import View, refresh
from gradscope.dashboard.mutes import mute, unmute, why_not_kept
from gradscope.dashboard.pages.finding import ID, PAGE
from gradscope.dashboard.pages.finding_callbacks import set_mute
from gradscope.dashboard.parts.copying import diff_block
from gradscope.dashboard.parts.finding_do import costs
from gradscope.dashboard.parts.finding_drawer import drawer, drawer_source, head
from gradscope.dashboard.parts.finding_list import controls, listed
from gradscope.dashboard.parts.finding_others import related
from gradscope.dashboard.parts.finding_view import FindingView, finding_view
from gradscope.dashboard.parts.finding_when import suspect_changes
from gradscope.dashboard.parts.finding_where import draw_mini_map, mini_map
from gradscope.dashboard.parts.finding_why import ruled_out, why_section
from gradscope.dashboard.parts.findings import finding_cards
from gradscope.dashboard.parts.source_lines import source_line
from gradscope.dashboard.parts.tag import effect_tag
from gradscope.dashboard.parts.trial_panel import trial_panel, trial_rows
from gradscope.dashboard.runs import Runs
from gradscope.dashboard.wording import percent
from gradscope.errors import RunNotWritable
from gradscope.records import (
    Cause,
    Check,
    Diagnosis,
    Event,
    Evidence,
    Finding,
    Place,
    Run,
    RunInfo,
    Severity,
    Site,
    SourceFile,
    Suggestion,
)
from gradscope.reports import benchmark
from gradscope.reports.benchmark import NOTE, Benchmark, Rate
from gradscope.reports.finding_markdown import finding_markdown
from gradscope.reports.theme import DARK, LIGHT
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Signals
from gradscope.store.folders import open_folder
from gradscope.store.mutes import Mute, mute_of, read_mutes
from tests.conftest import SaveRun

NAN = float("nan")
HOSTILE = "<img src=x onerror=alert(1)>"
SUGGESTION = Suggestion("gradient-clipping", "Clip the gradient", "It explodes.", "clip()", "train.py:8")
FINDING = Finding(
    "exploding-gradient",
    "error",
    ("b", "a"),
    3,
    7,
    "Gradients explode",
    (Evidence("gain", 1e4, "", 1e3, "0.1 … 20"),),
    (Cause("init-too-large", 0.8, "each layer doubles it"),),
    (SUGGESTION,),
)
TRIAL: dict[str, Any] = {
    "effect": "helped",
    "outcome": "sickness gone in 2 of 2; loss after 20 steps 0.41 against 2.3 (no change)",
    "seeds": 2,
    "steps": 20,
    "gone": 2,
    "gone_no_change": 0,
    "gone_random": 1,
    "loss": 0.41,
    "no_change": 2.3,
    "random": None,
    "p_no_change": 0.25,
    "p_random": None,
    "against_no_change": {"effect": 0.178, "low": 0.1, "high": 0.3, "ratio": True},
    "step_time": 1.5,
    "step_time_low": 1.4,
    "step_time_high": 1.62,
    "changes": ["the bound is 1"],
    "command": "gradscope trial train.py",
    "curves": {"gradient-clipping": [2.0, 0.4], "no change": [2.0, 2.3], "random change": [2.0, 3.0]},
    "spread": {
        "gradient-clipping": {"low": [1.0, 0.2], "high": [3.0, 0.5], "last": 19, "losses": [0.4, 0.42]},
        "no change": {"low": [1.0, 2.2], "high": [3.0, 2.4], "last": 19, "losses": [2.2, 2.4]},
        "random change": {"low": [1.0, None], "high": [3.0, None], "last": 19, "losses": ["diverged", None]},
    },
}


def words(part: Any) -> str:
    """All that a part says, as JSON."""
    return json.dumps(part, default=lambda item: item.to_plotly_json(), ensure_ascii=False)


def view_of(runs: Runs, name: str, number: str = "F1", page: str = "finding") -> FindingView:
    """A finding of a run as its page has it."""
    found = finding_view(runs, runs.get(name), Address(page, name, number), "light", 2)
    assert found is not None
    return found


@pytest.fixture
def runs(save_run: SaveRun) -> Runs:
    """Runs to look at: two that are sick, one that ends in NaN, one of a single layer, one of three steps."""
    save_run(by_hand({"a": 1e-9, "b": 0.5, "c": 1.0}, loss=2.3), "run")
    save_run(by_hand({"a": [1.0, 1.0, NAN], "b": [1.0, 1.0, NAN]}, loss=[2.0, 1.0, NAN], steps=3), "late")
    save_run(by_hand({"a": NAN, "b": NAN}, loss=NAN), "nan")
    save_run(by_hand({HOSTILE: 1e-9, "b": 1.0}), "hostile")
    return Runs(save_run(by_hand({"a": 1.0}, steps=3), "small").parent)


# the page and the drawer


@pytest.mark.parametrize("name", ["run", "late", "nan", "hostile"])
def test_the_page_and_the_drawer_show_every_part(runs: Runs, name: str) -> None:
    """When, where, why and what to do, with headings in their order; also where all is NaN and names are markup."""
    drawn = refresh(PAGE, runs, Address("finding", name, "F1"), "light", None)
    assert drawn["problem"] == []
    for part, heading in (("when", "When"), ("where", "Where"), ("why", "Why we say this"), ("do", "What to do")):
        assert type(drawn[part][0]).__name__ == "H2"
        assert drawn[part][0].children == heading
    snapshot = runs.get(name)
    title, body = drawer(View(runs, Address("overview", name, "F1"), (snapshot,), ("1",), "dark", {}))
    assert snapshot.diagnosis.findings[0].message in words(title)
    assert [part.children for part in body if type(part).__name__ == "H3"][:4] == [
        "When", "Where", "Why we say this", "What to do",
    ]  # fmt: skip


def test_a_finding_that_is_not_there_is_said(runs: Runs) -> None:
    """A number that no finding has gets words and the way back."""
    drawn = refresh(PAGE, runs, Address("finding", "small", "F9"), "light", None)
    assert drawn["title"] == "No such finding"
    assert "This run has no finding F9; it may have healed. It has none." in words(drawn["kind"])
    assert drawn["do"] == []


def test_only_what_changed_is_drawn_anew(runs: Runs) -> None:
    """The same finding asked for twice draws nothing; another theme draws what has curves."""
    address = Address("finding", "run", "F1")
    shown = refresh(PAGE, runs, address, "light", None)["shown"]
    assert {*refresh(PAGE, runs, address, "light", shown)} == {"problem", "content", "shown"}
    assert {*refresh(PAGE, runs, address, "dark", shown)} == {"problem", "content", "shown", "do"}


def test_the_drawer_is_drawn_anew_for_a_trial_and_a_mute_not_for_a_step(runs: Runs) -> None:
    """What is being read stands still while the run grows."""
    snapshot, address = runs.get("run"), Address("overview", "run", "F1")
    before = drawer_source(View(runs, address, (snapshot,), ("1",), "light", {}))
    assert drawer_source(View(runs, address, (snapshot,), ("2",), "light", {})) == before
    mute(runs.folder("run"), snapshot.diagnosis.findings[0], "known")
    assert drawer_source(View(runs, address, (snapshot,), ("2",), "light", {})) != before


def test_every_component_of_the_page_has_one_id(runs: Runs) -> None:
    """Ids begin with the page's name; none of the page's own is in the drawer, which would wake the page."""
    snapshot = runs.get("run")
    body = words(drawer(View(runs, Address("overview", "run", "F1"), (snapshot,), ("1",), "light", {})))
    assert all(name.startswith("finding-") for name in ID.values())
    assert [name for name in ID.values() if f'"id": "{name}"' in body] == []


# when


def test_the_suspects_are_what_the_run_knows() -> None:
    """A loss scale, a learning rate, a mode that changed, steps skipped and values logged near by are named."""
    scale = [1024.0] * 6 + [65536.0] * 2
    mode = [True] * 5 + [False] * 3
    run = by_hand({"a": 1.0}, columns={"scale": scale, "training_mode": mode}, skipped=(4,))
    events = (Event(6, 0.0, "value", {"name": "accuracy", "value": 0.5}), Event(90, 0.0, "value", {"name": "late"}))
    said = suspect_changes(Signals(dataclasses.replace(run, events=events)), 7)
    assert said == [
        "the loss scale went from 1,020 to 65,500 at step 6",
        "the model was put into eval mode at step 5",
        "1 step skipped by the gradient scaler, the last at step 4",
        "accuracy was logged at step 6",
    ]
    assert suspect_changes(Signals(by_hand({"a": 1.0})), 7) == []


# where


def test_the_mini_map_boxes_the_origin_and_numbers_the_spread() -> None:
    """NaN that begins in b goes forward to c, then back to a."""
    fields = {"non_finite": [0.0, 0.0, 1.0], "nans": [0.0, 0.0, 4.0]}
    extra = {(path, "activation"): fields for path in "bc"} | {("a", "activation_gradient"): fields}
    signals = Signals(by_hand({"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0}, extra=extra, steps=3))
    finding = Finding("non-finite", "error", ("b",), 2, 2, "NaN")
    cells = {cell.name: (cell.state, cell.place) for cell in mini_map(finding, signals)}
    assert cells == {"a": ("hit", 3), "b": ("origin", 1), "c": ("hit", 2), "d": ("clean", 0)}
    said = words(draw_mini_map(mini_map(finding, signals)))
    assert "3 of 4 layers have it, from a to c; it began in b" in said
    assert "began here" in said


def test_the_mini_map_of_three_thousand_layers_has_sixty_cells() -> None:
    """Layers share cells, and one that is touched marks its cell."""
    signals = Signals(by_hand({f"l{i}": 1.0 for i in range(3000)}, steps=1))
    cells = mini_map(Finding("vanishing-gradient", "error", ("l2999", "l0"), 0, 0, "x"), signals)
    assert len(cells) == 60
    assert [place for place, cell in enumerate(cells) if cell.state == "hit"] == [0, 59]


def test_one_layer_needs_no_map() -> None:
    """Nothing is drawn that says nothing."""
    signals = Signals(by_hand({"a": 1.0}, steps=3))
    assert draw_mini_map(mini_map(Finding("dead-units", "note", ("a",), 0, 0, "x"), signals)) == []
    assert draw_mini_map(mini_map(Finding("dead-units", "note", (), 0, 0, "x"), signals)) == []


def test_a_layer_leads_to_the_users_own_line() -> None:
    """The assignment in the class around it; the class where there is none; nothing where nothing is known."""
    text = "\n\nclass Net(Module):\n    def __init__(self):\n        self.first = Linear(1, 1)\n"
    info = RunInfo(
        "a", "Net", 0.0, directory="/home/me",
        places=(Place("class", "/home/me/net.py", 3, "Net"),), sources=(SourceFile("/home/me/net.py", text),),
    )  # fmt: skip
    sites = tuple(
        Site(path, "output", kind, 0) for path, kind in (("", "Net"), ("first", "Linear"), ("other", "Linear"))
    )
    assert source_line(sites[1], info, sites) == "net.py:5"
    assert source_line(Site("first.weight", "parameter", "Linear", 0), info, sites) == "net.py:5"
    assert source_line(sites[2], info, sites) == "net.py:3"
    assert source_line(sites[0], info, sites) == "net.py:3"
    assert source_line(sites[1], RunInfo("a", "Net", 0.0), sites) == ""


# why, what to do, others


def test_what_was_ruled_out_is_what_could_have_led_here() -> None:
    """Checks that passed and could be the reason; those that need data are said apart; the others not at all."""
    checks = (Check("unscaled-data", "passed"), Check("dropout-fault", "passed"), Check("non-finite", "passed"))
    waiting = Check("accumulating-gradient", "needs-data", "more steps")
    diagnosis = Diagnosis("unhealthy", "x", (FINDING,), (*checks, waiting))
    assert ruled_out(FINDING, diagnosis) == (["unscaled-data"], ["accumulating-gradient"])


def test_a_suggestion_says_its_cost_its_undoing_and_its_diff(runs: Runs) -> None:
    """The real patch and the command that writes it; code to paste where there is none."""
    patched = dataclasses.replace(SUGGESTION, patch="--- a\n+++ a\n@@ -1 +1 @@\n-x = 1\n+x = 2\n")
    for suggestion, expected in (
        (patched, ("gradscope fix ", "F1 --remedy gradient-clipping --apply", "after a backup", "+x = 2")),
        (SUGGESTION, ("To undo it, take these lines out again.", "clip()", "train.py:8")),
    ):
        said = drawn_with(runs, suggestion)
        for text in (*expected, "Cost and risk: ", "one pass over the gradients a step", "estimate"):
            assert text in said
    assert costs(dataclasses.replace(SUGGESTION, remedy="a + b")) == ""


def drawn_with(runs: Runs, suggestion: Suggestion) -> str:
    """What the page says of a suggestion."""
    from gradscope.dashboard.parts.finding_do import do_section

    found = view_of(runs, "run")
    return words(
        do_section(dataclasses.replace(found, finding=dataclasses.replace(FINDING, suggestions=(suggestion,))), None)
    )


def test_the_copy_button_holds_exactly_the_diff() -> None:
    """[10] What is copied is the patch, byte for byte; signs tell what goes and comes."""
    patch = "--- a\n+++ a\n@@ -1 +1 @@\n-x = 1\n+x = '<b>'\n"
    block = diff_block(patch)
    assert block.children[1].to_plotly_json()["props"]["data-copy"] == patch
    lines = [(line.children, line.className) for line in block.children[0].children.children]
    assert lines[3:] == [("-x = 1\n", "diff-removed"), ("+x = '<b>'\n", "diff-added")]


def test_findings_that_belong_together_are_linked() -> None:
    """What leads here, what follows, and the same sickness elsewhere."""
    follows = dataclasses.replace(FINDING, rule="non-finite", follows="exploding-gradient")
    twin = dataclasses.replace(FINDING, layers=("z",))
    diagnosis = Diagnosis("unhealthy", "x", (FINDING, follows, twin))
    assert {title: [name for name, _ in found] for title, found in related("F1", FINDING, diagnosis).items()} == {
        "Most likely follows from": [],
        "Most likely leads to": ["F2"],
        "The same sickness elsewhere": ["F3"],
    }
    assert [name for name, _ in related("F2", follows, diagnosis)["Most likely follows from"]] == ["F1", "F3"]


# what was measured


def test_only_a_trial_makes_a_suggestion_measured() -> None:
    """[11] Without a record of a trial it is an estimate; one that failed is said to have."""
    assert effect_tag(SUGGESTION).children == "estimate"
    assert effect_tag(dataclasses.replace(SUGGESTION, needs_edit="own code")).children == "○ not tried: needs your edit"
    assert effect_tag(dataclasses.replace(SUGGESTION, trial={"p": 0.03})).children == "✓ measured on this training"
    failed = dataclasses.replace(SUGGESTION, trial={"effect": "failed"})
    assert effect_tag(failed).children == "✗ tried, did not help"


def test_the_panels_numbers_are_those_of_the_record() -> None:
    """[11] Each quantity for all three arms, to the printed digits; what was lost is a word."""
    assert trial_rows(TRIAL) == [
        ("Sickness gone", ("2 of 2", "0 of 2", "1 of 2")),
        ("Loss after 20 steps, median", ("0.410", "2.30", "diverged")),
        ("p that it is no lower", ("—", "0.25", "—")),
        ("Loss with it over theirs, 95 %", ("—", "0.178 times (0.100 … 0.300)", "—")),
    ]
    assert trial_rows({"effect": "failed", "outcome": "crashed: no", "seeds": 0, "gone": 0}) == []
    assert trial_rows({"gone": 5}) == [("Sickness gone", ("5", "—", "—"))]


def test_the_panel_says_what_was_measured_and_what_failed() -> None:
    """The outcome's sentence, its cost in time, the changes, and the command that measures it again."""
    said = words(trial_panel(TRIAL, "light"))
    for text in (
        "Measured on this training",
        "Sickness gone in 2 of 2",
        "1.50 times as long",
        "the bound is 1",
        "train.py",
    ):
        assert text in said
    assert "a random change diverged in 1 seed" in said
    failed = words(trial_panel({"effect": "failed", "outcome": "crashed: no module x", "curves": {}}, "dark"))
    assert "✗ Tried, did not help" in failed
    assert "Graph" not in failed


def test_a_trials_curves_are_drawn_beside_both_controls() -> None:
    """The cure and both controls with the seeds' spread; a gap where one is not finite; nothing without any."""
    data = trial_curves_data(TRIAL)
    assert data is not None
    assert [curve.arm for curve in data.curves] == ["cure", NO_CHANGE, RANDOM_CHANGE]
    assert (data.last, data.logarithmic) == (19, True)
    np.testing.assert_equal(data.curves[0].steps, [0.0, 19.0])
    np.testing.assert_equal(data.curves[0].ends, [0.4, 0.42])
    figure = draw_trial_curves(data, LIGHT)
    named = [trace for trace in figure["data"] if trace.get("name")]
    assert len({trace["line"]["dash"] for trace in named}) == len({trace["line"]["color"] for trace in named}) == 3
    assert draw_trial_curves(data, DARK)["data"][0] != figure["data"][0]
    assert trial_curves_data({"p": 0.03}) is None
    assert trial_curves_data({"curves": {"x": [None, None]}}) is None
    raw = trial_curves_data({"curves": {"no change": [-1.0, 1.0, None]}, "steps": 3})
    assert raw is not None
    assert not raw.logarithmic
    np.testing.assert_equal(raw.curves[0].values, [-1.0, 1.0, NAN])


def test_all_three_arms_differ_in_colour_and_dash() -> None:
    """Never a colour alone."""
    kept = {"batch-norm": [2.0, 1.0], "no change": [2.0, 2.0], "random change": [2.0, 1.5]}
    data = trial_curves_data({"curves": kept})
    assert data is not None
    assert [curve.arm for curve in data.curves] == ["cure", NO_CHANGE, RANDOM_CHANGE]
    lines = [trace["line"] for trace in draw_trial_curves(data, LIGHT)["data"]]
    assert len({line["dash"] for line in lines}) == len({line["color"] for line in lines}) == 3


# the list


def findings_of(*severities: Severity) -> tuple[Finding, ...]:
    """Findings of these severities, each beginning earlier than the one before."""
    return tuple(
        dataclasses.replace(FINDING, severity=severity, first_step=9 - place, layers=(f"l{place}",))
        for place, severity in enumerate(severities)
    )


def test_the_list_is_sorted_and_filtered_as_the_address_says() -> None:
    """By cause as diagnosed, by severity, by onset; numbers stay with their findings."""
    found, address = findings_of("warning", "error", "note"), Address("overview", "run")

    def numbers(**asked: Any) -> list[str]:
        return [number for number, _, _ in listed(found, (), address.at(**asked)).findings]

    assert numbers() == ["F1", "F2", "F3"]
    assert numbers(sort="severity") == ["F2", "F1", "F3"]
    assert numbers(sort="onset") == ["F3", "F2", "F1"]
    assert numbers(severity="error") == ["F2"]
    assert numbers(severity="nonsense", sort="nonsense") == ["F1", "F2", "F3"]
    assert listed(found, (), address.at(severity="error")).filtered == 2


def test_the_finding_says_how_often_its_cause_was_right(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the confidence, in the head and with the cause; of a cause that was never named first nothing is said."""
    found = view_of(runs, "run")
    cause = found.finding.causes[0]
    rates = {cause.id: Rate(50, 47)}
    monkeypatch.setattr(benchmark, "benchmark", lambda: Benchmark("2026-11-29", 60, 40, rates))
    share = percent(round(cause.confidence, 2))
    assert f"confidence {share} (right in 47 of 50 benchmark trainings)" in words(head(found))
    said = words(why_section(found))
    assert said.count(f"right in 47 of the 50 benchmark trainings where it was named first; {NOTE}.") == 1
    rates.clear()
    assert f"confidence {share}" in words(head(found))
    assert "benchmark" not in words([head(found), why_section(found)])


def test_muted_findings_are_counted_and_can_be_shown() -> None:
    """They leave the list, not the count."""
    found, address = findings_of("warning", "error"), Address("overview", "run")
    muted = (Mute("exploding-gradient", "warning", ("l0",), "known", 0.0),)
    assert [number for number, _, _ in listed(found, muted, address).findings] == ["F2"]
    shown = listed(found, muted, address.at(muted=True))
    assert ([number for number, _, _ in shown.findings], shown.muted) == (["F1", "F2"], 1)
    said = words(controls(found, muted, address))
    assert "1 finding muted: " in said
    assert "/run/run?muted=1" in said
    signals = Signals(by_hand({"l0": 1.0, "l1": 1.0}))
    diagnosis = Diagnosis("unhealthy", "x", found[:1])
    assert "All findings are muted." in words(finding_cards(diagnosis, signals, 7, address, muted))
    assert " · muted" in words(finding_cards(diagnosis, signals, 7, address.at(muted=True), muted))


def test_controls_are_there_only_when_they_change_something() -> None:
    """One finding needs no order, none needs nothing."""
    address = Address("overview", "run")
    assert controls((), (), address) == []
    assert controls(findings_of("error"), (), address) == []
    said = words(controls(findings_of("error", "note"), (), address.at(sort="onset")))
    assert "/run/run?sort=severity" in said
    assert "▲ error 1" in said


# muting


def test_a_mute_is_kept_in_the_runs_folder_and_taken_back(runs: Runs) -> None:
    """With its reason, in a file that is none of the writer's; the run reads as before."""
    folder, finding = runs.folder("run"), runs.get("run").diagnosis.findings[0]
    files = {name: stamp.version for name, stamp in folder.files().items()}
    mute(folder, finding, "known  \n for months")
    (held,) = read_mutes(folder)
    assert (held.rule, held.reason, held.layers) == (finding.rule, "known for months", finding.layers)
    assert {name: stamp.version for name, stamp in folder.files().items() if name != "mutes.json"} == files
    mute(folder, finding, "again")
    assert [each.reason for each in read_mutes(folder)] == ["again"]
    assert runs.get("run").diagnosis.findings[0] == finding
    unmute(folder, finding)
    assert read_mutes(folder) == ()


def test_a_mute_ends_where_it_gets_graver_or_is_elsewhere() -> None:
    """It holds for the same rule in some of the same layers, up to the severity that it was muted at."""
    held = (Mute("exploding-gradient", "warning", ("b",), "", 0.0),)
    assert mute_of(dataclasses.replace(FINDING, severity="warning"), held) == held[0]
    assert mute_of(dataclasses.replace(FINDING, severity="note"), held) == held[0]
    assert mute_of(FINDING, held) is None
    assert mute_of(dataclasses.replace(FINDING, severity="note", layers=("z",)), held) is None
    assert mute_of(dataclasses.replace(FINDING, severity="note", rule="dead-units"), held) is None


def test_damaged_mutes_hide_nothing(runs: Runs) -> None:
    """A file that cannot be understood is as if it were not there."""
    folder = runs.folder("run")
    for text in (
        "",
        "{",
        '[{"rule": "x"}]',
        "[1]",
        '[{"rule":"x","severity":"huge","layers":[],"reason":"","time":0}]',
    ):
        Path(folder.location, "mutes.json").write_text(text)
        assert read_mutes(folder) == ()


def test_a_mute_that_cannot_be_kept_is_said(runs: Runs) -> None:
    """A run on another machine is not written to; the buttons' answer says so."""
    remote = open_folder("memory://nowhere/run")
    assert "is not on this machine" in why_not_kept(remote)
    with pytest.raises(RunNotWritable, match="is not on this machine"):
        mute(remote, FINDING, "")
    found = dataclasses.replace(view_of(runs, "run"), folder=remote)
    assert "is not on this machine" in set_mute(found, "mute", "x")


def test_the_buttons_mute_and_unmute(runs: Runs) -> None:
    """What is done is announced, and the page shows the reason."""
    assert set_mute(view_of(runs, "run"), "mute", "known <b>") == "F1 is muted."
    drawn = refresh(PAGE, runs, Address("finding", "run", "F1"), "light", None)
    assert "ago: known <b>. " in words(drawn["top"])
    assert set_mute(view_of(runs, "run"), "unmute", "") == "F1 is not muted any more."


# Markdown


def test_the_markdown_of_a_finding_says_all_of_it() -> None:
    """Evidence as a table, the cause with its confidence, the diff in a fence."""
    patched = dataclasses.replace(SUGGESTION, patch="--- a\n+++ a\n-x\n+y\n", trial=TRIAL)
    text = finding_markdown("F1", dataclasses.replace(FINDING, suggestions=(patched,)), "run 1")
    assert text.startswith(
        "### ▲ F1: Gradients explode\n\nerror · `exploding-gradient` · step 3 to step 7 · run `run 1`\n"
    )
    for part in (
        "| gain | 10,000 | 0.1 … 20 | 1e3 |",
        "**Why:** most likely init-too-large (80 %): Each layer doubles it.",
        "```diff\n--- a\n",
        "`b`, `a`",
    ):
        assert part in text
    assert "(measured on this training). Sickness gone in 2 of 2" in text


def test_names_are_never_markup_in_markdown() -> None:
    """[24] Tags, backticks and control characters of the user's names stay text."""
    hostile = dataclasses.replace(
        FINDING, layers=(HOSTILE, "a`b", "x\x1b[31m"), message=f"{HOSTILE} | *x*", evidence=()
    )
    text = finding_markdown("F1", hostile)
    assert "### ▲ F1: &lt;img src=x onerror=alert(1)&gt; \\| \\*x\\*\n" in text
    assert f"`{HOSTILE}`, `` a`b ``, `x\\x1b[31m`" in text


def test_a_small_run_has_words(runs: Runs) -> None:
    """One layer and three steps: no finding, and a page that says so."""
    snapshot = runs.get("small")
    run: Run = snapshot.run
    assert len(run.steps) == 3
    assert snapshot.diagnosis.findings == ()
    title, body = drawer(View(runs, Address("overview", "small", "F1"), (snapshot,), ("1",), "light", {}))
    assert title == "Not found"
    assert "It has none." in words(body)
