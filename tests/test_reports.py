"""What reports say: the document is the truth, and every format renders it."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from gradscope import numerals
from gradscope.records import (
    STEP,
    SUMMARY_ROW,
    Cause,
    Check,
    Diagnosis,
    Evidence,
    Finding,
    NotObserved,
    Run,
    RunInfo,
    Severity,
    Suggestion,
    VerdictName,
)
from gradscope.reports import benchmark, document, json_text, strips, terminal, words
from gradscope.reports import trial as trial_text
from gradscope.reports.envelope import error_document
from gradscope.reports.look import Color, Look, look_of
from gradscope.reports.numbers import Count, Latest, headline_numbers
from gradscope.rules.handwritten import run as by_hand
from gradscope.signals import Signals

NAN, INF = math.nan, math.inf
EMPTY = Run(RunInfo("empty", "Net", 0.0), np.zeros(0, STEP), np.zeros((0, 0)), np.zeros(0, SUMMARY_ROW))
HEALTHY = Diagnosis("healthy", "Nothing is wrong.")
MEASURED = benchmark.Benchmark("2026-11-29", 60, 40, {"activation-contracts": benchmark.Rate(50, 47)})
RENDERERS = {"json": json_text.render, "terminal": terminal.render}


@pytest.fixture(autouse=True)
def _measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the benchmark gave changes with every measurement: here it is always the same."""
    monkeypatch.setattr(benchmark, "benchmark", lambda: MEASURED)


def _finding(severity: Severity = "error", **changes: Any) -> Finding:
    return Finding(
        **{
            "rule": "vanishing-gradient",
            "severity": severity,
            "layers": ("a", "b"),
            "first_step": 0,
            "last_step": 7,
            "message": "Gradients vanish before c",
            "evidence": (Evidence("backward gain at a", 1e-9, "", 1e-3, "0.1 … 20"),),
            "causes": (Cause("activation-contracts", 0.86, "each Sigmoid keeps 0.25"), Cause("other", 0.3, "maybe")),
            "suggestions": (
                Suggestion("activation-swap", "Use ReLU", "it keeps the gradient", "if x:\n    y = 1", "train.py:42"),
                Suggestion("initialization", "Use Xavier", "it fits", "", None, {"outcome": "gone in 5 of 5"}),
            ),
            **changes,
        }
    )


SICK = Diagnosis(
    "unhealthy",
    "Gradients vanish before c.",
    (_finding(), _finding("warning", rule="dead-units", suggestions=()), _finding("note", rule="x", layers=())),
    (
        Check("non-finite", "passed"),
        Check("loss-stalled", "needs-data", "needs 3 more recorded steps"),
        Check("vanishing-through-time", "not-applicable", "no recurrent module"),
    ),
    (NotObserved("emb", "its output is an integer"),),
)


def _sick_run() -> Run:
    return by_hand({"a": 1e-9, "b": [1e-4] * 7 + [NAN], "c": 1.0}, loss=[2.3] * 7 + [NAN])


def _rendered(look: Look | None = None, diagnosis: Diagnosis = SICK, run: Run | None = None) -> str:
    return terminal.render(document(run or _sick_run(), diagnosis, Path("runs/one")), look)


# all formats


@pytest.mark.parametrize("name", RENDERERS)
@pytest.mark.parametrize("verdict", words.VERDICT_WORDS)
def test_every_format_renders_an_empty_run(name: str, verdict: VerdictName) -> None:
    """A run in which nothing was recorded has a report, whatever the verdict."""
    text = RENDERERS[name](document(EMPTY, Diagnosis(verdict, "No step yet.")))
    assert "No step yet." in text
    assert text.endswith("\n")


PATCH = (
    "--- a.py\n+++ a.py\n@@ -3,3 +3,3 @@\n     b()\n-    opt = SGD(net.parameters(), 3)\n"
    "+    opt = SGD(net.parameters(), 0.3)\n"
)


