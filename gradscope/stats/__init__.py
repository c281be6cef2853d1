"""Tensor -> summary: the norm of the whole tensor in one pass, everything else from a fixed sample.

sample.py     which entries, and how they are taken
describe.py   numbers -> summaries, in numpy
collector.py  all tensors of a step, with one copy from the device
sketch.py     a small matrix of evenly spaced entries, for what a sample of single entries cannot say
"""

from gradscope.stats.collector import (
    LARGEST_SQUARES,
    SMALLEST_SQUARES,
    Collector,
    HostNumber,
    Pending,
    summarise,
    to_host,
)
from gradscope.stats.sample import EXACT_UP_TO, SAMPLE_SIZE, Sample, sample_positions, take_sample
from gradscope.stats.sketch import Cut, cut, sketch, spaced

__all__ = [
    "EXACT_UP_TO",
    "LARGEST_SQUARES",
    "SAMPLE_SIZE",
    "SMALLEST_SQUARES",
    "Collector",
    "Cut",
    "HostNumber",
    "Pending",
    "Sample",
    "cut",
    "sample_positions",
    "sketch",
    "spaced",
    "summarise",
    "take_sample",
    "to_host",
]
