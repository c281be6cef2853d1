"""The list of runs, the checks and the run info: what they say, and that nothing breaks them."""

from __future__ import annotations

import dataclasses
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from gradscope.catalogue import rules
from gradscope.dashboard.address import Address, parse
from gradscope.dashboard.app import create_app
from gradscope.dashboard.examined import examined
from gradscope.dashboard.learning.examples import examples
from gradscope.dashboard.live import refresh
from gradscope.dashboard.pages import about, checks
from gradscope.dashboard.pages import runs as page
from gradscope.dashboard.parts.check_cards import OUTCOMES, check_rows, draw_groups, summary
from gradscope.dashboard.parts.run_facts import as_text, commands, sections, size
from gradscope.dashboard.parts.run_rows import Row, draw_table, row, state_words
from gradscope.dashboard.runs import Runs
from gradscope.dashboard.shell_wiring import tick
from gradscope.dashboard.wording import number
from gradscope.diagnosis import diagnose
from gradscope.errors import NotARun
from gradscope.records import STEP, SUMMARY_ROW, Check, NotObserved, OptimizerInfo, Run, RunInfo
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Signals
from tests.conftest import SaveRun

NAN = float("nan")
EMPTY = Run(RunInfo("a", "Net", 0.0), np.zeros(0, STEP), np.zeros((0, 0)), np.zeros(0, SUMMARY_ROW))
ODD = {
    "nothing": EMPTY,
    "one site": by_hand({"a": 1.0}, steps=3),
    "one step": by_hand({"a": 1.0, "b": 1.0}, loss=[1.0], steps=1),
    "all NaN": by_hand({"a": NAN, "b": NAN}, loss=NAN, steps=3),
    "3,000 sites": by_hand({f"layers.{number}": 1.0 for number in range(3000)}, loss=2.0, steps=3),
}


class Brief(NamedTuple):
    """What `Runs.brief` says of a run."""

    verdict: Any = "healthy"
    headline: str = "No sickness found"
    severities: dict[str, int] = {}
    steps: int = 100
    state: str = "ended"
    started: float = 1_700_000_000.0
    loss: tuple[Any, Any] = (np.arange(5), np.arange(5.0))
    problem: str = ""


class Folder:
    """A folder of runs that are only told of."""

    def __init__(self, briefs: dict[str, Brief | Exception], seconds: float = 0.0) -> None:
        self.briefs, self.seconds, self.read = briefs, seconds, []
        self.location = "runs"

    def names(self) -> list[str]:
        return list(self.briefs)

    def listed(self) -> set[str]:
        return set(self.briefs)

    def stamp(self, name: str, listed: object = None) -> Any:
        return NamedTuple("Stamp", [("version", str), ("written", float)])("1", time.time())

    def brief(self, name: str) -> Brief:
        self.read.append(name)
        time.sleep(self.seconds)
        told = self.briefs[name]
        if isinstance(told, Exception):
            raise told
        return told


def told(folder: Folder, search: str = "", versions: dict[str, str] | None = None) -> page.Listing:
    """The list as the page shows it."""
    versions = versions or dict.fromkeys(folder.names(), "1")
    return page.listing(folder, tuple(folder.names()), versions, parse("/", search))  # type: ignore[arg-type]


def words(component: Any) -> str:
    """All text in a component."""
    if component is None or isinstance(component, (str, int)):
        return str(component or "")
    if isinstance(component, (list, tuple)):
        return " ".join(map(words, component))
    return words(getattr(component, "children", None))


def links(component: Any) -> list[str]:
    """Where a component's links lead."""
    if isinstance(component, (list, tuple)):
        return [link for each in component for link in links(each)]
    own = [component.href] if getattr(component, "href", None) else []
    return own + (links(component.children) if getattr(component, "children", None) is not None else [])


def test_a_row_says_how_a_run_is() -> None:
    """Verdict in shape and word, headline, findings by severity with the worst first, steps, state, start, loss."""
    brief = Brief("unhealthy", "Gradients vanish", {"note": 2, "error": 1}, 1200, "ended")
    said = words(draw_table([row("a", brief, 0.0)], Address()))
    for text in ("▲ Unhealthy", "Gradients vanish", "▲ 1 error", "● 2 notes", "1,200", "✓ ended", "2023-11-1"):
        assert text in said
    assert said.index("1 error") < said.index("2 notes")


