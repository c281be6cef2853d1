"""Trials as they are: real programs, each run a real process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

import gradscope
from gradscope.errors import NothingToTry, ProgramError, ProgramNotFound
from gradscope.store import list_runs, read_run
from gradscope.trials.child import main as start_child
from gradscope.trials.experiment import Options
from gradscope.trials.job import NO_CHANGE, REPEAT, Job, Result, Treatment
from gradscope.trials.notes import notes
from gradscope.trials.processes import Limits, run_child
from gradscope.trials.start import try_program
from tests.forking import forked

SIGMOIDS = """
import sys
import torch
from torch import nn

def main():
    torch.manual_seed(0)
    chain = [layer for _ in range(10) for layer in (nn.Linear(16, 16), nn.Sigmoid())]
    model = nn.Sequential(*chain, nn.Linear(16, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=float(sys.argv[sys.argv.index("--lr") + 1]))
    data = torch.randn(128, 16)
    labels = data[:, :4].argmax(1)
    for _ in range(100):
        loss = nn.functional.cross_entropy(model(data), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

if __name__ == "__main__":
    main()
"""
LINEAR = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr={rate})
data = torch.randn(64, 8)
for step in range({steps}):
    {before}
    loss = (model(data) - data.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
TWO = """
import torch
torch.manual_seed(0)
one, two = torch.nn.Linear(4, 1), torch.nn.Sequential(torch.nn.Linear(4, 1))
optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (one, two)]
data = torch.randn(16, 4)
for _ in range(30):
    for model, optimizer in zip((one, two), optimizers):
        loss = (model(data) - data.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


def _program(folder: Path, rate: float = 0.05, steps: int = 100, before: str = "pass") -> Path:
    file = folder / "train.py"
    file.write_text(LINEAR.format(rate=rate, steps=steps, before=before))
    return file


def _job(folder: Path, arm: str = NO_CHANGE, **fields: object) -> Job:
    job = Job(arm, 0, 20, str(folder), str(folder / "child"), ("train.py",), directory=str(folder), threads=1)
    return replace(job, **fields)  # type: ignore[arg-type]


def _ran(job: Job, limits: Limits | None = None) -> Result:
    """Runs a job; without limits in a fork, where the child does its own work without what a process costs."""
    if limits is not None:
        return run_child(job, limits, threading.Event())
    job.save()

    def child() -> int:
        sys.argv[:] = ["child", str(job.job_file)]
        start_child()
        return 1

    forked(child, Path(job.folder))
    return Result.from_json(job.answer_file.read_text())


def _gradscope(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gradscope", *arguments],
        capture_output=True, text=True, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False, timeout=120,
    )  # fmt: skip


# the whole


def test_a_cure_of_a_script_is_measured_stored_and_shown(tmp_path: Path) -> None:
    """The suggested cure of a sick script is tried beside both controls; report and JSON show what it did."""
    (tmp_path / "train.py").write_text(SIGMOIDS)
    typed = ("trial", "--steps", "20", "--seeds", "2", "--jobs", "2", "--remedy", "skip-connection")
    done = _gradscope(tmp_path, *typed, "-f", "json", "train.py", "--lr", "0.5")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    (outcome,) = content["outcomes"]
    assert (outcome["rule"], outcome["remedies"]) == ("vanishing-gradient", ["skip-connection"])
    assert (outcome["effect"], outcome["gone"], outcome["gone_no_change"]) == ("helped", 2, 0)
    assert outcome["outcome"].startswith("sickness gone in 2 of 2; loss after 20 steps ")
    assert outcome["outcome"].endswith("; p = 0.25")
    assert outcome["loss"] < 0.9 * outcome["no_change"]
    assert outcome["changes"]
    assert len(outcome["curves"]["no change"]) == 20
    assert outcome["command"] == ("gradscope trial --steps 20 --seeds 2 --remedy skip-connection train.py --lr 0.5")
    assert any(note.startswith("With 2 seeds p cannot be below 0.25") for note in content["notes"])
    assert (content["done"], content["planned"]) == (7, 7)
    assert "gradscope: 1 of 1  no change, seed 0: done after " in done.stderr
    assert "gradscope: 7 of 7  " in done.stderr

    (run,) = list_runs(tmp_path / "runs")  # the training without a change, and nothing of the others
    assert [event.kind for event in read_run(run).events if event.kind == "trial"] == ["trial"]
    trial_folder = Path(run) / "trials" / "1"
    assert not (trial_folder / "runs").exists()
    assert len(json.loads((trial_folder / "results.json").read_text())["runs"]) == 7
    first = json.loads(_gradscope(tmp_path, "report", "-f", "json").stdout)["findings"][0]["suggestions"][0]
    assert (first["remedy"], first["basis"], first["effect"]) == ("skip-connection", "measured", "helped")
    assert first["trial"]["outcome"] == outcome["outcome"]


def test_a_callable_is_tried(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A local function that builds and trains; what it closes over goes with it."""
    rate = 1.9

    def train() -> None:
        torch.manual_seed(0)
        model = torch.nn.Linear(8, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        data = torch.randn(64, 8)
        for _ in range(30):
            loss = (model(data) - data.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    report = gradscope.trial(
        train, steps=15, seeds=1, remedies=["lower-learning-rate"], jobs=2, run_dir=tmp_path / "run"
    )
    (outcome,) = report.outcomes
    assert outcome.sentence.startswith("sickness gone in 1 of 1; loss after 15 steps ")
    assert outcome.loss < outcome.loss_no_change
    assert "With one seed p cannot be below 0.5" in str(report)
    assert outcome.changes[0].startswith("every step takes ")
    assert "seed 0: done after" in capfd.readouterr().err


def test_a_healthy_training_needs_no_cure(tmp_path: Path) -> None:
    """That is said, with exit code 0, after one run."""
    _program(tmp_path)
    done = _gradscope(tmp_path, "trial", "--steps", "30", "train.py")
    said = " ".join(done.stdout.split())
    assert done.returncode == 0
    assert said.startswith("No sickness found in 30 steps.")
    assert "There is nothing to try." in said
    assert len(list_runs(tmp_path / "runs")) == 1


def test_a_program_that_crashes_by_itself_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    """Nothing can be compared with it: exit code 2, and the log's last lines."""
    _program(tmp_path, before="if step == 3: raise ValueError('no such file: data.csv')")
    done = _gradscope(tmp_path, "trial", "--steps", "20", "train.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert "the training without a change did not get through its first 20 steps (crashed" in done.stderr
    assert "ValueError: no such file: data.csv" in done.stderr


def test_a_program_that_trains_nothing_is_an_error(tmp_path: Path) -> None:
    """No torch model in this process: said, with what a trial needs."""
    (tmp_path / "train.py").write_text("print('nothing')")
    done = _gradscope(tmp_path, "trial", "train.py")
    assert done.returncode == 2
    assert "no training was seen in train: " in done.stderr


def test_what_cannot_be_run_is_refused_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing script, no script, and what is no callable."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProgramNotFound, match=r"cannot open the script nope\.py: there is no such file in "):
        try_program(["nope.py"], Options())
    with pytest.raises(NothingToTry, match="nothing to try: name a script, `-m` and a module, or with --run a run"):
        try_program([], Options())
    with pytest.raises(ProgramError, match=r"trial\(\) expected something to call that trains; it got str\."):
        gradscope.trial("train.py")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    """The children end, what was measured is reported and stored, and the exit code is 130."""
    _program(tmp_path, rate=1.9, before="import time; time.sleep(0.02)")
    process = subprocess.Popen(
        [sys.executable, "-m", "gradscope", "trial", "--steps", "15", "--seeds", "5", "--jobs", "2",
         "--remedy", "lower-learning-rate", "train.py"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("gradscope: 4 of "):
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, "".join(said) + err
    assert "interrupted: what is done is kept" in err
    assert "Interrupted: 4 of 16 runs are done." in " ".join(out.split())
    assert "Sickness gone in 1 of 1" in out
    (run,) = list_runs(tmp_path / "runs")
    assert [event.data["seeds"] for event in read_run(run).events if event.kind == "trial"] == [1]
    assert not (Path(run) / "trials" / "1" / "runs").exists()


# one child


def test_a_run_ends_at_its_last_step(tmp_path: Path) -> None:
    """Exactly so many losses, the same ones as without us, and what the program would have done next is not done."""
    _program(tmp_path, before="print(step, flush=True)")
    result = _ran(_job(tmp_path))
    (course,) = result.courses
    assert (result.state, len(course.losses), course.model) == ("done", 20, "Linear")
    assert course.step_seconds > 0
    assert (tmp_path / "child.out").read_text().split()[-1] == "19"
    torch.manual_seed(0)
    model, data = torch.nn.Linear(8, 1), torch.randn(64, 8)
    assert course.losses[0] == (model(data) - data.sum(1, keepdim=True)).square().mean().item()


def test_of_several_models_the_sick_one_is_treated(tmp_path: Path) -> None:
    """Each model has its course, numbered as they begin to train; only the one whose number is given is changed."""
    (tmp_path / "train.py").write_text(TWO)
    treated = (Treatment("lower-learning-rate", {"factor": 0.5}),)
    first, second = _ran(_job(tmp_path, "x", treatments=treated, model=1, steps=10)).courses
    assert (first.model, second.model) == ("Linear", "Sequential")
    assert (first.run, second.run) == (str(tmp_path / "child"), str(tmp_path / "child-2"))
    rates = [read_run(Path(course.run)).learning_rates[-1].tolist() for course in (first, second)]
    assert len(second.losses) == 10
    assert _ran(_job(tmp_path, "y", run=str(tmp_path / "other"), model=1, steps=10)).courses[0].losses == first.losses
    assert rates[0] == [0.1]


def test_a_treatment_that_diverges_is_stopped_and_says_when(tmp_path: Path) -> None:
    """The run ends a few steps after the loss is lost."""
    _program(tmp_path, rate=1e6, steps=5000)
    result = _ran(_job(tmp_path, steps=400))
    (course,) = result.courses
    assert (result.state, course.diverged_at is not None) == ("diverged", True)
    assert len(course.losses) < 100


def test_a_program_that_ends_by_itself_is_fine(tmp_path: Path) -> None:
    """It ended early, and its losses count."""
    _program(tmp_path, steps=7)
    result = _ran(_job(tmp_path))
    assert (result.state, len(result.courses[0].losses)) == ("ended early", 7)


def test_a_crash_of_a_candidate_is_a_result(tmp_path: Path) -> None:
    """The last line of its traceback says why."""
    deeper = "model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))"
    text = LINEAR.replace("model = torch.nn.Linear(8, 1)", deeper)
    strict = "assert len(list(model.parameters())) == 4, 'more parameters than there were'"
    (tmp_path / "train.py").write_text(text.format(rate=0.05, steps=100, before=strict))
    result = _ran(_job(tmp_path, "batch-norm", treatments=(Treatment("batch-norm", {}),)))
    assert (result.state, result.why) == ("crashed", "AssertionError: more parameters than there were")


def test_what_cannot_be_applied_says_why(tmp_path: Path) -> None:
    """A remedy that has nothing to act on: not applicable, before the first step."""
    _program(tmp_path)
    result = _ran(_job(tmp_path, "activation-swap", treatments=(Treatment("activation-swap", {}),)))
    assert (result.state, result.why[:28]) == ("not applicable", "its hidden activations are c")


def test_a_program_without_an_end_meets_its_limit(tmp_path: Path) -> None:
    """Its time is bounded, and nothing that it started is left."""
    _program(tmp_path, before="import subprocess, time; subprocess.Popen(['sleep', '600']); time.sleep(600)")
    started = time.monotonic()
    result = _ran(_job(tmp_path), Limits(seconds=4.0))
    assert (result.state, result.why) == ("out of time", "stopped after 4 s, its limit")
    assert time.monotonic() - started < 10


def test_a_program_that_takes_all_memory_meets_its_limit(tmp_path: Path) -> None:
    """It is ended beyond its limit, and both are said."""
    _program(tmp_path, before="hoard = locals().get('hoard', []); hoard.append(bytearray(b'x' * 2**28))")
    result = _ran(_job(tmp_path, steps=100), Limits(memory=900 * 2**20))
    assert result.state == "out of memory"
    assert "its limit was 900 MiB" in result.why


def test_a_program_that_does_not_repeat_itself_is_recognised(tmp_path: Path) -> None:
    """Noise from the clock: two runs of one seed differ, and that is said."""
    _program(tmp_path, before="import time; data = data * (1 + 1e-4 * (time.perf_counter_ns() % 1000))")
    first, second = (_ran(_job(tmp_path, arm, run=str(tmp_path / arm), steps=5)) for arm in (NO_CHANGE, REPEAT))
    (said, *_) = notes({(NO_CHANGE, 0): first, (REPEAT, 0): second}, [], 1, 5, 0)
    assert said.startswith("The program does not repeat itself: two runs without a change, of the same seed, differ")


def test_a_child_whose_parent_is_gone_ends(tmp_path: Path) -> None:
    """Even kill -9 of the trial leaves no training behind."""
    _program(tmp_path, before="import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)")
    _job(tmp_path).save()
    code = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-m', 'gradscope.trials.child', sys.argv[1]], start_new_session=True)\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(_job(tmp_path).job_file)], cwd=tmp_path)
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    child = int((tmp_path / "pid").read_text())
    while _is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _is_alive(process: int) -> bool:
    import psutil

    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# what a program may do


def test_a_program_that_builds_its_optimizer_anew(tmp_path: Path) -> None:
    """That begins another training: the program is stopped where the steps are over all the same, and it is said."""
    anew = "optimizer = torch.optim.SGD(model.parameters(), lr=0.05) if step % 8 == 0 else optimizer"
    _program(tmp_path, steps=100000, before=f"{anew}; print(step, flush=True)")
    for model, most in ((None, 50), (0, 25)):  # at first nobody knows which model will be treated
        result = _ran(_job(tmp_path, model=model, run=str(tmp_path / f"run-{model}")))
        assert (result.state, len(result.courses[0].losses)) == ("ended early", 8)
        assert result.why == "another optimizer or model took its place, which begins another training"
        assert int((tmp_path / "child.out").read_text().split()[-1]) < most


def test_a_remedy_that_meets_what_it_cannot_act_on(tmp_path: Path) -> None:
    """In the first forward it sees numbers of words, which have no scale: not applicable, not a crash."""
    text = LINEAR.replace("torch.nn.Linear(8, 1)", "torch.nn.Sequential(torch.nn.Embedding(9, 1), torch.nn.Flatten(1))")
    text = text.replace("torch.randn(64, 8)", "torch.randint(0, 9, (64, 8))")
    (tmp_path / "train.py").write_text(text.format(rate=0.05, steps=100, before="pass"))
    result = _ran(_job(tmp_path, "x", treatments=(Treatment("standardize-inputs"),)))
    assert (result.state, result.why.startswith("the model is fed no tensor of floating-point")) == (
        "not applicable",
        True,
    )


def test_a_program_that_closes_stdout_is_stopped_too(tmp_path: Path) -> None:
    """Its streams are its own affair: it ends at its last step, and what it has started, in any session, ends with it."""
    code = "import subprocess; p = p if step else subprocess.Popen(['sleep', '60'], start_new_session=True)"
    _program(tmp_path, steps=100000, before=f"{code}; open('pid', 'w').write(str(p.pid)); sys.stdout.close()")
    file = tmp_path / "train.py"
    file.write_text(f"import sys\np = None\n{file.read_text()}")
    result = _ran(_job(tmp_path))
    assert (result.state, len(result.courses[0].losses)) == ("done", 20)
    deadline = time.monotonic() + 5
    while psutil.pid_exists(started := int((tmp_path / "pid").read_text())) and _alive(started):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(process: int) -> bool:
    return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
