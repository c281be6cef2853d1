"""What may be said of the sick programs, by the kind of sickness (ids are those of the design)."""

from __future__ import annotations

from tests.zoo.program import blame, first_half, hidden, last, of_kind

# A gradient that fades on its way back: named after what takes it, cured by what stops taking it.
CONTRACTS = blame(
    "vanishing-gradient poor-initialization untrained-parameter saturated-activation",
    "activation-contracts depth-without-skip activation-saturates init-too-small",
    "activation-swap batch-norm layer-norm skip-connection initialization",
    first_half,
)
SMALL_INIT = blame(
    "vanishing-gradient poor-initialization untrained-parameter representation-collapse",
    "init-too-small depth-without-skip dead-path",
    "initialization batch-norm layer-norm skip-connection",
    first_half,
)
SATURATED = blame(
    "saturated-activation vanishing-gradient exploding-gradient poor-initialization",
    "init-too-large activation-saturates",
    "initialization batch-norm layer-norm lower-learning-rate",
    hidden,
)
LARGE_INIT = blame(
    "exploding-gradient poor-initialization non-finite learning-rate-too-high",
    "init-too-large depth-without-skip",
    "initialization batch-norm layer-norm gradient-clipping residual-scaling",
    hidden,
)
EXPONENTIAL = blame(
    "non-finite exploding-gradient poor-initialization saturated-activation",
    "activation-expands activation-saturates init-too-large no-clipping weight-growth output-activation",
    "activation-swap initialization batch-norm layer-norm gradient-clipping",
    hidden,
)
DEAD = blame(
    "dead-units vanishing-gradient untrained-parameter representation-collapse poor-initialization",
    "dead-path init-too-small depth-without-skip",
    "activation-swap initialization batch-norm layer-norm skip-connection",
    hidden,
)
RATE_HIGH = blame(
    "learning-rate-too-high exploding-gradient non-finite gradient-spike dead-units loss-stalled saturated-activation",
    "learning-rate-too-high",
    "lower-learning-rate warmup gradient-clipping",
)
RATE_LOW = blame("learning-rate-too-low loss-stalled", "learning-rate-too-low", "raise-learning-rate optimizer-swap")
NOT_ZEROED = blame(
    "accumulating-gradient exploding-gradient learning-rate-too-high non-finite", "gradient-not-zeroed", "zero-grad"
)
SUMMED = blame(
    "learning-rate-too-high exploding-gradient accumulating-gradient non-finite",
    "loss-reduction learning-rate-too-high gradient-not-zeroed",
    "lower-learning-rate change-loss zero-grad gradient-clipping",
)
TARGETS = blame(
    "unscaled-data exploding-gradient non-finite learning-rate-too-high loss-stalled learning-rate-too-low",
    "unscaled-target",
    "standardize-targets",
    last(1),
)
INPUTS = blame(
    "unscaled-data exploding-gradient learning-rate-too-high non-finite dead-units saturated-activation",
    "unscaled-input",
    "standardize-inputs batch-norm layer-norm",
    first_half,
)
OUTPUT = blame(
    "output-loss-mismatch untrained-parameter loss-stalled dead-units vanishing-gradient saturated-activation",
    "output-activation loss-mismatch",
    "change-output-activation change-loss",
    last(2),
)
LOSS = blame(
    "output-loss-mismatch loss-stalled",
    "loss-mismatch loss-reduction output-activation",
    "change-loss change-output-activation",
    last(2),
)
SYMMETRIC = blame(
    "poor-initialization representation-collapse loss-stalled vanishing-gradient",
    "symmetric-init init-too-small",
    "initialization",
    hidden,
)
NORM = blame("normalization-fault", "norm-at-init dead-path", "layer-norm batch-norm larger-batch", of_kind("Norm"))
FROZEN_STATISTICS = blame(
    "normalization-fault",
    "frozen norm-at-init dead-path",
    "batch-norm layer-norm larger-batch reattach",
    of_kind("Norm"),
)
DROPOUT = blame("dropout-fault", "dead-path norm-at-init output-activation", "lower-dropout", of_kind("Dropout"))
TIME_VANISHES = blame(
    "vanishing-through-time vanishing-gradient",
    "long-backprop-chain init-too-small activation-contracts",
    "gated-recurrence initialization",
    of_kind("RNN", "LSTM", "GRU"),
)
TIME_EXPLODES = blame(
    "exploding-gradient vanishing-through-time non-finite gradient-spike",
    "long-backprop-chain init-too-large no-clipping",
    "gradient-clipping gated-recurrence initialization",
    of_kind("RNN", "LSTM", "GRU"),
)
COLLAPSE = blame(
    "representation-collapse",
    "loss-mismatch attention-logit-growth dead-path symmetric-init learning-rate-too-high init-too-small",
    "change-loss batch-norm lower-learning-rate initialization",
    hidden,
)
