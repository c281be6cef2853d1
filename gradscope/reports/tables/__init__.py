"""The tables that a run can be exported as: their names, columns, units and meanings. Plain data, nothing is read here."""

from __future__ import annotations

from typing import Literal, NamedTuple

from gradscope.errors import UnknownId

Type = Literal["integer", "number", "flag", "text", "texts"]  # "texts": a list; in CSV a JSON array


class Column(NamedTuple):
    """One column. Every column may hold nulls: not recorded. NaN and Inf are what was measured."""

    name: str
    type: Type
    meaning: str
    unit: str = ""


class Table(NamedTuple):
    """One table."""

    name: str
    meaning: str  # what one row is
    columns: tuple[Column, ...]
    more: str = ""  # columns whose number depends on the run


_STEP = Column("step", "integer", "number of the optimizer step", "step")
_LAYER = Column("layer", "text", 'path of the module; "(model)" is the model itself')
_PLACE = Column("place", "text", "the layer, the parameter or the stretch of time steps that was measured")
_ROLE = Column("role", "text", "output, input, parameter, time or target")
_KIND = Column("kind", "text", "class of the module")
_QUANTITY = Column("quantity", "text", "what was measured: activation, activation_gradient, weight, gradient, update …")
_FINDING = Column("finding", "text", "its number in this diagnosis: F1")
_RULE = Column("rule", "text", "id of the rule; `gradscope explain ID` tells more")

