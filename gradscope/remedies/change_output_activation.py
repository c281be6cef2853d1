"""Give the loss what it expects: another final activation, or none."""

from __future__ import annotations

from gradscope.numerals import number
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.loss import double_softmax_floor
from gradscope.signals.output import NAMES, OutputSide, output_side

_DISTANCES = ("squared-error", "root-squared-error", "absolute-error", "huber")


class ChangeOutputActivation(Remedy):
    """Takes the activation off logits and regression outputs, and puts one where probabilities are asked for."""

    id = "change-output-activation"
    title = "Change the output activation"
    cures = {"output-activation": 1.0, "loss-mismatch": 0.3}
    sources = ("Bishop 1995, Neural networks for pattern recognition, 6.6-6.9: output activation and error function",)

    def possible(self, signals: Signals) -> bool:
        """Nothing is to be changed where a distance is taken of plain outputs already."""
        side = output_side(signals)
        return side is None or bool(side.last) or side.path.kind not in _DISTANCES

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        side = output_side(signals)
        if side is None:
            return "Each loss fits one activation: logits for a cross-entropy, none for a squared error, softmax before NLL."
        activation = NAMES.get(side.last, side.last)
        kind = side.path.kind.replace("-", " ") or "loss"
        if _one_unit(side):
            return "A softmax over 1 unit is always 1. A sigmoid turns one output into a probability."
        if "Softmax" in side.names and side.path.classes > 1 and side.path.kind == "cross-entropy":
            floor = number(double_softmax_floor(side.path.classes))
            return f"The loss takes a softmax of its own. Without the model's its floor goes from {floor} to 0."
        if side.last:
            lowest, highest = side.range
            ends = f"from {number(lowest)} to {number(highest)}" if highest < 1e30 else f"of {number(lowest)} and more"
            return f"{activation} gives numbers {ends}; a {kind} needs outputs that can be anything."
        return f"The {kind} is given outputs with no activation, and takes them for probabilities or their logarithms."

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        side = output_side(signals)
        kind = "" if side is None else side.path.kind
        if side is not None and _one_unit(side):
            return (
                "# at the end of the model: nothing instead of softmax, and the sigmoid inside the loss\n"
                "criterion = torch.nn.BCEWithLogitsLoss()"
            )
        if kind in ("nll", "kl-divergence"):
            return (
                "# at the end of the model: log_softmax over the classes, not softmax\n"
                "log_probabilities = torch.nn.functional.log_softmax(model(x), dim=1)"
            )
        if kind.startswith("binary"):
            return (
                "# at the end of the model: nothing; the loss has the sigmoid in it\n"
                "criterion = torch.nn.BCEWithLogitsLoss()"
            )
        path = finding.layers[-1] if len(finding.layers) > 1 else ""
        if kind in _DISTANCES or kind == "cross-entropy":
            last = (
                f"model.{path} = torch.nn.Identity()" if path and all(p.isidentifier() for p in path.split(".")) else ""
            )
            numbered = f"model[{path}] = torch.nn.Identity()" if path.isdigit() else ""
            what = last or numbered or "# in forward: return the last layer's output as it is"
            loss = "torch.nn.CrossEntropyLoss()" if kind == "cross-entropy" else "torch.nn.MSELoss()"
            return f"{what}\ncriterion = {loss}  # expects outputs without an activation"
        return (
            "# at the end of the model: the last layer's output as it is, for a loss that works on it\n"
            "criterion = torch.nn.CrossEntropyLoss()  # BCEWithLogitsLoss() for yes or no, MSELoss() for numbers"
        )


def _one_unit(side: OutputSide) -> bool:
    shape = side.path.output_shape
    return any(d < len(shape) and shape[d] == 1 for d in side.path.softmax_dimensions)
