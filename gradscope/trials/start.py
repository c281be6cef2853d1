"""`trial`: the suggested cures of a training, tried on it and measured."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gradscope.autowatch import Target
from gradscope.errors import NothingToTry, ProgramError, ProgramNotFound
from gradscope.store import read_info, resolve_run
from gradscope.trials.experiment import Experiment, Options, Subject
from gradscope.trials.progress import progress_on, stderr
from gradscope.trials.report import TrialReport


def trial(
    train: Callable[[], object],
    *,
    steps: int = 100,
    seeds: int = 5,
    remedies: Sequence[str] | None = None,
    jobs: int = 1,
    time_limit: float | None = None,
    memory_limit: int | None = None,
    run: str | os.PathLike[str] | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    on: str | None = None,
    progress: bool = True,
) -> TrialReport:
    """Tries the suggested cures of a training, beside no change and a random change, and ranks them by what they did.

    Each training is a process of its own, so `train` must build everything that it uses; it is handed over by
    cloudpickle, which takes lambdas and local functions too. What it writes to disk, each of its runs writes.

    Args:
        train: builds a model and an optimizer and trains. It is stopped after `steps` optimizer steps.
        steps: of each run.
        seeds: how many matched seeds, 20 at most. Seed 0 is the training as it is; for seed k, everything that it seeds
            with `torch.manual_seed`, `random.seed` or `numpy.random.seed` gets 1000 k more. p can reach 1/2^seeds.
        remedies: ids of remedies to try; else the three that the diagnosis of the first run puts first.
        jobs: how many run at once.
        time_limit: seconds that one run may take; else ten times what the first took, and a minute.
        memory_limit: bytes that one run may hold; else its share of what is available.
        run: a recorded run to take the candidates from, and to store the outcomes with; else the first run is that.
        run_dir: the folder of the first run, by default a new one in `runs/`.
        on: "ray", or "ray://HOST:PORT" of a cluster, to run on it; else on this machine.
        progress: whether to say on stderr what is running.

    Returns:
        The outcomes; none, with a headline that says so, when the training is healthy.

    Raises:
        ProgramError: the training crashes by itself, or trains no torch model.
        NothingToTry: it is sick, and nothing that could be tried acts from outside.
        UnknownId: no remedy has such an id.
        MissingPackage: `on="ray"` without Ray.

    Example:
        >>> import tempfile, torch, gradscope
        >>> def train():
        ...     torch.manual_seed(0)
        ...     model = torch.nn.Linear(4, 1)
        ...     optimizer = torch.optim.SGD(model.parameters(), lr=1.9)
        ...     data = torch.randn(64, 4)
        ...     for _ in range(12):
        ...         loss = (model(data) - data.sum(1, keepdim=True)).square().mean()
        ...         optimizer.zero_grad()
        ...         loss.backward()
        ...         optimizer.step()
        >>> cures = ["lower-learning-rate"]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = gradscope.trial(
        ...         train, steps=12, seeds=1, remedies=cures, jobs=2, run_dir=f"{folder}/run", progress=False
        ...     )
        >>> report.outcomes[0].sentence
        'sickness gone in 1 of 1; loss after 12 steps ... against ... (no change) and ... (random change); p = ...'
    """
    if not callable(train):
        raise ProgramError(f"trial() expected something to call that trains; it got {type(train).__name__}.")
    import cloudpickle

    name = getattr(train, "__name__", type(train).__name__).strip("<>")
    subject = Subject(
        name,
        f"gradscope.trial({name}, steps={steps}, seeds={seeds})",
        pickled=cloudpickle.dumps(train),
        directory=str(Path.cwd()),
        search=tuple(str(Path(folder or ".").resolve()) for folder in sys.path),
    )
    options = Options(
        steps, seeds, tuple(remedies or ()), jobs, time_limit, memory_limit, run, run_dir, on
    )  # fmt: skip
    return Experiment(subject, options, progress_on(stderr(progress))).run()


def try_program(program: Sequence[str], options: Options, *, progress: bool = True) -> TrialReport:
    """The same for a script or module: `("train.py", "--lr", "0.1")` or `("-m", "package.train")`.

    Without a program, the one of `options.run` is taken, as `gradscope run` remembered it.

    Raises:
        ProgramNotFound: there is no such script or module.
        NothingToTry: as for `trial`; the other errors too.
    """
    directory = str(Path.cwd())
    typed = tuple(program)
    if not typed:
        if options.run is None:
            raise NothingToTry("nothing to try: name a script, `-m` and a module, or with --run a run of one.")
        info = read_info(resolve_run(str(options.run)))
        if not info.command:
            raise NothingToTry(
                f"{options.run} does not say which program it is of, for `gradscope run` did not record it. "
                "Name the script, with its arguments, behind the options."
            )
        typed, directory = info.command, info.directory
    target = Target.parse(typed)
    if not target.is_module and not Path(directory, target.name).exists():
        raise ProgramNotFound(f"cannot open the script {target.name}: there is no such file in {directory}.")
    name = target.name.rpartition(".")[2] if target.is_module else Path(target.name).stem
    words = ["gradscope", "trial", "--steps", str(options.steps), "--seeds", str(options.seeds)]
    for remedy in options.remedies:
        words += ["--remedy", remedy]
    subject = Subject(name, shlex.join([*words, *typed]), program=typed, directory=directory)
    return Experiment(subject, options, progress_on(stderr(progress))).run()
