"""`gradscope run`: scripts by other people's conventions, unchanged, are what they are under `python`, and are watched."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from gradscope.cli import main
from gradscope.records import Run
from gradscope.store import read_run
from tests.forking import by_python, by_us

SCRIPTS = Path(__file__).parent / "scripts"
WATCHED = ("-m", "gradscope", "run")


@dataclass
class Ran:
    """A script that was run by `python` and by `gradscope run`, and what was recorded of it."""

    script: Path
    plain: subprocess.CompletedProcess[str]
    watched: subprocess.CompletedProcess[str]
    runs: list[Run]

    def line(self, text: str, number: int = 0) -> int:
        """The number of the line that contains a text."""
        return [at for at, line in enumerate(self.script.read_text().splitlines(), 1) if text in line][number]

    def places(self, run: Run) -> dict[str, list[int]]:
        """The lines that are known, by what they are."""
        found: dict[str, list[int]] = {}
        for place in run.info.places:
            assert place.file == str(self.script)
            lines = found.setdefault(place.what, [])
            if place.line not in lines:
                lines.append(place.line)
        return found


def environment(**more: str) -> dict[str, str]:
    """That of a child: one thread, nothing written beside the scripts."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **more}


def start(*command: object, folder: Path, **more: str) -> subprocess.Popen[str]:
    """Starts Python in a folder."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment(**more),
    )


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Waits for its end."""
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def recorded(stderr: str, folder: Path) -> list[Run]:
    """The runs that stderr speaks of, in that order."""
    return [read_run(folder / found) for found in re.findall(r"recording to (\S+)", stderr)]


RunBoth = Callable[..., Ran]


@pytest.fixture
def run_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunBoth:
    """Runs a script of `tests/scripts` both ways, in forks of this process, or in processes of their `own`."""

    def run(
        script: str, *arguments: str, ours: Sequence[str] = ("--every", "1"), own: bool = False, **more: str
    ) -> Ran:
        file = SCRIPTS / script
        if not own:
            for name, value in more.items():
                monkeypatch.setenv(name, value)
            pair = by_python(file, arguments, tmp_path), by_us(["run", *ours, str(file), *arguments], tmp_path)
            return Ran(file, *pair, recorded(pair[1].stderr, tmp_path))
        plain = start(file, *arguments, folder=tmp_path, **more)
        watched = start(*WATCHED, *ours, file, *arguments, folder=tmp_path, **more)
        done = ended(plain), ended(watched)
        return Ran(file, *done, recorded(done[1].stderr, tmp_path))

    return run


def same(ran: Ran) -> None:
    """Not a bit of what the script says is changed: its losses, its weights, its random numbers, its exit code."""
    assert ran.plain.stdout == ran.watched.stdout, ran.watched.stderr
    assert ran.plain.returncode == ran.watched.returncode, ran.watched.stderr
    assert re.search(r"\b[0-9a-f]{64}$", ran.plain.stdout.strip()) or ran.plain.returncode


def losses(run: Run) -> list[float]:
    """Of every step."""
    assert run.steps["has_loss"].all()
    return [float(loss) for loss in run.steps["loss"]]


def printed(ran: Ran, pattern: str) -> list[float]:
    """The numbers that a pattern finds in what the script said."""
    return [float(number) for number in re.findall(pattern, ran.plain.stdout, flags=re.MULTILINE)]


