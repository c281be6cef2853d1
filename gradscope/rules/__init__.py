"""One file, one sickness. A rule reads signals, never tensors, and never talks to another rule."""

from gradscope.rules.rule import Case, Rule, Threshold

__all__ = ["Case", "Rule", "Threshold"]
