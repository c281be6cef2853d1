"""Recurrent layers that keep their state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from gradscope.errors import NotApplicable
from gradscope.surgery.applied import Applied
from gradscope.surgery.initialise import draw, stream
from gradscope.surgery.modules import put
from gradscope.surgery.parameters import join, leave, one_process_only, remember


def gate(applied: Applied, model: nn.Module, optimizers: Sequence[Optimizer], bias: float) -> None:
    """Puts a GRU in the place of each plain RNN, and opens the gates that keep the state: an LSTM's forget gates, a
    GRU's update gates.

    Args:
        applied: is told.
        model: is changed in place.
        optimizers: lose the RNNs' weights and get the GRUs'.
        bias: of these gates, on the input's side; 0 on the state's.

    Raises:
        NotApplicable: there is no recurrent module of torch's.

    Example:
        >>> applied, model = Applied(), nn.ModuleDict({"rnn": nn.RNN(2, 4)})
        >>> gate(applied, model, [], 3.0)
        >>> model["rnn"]
        GRU(2, 4)
    """
    one_process_only()
    generator = stream()
    plain = [m for m in model.modules() if type(m) in (nn.RNN, nn.RNNCell)]
    gated = [m for m in model.modules() if isinstance(m, (nn.LSTM, nn.LSTMCell, nn.GRU, nn.GRUCell))]
    if not plain and not gated:
        raise NotApplicable(
            "no RNN, LSTM or GRU of torch.nn is in the model: a loop over time that is written by hand needs your edit"
        )
    for old in plain:
        new = _gru_like(old)
        draw(new, "", generator)
        _open(new, bias)
        put(applied, model, old, new)
        join(applied, optimizers, list(new.parameters()), old.parameters())
        leave(applied, optimizers, old.parameters())
    for module in gated:
        remember(applied, module.parameters())
        _open(module, bias)
    if plain:
        applied.change(f"{len(plain)} {type(plain[0]).__name__} replaced by GRU of the same sizes")
    applied.change(f"the gates that keep the state begin open: bias {bias:g}")


def _gru_like(old: nn.Module) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        weight = next(old.parameters())
        where: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
        if isinstance(old, nn.RNNCell):
            return nn.GRUCell(old.input_size, old.hidden_size, old.bias, **where)
        assert isinstance(old, nn.RNN)
        options = {
            name: getattr(old, name) for name in ("num_layers", "bias", "batch_first", "dropout", "bidirectional")
        }
        return nn.GRU(old.input_size, old.hidden_size, **options, **where)


def _open(module: nn.Module, bias: float) -> None:
    """Sets the bias of an LSTM's forget gates or a GRU's update gates, the second part of each bias."""
    gates = 4 if isinstance(module, (nn.LSTM, nn.LSTMCell)) else 3
    with torch.no_grad():
        for name, parameter in module.named_parameters(recurse=False):
            if name.startswith("bias"):
                parameter.chunk(gates)[1].fill_(bias if name.startswith("bias_ih") else 0.0)