def test_a_plain_loop(run_both: RunBoth) -> None:
    """A loop at module level: its model, optimizer, loss and lines are found, nothing is changed."""
    ran = run_both("plain_loop.py", own=True)
    same(ran)
    (run,) = ran.runs
    assert (run.info.model, [each.kind for each in run.info.optimizers]) == ("Sequential", ["SGD"])
    assert losses(run) == pytest.approx(printed(ran, r"^\d+ (\S+)$"), rel=1e-6)
    assert run.steps["recorded"].all()
    assert run.steps["forwards"].tolist() == [1] * 12  # the pass in which it was found as well
    assert ran.places(run) == {
        "optimizer": [ran.line("optimizer = ")],
        "zero-grad": [ran.line("optimizer.zero_grad()")],
        "backward": [ran.line("loss.backward()")],
        "step": [ran.line("optimizer.step()")],
    }
    assert {(each.what, each.of) for each in run.info.places} >= {("optimizer", "SGD"), ("step", "SGD")}
    assert [(each.path, each.text) for each in run.info.sources] == [(str(ran.script), ran.script.read_text())]
    assert run.info.command == (str(ran.script),)
    assert run.info.script == str(ran.script)
    assert run.info.state == "ended"


def test_what_is_said_at_the_end(run_both: RunBoth, tmp_path: Path) -> None:
    """On stderr: where it is recorded, the verdict, and what to type next."""
    said = run_both("plain_loop.py").watched.stderr.splitlines()
    folder = re.fullmatch(r"gradscope: recording to (runs/\S+-Sequential)", said[0])
    assert folder
    assert said[1] == "gradscope: healthy: No sickness found in 12 steps."
    assert said[-1] == f"gradscope:   all of it:  gradscope report {folder[1]}"
    assert (tmp_path / folder[1]).is_dir()


def test_a_loop_in_functions(run_both: RunBoth) -> None:
    """A training in functions with validation between the epochs; the class of its model is placed."""
    ran = run_both("functions.py")
    same(ran)
    (run,) = ran.runs
    assert (run.info.model, len(run.steps)) == ("Net", 18)
    assert losses(run)[::2] == pytest.approx(printed(ran, r"loss (\S+)$"), rel=1e-6)
    assert ran.places(run) == {
        "class": [ran.line("class Net")],
        "optimizer": [ran.line("optim.Adadelta")],
        "zero-grad": [ran.line("optimizer.zero_grad()")],
        "backward": [ran.line("loss.backward()")],
        "step": [ran.line("optimizer.step()")],
    }


def test_a_script_with_arguments(run_both: RunBoth) -> None:
    """argparse, a guard and an atexit: what comes behind the script is the script's, even where we have such an option."""
    ran = run_both("arguments.py", "--lr", "0.3", "--every", "7", "-m", "0.5", "--", "--a file", "-x", own=True)
    assert (ran.plain.stdout, ran.plain.returncode) == (ran.watched.stdout, ran.watched.returncode)
    assert ran.plain.stdout.endswith("at exit\n")
    (run,) = ran.runs
    assert run.info.command[1:] == ("--lr", "0.3", "--every", "7", "-m", "0.5", "--", "--a file", "-x")
    assert run.info.settings["every"] == 1
    assert (run.info.criterion, run.info.optimizers[0].options["lr"]) == ("MSELoss", 0.3)
    assert ran.places(run)["zero-grad"] == [ran.line("model.zero_grad()")]


def test_a_lightning_trainer(run_both: RunBoth) -> None:
    """Lightning calls `training_step`, no module: the module around all that is optimized is watched."""
    pytest.importorskip("lightning")  # once, for both forks
    ran = run_both("lightning_trainer.py")
    same(ran)
    (run,) = ran.runs
    assert (run.info.model, len(run.steps), run.info.optimizers[0].kind) == ("AutoEncoder", 12, "AdamW")
    assert {"encoder.0", "decoder.2"} <= {site.path for site in run.info.sites if site.role == "output"}
    assert run.steps["forwards"].all()
    assert losses(run)[-1] == pytest.approx(printed(ran, r"^(\S+) \S+$")[0], rel=1e-6)
    assert ran.places(run) == {
        "class": [ran.line("class AutoEncoder")],
        "optimizer": [ran.line("torch.optim.AdamW")],
        "zero-grad": [ran.line("trainer.fit")],
        "backward": [ran.line("trainer.fit")],
        "step": [ran.line("trainer.fit")],
    }