def test_a_patch_is_shown_in_the_users_own_names() -> None:
    """The lines that change stand in the place of the code to paste; where they are many, that stands there."""
    cure = Suggestion("lower-learning-rate", "Lower it", "it fits", "model.paste()", "a.py:4: lr", None, PATCH)
    said = terminal.render(document(_sick_run(), replace(SICK, findings=(_finding(suggestions=(cure,)),))))
    assert f"{' ' * 13}at a.py:4: lr\n{' ' * 13}gradscope fix RUN F1 --apply writes it\n" in said
    assert f"{' ' * 17}-opt = SGD(net.parameters(), 3)\n{' ' * 17}+opt = SGD(net.parameters(), 0.3)\n" in said
    assert "model.paste()" not in said
    cure = replace(cure, patch=PATCH + "+    more()\n" * 16)
    said = terminal.render(document(_sick_run(), replace(SICK, findings=(_finding(suggestions=(cure,)),))))
    assert "model.paste()" in said
    assert "more()" not in said


def test_what_a_trial_could_not_apply_did_not_fail() -> None:
    """It says nothing about the cure, and the remedy's name is said once."""
    control = {"low": None, "pairs": 0}
    outcome = {
        **{"effect": "untried", "state": "not applicable", "title": "Use ReLU", "remedies": ["activation-swap"]},
        **{"outcome": "no module is one", "step_time": None, "changes": []},
        **{"against_no_change": control, "against_random": control},
    }
    held = {"headline": "Sick", "planned": 0, "outcomes": [outcome], "not_tried": [], "notes": [], "run": "runs/a"}
    assert trial_text.render(held).splitlines()[2:4] == [
        "1. Use ReLU (activation-swap) ○ could not be tried from outside",
        "   No module is one.",
    ]


@pytest.mark.parametrize("name", RENDERERS)
def test_every_format_says_verdict_findings_and_cures(name: str) -> None:
    """Verdict, findings, causes, cures and what was not observed are in every format."""
    text = RENDERERS[name](document(_sick_run(), SICK))
    for said in (
        "Gradients vanish before c",
        "each Sigmoid keeps 0.25",
        "Use ReLU",
        "train.py:42",
        "emb",
        "dead-units",
    ):
        assert said in text


# the document


def _strict(text: str) -> dict[str, Any]:
    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is no JSON")

    content: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return content


def test_non_finite_numbers_survive_json() -> None:
    """NaN and Inf become null with words beside them, and the last finite value stays, with its step."""
    page = _strict(json_text.render(document(_sick_run(), SICK)))
    assert page["numbers"]["loss"] == {
        "value": None,
        "value_words": "NaN",
        "step": 7,
        "last_finite": 2.3,
        "last_finite_step": 6,
    }
    assert page["strips"][1]["values"][-1] is None
    assert page["strips"][1]["values_words"] == {"7": "NaN or Inf"}


def test_a_null_never_stands_without_words() -> None:
    """Wherever the document has null, the key beside it says what it means, also in what a trial measured."""
    trial = {
        "p": NAN,
        "losses": [1.0, INF, None],
        "arrays": np.array([1.0, NAN]),
        "deep": [[NAN], 2],
        "count": np.int64(3),
    }
    suggestion = Suggestion("a", "b", "c", "d", None, trial)
    evidence = (Evidence("x", -INF),)
    run = by_hand({"a": [NAN, INF], "b": [0.0, 1.0]}, scale=[0.0, 1.0], loss=[NAN, INF], steps=2)
    diagnosis = Diagnosis("broken", "x", (_finding(suggestions=(suggestion,), evidence=evidence),))
    page = _strict(json_text.render(document(run, diagnosis)))

    def check(value: Any, said: Any, where: str) -> None:
        if value is None:
            assert said, where
        elif isinstance(value, dict):
            for key, item in value.items():
                check(item, value.get(f"{key}_words"), f"{where}.{key}")
        elif isinstance(value, list):
            for place, item in enumerate(value):
                check(item, (said or {}).get(str(place)), f"{where}[{place}]")

    check(page, None, "document")
    measured = page["findings"][0]["suggestions"][0]["trial"]
    assert measured["losses_words"] == {"1": "Inf", "2": "none"}
    assert measured["deep_words"] == {"0": {"0": "NaN"}}
    assert (measured["count"], measured["p_words"]) == (3, "NaN")
    assert page["findings"][0]["evidence"][0]["value_words"] == "-Inf"


