"""The command line, mostly as a user runs it: in a process of its own."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import warnings
from pathlib import Path

import pytest

from gradscope import __version__, cli
from gradscope.cli import demo, main
from gradscope.cli.demo import CURES, demos
from gradscope.cli.explain import unknown
from gradscope.diagnosis import diagnose
from gradscope.store import read_run
from tests.conftest import SaveRun


def _environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return {**kept, "PYTHONWARNINGS": "error", "PYTHONUTF8": "0", "LC_ALL": "C.UTF-8", **changes}


def _gradscope(
    *arguments: str | Path, folder: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gradscope", *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=folder,
        env=_environment(**environment),
        check=False,
        timeout=60,
    )


# the whole


def test_version() -> None:
    """`gradscope --version` says the version."""
    done = _gradscope("--version")
    assert (done.stdout, done.stderr, done.returncode) == (f"gradscope {__version__}\n", "", 0)


def test_without_a_command_the_help_is_shown_as_an_error() -> None:
    """`gradscope` alone lists the commands on stderr, with the exit code of a usage error."""
    done = _gradscope()
    assert (done.stdout, done.returncode) == ("", 2)
    for name in cli.commands():
        assert f"    {name}" in done.stderr


@pytest.mark.parametrize("name", cli.commands())
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` of every command says in a sentence what it does, and what each option means."""
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert cli.commands()[name].__doc__ in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "arguments", [["nope"], ["report", "--nope"], ["report", "-f", "xml"], ["dashboard", "--port", "x"]]
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command or option is said on stderr, exit code 2."""
    assert main(arguments) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "--nope"], "gradscope report: error: unrecognized arguments: --nope\n"),
        (["dashboard", "--port", "99999"], "argument --port: expected a whole number from 0 to 65,535, got 99999\n"),
        (["show", "--step", "x"], "argument --step: expected a whole number of 0 or more, got x\n"),
        (["show", "--step", "-1"], "argument --step: expected a whole number of 0 or more, got -1\n"),
        (["show", "--step", "²"], "argument --step: expected a whole number of 0 or more, got ²\n"),
        (["show", "--window", "51"], "argument --window: expected a whole number from 0 to 50, got 51\n"),
        (["trial", "--seeds", "0", "a.py"], "argument --seeds: expected a whole number from 1 to 20, got 0\n"),
        (["trial", "--jobs", "-1", "a.py"], "argument --jobs: expected a whole number of 1 or more, got -1\n"),
    ],
)
def test_wrong_usage_names_the_command_and_what_was_expected(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command's own usage stands above it."""
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"usage: gradscope {arguments[0]} ")
    assert told.endswith(said)