def test_a_transformers_trainer(run_both: RunBoth) -> None:
    """A Transformers Trainer that accumulates two batches: a step's loss is what its gradients are of."""
    pytest.importorskip("transformers")  # once, for both forks
    ran = run_both("transformers_trainer.py")
    same(ran)
    (run,) = ran.runs
    assert (run.info.model, len(run.steps)) == ("GPT2LMHeadModel", 6)
    assert set(run.steps["backwards"].tolist()) == {2}
    assert np.mean(losses(run)) == pytest.approx(printed(ran, r"^(\d+\.\d+)$")[0], rel=1e-5)
    assert set(map(tuple, ran.places(run).values())) == {(ran.line("trainer.train()"),)}


def test_an_accelerate_loop(run_both: RunBoth) -> None:
    """Accelerate wraps the model, the optimizer and `backward`; lines are the user's all the same."""
    pytest.importorskip("accelerate")  # once, for both forks
    ran = run_both("accelerate_loop.py")
    same(ran)
    (run,) = ran.runs
    assert (run.info.model, len(run.steps)) == ("Sequential", 8)
    assert losses(run)
    assert ran.places(run) == {
        "optimizer": [ran.line("torch.optim.AdamW")],
        "zero-grad": [ran.line("optimizer.zero_grad()")],
        "backward": [ran.line("accelerator.backward(loss)")],
        "step": [ran.line("optimizer.step()")],
    }


def test_lbfgs(run_both: RunBoth) -> None:
    """An optimizer with a closure: the loss of a step is that of its first evaluation."""
    ran = run_both("lbfgs.py")
    same(ran)
    (run,) = ran.runs
    assert (run.info.model, run.info.optimizers[0].kind) == ("Sequence", "LBFGS")
    assert losses(run) == pytest.approx(printed(ran, r"^\d+ (\S+)$"), rel=1e-6)
    assert ran.places(run)["backward"] == [ran.line("loss.backward()")]
    assert ran.places(run)["step"] == [ran.line("optimizer.step(closure)")]


def test_a_gan(run_both: RunBoth) -> None:
    """Two models with an optimizer each are two runs; the generator's loss is not the discriminator's."""
    ran = run_both("gan.py")
    same(ran)
    discriminator, generator = ran.runs
    assert (discriminator.info.model, generator.info.model) == ("Discriminator", "Generator")
    assert (len(discriminator.steps), len(generator.steps)) == (15, 15)
    pairs = [tuple(map(float, line.split())) for line in ran.plain.stdout.splitlines()[:-1]]
    assert losses(discriminator) == pytest.approx([pair[0] for pair in pairs], rel=1e-5)
    assert losses(generator) == pytest.approx([pair[1] for pair in pairs], rel=1e-5)
    assert ran.places(generator)["backward"] == [ran.line("errG.backward")]
    assert ran.places(discriminator)["optimizer"] == [ran.line("optimizerD = ")]
    assert ran.places(generator)["zero-grad"] == [ran.line("netG.zero_grad()")]


def test_two_phases(run_both: RunBoth) -> None:
    """A new optimizer begins a new run: pretraining, finetuning, and the head alone."""
    ran = run_both("two_phases.py")
    same(ran)
    assert [run.info.model for run in ran.runs] == ["AE", "Classifier", "Classifier"]
    assert [len(run.steps) for run in ran.runs] == [8, 4, 2]
    assert [ran.places(run)["optimizer"] for run in ran.runs] == [
        [ran.line("torch.optim.Adam")],
        [ran.line("torch.optim.SGD")],
        [ran.line("torch.optim.SGD", 1)],
    ]
    assert [run.info.state for run in ran.runs] == ["ended"] * 3
    optimized = [[site.optimized for site in run.info.sites if site.role == "parameter"] for run in ran.runs]
    assert [all(each) for each in optimized] == [True, True, False]


