"""What a run is made of: sites, links, facts that do not grow with the steps, and the columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gradscope.records.summary import Rows

SCHEMA_VERSION = 1

Role = Literal["output", "input", "parameter", "time", "target"]


@dataclass(frozen=True)
class Site:
    """A place in the model where numbers are taken: a module's output or input, a parameter, or a bin of time steps."""

    path: str  # "layers.3.linear"; a parameter's own name "layers.3.linear.weight"; "lstm[0:4]"; "" is the model itself
    role: Role
    kind: str  # class name of the module, for a parameter of its owner
    order: int  # position in execution order; -1 when it never ran in a recorded step
    mechanism: str = "container"  # what it does to a gradient, see recorder/sites.py
    label: str = ""  # "Linear(64, 64)"
    shape: tuple[int, ...] = ()  # of the tensor seen first
    dtype: str = ""
    trainable: bool = True  # parameters: requires_grad
    optimized: bool = True  # parameters: in an optimizer
    sharded: bool = False  # parameters: each rank holds its own share of the entries
    same_as: int | None = None  # index of the site whose tensor this one is, so that it has no rows of its own
    aliases: tuple[str, ...] = ()  # other names of the same parameter
    inputs: tuple[int, ...] = ()  # sites that hold the gradient that left through this module's inputs
    training: bool = True  # modules: the `training` flag in the last recorded forward

    @property
    def name(self) -> str:
        """The path as shown to people: the model itself is "(model)"."""
        return self.path or "(model)"

    @property
    def module(self) -> str:
        """The path of the module that a parameter belongs to; what makes its weights (weight norm) is none."""
        path = f".{self.path}"
        before, made, _ = path.partition(".parametrizations.")
        return (before if made else path.rpartition(".")[0])[1:]

    @property
    def title(self) -> str:
        """The path inside a sentence: a bare number becomes "layer 3"."""
        return f"layer {self.path}" if self.path.isdigit() else self.name


@dataclass(frozen=True)
class Link:
    """A way that the signal takes between two modules of one container, in forward direction.

    Indices are those of `output` sites. `source` None is the container's own input, `target` None its output.
    `operations` names the autograd nodes in between, e.g. `("TanhBackward0",)`.
    """

    container: int
    source: int | None
    target: int | None
    operations: tuple[str, ...] = ()


@dataclass(frozen=True)
class NotObserved:
    """Something that GradScope could not see, and why."""

    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


@dataclass(frozen=True)
class OptimizerInfo:
    """What is known about one optimizer: its class and its default options that are numbers; betas as beta1, beta2."""

    kind: str
    options: dict[str, float] = field(default_factory=dict)
    foreign: int = 0  # of its tensors, those that are none of the model's parameters


@dataclass(frozen=True)
class LossPath:
    """What lies between the model's head and the loss, read from the autograd graph at the first recorded step."""

    operations: tuple[str, ...] = ()  # autograd nodes on the way from the head to the loss, the head's end first
    kind: str = ""  # "cross-entropy", "binary-cross-entropy", "squared-error" …, see recorder/loss_path.py; "" unknown
    reduction: str = ""  # "mean", "sum", "none"; "" unknown
    output_shape: tuple[int, ...] = ()  # of the head's output
    compared_shape: tuple[int, ...] = ()  # at which outputs met targets: larger than either when they were broadcast
    target_shape: tuple[int, ...] = ()
    target_dtype: str = ""
    classes: int = 0  # of a cross-entropy
    softmax_dimensions: tuple[int, ...] = ()  # of every softmax and log-softmax on the way, the head's end first


@dataclass(frozen=True)
class Place:
    """A line of the user's program that means something to the training."""

    what: Literal["optimizer", "step", "backward", "zero-grad", "class"]  # built, called, called, called, defined
    file: str  # absolute
    line: int  # the first of the statement, counted from 1
    of: str = ""  # the optimizer's class, or that of the modules that are defined there


@dataclass(frozen=True)
class SourceFile:
    """A file of the user's program as it was when it ran, so that a patch can be made, and refused when it changed."""

    path: str  # absolute
    text: str


@dataclass(frozen=True)
class RunInfo:
    """Everything about a run that does not grow with its steps (`run.json`)."""

    id: str
    model: str  # class name
    created: float  # seconds since 1970
    schema_version: int = SCHEMA_VERSION
    versions: dict[str, str] = field(default_factory=dict)
    script: str = ""  # the command that trains, as typed
    command: tuple[str, ...] = ()  # what `gradscope run` was given, to run it again: ("train.py", "--lr", "0.1")
    directory: str = ""  # where it was run
    places: tuple[Place, ...] = ()
    sources: tuple[SourceFile, ...] = ()
    device: str = "cpu"
    optimizers: tuple[OptimizerInfo, ...] = ()
    criterion: str = ""  # class name of the loss, when it was seen
    loss_path: LossPath | None = None
    settings: dict[str, str | float | bool] = field(default_factory=dict)
    sites: tuple[Site, ...] = ()
    links: tuple[Link, ...] = ()
    heads: tuple[int, ...] = ()  # output sites
    not_observed: tuple[NotObserved, ...] = ()
    unregistered: tuple[str, ...] = ()  # labels of modules with parameters that ran in the model and are no part of it
    tested_in_training_mode: int = 0  # forwards without gradients that were seen, by the model's `training` flag
    tested_in_eval_mode: int = 0
    state: Literal["recording", "stopped", "ended"] = "recording"
    process: int = 0  # the training's process id
    rank: int = 0  # of the process that wrote this
    world_size: int = 1  # how many processes train together
    parallel: str = ""  # what keeps their models together: "DDP", "FSDP2", "tensor parallel" ...
    averaged: float = 1  # ranks whose gradients the wrapper averages: each one's activation gradients count 1/averaged
    shards: int = 1  # ranks that a sharded parameter is spread over
    replica: int = 0  # which copy of the sharded parameters this rank has a share of
    not_merged: str = ""  # why the parts of other ranks cannot be put together with this one
    ended: float | None = None


@dataclass(frozen=True)
class Event:
    """Something that happened once: a mark, a logged value, a warning."""

    step: int
    time: float
    kind: str  # "value", "warning", "ended"
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RankFact:
    """Something that holds for some of the ranks only, since `step`."""

    kind: Literal["non-finite", "differs"]
    step: int  # the first recorded one
    site: int  # -1 for the loss
    quantity: str  # one of `QUANTITIES`, or "loss"
    ranks: tuple[int, ...]
    by: float = 0.0  # how far the norms lie from the median over ranks, as a share of it; for "differs"


@dataclass(frozen=True)
class Run:
    """Everything recorded from one training: columns of numbers.

    Attributes:
        info: what does not grow.
        steps: dtype `STEP`, one row a step, in order.
        learning_rates: shape `[steps, parameter groups]`, NaN where there is no such group.
        summaries: dtype `SUMMARY_ROW`, ordered by step.
        events: in order.
        rank_facts: what merging the ranks' parts would have hidden; empty for a training in one process.
    """

    info: RunInfo
    steps: Rows
    learning_rates: NDArray[np.float64]
    summaries: Rows
    events: tuple[Event, ...] = ()
    rank_facts: tuple[RankFact, ...] = ()
