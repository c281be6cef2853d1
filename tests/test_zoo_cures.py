"""What the zoo says of cures: held to numbers made by hand, and to two programs that are really trained again."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.test_zoo_tools import RIGHT, WELL, _result
from tests.zoo.animals import by_id
from tests.zoo.cures import CURED, Attempt, Cure, recovered, try_cures
from tests.zoo.tally import better_than_random, mistakes, verified
from tests.zoo.train import kept, train

SICK, TWIN = replace(WELL, error=0.9), replace(WELL, error=0.1)


def attempt(error: float, loss: float = 1.0, *, acted: bool = True) -> Attempt:
    """A training with a remedy that ended with this error and loss."""
    return Attempt("warmup", acted, "changed", error, loss)


def test_what_is_recovered_is_a_share_of_the_gap_to_the_twin() -> None:
    """0 for the same error, 1 for the twin's, below 0 for a worse one; a training that broke has the constant's error."""
    assert recovered(attempt(0.9), SICK, TWIN) == pytest.approx(0)
    assert recovered(attempt(0.1), SICK, TWIN) == pytest.approx(1)
    assert recovered(attempt(0.5), SICK, TWIN) == pytest.approx(0.5)
    assert recovered(attempt(math.nan), SICK, TWIN) == pytest.approx(-0.125)
    assert math.isnan(recovered(attempt(0.5), TWIN, SICK))


def test_a_trial_chooses_by_the_loss_among_what_acted() -> None:
    """The lowest loss at the end, a number that is none last; nothing where nothing could act."""
    best = attempt(0.5, 0.2)
    tried = (attempt(0.1, math.nan), attempt(0.1, 0.5), best, attempt(0.1, 0.1, acted=False))
    assert Cure(tried, attempt(0.9)).chosen is best
    assert Cure((attempt(0.1, acted=False),), attempt(0.9)).chosen is None


def test_verified_and_random_are_counted_over_what_is_comparable() -> None:
    """Nine tenths of the gap count; a program without a twin, or without an act, does not."""
    cure = Cure((attempt(0.15),), attempt(0.8))
    counted = replace(_result("S-rate-low", "sick", RIGHT), outcome=SICK, twin=TWIN, cure=cure)
    failed = replace(counted, cure=Cure((attempt(0.2),), attempt(0.1)))
    advice = replace(counted, cure=Cure((attempt(0.1, acted=False),), attempt(0.1)))
    results = [counted, failed, advice, replace(counted, twin=None)]
    assert [(share.hits, share.count) for share in verified(results)] == [(1, 2), (1, 2)]
    assert [line.split()[0] for line in mistakes(results)] == ["UNCURED"]
    assert better_than_random([counted] * 4) == ""  # too few to say
    said = better_than_random([counted] * 9 + [failed, advice])
    assert "better than a random change in 9, worse in 1 " in said
    assert "p = 0.002" in said  # of 1,024 ways to give signs to ten ranks, two come to 54 or more
    assert "in 1 more nothing" in said


@pytest.mark.filterwarnings("ignore")  # torch's, about what some programs do on purpose
@pytest.mark.parametrize("name", ["S-double-softmax", "S-relu-20-default-sgd"])
def test_what_is_suggested_cures(name: str, tmp_path: Path) -> None:
    """Trained again with what a trial would choose, the error goes nine tenths of the way to the healthy twin's."""
    program = by_id(name)
    train(program, 0, tmp_path / f"{name}-0")
    train(by_id(program.twin), 0, tmp_path / "twin")
    cure = try_cures(program, 0, tmp_path)
    assert repr(cure) == repr(Cure.kept(tmp_path / f"{name}-0" / "cures.json"))  # NaN is not equal to itself
    assert cure.chosen is not None
    outcome, twin = kept(tmp_path / f"{name}-0"), kept(tmp_path / "twin")
    assert recovered(cure.chosen, outcome, twin) >= CURED > recovered(cure.random, outcome, twin)