def test_the_document_survives_json() -> None:
    """What JSON gives back renders to the same page: the terminal needs nothing that JSON cannot carry."""
    page = document(_sick_run(), SICK, Path("runs/one"))
    assert terminal.render(json.loads(json_text.render(page))) == terminal.render(page)


def test_json_is_ascii_and_carries_any_name() -> None:
    """JSON is plain ASCII, so that every stream carries it, and lone surrogates in names survive."""
    name = "größe \x1b[31m \ud800"
    text = json_text.render(document(EMPTY, Diagnosis("watch", name)))
    assert text.isascii()
    assert json.loads(text)["headline"] == name


def test_counts_agree_with_what_they_count() -> None:
    """The counts are those of the findings and of the checks."""
    assert document(_sick_run(), SICK)["counts"] == {
        "error": 1,
        "warning": 1,
        "note": 1,
        "passed": 1,
        "needs_data": 1,
        "not_applicable": 1,
        "could_not_run": 0,
    }


def test_findings_keep_their_order_and_get_a_number() -> None:
    """The most likely root cause is F1."""
    findings = document(_sick_run(), SICK)["findings"]
    assert [(each["number"], each["rule"]) for each in findings] == [
        ("F1", "vanishing-gradient"),
        ("F2", "dead-units"),
        ("F3", "x"),
    ]


def test_a_suggestion_is_measured_only_when_a_trial_measured_it() -> None:
    """Without a trial a suggestion is an estimate, or waits for an edit that only the user can make; so is one that could
    not be tried.
    """
    assert [each["basis"] for each in document(_sick_run(), SICK)["findings"][0]["suggestions"]] == [
        "estimate",
        "measured",
    ]
    cure = Suggestion("change-loss", "Change it", "it fits", "", needs_edit="your own code")
    assert [each.basis for each in (cure, replace(cure, trial={"effect": "untried"}))] == ["needs your edit"] * 2
    assert replace(cure, trial={"effect": "failed"}).basis == "measured"
    said = terminal.render(document(_sick_run(), replace(SICK, findings=(_finding(suggestions=(cure,)),))))
    assert "1. Change it [not tried: needs your edit]" in said


def test_the_next_command_can_be_pasted() -> None:
    """A folder with spaces is quoted."""
    assert document(EMPTY, HEALTHY, Path("my runs/a"))["next_command"] == "gradscope dashboard 'my runs/a'"


def test_an_error_has_the_same_envelope() -> None:
    """A report that could not be made is a document as well."""
    assert error_document(KeyError("x")) == {
        "schema_version": 1,
        "gradscope": document(EMPTY, HEALTHY)["gradscope"],
        "error": {"kind": "KeyError", "message": "'x'"},
    }


# the five numbers


def test_the_last_finite_value_stays_when_a_series_ends_in_nan() -> None:
    """Loss and gradient norm keep their last finite value and its step."""
    run = by_hand({"a": [1.0, 1.0, NAN]}, loss=[2.0, 1.0, INF], steps=3)
    run.steps["gradient_norm"] = [3.0, NAN, NAN]  # not recorded at step 1; NaN at step 2, where a gradient is NaN
    numbers = headline_numbers(run, Signals(run))
    assert numbers.loss == (INF, 2, 1.0, 1)
    np.testing.assert_equal(tuple(numbers.gradient_norm), (NAN, 2, 3.0, 0))


