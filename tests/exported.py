"""A run that exporters find hard: odd layer names, tiny and huge gains, NaN and Inf, a loss that was not observed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradscope.records import Event, Run
from gradscope.rules.handwritten import run as by_hand

# spaces, quotes, a line break, slashes that climb, other scripts, a formula, and 300 characters
NAMES = ("a \"b\" 'c'", "new\nline", "../up/../..", "слой-é-层", "=1+1", "x" * 300)
LONG = NAMES[-1]


def hard_run() -> Run:
    """Eight steps of a chain of layers with those names, behind them `act`, a ReLU, and `head`."""
    gain = dict.fromkeys(NAMES, 0.5) | {"act": 0.9, "head": 1.0}
    gain[NAMES[0]] = [1e-60, 1e100, 0.0, float("nan"), float("inf"), 0.5, 0.5, 0.5]
    run = by_hand(
        gain,
        kinds={"act": "ReLU"},
        loss=[2.5, float("nan"), float("inf"), 2.0, 1.5, 1.0, 0.5, 0.25],
        extra={("act", "slope"): {"rms": 0.7, "zeros": 250.0}, ("act", "lasting_slope"): {"rms": 0.9, "zeros": 100.0}},
        info={"id": "hard", "process": 1, "script": "train.py --token secret", "versions": {"torch": "2.13.0"}},
    )
    run.steps["has_loss"][4] = False
    run.steps["time"] += 1.7e9
    rates = np.full((len(run.steps), 2), 0.01)
    rates[:3, 1] = np.nan
    events = (Event(2, 1.7e9 + 0.02, "value", {"name": 'val "loss"\n', "value": 0.75}),)
    return replace(run, learning_rates=rates, events=events)


def empty_run() -> Run:
    """The same model before its first step."""
    run = hard_run()
    return replace(run, steps=run.steps[:0], learning_rates=np.zeros((0, 0)), summaries=run.summaries[:0], events=())