def test_the_state_of_a_run_is_words() -> None:
    """A run that goes on, one that stopped writing, one that ended, one that was not recorded to its end."""
    assert state_words("recording", 2.0) == "● live"
    assert state_words("recording", 300.0) == "○ nothing new for 5 min"
    assert state_words("ended", 1e6) == "✓ ended"
    assert state_words("stopped", 0.0) == "■ recording stopped"


@pytest.mark.parametrize("error", [NotARun("run.json is damaged."), ValueError("boom")])
def test_a_damaged_run_has_its_words_and_hides_no_other(error: Exception) -> None:
    """It says what is wrong; it cannot be compared; the others are there."""
    seen = told(Folder({"bad": error, "told": Brief(problem="It is of a newer version."), "good": Brief()}))
    said = words(draw_table(seen.rows, Address()))
    assert said.count("▲ Cannot be read") == 2
    assert str(error) in said
    assert "It is of a newer version. Nothing was changed on disk." in said
    assert "✓ Healthy" in said
    assert said.count("☐ choose") == 1


def test_the_filter_wants_every_word() -> None:
    """Name, verdict, headline and state are searched, in any case; a filter that nothing matches says so."""
    folder = Folder({"gpt-1": Brief(), "gpt-2": Brief("broken", "Loss is NaN"), "mlp": Brief("broken", "Loss is NaN")})
    assert [each.name for each in told(folder, "?find=GPT%20nan").rows] == ["gpt-2"]
    assert [each.name for each in told(folder, "?find=broken").rows] == ["gpt-2", "mlp"]
    seen = told(folder, "?find=resnet")
    drawn = page._list(folder, seen, parse("/", "?find=resnet"))  # type: ignore[arg-type]
    assert "None of 3 runs says 'resnet'" in words(drawn["list"])


def test_two_runs_are_chosen_and_compared() -> None:
    """The first click makes A, the second B; then a link leads to the comparison; another click takes one out."""
    table = draw_table([Row("x"), Row("y"), Row("z")], Address(a="x"))
    assert {"/", "/?a=x&b=y", "/?a=x&b=z"} < set(links(table))
    both = Address(a="x", b="y")
    assert links(page._compare(both)) == ["/compare?a=x&b=y", "/"]
    assert "/?a=y" in links(draw_table([Row("x")], both))
    assert "Choose two runs" in words(page._compare(Address()))
    assert "A is" in words(page._compare(Address(a="x")))


def test_hundreds_of_runs_are_read_in_several_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """One answer reads no longer than its budget; the list is there at once and fills; nothing is read twice."""
    monkeypatch.setattr(page, "BUDGET", 0.05)
    folder = Folder({f"run {number}": Brief() for number in range(300)}, seconds=0.02)
    first = told(folder)
    assert (len(first.rows), first.matching, first.runs) == (100, 300, 300)
    assert 1 <= len(folder.read) < 10
    assert first.unread == 100 - len(folder.read)
    assert "reading … " in words(draw_table(first.rows, Address())) + " "
    folder.seconds = 0.0
    second = told(folder)
    assert second.unread == 0
    assert len(folder.read) == len(set(folder.read)) == 100
    told(folder)
    assert len(folder.read) == 100


def test_only_what_grew_is_read_again() -> None:
    """A run with another version is read, the others are not; a row keeps its old words until then."""
    folder = Folder({"a": Brief(), "b": Brief()})
    told(folder)
    folder.read.clear()
    told(folder, versions={"a": "1", "b": "2"})
    assert folder.read == ["b"]


def test_a_long_list_has_pages() -> None:
    """100 rows at once; links lead to the older and back."""
    folder = Folder({f"run {number}": Brief() for number in range(250)})
    address = parse("/", "?from=100")
    seen = told(folder, "?from=100")
    assert [seen.rows[0].name, seen.rows[-1].name] == ["run 100", "run 199"]
    assert links(page._pager(seen, address)) == ["/", "/?from=200"]
    assert told(folder, "?from=9999").rows[0].name == "run 200"


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    """No run: words and the code to begin with; the page waits for the first."""
    outputs = refresh(page.PAGE, Runs(tmp_path), Address(), "light", None)
    assert "No run here yet" in words(outputs["list"])
    assert "gradscope.watch" in words(outputs["list"])
    assert outputs["stand"] is False