def test_a_norm_that_was_not_recorded_is_not_nan() -> None:
    """Where only the loss was recorded, the gradient norm is the last one that was."""
    run = by_hand({"a": 1.0}, steps=3)
    run.steps["gradient_norm"] = [3.0, 2.0, NAN]
    assert headline_numbers(run, Signals(run)).gradient_norm == Latest(2.0, 1, 2.0, 1)
    assert headline_numbers(run, Signals(run)).loss == Latest()


def test_layers_outside_the_healthy_band_are_counted() -> None:
    """Healthy is a backward gain from 0.1 to 20; NaN is not healthy; undefined is not counted."""
    run = by_hand({"a": 0.09, "b": 0.11, "c": 19.9, "d": 21.0, "e": NAN, "f": 1.0})
    assert headline_numbers(run, Signals(run)).healthy_layers == Count(3, 6)
    satisfied = by_hand({"a": 1.0, "b": 1.0}, scale=0.0)
    assert headline_numbers(satisfied, Signals(satisfied)).healthy_layers == Count(0, 0)


def test_non_finite_tensors_are_those_of_the_last_recorded_step() -> None:
    """A tensor counts once, by its state at the last recorded step."""
    run = by_hand({"a": [NAN, 1.0], "b": 1.0}, steps=2)
    assert headline_numbers(run, Signals(run)).non_finite_tensors == Count(0, 10)
    run = by_hand({"a": [1.0, NAN], "b": 1.0}, steps=2)
    assert headline_numbers(run, Signals(run)).non_finite_tensors == Count(2, 10)


def test_overhead_is_the_share_that_training_was_slowed_by() -> None:
    """Ten milliseconds a step, of them one for the recorder: slower by a ninth."""
    run = by_hand({"a": 1.0})
    run.steps["recorder_seconds"] = 0.001
    assert headline_numbers(run, Signals(run)).overhead == pytest.approx(1 / 9)
    assert headline_numbers(EMPTY, Signals(EMPTY)).overhead is None


# strips


def test_strips_show_the_layers_that_findings_name_in_execution_order() -> None:
    """Layers of findings, parameters through their module, first to last; unknown names are left out."""
    run = by_hand({"a": 1e-9, "b": 0.5, "c": 0.7, "d": 1.0})
    diagnosis = Diagnosis("unhealthy", "x", (_finding(layers=("c.weight", "a", "(gone)")),))
    assert [strip.layer for strip in strips.strips(Signals(run), diagnosis)] == ["a", "c"]


def test_no_finding_crowds_out_another() -> None:
    """Of many layers the worst three of each finding come first, six in all."""
    names = [f"l{number}" for number in range(12)]
    run = by_hand(dict.fromkeys(names, 1.0))
    findings = (_finding(layers=tuple(names[:8])), _finding(layers=tuple(names[9:])))
    shown = [strip.layer for strip in strips.strips(Signals(run), Diagnosis("watch", "x", findings))]
    assert shown == ["l0", "l1", "l2", "l9", "l10", "l11"]


def test_a_healthy_run_shows_its_lowest_and_its_highest_layer() -> None:
    """Without findings the extremes are shown."""
    run = by_hand({"a": 0.5, "b": 3.0, "c": 1.0})
    assert [strip.layer for strip in strips.strips(Signals(run), HEALTHY)] == ["a", "b"]


@pytest.mark.parametrize(
    ("gain", "block"),
    [(1e-7, "▁"), (1e-5, "▂"), (1e-2, "▃"), (0.2, "▄"), (1.0, "▄"), (2.0, "▅"), (20.0, "▅"), (21.0, "▆"), (1e4, "▇")],
)
def test_the_scale_of_a_strip_is_fixed(gain: float, block: str) -> None:
    """A gain has the same block in every run; the fourth and fifth are the healthy band."""
    assert strips.sparkline(strips.Strip("a", (0,), (gain,), (None,)), 10) == block