def test_an_error_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """What the user's names hold is spelled out."""
    assert main(["report", "no\x1b[31mrun"]) == 2
    assert "no run at no\\x1b[31mrun: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["report", "--nope", "--json"], "UsageError"),
        (["report", "-f", "json", "--nope"], "UsageError"),
        (["explain", "nothing", "--json"], "UnknownId"),
        (["fix", "no/such/run", "F1", "--json"], "RunNotFound"),
        (["trial", "--json", "no_such_script.py"], "ProgramNotFound"),
    ],
)
def test_an_error_has_the_envelope_of_every_document(
    arguments: list[str], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --json every command says its errors on stdout as one document, and in words on stderr."""
    assert main(arguments) == 2
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert (document["schema_version"], document["error"]["kind"]) == (1, kind)
    assert document["error"]["message"] in said.err


def test_an_error_of_gradscope_itself_is_exit_code_3(
    save_run: SaveRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was not raised on purpose keeps its traceback and is told from a user's mistake."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError("by hand")

    monkeypatch.setattr("gradscope.diagnosis.diagnose", fail)
    assert main(["report", str(save_run())]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert "ZeroDivisionError: by hand" in said.err
    assert said.err.endswith("this is an error of GradScope itself; please report it with the lines above.\n")


def test_ctrl_c_is_quiet(
    save_run: SaveRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C ends any command with 130 and without a traceback."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gradscope.diagnosis.diagnose", interrupt)
    assert main(["report", str(save_run())]) == 130
    assert capsys.readouterr() == ("", "")


# report


def test_report_begins_with_the_verdict(save_run: SaveRun) -> None:
    """`gradscope report RUN` prints the report on stdout, nothing on stderr, exit code 0 whatever was found."""
    done = _gradscope("report", save_run())
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.split(" ")[0] in "▲■●✓"
    assert "\nRun by-hand: Sequential; 8 steps" in done.stdout
    assert "\x1b" not in done.stdout


def test_report_finds_the_newest_run(save_run: SaveRun) -> None:
    """A folder of runs, `runs/latest` and no argument at all lead to a run; the report names it as short as can be."""
    folder = save_run(name="runs/one")
    (folder.parent / "latest").symlink_to("one")
    for typed in ([], ["runs"], ["runs/"], ["runs/latest"], ["runs/one"]):
        done = _gradscope("report", *typed, folder=folder.parent.parent)
        assert done.stdout.splitlines()[-1] == "Next:  gradscope dashboard runs/one"


def test_report_as_json_is_one_document(save_run: SaveRun) -> None:
    """`-f json` prints one JSON document and nothing else."""
    folder = save_run()
    content = json.loads(_gradscope("report", folder, "-f", "json").stdout)
    assert (content["schema_version"], content["run"]["folder"]) == (1, str(folder))


def test_report_to_a_file(save_run: SaveRun, tmp_path: Path) -> None:
    """`-o FILE` writes UTF-8 without colour to the file, whatever the terminal; stdout stays empty."""
    file = tmp_path / "report.txt"
    done = _gradscope("report", save_run(), "-o", file, PYTHONIOENCODING="ascii", FORCE_COLOR="1")
    assert (done.stdout, done.stderr, done.returncode) == ("", f"written to {file}\n", 0)
    assert file.read_text(encoding="utf-8") == _gradscope("report", tmp_path / "run").stdout


def test_a_report_that_cannot_be_written_is_said(save_run: SaveRun) -> None:
    """A file that cannot be written is named, with the reason, exit code 2."""
    done = _gradscope("report", save_run(), "-o", "/proc/none/report")
    assert done.stderr == (
        "gradscope: cannot write the report to /proc/none/report: No such file or directory. Give -o another file.\n"
    )
    assert done.returncode == 2


def test_a_missing_run_is_said_without_a_traceback(tmp_path: Path) -> None:
    """An expected failure is one line on stderr that says what to do, exit code 2."""
    done = _gradscope("report", "nowhere", folder=tmp_path)
    assert (done.stdout, done.returncode) == ("", 2)
    assert done.stderr == (
        "gradscope: no run at nowhere: there is no such folder. Runs are in `runs/` unless run_dir= says else.\n"
    )


def test_json_has_its_errors_in_the_same_envelope(tmp_path: Path) -> None:
    """A program that asked for JSON gets JSON when the run cannot be read, and the exit code 2."""
    done = _gradscope("report", tmp_path, "-f", "json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["kind"] == "NotARun"
    assert done.stderr.startswith(f"gradscope: {tmp_path} is neither a GradScope run")


def test_report_in_ascii_where_the_stream_is(save_run: SaveRun) -> None:
    """A stream that is not UTF-8 gets ASCII."""
    done = _gradscope("report", save_run(), PYTHONIOENCODING="ascii")
    assert done.stdout.isascii()
    assert done.stdout.startswith("[")
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ([], {}, False),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
        ([], {"FORCE_COLOR": "1"}, True),
        (["--color", "never"], {"FORCE_COLOR": "1"}, False),
    ],
)
def test_colour_is_asked_for(
    arguments: list[str], environment: dict[str, str], expected: bool, save_run: SaveRun
) -> None:
    """A pipe gets colour only when it was asked for."""
    done = _gradscope("report", save_run(), *arguments, **environment)
    assert ("\x1b[" in done.stdout) is expected


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
@pytest.mark.parametrize(
    ("environment", "expected"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_a_terminal_gets_colour(environment: dict[str, str], expected: bool, save_run: SaveRun) -> None:
    """In a real (pseudo) terminal the report is coloured, unless NO_COLOR or TERM=dumb say no."""
    import pty

    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "gradscope", "report", str(save_run())],
        stdout=theirs,
        env=_environment(**{"TERM": "xterm", **environment}),
    ):
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # how a pseudo-terminal says that the other side is gone
            pass
    os.close(ours)
    assert (b"\x1b[1" in shown) is expected
    assert b"by-hand" in shown


@pytest.mark.parametrize("arguments", [["report"], ["report", "-f", "json"]])
def test_a_reader_that_went_away_is_no_error(arguments: list[str], save_run: SaveRun) -> None:
    """`gradscope report RUN | head -1` prints no traceback."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "gradscope", *arguments, str(save_run())]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=_environment(), check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_report_starts_without_torch_and_dash(save_run: SaveRun) -> None:
    """Reading a run needs neither torch nor Dash nor, where it is installed, pandas: the report is there at once."""
    program = (
        "import sys\nfrom gradscope.cli import main\n"
        f"code = main(['report', {str(save_run())!r}])\n"
        "slow = {'torch', 'dash', 'plotly', 'flask', 'sklearn', 'pandas', 'pyarrow.compute'} & set(sys.modules)\n"
        "print(code, *sorted(slow), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "0"


LIBRARIES = "import numpy, pyarrow, rich.console, rich.table"  # without which no report can be
THEY_TOOK = 0.16  # seconds, where the limit was set; it grows with a slower machine


@pytest.mark.alone
@pytest.mark.parametrize("arguments", [["--help"], ["report"]])
def test_the_command_line_starts_at_once(arguments: list[str], save_run: SaveRun) -> None:
    """The help and a report are there in 0.4 s: the fastest of ten, beside the libraries alone, in turns."""

    def seconds(*command: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
        return time.perf_counter() - started

    run = [str(save_run())] if arguments == ["report"] else []
    turns = [(seconds("-c", LIBRARIES), seconds("-m", "gradscope", *arguments, *run)) for _ in range(10)]
    libraries, taken = map(min, zip(*turns, strict=True))
    assert taken < 0.4 * max(1.0, libraries / THEY_TOOK)


def test_help_imports_nothing_slow() -> None:
    """The command line itself imports no numpy, no rich and no pyarrow: help is there at once."""
    program = (
        "import sys\nfrom gradscope.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "print(*sorted({'numpy', 'rich', 'pyarrow', 'torch', 'dash'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


# dashboard


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_dashboard_prints_its_address_serves_and_stops(stop: signal.Signals, save_run: SaveRun) -> None:
    """`gradscope dashboard RUN --port 0` prints one line, the address, at once; Ctrl-C ends it quietly with 130."""
    command = [sys.executable, "-m", "gradscope", "dashboard", str(save_run()), "--port", "0"]
    environment = {name: value for name, value in _environment().items() if name != "PYTHONWARNINGS"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        try:
            with urllib.request.urlopen(address, timeout=20) as answer:
                assert answer.status == 200
        finally:
            process.send_signal(stop)
            rest, errors = process.communicate(timeout=20)
    assert address.startswith("http://127.0.0.1:")
    assert (rest, errors) == ("", "")
    assert process.returncode == (130 if stop == signal.SIGINT else -signal.SIGTERM)


def test_dashboard_says_what_it_cannot_show(tmp_path: Path) -> None:
    """A run that is not there ends the command before anything is served."""
    done = _gradscope("dashboard", tmp_path / "none", PYTHONWARNINGS="default")
    assert (done.stdout, done.returncode) == ("", 2)
    assert done.stderr.startswith("gradscope: ")
    assert "Traceback" not in done.stderr


# explain, rules


def test_an_unknown_id_comes_with_a_hint() -> None:
    """A typing error is answered with the id that was meant, and with all there are."""
    known = ["vanishing-gradient", "dead-units"]
    assert unknown("rule", "Vanishing_Gradients", known) == (
        "no rule is called 'Vanishing_Gradients'; did you mean vanishing-gradient? "
        "There are: dead-units, vanishing-gradient."
    )
    assert unknown("rule", "zzz", known) == "no rule is called 'zzz'. There are: dead-units, vanishing-gradient."


def test_every_rule_is_listed_and_has_a_page() -> None:
    """`gradscope rules` lists every rule with its summary, and `gradscope explain` prints the page of each."""
    from gradscope.catalogue import rules

    table = " ".join(_gradscope("rules").stdout.split())
    for name, rule in rules().items():
        assert f"{name} {' '.join(rule.summary.split())}" in table
    name = next(iter(rules()))
    page = _gradscope("explain", name).stdout
    assert page.split() == rules()[name].page().split()
    assert max(map(len, page.splitlines())) <= 80
    assert _gradscope("explain", name, PYTHONIOENCODING="ascii").stdout.isascii()


def test_every_remedy_has_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    """`gradscope explain` prints a remedy's page too: what it does, what it works against, and its sources."""
    from gradscope.catalogue import remedies, rules

    assert not set(remedies()) & set(rules())
    for name, remedy in remedies().items():
        assert main(["explain", name]) == 0
        said = capsys.readouterr().out
        assert said.split() == remedy.page().split()
        assert all(cause in said for cause in remedy.cures)


def test_rules_and_pages_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json both are documents with the same words."""
    from gradscope.catalogue import rules

    assert main(["rules", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["rules"]
    assert {each["id"]: each["summary"] for each in listed} == {name: rule.summary for name, rule in rules().items()}
    assert main(["explain", "dead-units", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["id"], document["kind"]) == ("dead-units", "rule")
    assert document["page"] == rules()["dead-units"].page()


def test_explaining_what_is_not_there_is_an_error() -> None:
    """An unknown id is exit code 2, with a hint."""
    done = _gradscope("explain", "vanishing-gradeint")
    assert (done.stdout, done.returncode) == ("", 2)
    assert done.stderr.startswith(
        "gradscope: no rule or remedy is called 'vanishing-gradeint'; did you mean vanishing-gradient? There are: "
    )


# demo

DEMOS = {  # the leading finding, its first cause, and what its loss is at most after the cure
    "adam": ("learning-rate-too-low", "learning-rate-too-low", 1.0),
    "batch_norm": ("normalization-fault", "dead-path", 1.5),
    "binary_cross_entropy": ("output-loss-mismatch", "output-activation", 0.3),
    "cross_entropy": ("output-loss-mismatch", "output-activation", 1.0),
    "dropout": ("dropout-fault", "dead-path", 1.0),
    "exploding_gradient": ("exploding-gradient", "init-too-large", 1.0),
    "focal_loss": ("output-loss-mismatch", "loss-mismatch", 1.0),
    "group_norm": ("normalization-fault", "dead-path", 1.0),
    "layer_norm": ("normalization-fault", "post-norm-without-warmup", 2.0),
    "similarity_loss": ("exploding-gradient", "learning-rate-too-high", 4.5),
    "skip_connection": ("vanishing-gradient", "init-too-small", 1.0),
    "squared_error": ("unscaled-data", "unscaled-target", 1.0),
    "triplet_loss": ("exploding-gradient", "learning-rate-too-high", 0.4),
    "vanishing_gradient": ("vanishing-gradient", "activation-contracts", 1.0),
}
SERVER = multiprocessing.get_context("forkserver")  # a process of its own for each command, in which torch is there
SERVER.set_forkserver_preload(["gradscope.cli", "sklearn.datasets", "torch._dynamo"])


def _main(arguments: list[str], folder: Path, said: Path) -> None:
    os.chdir(folder)
    with said.open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        warnings.simplefilter("error")
        code = main(arguments)
    sys.exit(code)


def _quickly(*arguments: str, folder: Path) -> str:
    """What a command prints, where it ends with 0."""
    said = folder / "said"
    process = SERVER.Process(target=_main, args=(list(arguments), folder, said))
    process.start()
    process.join(120)
    assert process.exitcode == 0, said.read_text(encoding="utf-8")
    return said.read_text(encoding="utf-8")


def _loss(said: str) -> float:
    return float(next(line.split()[1] for line in said.splitlines() if line.startswith("loss ")))


def test_every_demo_has_its_finding() -> None:
    """No demo is forgotten."""
    assert {*DEMOS, "healthy"} == set(demos())


@pytest.mark.parametrize("name", DEMOS)
def test_every_demo_is_sick_as_it_says_and_its_fix_cures_it(name: str, tmp_path: Path) -> None:
    """Each demo trains without a warning and has the finding and cause it is there for; its fix makes it well."""
    script = Path(shutil.copy(demos()[name], tmp_path))
    rule, cause, most = DEMOS[name]
    sick = _loss(_quickly("run", "--run-dir", "sick", script.name, folder=tmp_path))
    diagnosis = diagnose(read_run(tmp_path / "sick"))
    leading = diagnosis.findings[0]
    assert (leading.rule, leading.causes[0].id) == (rule, cause)
    assert [finding.rule for finding in diagnosis.findings if finding.severity == "error" and not finding.follows] in (
        [],
        [rule],
        [rule, "non-finite"],
        [rule, "learning-rate-too-high"],
    )
    remedy = ("--remedy", CURES[name]) if name in CURES else ()
    _quickly("fix", "sick", "F1", *remedy, "--apply", folder=tmp_path)
    well = _loss(_quickly("run", "--run-dir", "well", script.name, folder=tmp_path))
    assert diagnose(read_run(tmp_path / "well")).verdict == "healthy"
    assert well <= most
    assert not sick <= most or name == "focal_loss"  # whose loss is another one afterwards


def test_the_healthy_demo_is_healthy(tmp_path: Path) -> None:
    """GradScope has nothing to say of it, and the story ends with that."""
    done = _gradscope("demo", "healthy", "--no-dashboard", folder=tmp_path)
    assert (done.returncode, "healthy: No sickness found" in done.stderr) == (0, True)
    assert done.stdout.endswith("\n# Nothing is sick, so there is nothing to cure.\n")


def test_the_story_of_a_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Training, report, trial, fix and the training again: each command as it can be typed, with what it does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gradscope.cli.demo.SEEDS", 1)
    monkeypatch.setattr("gradscope.cli.demo.STEPS", 20)
    assert main(["demo", "dropout", "--no-dashboard"]) == 0
    said = capfd.readouterr().out
    folder = tmp_path / "gradscope-demo" / "dropout"
    sick = sorted(path.name for path in (folder / "runs").iterdir() if not path.is_symlink())[0]
    assert [line for line in said.splitlines() if line.startswith("$ ")] == [
        "$ gradscope run dropout.py",
        "$ gradscope report",
        f"$ gradscope trial --run runs/{sick} --seeds 1 --steps 20 --jobs {os.cpu_count()} dropout.py",
        f"$ gradscope fix runs/{sick} F1",
        f"$ gradscope fix runs/{sick} F1 --apply",
        "$ gradscope run dropout.py",
    ]
    assert "-    layers += [nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.95)]" in said
    assert said.endswith("\n# The training was unhealthy. It is healthy now.\n")
    assert [event.kind for event in read_run(folder / "runs" / sick).events].count("trial") == 1


@pytest.fixture
def demo_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A demo that trains nothing, in the place of the real ones."""
    script = tmp_path / "quick.py"
    script.write_text("print('nothing')")
    monkeypatch.setattr("gradscope.cli.demo.demos", lambda: {"quick": script})
    monkeypatch.chdir(tmp_path)
    return script


def test_demo_serves_the_runs_that_it_made(demo_script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the story, the dashboard shows its runs, at the port that was asked for."""
    served: list[object] = []
    monkeypatch.setattr("gradscope.cli.demo._story", lambda script, tried: 0)
    monkeypatch.setattr("gradscope.dashboard.serve", lambda *arguments: served.extend(arguments))
    assert main(["demo", "quick", "--port", "1234"]) == 130
    assert served[:3] == [Path("gradscope-demo/quick/runs"), "127.0.0.1", 1234]


def test_a_command_that_fails_ends_the_story(demo_script: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its exit code is the story's, and nothing is served."""
    demo_script.write_text("raise SystemExit(7)")
    assert main(["demo", "quick"]) == 7
    assert [line for line in capfd.readouterr().out.splitlines() if line.startswith("$ ")] == [
        "$ gradscope run quick.py"
    ]


def test_ctrl_c_in_the_trial_goes_on_without_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The exit code of an interrupted trial is no failure of the story; any other is."""
    monkeypatch.setattr("gradscope.cli.demo._candidates", lambda folder: 3)
    for code, expected in ((130, 0), (0, 0), (2, 2)):
        monkeypatch.setattr("gradscope.cli.demo._type", lambda *words, code=code: code)
        assert demo._try(tmp_path / "train.py", "sick", 4.0) == expected


def test_demo_without_its_data_says_what_to_install(
    demo_script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without scikit-learn the demo says how to get it."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert main(["demo", "quick", "--no-dashboard"]) == 2
    assert capsys.readouterr().err == (
        "gradscope: the demo needs scikit-learn for its data, and it is not installed. "
        "Install it with `pip install 'torch-gradscope[demo]'`.\n"
    )


def test_an_unknown_demo_is_said(demo_script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The demos that there are are listed."""
    assert main(["demo", "quik"]) == 2
    assert capsys.readouterr().err == "gradscope: no demo is called 'quik'; did you mean quick? There are: quick.\n"


# completion


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_commands_options_and_choices(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What bash offers after `gradscope` are the commands, after a command its options, after an option its choices."""
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion"
    script.write_text(capsys.readouterr().out)

    def offered(*words: str) -> set[str]:
        program = (
            f"source {script}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
            '_shtab_gradscope; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    assert offered("gradscope", "''") >= set(cli.commands())
    assert offered("gradscope", "rep") == {"report"}
    assert offered("gradscope", "report", "--") >= {"--format", "--json", "--output", "--color"}
    assert offered("gradscope", "report", "--color", "''") == {"auto", "always", "never"}


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_get_all_commands_too(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The script of each shell names every command."""
    assert main(["completion", shell]) == 0
    said = capsys.readouterr().out
    assert [name for name in cli.commands() if name not in said] == []