def test_nothing_is_drawn_when_nothing_changed() -> None:
    """The same runs give the same sources, so that a refresh draws nothing."""
    folder: Any = Folder({"a": Brief(), "b": Brief()})
    names = tuple(folder.names())
    first = page.areas_of(folder, names, ("1", "1"), Address())
    second = page.areas_of(folder, names, ("1", "1"), Address())
    assert {name: area.source for name, area in first.items()} == {name: area.source for name, area in second.items()}


# ---- checks


@pytest.mark.parametrize("run", ODD.values(), ids=ODD)
def test_every_rule_has_one_outcome_in_every_run(run: Run) -> None:
    """Each rule of the catalogue is there once, with an outcome that has words."""
    signals = Signals(run)
    rows = check_rows(diagnose(run, signals), signals)
    assert sorted(each.rule for each in rows) == sorted(rules())
    assert {each.outcome for each in rows} <= set(OUTCOMES)
    said = words(draw_groups(rows, "run"))
    assert all(name in said for name in rules())
    assert summary(rows).startswith(f"{len(rules())} rules: ")


def test_a_rule_that_fired_leads_to_its_finding() -> None:
    """It comes first, says what it found and links to the finding's page; the others say what they look for."""
    run = by_hand({"a": 1e-9, "b": 1.0}, loss=2.3)
    signals = Signals(run)
    rows = check_rows(diagnose(run, signals), signals)
    assert (rows[0].rule, rows[0].outcome, rows[0].findings) == ("vanishing-gradient", "fired", (("F1", "error"),))
    groups = draw_groups(rows, "my run")
    assert "/run/my%20run/finding/F1" in links(groups)
    assert "Gradients vanish before a" in words(groups)


def test_thresholds_and_pages_are_those_of_the_rules() -> None:
    """Value, unit and source of every threshold are on the page, and what `explain` says."""
    run = ODD["one site"]
    signals = Signals(run)
    said = words(draw_groups(check_rows(diagnose(run, signals), signals), "run"))
    for rule in rules().values():
        assert all(limit.unit in said and limit.source in said for limit in rule.thresholds().values())
        assert all(source in said for source in rule.sources)
        assert " ".join((rule.__doc__ or "").split()[:6]) in said


def test_what_was_examined_is_counted() -> None:
    """The backward gain of 3 layers and the model in 4 steps is 16 numbers; one that is undefined is none."""
    run = by_hand({"a": [1.0, 1.0, 1.0, NAN], "b": 1.0, "c": 1.0}, steps=4)
    looked = {each.what: each for each in examined(rules()["vanishing-gradient"], Signals(run))}
    assert (looked["backward gain"].places, looked["backward gain"].numbers) == (4, 15)


def test_examining_changes_no_finding() -> None:
    """A rule that is watched finds what it finds alone: every case of every rule runs to its end."""
    for rule in rules().values():
        for case in rule.cases():
            signals = Signals(case.run)
            before = list(rule.check(signals))
            examined(rule, signals)
            assert list(rule.check(signals)) == before


def test_a_rule_the_diagnosis_is_silent_about_could_not_run() -> None:
    """Nothing is left out: what the diagnosis does not name is said to have failed; reasons are shown."""
    run = by_hand({"a": 1.0, "b": 1.0})
    diagnosis = dataclasses.replace(
        diagnose(run), findings=(), passed=(Check("dead-units", "not-applicable", "no activations"),)
    )
    rows = {each.rule: each for each in check_rows(diagnosis, Signals(run))}
    assert rows["vanishing-gradient"].outcome == "could-not-run"
    assert rows["dead-units"].reason == "no activations"
    assert "No activations." in words(draw_groups(tuple(rows.values()), "run"))


def test_what_was_not_observed_is_listed() -> None:
    """With its reason; else that all was."""
    assert "decoder : it is compiled" in words(checks.unseen((NotObserved("decoder", "it is compiled"),)))
    assert "Everything that was asked for was observed" in words(checks.unseen(()))


# ---- run info


