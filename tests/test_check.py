"""`gradscope check`: what counts, what is spared, the exit code, and what GitHub Actions gets."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from junitparser import JUnitXml

from gradscope.cli import main
from gradscope.cli.demo import demos
from gradscope.dashboard.learning.examples import example_folder
from gradscope.dashboard.mutes import mute
from gradscope.diagnosis import diagnose
from gradscope.reports.baseline import Known, fingerprint, read_baseline
from gradscope.rules.handwritten import run as by_hand
from gradscope.store import read_run
from gradscope.store.folders import open_folder
from tests.conftest import SaveRun
from tests.format_readers import READERS
from tests.test_formats import faults

CHECKOUT = Path(__file__).resolve().parent.parent
WORKFLOW = CHECKOUT / "demos" / "github-actions.yml"
HEALTHY = by_hand({"a": 0.5, "b": 1.0}, loss=0.3)
YOUNG = by_hand({"a": 0.5, "b": 1.0}, loss=0.3, steps=1)
SCRIPT = """\
import torch
from torch import nn

torch.manual_seed(0)
layers = []
for _ in range(12):
    layers += [nn.Linear(16, 16), nn.Sigmoid()]
model = nn.Sequential(*layers, nn.Linear(16, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x, y = torch.randn(64, 16), torch.randint(0, 4, (64,))
for _ in range(20):
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.fixture(autouse=True)
def _not_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests themselves may run in GitHub Actions."""
    for name in ("GITHUB_WORKSPACE", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


def check(run: Path | str, *options: str | Path) -> int:
    """The exit code of `gradscope check`."""
    return main(["check", str(run), *map(str, options)])


def document_of(run: Path | str, *options: str | Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `gradscope check --json` prints, which is as its schema says."""
    capsys.readouterr()
    check(run, *options, "--json")
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert faults(content) == []
    return content


def of_warnings() -> str:
    """A packaged run that has warnings and no error."""
    folder = example_folder("example:batch_norm")
    assert folder is not None
    return str(folder.location)


# the exit code


def test_the_exit_code_says_whether_something_is_sick(save_run: SaveRun) -> None:
    """0 where nothing counts, 1 for findings, 4 where too little was recorded, 2 where nothing can be read."""
    assert check(save_run(HEALTHY, "healthy")) == 0
    assert check(save_run(name="sick")) == 1
    assert check(save_run(YOUNG, "young")) == 4
    assert check(save_run(name="other").parent / "nothing") == 2


@pytest.mark.parametrize(("options", "code"), [((), 0), (("--fail-on", "error"), 0), (("--fail-on", "warning"), 1)])
def test_the_threshold_decides(options: tuple[str, ...], code: int) -> None:
    """Warnings fail only where that is asked for."""
    assert {finding.severity for finding in diagnose(read_run(of_warnings())).findings} == {"warning"}
    assert check(of_warnings(), *options) == code


@pytest.mark.parametrize("run", [None, YOUNG], ids=["sick", "young"])
def test_exit_zero_changes_the_exit_code_and_nothing_else(
    run: Any, save_run: SaveRun, capsys: pytest.CaptureFixture[str]
) -> None:
    """What uploads a report can ask for 0; the report is the same."""
    folder = save_run(run)
    assert check(folder) in (1, 4)
    said = capsys.readouterr()
    assert check(folder, "--exit-zero") == 0
    assert capsys.readouterr() == said


def test_exit_zero_hides_no_error(tmp_path: Path) -> None:
    """A run that cannot be read is an error all the same."""
    assert check(tmp_path / "nothing", "--exit-zero") == 2


def test_the_outcome_ends_the_report(save_run: SaveRun, capsys: pytest.CaptureFixture[str]) -> None:
    """In a terminal the last line says what counts; in other formats stderr does."""
    folder = save_run()
    check(folder)
    said = capsys.readouterr()
    assert said.out.endswith("\n\nFailed: 1 finding at or above error (F1 vanishing-gradient).\n")
    assert said.err == ""
    check(folder, "-f", "sarif")
    assert capsys.readouterr().err == "gradscope check: Failed: 1 finding at or above error (F1 vanishing-gradient).\n"
    check(save_run(HEALTHY, "healthy"))
    assert capsys.readouterr().out.endswith("\nPassed: no finding that counts at or above error.\n")
    check(save_run(YOUNG, "young"))
    assert capsys.readouterr().out.endswith("\nNot enough data to judge: too few steps were recorded.\n")


@pytest.mark.parametrize("name", sorted(READERS.keys() - {"terminal"}))
def test_check_has_all_formats(name: str, save_run: SaveRun, tmp_path: Path) -> None:
    """Each is what the report is, written to a file where one is named."""
    folder, file = save_run(), tmp_path / "report"
    check(folder, "-f", name, "-o", file)
    facts = READERS[name](file.read_text(encoding="utf-8"))
    assert (facts.verdict, [each.rule for each in facts.findings.values()]) == ("unhealthy", ["vanishing-gradient"])


def test_md_is_markdown(save_run: SaveRun, capsys: pytest.CaptureFixture[str]) -> None:
    """The short name gives the same."""
    folder = save_run()
    texts = []
    for name in ("md", "markdown"):
        assert main(["report", str(folder), "-f", name]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert texts[0].startswith("## ▲ Unhealthy: ")


def test_the_schema_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """`gradscope report --schema` prints what `-f json` promises, and reads no run."""
    assert main(["report", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$id"] == "urn:gradscope:schema:report:1"


def test_a_failing_test_is_what_fails_the_check(save_run: SaveRun, capsys: pytest.CaptureFixture[str]) -> None:
    """JUnit's threshold is that of the check."""
    check(of_warnings(), "-f", "junit")
    assert JUnitXml.fromstring(capsys.readouterr().out.encode()).failures == 0
    check(of_warnings(), "-f", "junit", "--fail-on", "warning")
    assert JUnitXml.fromstring(capsys.readouterr().out.encode()).failures == 2


# mutes


def test_a_muted_finding_does_not_count(save_run: SaveRun, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told with its reason, in every format, and fails nothing."""
    folder = save_run()
    (finding,) = diagnose(read_run(folder)).findings
    mute(open_folder(folder), finding, "a test of ours")
    assert check(folder, "--fail-on", "note") == 0
    assert capsys.readouterr().out.endswith(
        "\nPassed: no finding that counts at or above note. Not counted: F1\nvanishing-gradient (muted: a test of ours).\n"
    )
    assert document_of(folder, capsys=capsys)["check"] == {
        "outcome": "passed",
        "fail_on": "error",
        "failing": [],
        "spared": [{"number": "F1", "as": "muted", "reason": "a test of ours"}],
    }
    check(folder, "-f", "sarif")
    (result,) = json.loads(capsys.readouterr().out)["runs"][0]["results"]
    assert result["suppressions"] == [{"kind": "external", "justification": "muted: a test of ours"}]
    check(folder, "-f", "markdown")
    assert "Not counted: F1 vanishing-gradient (muted: a test of ours)." in capsys.readouterr().out


# baselines


def test_only_new_findings_fail(save_run: SaveRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Writing a baseline passes; with it, what was known passes, and what is new fails alone."""
    known, file = save_run(name="known"), tmp_path / "baseline.json"
    assert check(known, "--write-baseline", file) == 0
    assert f"baseline written to {file}\n" in capsys.readouterr().err
    assert check(known, "--baseline", file, "--fail-on", "note") == 0
    said = "".join(capsys.readouterr().out.split())  # a long path is broken anywhere
    assert f"Notcounted:F1vanishing-gradient(knownfromthebaseline:{file})." in said
    new = save_run(
        by_hand({"a": 1e-9, "b": [1e-4] * 7 + [float("nan")], "c": 1.0}, loss=[2.3] * 7 + [float("nan")]), "new"
    )
    assert check(new, "--baseline", file) == 1
    verdict = document_of(new, "--baseline", file, capsys=capsys)
    rules = {each["number"]: each["rule"] for each in verdict["findings"]}
    assert [rules[each] for each in verdict["check"]["failing"]] == ["non-finite"]
    assert [rules[each["number"]] for each in verdict["check"]["spared"]] == ["vanishing-gradient"]


def test_a_baseline_stays_the_same_where_the_findings_do(save_run: SaveRun, tmp_path: Path) -> None:
    """It holds no step, number or version, so that a repository sees a change only where there is one."""
    files = [tmp_path / "one.json", tmp_path / "other.json"]
    check(save_run(name="one"), "--write-baseline", files[0])
    longer = by_hand({"a": 2e-9, "b": 0.4, "c": 1.0}, loss=2.3, steps=20)
    check(save_run(longer, "other"), "--write-baseline", files[1])
    assert files[0].read_bytes() == files[1].read_bytes()
    content = json.loads(files[0].read_text())
    finding = {"rule": "vanishing-gradient", "severity": "error", "layers": ["a"]}
    assert content == {"schema_version": 1, "kind": "baseline", "findings": {fingerprint(finding): finding}}


def _finding(**changes: Any) -> dict[str, Any]:
    return {"rule": "dead-units", "severity": "warning", "layers": ["a", "b"], **changes}


@pytest.mark.parametrize(
    ("finding", "known"),
    [
        (_finding(), True),
        (_finding(layers=["b", "c"]), True),
        (_finding(severity="note"), True),
        (_finding(severity="error"), False),
        (_finding(layers=["c"]), False),
        (_finding(layers=[]), False),
        (_finding(rule="loss-stalled"), False),
    ],
)
def test_a_known_finding_is_known_again(finding: dict[str, Any], known: bool) -> None:
    """The same rule in some of the same layers, and no graver than it was."""
    assert Known("dead-units", "warning", frozenset(("a", "b"))).holds(finding) is known


def test_a_finding_of_the_whole_model_is_known_again() -> None:
    """It names no layer, then and now."""
    assert Known("loss-stalled", "warning", frozenset()).holds(_finding(rule="loss-stalled", layers=[]))


def test_too_little_makes_no_baseline(save_run: SaveRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that cannot be judged yet would be a baseline that knows nothing."""
    file = tmp_path / "baseline.json"
    assert check(save_run(YOUNG), "--write-baseline", file) == 4
    assert not file.exists()
    assert "no baseline was written: too little was recorded to judge." in capsys.readouterr().err


def test_muted_findings_are_in_no_baseline(save_run: SaveRun, tmp_path: Path) -> None:
    """They do not count as it is."""
    folder, file = save_run(), tmp_path / "baseline.json"
    (finding,) = diagnose(read_run(folder)).findings
    mute(open_folder(folder), finding, "")
    check(folder, "--write-baseline", file)
    assert read_baseline(file) == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read the baseline {file}: No such file or directory. "),
        ("[", "{file} is no baseline: it is no JSON ("),
        ('{"a": 1}', "{file} is no baseline of version 1: it is other JSON. "),
        ("[]", "{file} is no baseline of version 1: it is other JSON. "),
        ('{"schema_version": 2, "kind": "baseline"}', "{file} is no baseline of version 1: it has version 2. "),
        (
            '{"schema_version": 1, "kind": "baseline"}',
            "the baseline {file} is damaged: one of its findings cannot be read. ",
        ),
        (
            '{"schema_version": 1, "kind": "baseline", "findings": {"x": {"rule": "a", "severity": "bad", "layers": []}}}',
            "the baseline {file} is damaged: one of its findings cannot be read. ",
        ),
    ],
)
def test_a_baseline_that_is_none_is_said(
    content: str | None, said: str, save_run: SaveRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Missing, damaged or of another version: what is wrong, and how to write one; never a check without it."""
    file = tmp_path / "baseline.json"
    if content is not None:
        file.write_text(content)
    assert check(save_run(), "--baseline", file, "--json") == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"gradscope: {said.format(file=file)}")
    assert printed.err.endswith(f"Write one with `gradscope check RUN --write-baseline {file}`.\n")
    error = json.loads(printed.out)
    assert error["error"]["kind"] == "BaselineError"
    assert faults(error) == []


def test_a_baseline_that_cannot_be_written_is_said(
    save_run: SaveRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reason, and what to do."""
    file = tmp_path / "nowhere" / "baseline.json"
    assert check(save_run(), "--write-baseline", file) == 2
    assert capsys.readouterr().err == (
        f"gradscope: cannot write the baseline {file}: No such file or directory. Name another file.\n"
    )


# GitHub Actions


def test_github_gets_annotations_beside_the_report(save_run: SaveRun, capsys: pytest.CaptureFixture[str]) -> None:
    """The report stands where no line of it is taken for a command; one command for each finding follows."""
    folder = save_run()
    assert check(folder, "--github") == 1
    first, *report, last, command = capsys.readouterr().out.removesuffix("\n").split("\n")
    assert last == f"::{first.removeprefix('::stop-commands::')}::"
    assert report[0].startswith("▲ Unhealthy: ")
    assert command.startswith("::error title=GradScope vanishing-gradient::Gradients vanish before a")


def test_a_step_gets_its_summary(
    save_run: SaveRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What GITHUB_STEP_SUMMARY names is added to, with the report and its outcome as Markdown."""
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    folder = save_run()
    check(folder)
    capsys.readouterr()
    assert file.read_text() == "before\n"  # not asked for
    check(folder, "--github", "-o", tmp_path / "report.txt")
    written = file.read_text(encoding="utf-8")
    assert written.startswith("before\n## ▲ Unhealthy: ")
    assert "**Check:** Failed: 1 finding at or above error (F1 vanishing-gradient)." in written
    assert capsys.readouterr().out.startswith("::error ")  # the report is in its file
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "nowhere" / "x"))
    assert check(folder, "--github") == 2
    assert "which GITHUB_STEP_SUMMARY names: No such file or directory." in capsys.readouterr().err


def test_files_are_named_from_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], save_run: SaveRun
) -> None:
    """A training in a folder of the repository is annotated at its file there."""
    run = by_hand({"a": 1e-9, "c": 1.0}, info={"directory": str(tmp_path / "deep"), "command": ("train.py",)})
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    check(save_run(run), "--github")
    assert "\n::error file=deep/train.py,title=GradScope vanishing-gradient::" in capsys.readouterr().out


# the workflow that people copy


def test_the_workflow_is_valid_and_safe() -> None:
    """GitHub's schema of a workflow takes it, and the strictest look for unsafe habits finds none."""
    programs = Path(sys.executable).parent
    for command in (
        [programs / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", WORKFLOW],
        [programs / "zizmor", "--offline", "--no-progress", "--persona=auditor", "--strict-collection", WORKFLOW],
    ):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_actions_of_the_workflow_are_pinned() -> None:
    """Each by its commit, with the version beside it."""
    uses = [line for line in WORKFLOW.read_text().splitlines() if "uses:" in line]
    assert len(uses) == 3
    assert [line for line in uses if not re.search(r"uses: [\w-]+/[\w/-]+@[0-9a-f]{40} # v[\d.]+$", line)] == []


def test_the_commands_of_the_workflow_run(tmp_path: Path) -> None:
    """What is ours in it records the training, fails the check, and leaves what the last step uploads."""
    (tmp_path / "train.py").write_text(SCRIPT)
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["health"]["steps"]
    ours = [shlex.split(step["run"]) for step in steps if step.get("run", "").startswith("gradscope ")]
    codes = []
    for _, *arguments in ours:
        command = [sys.executable, "-m", "gradscope", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)
        codes.append((done.returncode, done.stdout, done.stderr))
    assert [code for code, _, _ in codes] == [0, 1], codes
    assert re.search(r"^::error file=train\.py,line=\d+,title=GradScope ", codes[-1][1], re.MULTILINE)
    upload = next(step for step in steps if "upload-sarif" in step.get("uses", ""))
    log = json.loads((tmp_path / upload["with"]["sarif_file"]).read_text())
    place = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "train.py"
    assert place["region"]["startLine"] <= len(SCRIPT.splitlines())


def test_the_workflow_is_packaged_and_is_no_demo() -> None:
    """It lies beside the demos, which are scripts."""
    assert WORKFLOW.is_file()
    assert WORKFLOW.stem not in demos()