def test_a_script_that_crashes(run_both: RunBoth) -> None:
    """An error that the script does not catch is Python's own: its text, its code, and nothing of us in its traceback."""
    ran = run_both("crashes.py", own=True)
    same(ran)
    assert ran.plain.returncode == 1
    traceback = ran.watched.stderr[ran.watched.stderr.index("Traceback") :]
    assert "gradscope/" not in traceback.partition("gradscope: ")[0]
    own = re.compile(r'(Traceback.*\n  File ".*crashes\.py", line \d+, in <module>\n.*\n)(?:.*\n)*(RuntimeError: .*\n)')
    ours, pythons = (own.search(done.stderr) for done in (ran.watched, ran.plain))
    assert ours is not None
    assert pythons is not None
    assert ours.groups() == pythons.groups()
    (run,) = ran.runs
    assert len(run.steps) == 4
    assert run.events[-1].data["reason"].startswith("RuntimeError: mat1 and mat2")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision(run_both: RunBoth, dtype: str) -> None:
    """With a gradient scaler the loss is the unscaled one, and a step that it skips is known as such."""
    ran = run_both("mixed_precision.py", dtype)
    same(ran)
    (run,) = ran.runs
    expected = printed(ran, r"^\d+ (\S+) \S+$")
    found = losses(run)
    if dtype == "bfloat16":  # the script itself leaves out the step whose loss is infinite
        assert found[:6] == pytest.approx(expected[:6], rel=1e-6)
        assert run.steps["scale"].tolist() == [1.0] * len(run.steps)
        return
    assert found == pytest.approx(expected, rel=1e-6)
    assert run.steps["scale"].tolist() == [1024.0] * 7 + [512.0] * 3
    assert run.steps["skipped"].tolist() == [step == 6 for step in range(10)]
    assert ran.places(run)["step"] == [ran.line("scaler.step(optimizer)")]
    assert ran.places(run)["backward"] == [ran.line("scaler.scale(loss).backward()")]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_loader_workers(run_both: RunBoth, method: str) -> None:
    """Worker processes, forked or spawned, find the script's `__main__` and write nothing."""
    ran = run_both("workers.py", own=method == "spawn", START_METHOD=method)
    same(ran)
    (run,) = ran.runs
    assert (len(run.steps), run.info.state) == (6, "ended")
    assert ran.watched.stderr.count("gradscope: recording") == 1


def test_a_compiled_model(run_both: RunBoth) -> None:
    """A model under torch.compile is found by its call, and seen at its boundary."""
    ran = run_both("compiled.py")
    same(ran)
    (run,) = ran.runs
    assert (run.info.model, len(run.steps)) == ("Sequential", 8)
    assert losses(run) == pytest.approx(printed(ran, r"^(\d\.\d+)$"), rel=1e-6)


def test_torchrun(tmp_path: Path) -> None:
    """Under torchrun every rank writes its part of one run, and rank 0 speaks."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = ended(start(*torchrun, *WATCHED, SCRIPTS / "ranks.py", folder=tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("gradscope: recording") == 1
    assert done.stderr.count("No sickness found in 6 steps") == 1
    (run,) = recorded(done.stderr, tmp_path)
    assert (run.info.world_size, run.info.parallel, len(run.steps)) == (2, "DDP", 6)
    assert run.steps["has_loss"].all()
    assert {site.path for site in run.info.sites} >= {"0", "2.weight"}


# what is not training


def write(folder: Path, text: str, name: str = "script.py") -> Path:
    """Writes a script of the test's own."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def both(folder: Path, *command: object, ours: Sequence[object] = (), **more: str) -> tuple[str, str, int]:
    """What `gradscope run` gives, after a look that stdout and code are those of `python`."""
    plain = start(*command, folder=folder, **more)
    watched = start(*WATCHED, *ours, *command, folder=folder, **more)
    expected, found = ended(plain), ended(watched)
    assert (found.stdout, found.returncode) == (expected.stdout, expected.returncode), found.stderr
    assert found.stderr.startswith(expected.stderr)
    return found.stdout, found.stderr[len(expected.stderr) :], found.returncode