@pytest.mark.parametrize("name", ODD)
def test_the_run_info_holds_for_every_run(name: str, save_run: SaveRun) -> None:
    """No run is too odd to be described."""
    folder = save_run(ODD[name], "run")
    runs = Runs(folder)
    said = as_text(sections(runs.get("run"), runs.folder("run")))
    assert "Steps: none yet" in said if name == "nothing" else "Recorded in full" in said
    assert "run.json" in said
    outputs = refresh(about.PAGE, runs, Address("about", "run"), "light", None)
    assert outputs["problem"] == []
    assert outputs["name"] == "run"


def test_the_run_info_says_how_it_was_made(save_run: SaveRun) -> None:
    """Optimizer options, command, ranks, loss scale, sampling: everything with its unit or remark."""
    run = by_hand({"a": 1.0, "b": 1.0}, loss=2.0, steps=4)
    run.steps["scale"] = [65536, 65536, 32768, 32768]
    run.steps["skipped"] = [False, False, True, False]
    info = dataclasses.replace(
        run.info,
        command=("train.py", "--name", "a b"),
        directory="/home/me",
        optimizers=(OptimizerInfo("Adam", {"lr": 1e-3}, foreign=2),),
        settings={"every": "auto", "overhead": 0.03},
        world_size=4,
        parallel="DDP",
    )
    folder = save_run(dataclasses.replace(run, info=info), "run")
    runs = Runs(folder)
    said = as_text(sections(runs.get("run"), runs.folder("run")))
    for text in ("Adam: lr 0.00100 (2 tensors", "every='auto', overhead=0.03", "Ranks: 4 processes", "Parallel: DDP"):
        assert text in said
    assert f"Loss scale: {number(32768)} now ({number(32768)} to {number(65536)}, changed 1 time)" in said
    assert "Skipped steps: 1" in said
    assert "Recorded in full: 4 of 4 (every step)" in said
    assert "at most 3 % was asked for" in said
    assert commands(info) == ("cd /home/me", "gradscope run train.py --name 'a b'")
    assert commands(run.info) == ()


def test_the_download_is_the_file(save_run: SaveRun) -> None:
    """Byte for byte; a run that is not there has none."""
    folder = save_run(name="run")
    runs = Runs(folder)
    assert about.run_json(runs, "run") == (folder / "run.json").read_bytes()
    assert json.loads(about.run_json(runs, "run") or b"")["model"]
    assert about.run_json(runs, "../run") is None


def test_a_packaged_run_can_be_downloaded(tmp_path: Path) -> None:
    """The run.json of an example is read from its zip; a name that no example has leads nowhere."""
    runs = Runs(tmp_path)
    file = examples()["adam"]
    with zipfile.ZipFile(file) as archive:
        inside = next(name for name in archive.namelist() if name.endswith("run.json"))
        expected = archive.read(inside)
    assert about.run_json(runs, "example:adam") == expected
    assert about.run_json(runs, "example:nothing") is None
    assert about.run_json(runs, "example:../examples/adam") is None
    client = create_app(tmp_path).server.test_client()
    answer = client.get("/run/example%3Aadam/run.json", headers={"Host": "127.0.0.1"})
    assert (answer.status_code, answer.data) == (200, expected)


def test_a_packaged_run_says_that_it_is_one(tmp_path: Path) -> None:
    """The chip and the run info say so, and the command is one that works anywhere: that of its demo."""
    runs, address = Runs(tmp_path), Address("about", "example:adam")
    chip = tick(runs, about.PAGE, address, None)[2]
    assert chip == "packaged example · ✓ ended · 150 steps"
    outputs = refresh(about.PAGE, runs, address, "light", None)
    assert outputs["problem"] == []
    assert outputs["name"] == "example:adam"
    said = words(outputs["again"])
    assert "Train it yourself" in said
    assert "is a packaged example" in said
    assert said.endswith("gradscope demo adam")


def test_sizes_are_read_with_ease() -> None:
    """Three digits and the unit."""
    assert [size(each) for each in (0, 80, 9999, 219440, 999_600, 5_360_000_000)] == [
        "0 B", "80 B", "10 kB", "219 kB", "1 MB", "5.36 GB"
    ]  # fmt: skip


def test_every_fact_has_words(save_run: SaveRun) -> None:
    """No value is empty."""
    runs = Runs(save_run(by_hand({"a": 1.0, "b": 1.0}), "run"))
    everything: Callable[..., Any] = sections
    for facts in everything(runs.get("run"), runs.folder("run")):
        assert all(fact.name and fact.value for fact in facts.rows)
