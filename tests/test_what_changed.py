"""What is said to have changed just before something went wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gradscope.rules.handwritten import run
from gradscope.signals import Signals
from gradscope.signals.before import what_changed

CHAIN = {"a": 1.0, "b": 1.0}


def with_rates(rates: list[float]) -> Signals:
    """A run with one learning rate a step."""
    made = run(CHAIN, steps=len(rates))
    return Signals(replace(made, learning_rates=np.array(rates)[:, None]))


def test_a_learning_rate_that_leapt_is_said_with_its_step() -> None:
    """The largest change of the learning rate in the last 20 steps is named, up or down."""
    signals = with_rates([0.1] * 10 + [0.5] * 10)
    assert what_changed(signals, 12) == ["the learning rate went from 0.100 to 0.500 at step 10"]
    assert what_changed(signals, 9) == []
    assert what_changed(with_rates([0.5] * 5 + [0.05] * 5), 9) == [
        "the learning rate went from 0.500 to 0.0500 at step 5"
    ]


@pytest.mark.parametrize("rates", [[0.1 * 1.01**step for step in range(30)], [0.0] * 10, [float("nan")] * 10])
def test_a_schedule_that_moves_a_little_is_no_change(rates: list[float]) -> None:
    """Warm-ups and decays step by step, rates of 0 and unknown ones are nothing to tell."""
    assert what_changed(with_rates(rates), len(rates) - 1) == []


def test_what_is_long_ago_is_not_said() -> None:
    """Only the last 20 steps count."""
    assert what_changed(with_rates([0.1] * 5 + [0.9] * 40), 44) == []


def test_a_loss_scale_and_the_first_clipping_are_said() -> None:
    """The last change of the loss scale, and the first step whose gradients were clipped."""
    columns = {"scale": [1024.0] * 4 + [512.0] * 4, "clipped_gradient_norm": [1.0] * 6 + [0.5] * 2}
    assert what_changed(Signals(run(CHAIN, columns=columns)), 7) == [
        "the loss scale went from 1,020 to 512 at step 4",
        "gradients were clipped for the first time at step 6",
    ]
