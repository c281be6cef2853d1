"""The rows that belong to a recorded step, from all who took some."""

from __future__ import annotations

from gradscope.recorder.backward import BackwardHooks
from gradscope.recorder.delivery import ClosedStep
from gradscope.recorder.parameters import Entry, ParameterReader
from gradscope.recorder.passes import ForwardPass
from gradscope.recorder.recurrent import time_rows
from gradscope.recorder.sites import SiteTable
from gradscope.recorder.topology import Topology
from gradscope.stats import Collector

MOST_PASSES = 512  # forward passes of one step that are recorded


def gather(
    step: ClosedStep,
    trained: list[ForwardPass],
    collector: Collector,
    parameters: ParameterReader,
    backward: BackwardHooks,
    topology: Topology,
    table: SiteTable,
) -> None:
    """Fills a closed step with its rows and starts their way from the device."""
    parameters.before_update(collector, None, scaled=True)  # where no optimizer stepped
    step.entries, step.gradient_rows, step.clipped_rows = parameters.finish(collector)
    deltas: list[Entry] = [(site, "activation_gradient", row) for site, row in backward.branch_rows]
    for forward in trained:
        topology.learn(forward)
        step.entries += [(site, "activation", row) for site, row in forward.activations]
        deltas += [(site, "activation_gradient", row) for site, row in forward.gradients()]
    deltas += [(site, "activation_gradient", row) for site, row in time_rows(trained, table)]
    step.entries += deltas
    step.scaled_rows = list({*parameters.scaled, *(row for _, _, row in deltas)})
    step.summaries = collector.collect()
