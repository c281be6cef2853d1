"""Run -> derived, scale-free series: gains, budgets, ratios, onsets (DESIGN §4)."""

from gradscope.signals.budget import Budget, budget, mechanism_totals
from gradscope.signals.series import Signals

__all__ = ["Budget", "Signals", "budget", "mechanism_totals"]