def test_what_is_no_number_has_a_sign_of_its_own() -> None:
    """Exactly zero, non-finite and undefined are not blocks, in Unicode and in ASCII."""
    words_ = (None, strips.NON_FINITE, strips.UNDEFINED, strips.NOT_RECORDED)
    strip = strips.Strip("a", (0, 1, 2, 3), (0.0, None, None, None), words_)
    assert strips.sparkline(strip, 10) == "0×··"
    assert strips.sparkline(strip, 10, strips.ASCII_BLOCKS) == "0x  "


def test_thinning_keeps_the_worst_moment() -> None:
    """A single NaN, a single spike and a single collapse among 10,000 healthy steps stay in sight."""
    values: list[float | None] = [1.0] * 10_000
    said: list[str | None] = [None] * 10_000
    values[1234], said[1234], values[5000], values[9000] = None, strips.NON_FINITE, 1e9, 1e-9
    strip = strips.Strip("a", tuple(range(10_000)), tuple(values), tuple(said))
    thin = strips.thin(strip, 40)
    assert {1234, 5000, 9000} <= set(thin.steps)
    assert list(thin.steps) == sorted(thin.steps)
    assert len(strips.sparkline(strip, 40)) == 40


def test_a_gain_without_a_value_says_why() -> None:
    """Undefined (the output's gradient is exactly 0) is told from not finite."""
    run = by_hand({"a": [1.0, NAN, 1.0], "b": 1.0}, scale=[0.0, 1.0, 1.0], steps=3)
    diagnosis = Diagnosis("broken", "x", (_finding(layers=("a",)),))
    assert strips.strips(Signals(run), diagnosis)[0].words == (strips.UNDEFINED, strips.NON_FINITE, None)


# the terminal


def test_the_report_for_a_terminal() -> None:
    """The verdict, five numbers, findings, why, what to do, strips, what was not seen, counts and the next command."""
    assert (
        _rendered()
        == """\
▲ Unhealthy: Gradients vanish before c.
Run by-hand: Sequential; 8 steps, 8 of them recorded in full; ended.

Loss                 Gradient norm  Non-finite       Gain in range  Overhead
NaN                  1.00           2 of 15 tensors  1 of 3 layers  0 %
last 2.30 at step 6

    Severity   What                                Where                  Since
F1  ▲ error    Gradients vanish before c           a and 1 more           step 0
F2  ■ warning  Gradients vanish before c           a and 1 more           step 0
F3  ● note     Gradients vanish before c           the whole model        step 0

F1 vanishing-gradient
    where    a, b
    when     step 0 to 7, the newest
    seen     backward gain at a: 1.00e-9 (threshold 0.001, healthy 0.1 … 20)
    why      most likely activation-contracts (86 %): each Sigmoid keeps 0.25
             Right in 47 of the 50 benchmark trainings where it was named first;
             GradScope is developed on these, so expect less on others.
             also possible other (30 %): maybe
    try      1. Use ReLU [estimate]
             it keeps the gradient
             at train.py:42
                 if x:
                     y = 1
             2. Use Xavier [measured on this training]
             it fits
             Gone in 5 of 5.

F2 dead-units
    where    a, b
    when     step 0 to 7, the newest
    seen     backward gain at a: 1.00e-9 (threshold 0.001, healthy 0.1 … 20)
    why      most likely activation-contracts (86 %): each Sigmoid keeps 0.25
             Right in 47 of the 50 benchmark trainings where it was named first;
             GradScope is developed on these, so expect less on others.
             also possible other (30 %): maybe

Backward gain of the worst layers, step 0 to 7
The gradient's norm at a layer over its norm at the model's output.
a  ▁▁▁▁▁▁▁▁  1.00e-9
b  ▂▂▂▂▂▂▂×  NaN or Inf
▄▅ healthy (0.1 to 20), ▁ under 1e-6, █ over 1e6, × NaN or Inf

Not observed
  emb: its output is an integer
Not judged yet
  loss-stalled: needs 3 more recorded steps

1 error, 1 warning, 1 note. 1 check passed, 1 waiting for more data, 1 not
applicable.
Learn: gradscope explain vanishing-gradient
Next:  gradscope dashboard runs/one
"""
    )


