"""`gradscope fix`: the patch of every remedy, written into a script, cures it; and what is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from itertools import takewhile
from pathlib import Path

import pytest

from gradscope.cli import main
from gradscope.diagnosis import diagnose
from gradscope.records import Diagnosis, Run
from gradscope.store import read_run
from tests.conftest import write_run
from tests.patching import by_hand, record
from tests.sick_scripts import SCRIPTS

# script, finding, remedy: the finding is gone when the patch of the remedy is written into the script
CURES = [
    ("clip", "learning-rate-too-high", "gradient-clipping"),
    ("lower", "learning-rate-too-high", "lower-learning-rate"),
    ("lower", "learning-rate-too-high", "warmup"),
    ("raise", "learning-rate-too-low", "raise-learning-rate"),
    ("raise", "learning-rate-too-low", "optimizer-swap"),
    ("zero", "accumulating-gradient", "zero-grad"),
    ("appended", "vanishing-gradient", "initialization"),
    ("appended", "vanishing-gradient", "skip-connection"),
    ("appended", "vanishing-gradient", "batch-norm"),
    ("sequential", "vanishing-gradient", "activation-swap"),
    ("sequential", "vanishing-gradient", "batch-norm"),
    ("starred", "vanishing-gradient", "skip-connection"),
    ("module_list", "vanishing-gradient", "skip-connection"),
    ("module_list", "vanishing-gradient", "batch-norm"),
    ("module_list", "vanishing-gradient", "activation-swap"),
    ("attribute_softmax", "output-loss-mismatch", "change-output-activation"),
    ("log_probabilities", "output-loss-mismatch", "change-output-activation"),
    ("log_probabilities", "output-loss-mismatch", "change-loss"),
    ("minus", "output-loss-mismatch", "change-loss"),
    ("summed", "output-loss-mismatch", "change-loss"),
    ("loader", "learning-rate-too-high", "standardize-inputs"),
    ("function_inputs", "learning-rate-too-high", "standardize-inputs"),
    ("slices", "unscaled-data", "standardize-targets"),
    ("tiny_batches", "normalization-fault", "layer-norm"),
    ("detach", "untrained-parameter", "reattach"),
    ("evalmode", "normalization-fault", "reattach"),
    ("evalmode", "dropout-fault", "lower-dropout"),
    ("dropout", "dropout-fault", "lower-dropout"),
    ("forgot", "untrained-parameter", "add-to-optimizer"),
    ("stale", "untrained-parameter", "add-to-optimizer"),
    ("lists", "untrained-parameter", "add-to-optimizer"),
    ("residual", "exploding-gradient", "residual-scaling"),
    ("recurrent", "vanishing-through-time", "gated-recurrence"),
    ("dead", "dead-units", "activation-swap"),
]
PATCHED = pytest.mark.parametrize(("name", "rule", "remedy"), CURES, ids=lambda value: str(value))


@pytest.fixture(scope="module")
def sick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every script and the run of it."""
    folder = tmp_path_factory.mktemp("sick")
    for name, text in SCRIPTS.items():
        (folder / f"{name}.py").write_text(text)
    record(sorted(folder.glob("*.py")))
    return folder


