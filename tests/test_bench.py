"""The benchmark: every contender does its work, and the README shows the table that the benchmark makes."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import pytest
import torch

import gradscope
from gradscope.stats import Collector
from tests.bench.contenders import CONTENDERS, Contender, with_gradscope, with_torchexplorer, with_wandb
from tests.bench.table import BEGIN, END, cells, header, put_into, render, titles
from tests.bench.trainings import SUBJECTS, Subject, cnn, mlp, transformer
from tests.bench.turns import Patience, Ratio, measure

README = Path(__file__).resolve().parent.parent / "README.md"
SMALL = (
    Subject("transformer", functools.partial(transformer, width=8, layers=1, batch=2)),
    Subject("CNN", functools.partial(cnn, channels=4, blocks=1, batch=2)),
    Subject("MLP", functools.partial(mlp, width=8, layers=2, batch=4)),
)
MLP = SMALL[2]
QUICK = Patience(turns=1, seconds=0.01, cycles=1, steady_steps=1, most_steps=40)


def _skip_without(package: str) -> None:
    if package:
        pytest.importorskip(package, reason="only `make bench` installs it")
    if package == "torchexplorer" and shutil.which("dot") is None:
        pytest.skip("torchexplorer needs graphviz's program dot")


@pytest.mark.filterwarnings("ignore")  # others warn
@pytest.mark.parametrize("contender", CONTENDERS, ids=titles())
@pytest.mark.parametrize("subject", SMALL, ids=lambda subject: subject.title)
def test_every_contender_watches_every_training(subject: Subject, contender: Contender, tmp_path: Path) -> None:
    """A training takes its steps in every turn."""
    _skip_without(contender.needs)
    training = subject.make()
    before = [parameter.clone() for parameter in training.model.parameters()]
    with contender.watch(training, tmp_path / "run"):
        for _ in range(2):
            training.step()
    after = training.model.parameters()
    assert not any(torch.equal(*pair) for pair in zip(before, after, strict=True))


@pytest.mark.parametrize("subject", [*SMALL, *SUBJECTS], ids=lambda subject: subject.title)
def test_a_training_is_always_the_same(subject: Subject) -> None:
    """Each contender gets the same weights and the same data."""
    one, other = subject.make(), subject.make()
    assert all(torch.equal(*pair) for pair in zip(one.batch, other.batch, strict=True))
    parameters = zip(one.model.parameters(), other.model.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in parameters)


@pytest.mark.parametrize(("title", "recorded"), [("every=1", [0, 1, 2, 3]), ("exact", [0, 1, 2, 3]), ("between", [0])])
def test_gradscope_records_what_its_row_says(title: str, recorded: list[int], tmp_path: Path) -> None:
    """Every step where the row says so, none but the first of a turn, which does not count, where it says idle."""
    contender = next(each for each in CONTENDERS if title in each.title)
    training = MLP.make()
    with contender.watch(training, tmp_path / "run"):
        for _ in range(4):
            training.step()
    assert gradscope.read_run(tmp_path / "run").steps["recorded"].nonzero()[0].tolist() == recorded


def test_wandb_writes_its_histograms(tmp_path: Path) -> None:
    """The row of wandb is of a wandb that works: its file names weights and gradients."""
    _skip_without("wandb")
    training = MLP.make()
    with with_wandb(training, tmp_path / "run"):
        training.step()
        training.step()
    (written,) = (tmp_path / "run").rglob("*.wandb")
    assert b"gradients/" in written.read_bytes()
    assert b"parameters/" in written.read_bytes()


@pytest.mark.filterwarnings("ignore")
def test_torchexplorer_takes_its_histograms(tmp_path: Path) -> None:
    """The row of torchexplorer is of one that works: it has a histogram of each step."""
    _skip_without("torchexplorer")
    training = MLP.make()
    with with_torchexplorer(training, tmp_path / "run"):
        training.step()
        training.step()
    histograms = training.model[0].torchexplorer_metadata.shared_hists  # type: ignore[union-attr]
    assert len(histograms.param_grad_hists["weight"].history_bins) == 2  # type: ignore[union-attr]


def test_a_turn_in_which_gradscope_stopped_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recorder that gave up costs nothing, and must not look good for it."""
    monkeypatch.setattr(Collector, "add", lambda self, tensor: 1 / 0)
    training = MLP.make()
    watching = with_gradscope(training, tmp_path / "run", every=1)
    watching.__enter__()
    training.step()
    with pytest.raises(RuntimeError, match=r"measures nothing: .*ZeroDivisionError"):
        watching.__exit__(None, None, None)


def test_everyone_gets_a_ratio() -> None:
    """Each contender is given what its step takes over the step alone; where some steps are recorded, their share."""
    contenders = [each for each in CONTENDERS if not each.needs]
    subject = Subject("MLP", functools.partial(mlp, width=256, layers=3))
    ratios = dict(measure(subject, contenders, QUICK))
    assert list(ratios) == titles(contenders)
    assert all(ratio.wall > 0 and ratio.cpu > 0 for ratio in ratios.values())
    shares = {title: ratio.recorded for title, ratio in ratios.items() if ratio.recorded is not None}
    assert list(shares) == [each.title for each in contenders if each.steady]
    assert all(0 <= share < 1 for share in shares.values())


def test_where_the_budget_allows_no_more_steps_the_others_count() -> None:
    """A turn ends also where nothing is recorded after the first steps; the share that was recorded is then 0."""
    never = Contender("never", functools.partial(with_gradscope, every=10**9), steady=True)
    assert dict(measure(MLP, [never], Patience(1, 0.01, most_steps=20)))["never"].recorded == 0


def test_the_table_goes_between_its_marks() -> None:
    """The table replaces the earlier one, nothing else changes, and its cells can be read back."""
    ratios = {"MLP": {each.title: Ratio(1.234, 1.2) for each in CONTENDERS}}
    ratios["MLP"][CONTENDERS[2].title] = Ratio(1.02, 1.03, 0.125)
    text = put_into(f"before\n{BEGIN}\nold\n{END}\nafter\n", render(ratios, QUICK))
    assert text.startswith(f"before\n{BEGIN}\n|")
    assert text.endswith(f".\n{END}\nafter\n")
    first, *lines = cells(text)
    assert first == header(("MLP",))
    assert [line[0] for line in lines] == titles()
    assert lines[0][1:] == ["1.234 (1.200)", "–"]
    assert lines[2][1:] == ["1.020 (1.030), 12 %", "1.03 / 1.03 / 1.03"]
    with pytest.raises(ValueError, match="no place for the table"):
        put_into("a README without marks", "table")


def test_the_readme_shows_the_table() -> None:
    """The README's table has the rows and columns that the benchmark makes, each with a number."""
    first, *lines = cells(README.read_text(encoding="utf-8"))
    assert first == header()
    assert [line[0] for line in lines] == titles()
    for contender, line in zip(CONTENDERS, lines, strict=True):
        assert [float(cell.split()[0]) > 0.5 for cell in line[1:-1]] == [True] * len(SUBJECTS), contender.title