def test_a_healthy_run_is_short() -> None:
    """Nothing sick: the verdict, the numbers, how much was checked, and where to look."""
    text = _rendered(None, HEALTHY, by_hand({"a": 0.5, "b": 1.0}, loss=0.3))
    assert text.splitlines()[0] == "✓ Healthy: Nothing is wrong."
    assert "No findings. 0 checks passed." in text
    assert len(text.splitlines()) < 20


@pytest.mark.parametrize("width", [40, 60, 80, 100])
@pytest.mark.parametrize("unicode", [True, False])
def test_no_line_is_wider_than_the_terminal(width: int, unicode: bool) -> None:
    """Everything wraps into the width, long layer names and wide characters too."""
    long = _finding(layers=("encoder." * 20 + "linear", "層" * 60), message="word " * 40, suggestions=())
    run = by_hand({"encoder." * 20 + "linear": 1e-9, "層" * 60: 1.0})
    text = _rendered(Look(width, False, unicode), Diagnosis("unhealthy", "word " * 40, (long,)), run)
    assert max(map(cell_len, text.splitlines())) <= width


def test_code_is_never_cut_or_wrapped() -> None:
    """A cure's code keeps its lines, its indentation and its full length, so that it can be pasted."""
    code = "for m in model.modules():\n\tnn.init.xavier_uniform_(" + "a" * 200 + ")  # [bold]"
    text = _rendered(Look(60), Diagnosis("watch", "x", (_finding(suggestions=(Suggestion("a", "b", "c", code),)),)))
    assert (
        " " * 17 + "for m in model.modules():\n" + " " * 21 + "nn.init.xavier_uniform_(" + "a" * 200 + ")  # [bold]\n"
        in text
    )


def test_ascii_is_ascii() -> None:
    """Where the stream cannot show Unicode, nothing but ASCII is printed: shapes, strips, names, everything."""
    text = _rendered(Look(unicode=False), Diagnosis("broken", "‖g‖ → größe − …", (_finding(layers=("größe",)),)))
    assert text.isascii()
    assert text.startswith("[X] Broken: ||g|| -> gr\\xf6\\xdfe - ...")
    assert "F1  [X] error" in text


@pytest.mark.parametrize(("verdict", "shape"), [("healthy", "[ok]"), ("watch", "[!]"), ("not-enough-data", "[i]")])
def test_every_verdict_has_its_shape(verdict: VerdictName, shape: str) -> None:
    """A verdict is told by shape and word, never by colour alone."""
    text = _rendered(Look(unicode=False), Diagnosis(verdict, "x"))
    assert text.startswith(f"{shape} {words.VERDICT_WORDS[verdict]}: x")


def test_without_colour_there_is_no_escape() -> None:
    """Plain text has no ANSI escape; with colour the text is the same."""
    plain, coloured = _rendered(), _rendered(Look(color=True))
    assert "\x1b" not in plain
    assert "\x1b[1;31m" in coloured
    stripped = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert [line.rstrip() for line in stripped.splitlines()] == plain.splitlines()