_ALL = (
    Table(
        "layers",
        "one tensor at one recorded step, with its statistics",
        (
            _STEP,
            _LAYER,
            _PLACE,
            _ROLE,
            _KIND,
            Column("order", "integer", "position in execution order; -1: never ran"),
            _QUANTITY,
            Column("entries", "number", "how many numbers the tensor holds", "entries"),
            Column("exact", "flag", "whether all statistics are from all entries; else all but rms, norm and non_finite "
                                    "are estimated from a fixed sample"),
            Column("norm", "number", "L2 norm, exact", "the tensor's own"),
            Column("rms", "number", "root mean square, exact", "the tensor's own"),
            Column("mean", "number", "mean of the finite entries", "the tensor's own"),
            Column("minimum", "number", "of the finite entries; null: there is none", "the tensor's own"),
            Column("maximum", "number", "of the finite entries; null: there is none", "the tensor's own"),
            Column("zero_fraction", "number", "entries that are exactly 0", "share in [0, 1]"),
            Column("non_finite", "flag", "whether any entry is NaN or Inf, exact"),
            Column("nans", "number", "entries that are NaN", "entries"),
            Column("positive_infs", "number", "entries that are +Inf", "entries"),
            Column("negative_infs", "number", "entries that are -Inf", "entries"),
            Column("dot", "number", "of a gradient: with the weight; of an update: with the gradient before it"),
            Column("backward_gain", "number", "of an activation_gradient: its norm over that at the model's head; null: "
                                              "undefined", "ratio"),
            Column("update_ratio", "number", "of an update: its rms over that of the weight; null: undefined", "ratio"),
        ),
    ),
    Table(
        "steps",
        "one optimizer step",
        (
            _STEP,
            Column("time", "number", "when the step closed", "seconds since 1970, UTC"),
            Column("seconds", "number", "since the step before closed", "s"),
            Column("recorder_seconds", "number", "of them, spent by GradScope", "s"),
            Column("loss", "number", "mean over the step's forwards; null: not observed"),
            Column("gradient_norm", "number", "L2 norm of the gradients of all parameters, before clipping"),
            Column("clipped_gradient_norm", "number", "the same as the optimizer saw it"),
            Column("trivial_loss", "number", "that the best constant output has had so far"),
            Column("carried", "number", "norm of gradients left from before, over the step's", "ratio"),
            Column("loss_scale", "number", "that gradients had in memory; the numbers here are without it", "ratio"),
            Column("forwards", "integer", "training forwards"),
            Column("backwards", "integer", "backward passes"),
            Column("recorded", "flag", "whether the tensors were summarised in this step"),
            Column("training_mode", "flag", "the model's `training` flag in its forward"),
            Column("skipped", "flag", "by a gradient scaler, because gradients were not finite"),
        ),
        "learning_rate_0, learning_rate_1 …: one a parameter group",
    ),
    Table(
        "signals",
        "one derived number of a layer or a parameter at one recorded step; the names below",
        (
            _STEP,
            _LAYER,
            _PLACE,
            _KIND,
            Column("order", "integer", "position in execution order"),
            Column("signal", "text", "backward_gain, update_ratio …"),
            Column("value", "number", "in the signal's own unit"),
        ),
    ),
    Table(
        "histograms",
        "one bin of one tensor at one recorded step, empty bins left out: entries by magnitude",
        (
            _STEP,
            _LAYER,
            _PLACE,
            _ROLE,
            _QUANTITY,
            Column("log2_from", "number", "lower edge of |x|; -inf: below the smallest number of float32", "log2"),
            Column("log2_to", "number", "upper edge of |x|", "log2"),
            Column("entries", "number", "finite ones that are not 0, estimated from a sample of large tensors", "entries"),
        ),
    ),
    Table(
        "sites",
        "one place in the model where numbers were taken",
        (
            _LAYER,
            _PLACE,
            _ROLE,
            _KIND,
            Column("order", "integer", "position in execution order; -1: never ran in a recorded step"),
            Column("label", "text", "as the module prints itself: Linear(64, 64)"),
            Column("mechanism", "text", "what it does to a gradient: weights, activation, normalisation …"),
            Column("shape", "text", "of the tensor seen first: 32x64"),
            Column("dtype", "text", "of that tensor"),
            Column("trainable", "flag", "of a parameter: requires_grad"),
            Column("optimized", "flag", "of a parameter: in an optimizer"),
            Column("same_as", "text", "place whose tensor this one is, so that it has no rows of its own"),
            Column("aliases", "texts", "other names of the same parameter"),
        ),
    ),
    Table(
        "findings",
        "one finding of the diagnosis, the likely root first",
        (
            _FINDING,
            _RULE,
            Column("severity", "text", "note, warning or error"),
            Column("message", "text", "what was found"),
            Column("first_step", "integer", "since when", "step"),
            Column("last_step", "integer", "until when", "step"),
            Column("follows", "text", "rule of the finding that leads to this one"),
            Column("layers", "texts", "where, the worst first"),
            Column("causes", "texts", "ids, the most likely first"),
            Column("remedies", "texts", "ids of the suggestions, the best first"),
        ),
    ),
    Table(
        "evidence",
        "one number that speaks for a finding",
        (
            _FINDING,
            _RULE,
            Column("name", "text", "what was measured"),
            Column("value", "number", "in `unit`"),
            Column("unit", "text", "of the value and the threshold"),
            Column("threshold", "number", "that it is judged against"),
            Column("healthy", "text", "the range of healthy trainings"),
        ),
    ),
    Table(
        "checks",
        "one rule that found nothing",
        (_RULE, Column("outcome", "text", "passed, needs-data, not-applicable or could-not-run"),
         Column("reason", "text", "why not passed")),
    ),
    Table(
        "values",
        "one value of the training's own, from `scope.log`",
        (_STEP, Column("time", "number", "when", "seconds since 1970, UTC"), Column("name", "text", "of the value"),
         Column("value", "number", "as logged")),
    ),
)  # fmt: skip
TABLES = {table.name: table for table in _ALL}
DEFAULT_TABLE = "layers"
ALL = "all"


def chosen_tables(names: tuple[str, ...]) -> tuple[str, ...]:
    """The tables that were asked for; `all` is every one.

    Raises:
        UnknownId: no table has this name.

    Example:
        >>> chosen_tables(("steps", "findings"))
        ('steps', 'findings')
    """
    for name in names:
        if name not in TABLES and name != ALL:
            raise UnknownId(f"no table is called {name!r}. There are: {', '.join(TABLES)}, and all for all of them.")
    return tuple(TABLES) if ALL in names else tuple(dict.fromkeys(names))