@pytest.fixture(scope="module")
def patched(sick: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every script after its patch, and the run of it: `clip--gradient-clipping.py`.

    What `gradscope fix` prints is taken by `git apply -p0` and by `patch -p0`, which writes these.
    """
    folder, diffs = tmp_path_factory.mktemp("patched"), []
    for name, rule, remedy in CURES:
        file = f"{name}--{remedy}.py"
        (folder / file).write_text(SCRIPTS[name])
        findings = {each.rule: each for each in _diagnosed(sick / f"{name}-run").findings}
        assert rule in findings, (name, rule, list(findings))
        patch = next((each.patch for each in findings[rule].suggestions if each.remedy == remedy), "")
        assert patch.startswith(f"--- {name}.py\n+++ {name}.py\n"), (name, rule, remedy)
        diffs.append(patch.replace(f"{name}.py", file, 2))
    for command in (["git", "apply", "-p0", "--check", "-"], ["patch", "-p0", "--silent", "--no-backup-if-mismatch"]):
        done = subprocess.run(command, input="".join(diffs), capture_output=True, text=True, cwd=folder, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
    record(sorted(folder.glob("*.py")))
    return folder


@cache
def _diagnosed(folder: Path) -> Diagnosis:
    return diagnose(read_run(folder))


def _rules(folder: Path) -> list[str]:
    return [finding.rule for finding in _diagnosed(folder).findings if finding.severity != "note"]


@PATCHED
def test_a_patch_cures(sick: Path, patched: Path, name: str, rule: str, remedy: str) -> None:
    """The script was sick; with the patch written into it, it runs as a program, and the sickness is gone."""
    assert rule in [finding.rule for finding in _diagnosed(sick / f"{name}-run").findings]
    assert rule not in _rules(patched / f"{name}--{remedy}-run")


@PATCHED
def test_the_place_is_said(sick: Path, name: str, rule: str, remedy: str) -> None:
    """A suggestion with a patch says file, line and what is done there; one without has neither."""
    for finding in _diagnosed(sick / f"{name}-run").findings:
        for suggestion in finding.suggestions:
            if not suggestion.patch:
                assert suggestion.location is None
                continue
            file, line, says = (suggestion.location or "").split(":", 2)
            assert file == f"{name}.py"
            assert 0 < int(line) <= len(SCRIPTS[name].splitlines()) + 1
            assert says.strip()


def test_the_numbers_are_those_of_the_advice(sick: Path) -> None:
    """Rate, bound and the rest stand in the patch as they stand in the code to paste."""
    finding = _diagnosed(sick / "lower-run").findings[0]
    said = {each.remedy: each for each in finding.suggestions}
    rate = said["lower-learning-rate"].code.partition("lr=")[2].rstrip(")")
    assert f"+LR = {rate}\n" in said["lower-learning-rate"].patch
    bound = said["gradient-clipping"].code.partition("max_norm=")[2].partition(")")[0]
    assert f"clip_grad_norm_(mlp.parameters(), max_norm={bound})" in said["gradient-clipping"].patch


# the command


def _copy(sick: Path, folder: Path, name: str = "zero") -> tuple[Path, Path]:
    """A script and its run in a folder of their own; the run knows the script there."""
    script, run = folder / f"{name}.py", folder / f"{name}-run"
    script.write_bytes((sick / f"{name}.py").read_bytes())
    recorded = read_run(sick / f"{name}-run")
    write_run(replace(recorded, info=by_hand(script, recorded.info)), run)
    return script, run


def test_the_diff_goes_to_stdout_and_the_reason_to_stderr(sick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --apply the file stays; the diff can be piped into `patch`."""
    before = (sick / "zero.py").read_bytes()
    assert main(["fix", str(sick / "zero-run"), "F1"]) == 0
    said = capsys.readouterr()
    assert said.out == (
        "--- zero.py\n+++ zero.py\n@@ -10,5 +10,6 @@\n for it in range(60):\n \tout = clf(data)\n"
        " \tcost = ce(out, label)\n+\tsolver.zero_grad()\n \tcost.backward()  # no zero_grad\n \tsolver.step()\n"
    )
    assert said.err.startswith(
        "F1 accumulating-gradient: Zero the gradients before each backward pass.\n"
        "zero.py:13: insert before cost.backward(). 99."
    )
    assert max(map(len, said.err.splitlines())) <= 80
    assert (sick / "zero.py").read_bytes() == before


@pytest.mark.parametrize("typed", ["F1", "f1", "1", "accumulating-gradient"])
def test_a_finding_is_named_by_number_or_rule(sick: Path, typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    """F1, f1, 1 and the rule's id are one finding."""
    assert main(["fix", str(sick / "zero-run"), typed]) == 0
    assert "+\tsolver.zero_grad()" in capsys.readouterr().out


def test_what_is_passed_over_is_said(sick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the first suggestion has no patch the reason stands before the one that has."""
    assert main(["fix", str(sick / "clip-run"), "learning-rate-too-high"]) == 0
    first = _diagnosed(sick / "clip-run").findings
    finding = next(each for each in first if each.rule == "learning-rate-too-high")
    ahead = [each.remedy for each in takewhile(lambda each: not each.patch, finding.suggestions)]
    said = capsys.readouterr().err
    assert [f"No patch for {remedy}, suggested ahead of this: " in said for remedy in ahead] == [True] * len(ahead)


def test_the_diff_is_coloured_where_that_is_wanted(sick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--color always paints what comes green."""
    assert main(["fix", str(sick / "zero-run"), "F1", "--color", "always"]) == 0
    assert "\x1b[32m+\tsolver.zero_grad()\x1b[0m" in capsys.readouterr().out


def test_apply_writes_after_a_backup(sick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The new file keeps its mode; the old one is beside it, and an older backup stays."""
    script, run = _copy(sick, tmp_path)
    script.chmod(0o750)
    before = script.read_bytes()
    (tmp_path / "zero.py.bak").write_text("an older one")
    assert main(["fix", str(run), "F1", "--apply"]) == 0
    assert "\tsolver.zero_grad()\n" in script.read_text()
    assert script.stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "zero.py.bak").read_text() == "an older one"
    assert (tmp_path / "zero.py.bak.1").read_bytes() == before
    assert sorted(each.name for each in tmp_path.glob("*zero.py*")) == ["zero.py", "zero.py.bak", "zero.py.bak.1"]
    said = capsys.readouterr()
    assert said.out == (  # from elsewhere: the file is named in full
        f"wrote {script}, the old one is zero.py.bak.1\n"
        "Next: gradscope run zero.py, then gradscope report to see whether accumulating-gradient is gone.\n"
    )


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "byte order mark"])
def test_line_ends_and_encoding_stay(sick: Path, tmp_path: Path, mark: bytes) -> None:
    """Windows' line ends, a byte order mark and letters beyond ASCII are as they were."""
    script, run = _copy(sick, tmp_path)
    text = "# größe ‖g‖\n" + SCRIPTS["zero"].replace("out = clf(data)", "größe = clf(data)").replace("(out,", "(größe,")
    script.write_bytes(mark + text.replace("\n", "\r\n").encode())
    recorded = read_run(run)
    info = by_hand(script, recorded.info)
    info = replace(info, sources=tuple(replace(each, text=each.text.removeprefix("\ufeff")) for each in info.sources))
    shutil.rmtree(run)
    write_run(replace(recorded, info=info), run)
    assert main(["fix", str(run), "F1", "--apply"]) == 0
    expected = text.replace("\tcost.backward()", "\tsolver.zero_grad()\n\tcost.backward()").replace("\n", "\r\n")
    assert script.read_bytes() == mark + expected.encode()


def test_the_patched_script_runs_by_itself(sick: Path, tmp_path: Path) -> None:
    """Python runs the file that was written, without GradScope."""
    script, run = _copy(sick, tmp_path, "clip")
    assert main(["fix", str(run), "F1", "--remedy", "gradient-clipping", "--apply"]) == 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nan" not in done.stdout


# refusals


def _refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["fix", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_a_file_that_changed_is_left_alone(sick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One more space, and nothing is written; a second --apply is refused for the same reason."""
    script, run = _copy(sick, tmp_path)
    script.write_text(SCRIPTS["zero"] + " ")
    said = _refused([str(run), "F1", "--apply"], capsys)
    assert f"{script} has changed since it ran, so the fix may not fit; nothing was written." in said
    assert "Run it again under `gradscope run`" in said
    assert script.read_text() == SCRIPTS["zero"] + " "
    assert list(tmp_path.glob("*.bak*")) == []


def test_a_file_that_is_gone_is_said(sick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run still shows the diff; --apply says that it cannot read the file."""
    script, run = _copy(sick, tmp_path)
    script.unlink()
    assert main(["fix", str(run), "F1"]) == 0
    capsys.readouterr()
    assert f"cannot read {script}, which ran: No such file or directory." in _refused(
        [str(run), "F1", "--apply"], capsys
    )


def _changed(run: Path, **fields: object) -> None:
    recorded: Run = read_run(run)
    shutil.rmtree(run)
    write_run(replace(recorded, info=replace(recorded.info, **fields)), run)  # type: ignore[arg-type]


def test_a_run_without_its_source_shows_the_code(
    sick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who watched a notebook gets the reason and the code to paste."""
    _, run = _copy(sick, tmp_path)
    _changed(run, places=(), sources=())
    said = _refused([str(run), "F1"], capsys)
    assert said == (
        "gradscope: there is no patch of your lines for this finding:\n"
        "  zero-grad: the run kept no source: record it with `gradscope run`\n"
        "To paste and fit by hand, for zero-grad:\n"
        "    optimizer.zero_grad()  # new\n    loss.backward()\n    optimizer.step()\n"
    )


def test_a_line_that_is_not_there_is_no_patch(sick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A place beyond the file, or a line without the call, gives no patch."""
    _, run = _copy(sick, tmp_path)
    places = tuple(replace(each, line=each.line + 1000) for each in read_run(run).info.places)
    _changed(run, places=places)
    assert "zero-grad: no line of the program calls the optimizer's step() itself" in _refused([str(run), "F1"], capsys)


def test_several_optimizers_are_no_patch(sick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where two are built nobody can say which rate is meant."""
    script, run = _copy(sick, tmp_path, "raise")
    second = "        self.other = torch.optim.SGD(self.net.parameters(), 1e-6)\n\n"
    script.write_text(SCRIPTS["raise"].replace("    def fit", f"{second}    def fit"))
    info = by_hand(script, read_run(run).info)
    _changed(run, places=info.places, sources=info.sources)
    said = _refused([str(run), "F1", "--remedy", "raise-learning-rate"], capsys)
    assert (
        "the program builds several optimizers (raise.py:10, raise.py:12), and nobody can say which one is meant"
        in said
    )


def test_what_is_not_there_is_said(sick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown finding or remedy, and a run without findings, each with what there is."""
    run = str(sick / "zero-run")
    assert (
        _refused([run, "F9"], capsys) == "gradscope: this run has no finding F9. There are: F1 accumulating-gradient.\n"
    )
    said = _refused([run, "F1", "--remedy", "warmup"], capsys)
    assert said == "gradscope: no suggestion of this finding is called 'warmup'. There are: zero-grad.\n"


def test_a_consequence_is_fixed_with_what_leads_to_it(sick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A finding that follows from another has no suggestion of its own."""
    findings = _diagnosed(sick / "appended-run").findings
    number = next(place for place, each in enumerate(findings, 1) if each.follows)
    said = _refused([str(sick / "appended-run"), str(number)], capsys)
    assert "most likely follows from vanishing-gradient: fix that one, and this one goes with it." in said
