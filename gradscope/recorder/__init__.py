"""The only code that touches the user's model: hooks, schedule, optimizer.

It observes and never perturbs: global module hooks and hooks on nodes of the autograd graph, nothing written on the
user's modules or parameters, no random numbers, no waiting for a device inside a hook.
"""

from gradscope.recorder.recorder import Recorder

__all__ = ["Recorder"]