@pytest.mark.parametrize(
    ("ending", "code"),
    [("sys.exit(7)", 7), ("sys.exit()", 0), ("sys.exit('no data')", 1), ("1 / 0", 1), ("raise SystemExit(None)", 0)],
)
def test_how_a_script_ends(tmp_path: Path, ending: str, code: int) -> None:
    """Exit codes, texts and tracebacks are Python's, to the letter."""
    file = write(tmp_path, f"import sys\nprint(sys.argv)\n{ending}\n")
    _, said, returned = both(tmp_path, file, "a")
    assert returned == code
    assert said == "gradscope: nothing was recorded: no torch: the program never imported it.\n"


def test_a_scripts_error_with_causes(tmp_path: Path) -> None:
    """An error raised from another is shown with it, as Python does; a syntax error too."""
    file = write(
        tmp_path, "def f():\n    raise KeyError(1)\ntry:\n    f()\nexcept KeyError as e:\n    raise OSError(2) from e\n"
    )
    assert both(tmp_path, file)[2] == 1
    assert both(tmp_path, write(tmp_path, "print('a'\n"))[2] == 1


def test_what_a_script_sees_of_itself(tmp_path: Path) -> None:
    """`__main__`, its file, the path and the arguments are as under Python; its streams are as strict."""
    text = (
        "import pickle, sys, os, __main__\n"
        "class A: pass\n"
        "print(__name__, __file__, __spec__, __package__, sys.argv, sys.path, A.__module__, sorted(globals()))\n"
        "print(pickle.loads(pickle.dumps(A())).__class__ is A, __main__.A is A, sys.stdout.errors, sys.stderr.errors)\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)\n"
    )
    write(tmp_path, text, "folder/script.py")
    out, _, _ = both(tmp_path, "folder/script.py", "--run-dir", "x")
    assert "'--run-dir', 'x'" in out
    (tmp_path / "link.py").symlink_to(tmp_path / "folder" / "script.py")
    both(tmp_path, "link.py")


def test_a_module(tmp_path: Path) -> None:
    """`-m MODULE`, and a package with a `__main__`, run as under `python -m`."""
    text = (
        "import sys\nfrom . import near\nprint(__name__, __file__, __spec__.name, __package__, sys.argv, sys.path[0])\n"
    )
    write(tmp_path, "", "package/__init__.py")
    write(tmp_path, "", "package/near.py")
    write(tmp_path, text, "package/train.py")
    write(tmp_path, text, "package/__main__.py")
    both(tmp_path, "-m", "package.train", "--lr", "0.1", ours=("--every", "2"))
    out, _, _ = both(tmp_path, "-m", "package", "-m")
    assert out.startswith(f"__main__ {tmp_path}/package/__main__.py package.__main__ package")


