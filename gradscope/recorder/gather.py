"""The rows that belong to a recorded step, from all who took some."""

from __future__ import annotations

from gradscope.recorder.backward import BackwardHooks
from gradscope.recorder.closer import CloserLook
from gradscope.recorder.delivery import ClosedStep
from gradscope.recorder.loss_paths import LossPaths
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
    losses: LossPaths,
    closer: CloserLook,
) -> None:
    """Fills a closed step with its rows and starts their way from the device."""
    parameters.before_update(collector, None, scaled=True)  # where no optimizer stepped
    step.entries, step.gradient_rows, step.clipped_rows = parameters.finish(collector, int(step.facts["step"]))
    deltas: list[Entry] = [(site, "activation_gradient", row) for site, row in backward.branch_rows]
    for forward in trained:
        topology.learn(forward)
        step.entries += [(site, "activation", row) for site, row in forward.activations]
        deltas += [(site, "activation_gradient", row) for site, row in forward.gradients()]
    deltas += [(site, "activation_gradient", row) for site, row in time_rows(trained, table)]
    step.entries += [*deltas, *((losses.site, "activation", row) for row in losses.rows)]
    step.entries += closer.entries(trained, collector)
    step.targets = losses.take()
    step.carried = parameters.carried()
    step.scaled_dots = parameters.scaled_dots
    step.scaled_rows = list({*parameters.scaled, *closer.scaled, *(row for _, _, row in deltas)})
    step.summaries = collector.collect()