HOSTILE = (
    "[bold red]x[/] [link=http://a]",
    "a\x1b[31mred\x1b]0;title\x07",
    "a\nb\rc",
    "\u202eabc\u200b",
    ":smile:",
    "\x9b31m",
)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("color", [True, False])
def test_names_of_the_user_cannot_steer_the_terminal(name: str, color: bool) -> None:
    """Markup stays text; control characters, escapes and direction overrides are spelled out everywhere."""
    finding = _finding(
        layers=(name,),
        message=name,
        evidence=(Evidence(name, 1.0, name, 1.0, name),),
        causes=(Cause(name, 0.9, name),),
        suggestions=(Suggestion(name, name, name, name.replace("\n", ""), name, {"outcome": name}),),
    )
    run = by_hand({name: 1e-9, "b": 1.0})
    info = RunInfo(**{**vars(run.info), "id": name, "model": name})
    checks = (Check(name, "needs-data", name),)
    diagnosis = Diagnosis("unhealthy", name, (finding,), checks, (NotObserved(name, name),))
    page = document(Run(info, run.steps, run.learning_rates, run.summaries), diagnosis, Path(name.replace("\x00", "")))
    text = terminal.render(page, Look(1000, color))
    if color:
        text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert [char for char in text if char != "\n" and words.harmless(char) != char] == []
    assert words.harmless(name) in text


def test_a_consequence_names_the_finding_that_it_follows() -> None:
    """A finding that another one leads to says so, with that one's number."""
    second = _finding(rule="dead-units", follows="vanishing-gradient")
    text = _rendered(None, Diagnosis("unhealthy", "x", (_finding(), second)))
    assert text.count("    follows  most likely a consequence of F1\n") == 1


def test_what_is_left_out_is_said() -> None:
    """Where a list is cut, the report says how many more there are and where to see them."""
    many = tuple(Cause("c", 0.5, f"cause {number}") for number in range(5))
    missing = tuple(NotObserved(f"m{number}", "why") for number in range(12))
    text = _rendered(None, Diagnosis("watch", "x", (_finding(causes=many),), (), missing))
    assert "and 2 more, see -f json" in text
    assert "and 4 more, see -f json" in text


# numbers as words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (2.3, "2.30"),
        (99.96, "100"),
        (1234.5, "1,230"),
        (1e-3, "0.00100"),
        (9.99e-4, "9.99e-4"),
        (1e5, "1.00e+5"),
        (-0.5, "−0.500"),
        (NAN, "NaN"),
        (-INF, "-Inf"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    """Numbers have three significant digits and a real minus; NaN and Inf are words."""
    assert numerals.number(value) == text


# how a stream wants it


class _Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        """Pretends."""
        return True


def _stream(terminal_: bool, encoding: str = "utf-8") -> io.TextIOWrapper:
    return (_Terminal if terminal_ else io.TextIOWrapper)(io.BytesIO(), encoding=encoding)


@pytest.mark.parametrize(
    ("terminal_", "color", "environment", "expected"),
    [
        (True, "auto", {}, True),
        (False, "auto", {}, False),
        (True, "auto", {"NO_COLOR": "1"}, False),
        (True, "auto", {"NO_COLOR": ""}, True),
        (True, "auto", {"TERM": "dumb"}, False),
        (False, "auto", {"FORCE_COLOR": "1"}, True),
        (False, "auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (False, "always", {"NO_COLOR": "1", "TERM": "dumb"}, True),
        (True, "never", {"FORCE_COLOR": "1"}, False),
    ],
)
def test_colour_follows_the_user(
    terminal_: bool, color: Color, environment: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--color` decides; `auto` heeds NO_COLOR, FORCE_COLOR, TERM=dumb, then whether it is a terminal."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert look_of(_stream(terminal_), color).color is expected


@pytest.mark.parametrize(
    ("encoding", "expected"), [("utf-8", True), ("utf-16", True), ("ascii", False), ("latin-1", False)]
)
def test_shapes_follow_the_encoding(encoding: str, expected: bool) -> None:
    """Unicode goes only to streams that can carry all of it."""
    assert look_of(_stream(False, encoding)).unicode is expected


@pytest.mark.parametrize(
    ("terminal_", "columns", "expected"), [(False, 200, 80), (True, 90, 90), (True, 200, 100), (True, 10, 40)]
)
def test_width_follows_the_terminal(
    terminal_: bool, columns: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """80 columns where it is no terminal, else the terminal's up to 100."""
    monkeypatch.setenv("COLUMNS", str(columns))
    assert look_of(_stream(terminal_)).width == expected