def test_ctrl_c(tmp_path: Path) -> None:
    """Ctrl-C reaches the script as under Python; the run is closed, the process ends by the signal, after atexit."""
    text = (
        "import atexit, torch, time\n"
        "atexit.register(print, 'at exit')\n"
        "m = torch.nn.Linear(2, 1)\no = torch.optim.SGD(m.parameters(), lr=0.1)\n"
        "for i in range(10**6):\n"
        "    m(torch.ones(1, 2)).sum().backward(); o.step(); o.zero_grad(); time.sleep(0.01)\n"
        "    if i == 5: print('ready', flush=True)\n"
    )
    process = start(*WATCHED, write(tmp_path, text), folder=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    done = ended(process)
    assert (done.stdout, done.returncode) == ("at exit\n", -signal.SIGINT)
    assert "\nKeyboardInterrupt\n" in done.stderr
    assert "gradscope/" not in done.stderr.partition("Traceback")[2].partition("gradscope: ")[0]
    (run,) = recorded(done.stderr, tmp_path)
    assert (run.info.state, run.events[-1].data["reason"]) == ("ended", "KeyboardInterrupt: ")


def test_off(run_both: RunBoth, tmp_path: Path) -> None:
    """With GRADSCOPE=off the script runs and nothing else happens."""
    ran = run_both("plain_loop.py", GRADSCOPE="off")
    same(ran)
    assert (len(ran.watched.stdout.splitlines()), ran.watched.stderr) == (13, "")
    assert not (tmp_path / "runs").exists()


def test_variables_set_before_torch_count(tmp_path: Path) -> None:
    """A script that says before its imports how many threads torch shall use is obeyed."""
    text = (
        "import os\nos.environ['OMP_NUM_THREADS'] = '2'\nimport torch\n"
        "print(torch.get_num_threads(), type(torch.__loader__), vars(torch.__loader__).keys())\n"
    )
    out, said, _ = both(tmp_path, write(tmp_path, text))
    assert out.startswith("2 ")
    assert said == "gradscope: nothing was recorded: no torch optimizer was built.\n"


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        ("o = torch.optim.Adam(m.parameters())", "Adam never stepped, and no forward with gradients of a module"),
        ("o = torch.optim.Adam(m.parameters())\nm(torch.ones(1, 2)).sum().backward()", "Adam never stepped"),
        (
            "w = torch.ones(1, requires_grad=True)\no = torch.optim.SGD([w], lr=1)\no.step()",
            "no torch.nn.Module was found",
        ),
    ],
)
def test_nothing_found_is_said_with_the_reason(tmp_path: Path, rest: str, why: str) -> None:
    """Where nothing could be recorded, one line says what was missing, and no folder is left behind."""
    file = write(tmp_path, f"import torch\nm = torch.nn.Linear(2, 1)\n{rest}\n")
    done = ended(start(*WATCHED, file, folder=tmp_path))
    assert f"gradscope: nothing was recorded: {why}" in done.stderr
    assert (done.stdout, done.returncode) == ("", 0)
    assert list((tmp_path / "runs").glob("*")) == []


def test_what_cannot_be_run_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing script, module or command line is said with what to do, exit code 2."""
    assert main(["run", str(tmp_path / "none.py")]) == 2
    assert capsys.readouterr().err == (
        f"gradscope: cannot open the script {tmp_path}/none.py: No such file or directory. "
        "Name a Python file, or -m and a module.\n"
    )
    assert main(["run", "-m", "no_such_module_at_all"]) == 2
    assert "no module no_such_module_at_all can be run from" in capsys.readouterr().err
    assert main(["run", "--every", "3"]) == 2
    assert capsys.readouterr().err == (
        "gradscope: expected a script, or -m and a module, behind the options; none is there.\n"
    )


def test_an_executor_that_nobody_shuts_down(tmp_path: Path) -> None:
    """Its threads wait for work for ever; Python ends them, after what they were given, and so do we."""
    text = (
        "import time\nfrom concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(2)\n"
        "pool.submit(lambda: (time.sleep(0.2), print('late')))\nprint('end')\n"
    )
    assert both(tmp_path, write(tmp_path, text))[0] == "end\nlate\n"


def test_a_script_that_closes_its_streams(tmp_path: Path) -> None:
    """What it said stays said, its exit code is its own, and we still say what we found."""
    file = write(tmp_path, "import sys\nprint('said')\nsys.stdout.close()\nsys.stderr.close()\nsys.exit(4)\n")
    done = ended(start(*WATCHED, file, folder=tmp_path))
    assert (done.stdout, done.returncode) == ("said\n", 4)
    file = write(tmp_path, "import sys\nprint('said')\nsys.stderr = None\nsys.exit('no data')\n")
    assert both(tmp_path, file)[0] == "said\n"
