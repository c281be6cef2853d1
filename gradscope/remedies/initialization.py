"""Start the weights at the size that the activations need."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.numerals import number
from gradscope.patches import Edit, Program
from gradscope.patches.model_code import drawn_anew
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.chain import hidden_activation, weighted_layers
from gradscope.signals.mechanisms import CONTRACTING, WORKING_DECADES, activations

if TYPE_CHECKING:
    import torch

    from gradscope.surgery import Applied

_SQUARE = "layer.weight.dim() == 2 and layer.weight.shape[0] == layer.weight.shape[1]"
_RELU_LIKE = ("ReLU", "ReLU6", "LeakyReLU", "GELU", "SiLU", "ELU", "Mish", "Hardswish", "PReLU")


class Initialization(Remedy):
    """Draws the weights so that activations and gradients keep their size through a layer.

    He for activations that are half open (ReLU and its relatives): variance 2/n_in. Xavier for tanh and linear layers:
    variance 2/(n_in + n_out). torch's own default has variance 1/(3 n_in): right for neither in a deep network.

    Applied, it draws all Linear, convolution and recurrent layers anew and sets their biases to 0: before ReLU and its
    relatives He, before SELU LeCun, else Xavier; square matrices before ReLU or tanh orthogonal with He's or Xavier's
    variance; recurrent layers Xavier from the input and orthogonal from the state, with an LSTM's forget bias at 1. The
    training's own random numbers stay where they are. Risks: weights that were loaded, or drawn so on purpose (a branch
    that starts at 0), are lost.
    """

    id = "initialization"
    title = "Initialise for the activation that follows"
    cures = {
        "init-too-small": 1.0,
        "init-too-large": 1.0,
        "symmetric-init": 1.0,
        "activation-saturates": 0.6,
        "activation-expands": 0.2,
        "dead-path": 0.6,
        "weight-growth": 0.1,
    }
    only_for = {"dead-path": ("dead-units", "representation-collapse", "untrained-parameter")}
    sources = (
        "He et al. 2015 (arXiv:1502.01852)",
        "Glorot & Bengio 2010, Understanding the difficulty of training deep feedforward neural networks",
        "Saxe et al. 2014, Exact solutions to the nonlinear dynamics of learning in deep linear networks (arXiv:1312.6120)",
    )

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """A loop over the modules after the model is built."""
        return drawn_anew(program, self.code(finding, signals))

    def dose(self, finding: Finding, signals: Signals) -> dict[str, Any]:
        """Each layer with the activation that follows it, "" after the head."""
        layers = weighted_layers(signals)
        known = [[signals.sites[i].path, hidden_activation(signals, i)] for i in layers[:-1]]
        return {"layers": [*known, *([signals.sites[i].path, ""] for i in layers[-1:])]} if layers else {}

    def act(  # type: ignore[override]
        self,
        applied: Applied,
        model: torch.nn.Module,
        optimizers: list[torch.optim.Optimizer],
        layers: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """Draws all Linear, convolution and recurrent layers anew and sets their biases to 0."""
        from gradscope.surgery.initialise import initialise

        initialise(applied, model, layers)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        each = self._each(finding, signals)
        scheme = "He" if self._relu(signals) else "Xavier"
        passes = {kind: 10 ** WORKING_DECADES[kind] for kind in activations(signals) if kind in WORKING_DECADES}
        worst = min(passes, key=lambda kind: passes[kind], default="")
        if worst and passes[worst] < CONTRACTING:
            return (
                f"{each}{scheme} initialization stops the weights from taking more, but cannot make up for {worst}, "
                f"which passes on {number(passes[worst])} at its usual inputs: swap the activation first."
            )
        return f"{each}{scheme} initialization makes a layer with its activation pass on about 1: depth costs nothing then."

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste: what `act` draws, of a network with one kind of activation."""
        relu = self._relu(signals)
        draw = 'kaiming_normal_(layer.weight, nonlinearity="relu")' if relu else "xavier_normal_(layer.weight)"
        layers = [signals.sites[i] for i in weighted_layers(signals)]
        kinds = sorted({signals.sites[i].kind for i in signals.layers if signals.sites[i].kind in _DRAWN}) or ["Linear"]
        classes = ", ".join(f"torch.nn.{kind}" for kind in kinds)
        ways: list[tuple[str, str]] = []
        if layers and relu:
            ways.append((f'name == "{layers[-1].path}"', "xavier_normal_(layer.weight)  # no activation follows"))
        if (relu or "Tanh" in activations(signals)) and any(_is_square(site.label) for site in layers[:-1]):
            gain = ", gain=2**0.5" if relu else ""
            square = "layer.in_features == layer.out_features" if kinds == ["Linear"] else _SQUARE
            ways.append((square, f"orthogonal_(layer.weight{gain})"))
        words = ["if", *["elif"] * len(ways)]
        drawn = [
            f"        {word} {way}:\n            torch.nn.init.{how}\n"
            for word, (way, how) in zip(words, ways, strict=False)
        ]
        drawn.append(
            f"        else:\n            torch.nn.init.{draw}\n" if ways else f"        torch.nn.init.{draw}\n"
        )
        named = "name, layer in model.named_modules()" if layers and relu else "layer in model.modules()"
        return (
            f"for {named}:  # after the model is built, before the optimizer\n"
            f"    if isinstance(layer, {f'({classes})' if len(kinds) > 1 else classes}):\n"
            f"{''.join(drawn)}"
            "        if layer.bias is not None:\n"
            "            torch.nn.init.zeros_(layer.bias)"
        )

    def _relu(self, signals: Signals) -> bool:
        kinds = activations(signals)
        return not kinds or sum(kind in _RELU_LIKE for kind in kinds) * 2 >= len(kinds)

    def _each(self, finding: Finding, signals: Signals) -> str:
        """What a layer passes on now, with its activation, as a geometric mean over the depth."""
        layers = [i for i in signals.layers if signals.sites[i].kind in _DRAWN]
        extreme = next((item.value for item in finding.evidence if item.name.startswith("backward gain")), 0.0)
        if len(layers) < 2 or not extreme > 0:
            return ""
        return f"A layer passes on {number(extreme ** (1 / (len(layers) - 1)))} of the gradient now. "


_DRAWN = ("Linear", "Conv1d", "Conv2d", "Conv3d", "Bilinear", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")


def _is_square(label: str) -> bool:
    """Whether a Linear has as many outputs as inputs, by "Linear(in_features=8, out_features=8, bias=True)"."""
    return label.startswith("Linear") and len(set(re.findall(r"\d+", label)[:2])) == 1
