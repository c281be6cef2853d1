"""Give the loss what it expects: another final activation, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradscope.errors import NoPatch, NotApplicable
from gradscope.numerals import limit, number
from gradscope.patches import Edit, Program
from gradscope.patches.activations import final
from gradscope.patches.losses import swap_loss
from gradscope.records import Finding
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.loss import double_softmax_floor
from gradscope.signals.output import NAMES, OutputSide, asked, output_side

if TYPE_CHECKING:
    from random import Random

    import torch

    from gradscope.surgery import Applied

_DISTANCES = ("squared-error", "root-squared-error", "absolute-error", "huber")


class ChangeOutputActivation(Remedy):
    """Takes the activation off logits and regression outputs, and puts one where probabilities are asked for.

    Applied, it takes the module away that makes the output from the logits, or puts the one there that the loss
    expects. Risks: what the model gives means something else, so that code that takes it for probabilities (a
    threshold at 0.5, a printed confidence) has to change with it. An activation that forward calls as a function is
    out of reach.
    """

    id = "change-output-activation"
    title = "Change the output activation"
    cures = {"output-activation": 1.0, "loss-mismatch": 0.3}
    sources = ("Bishop 1995, Neural networks for pattern recognition, 6.6-6.9: output activation and error function",)

    def possible(self, signals: Signals) -> bool:
        """Nothing is to be changed where a distance is taken of plain outputs already."""
        side = output_side(signals)
        return side is None or bool(side.last) or side.path.kind not in _DISTANCES

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """No activation at the output, or a log-softmax where the loss wants one."""
        side = output_side(signals)
        last = final(program)
        if side is None or last is None:
            raise NoPatch("nobody can say which line makes the output's activation")
        kind = side.path.kind
        if kind in ("nll", "kl-divergence") and last.kind == "Softmax":
            return last.replaced_by("LogSoftmax")
        if last.kind.lower() != ("relu" if side.last == "Relu" else side.last.lower()) and not _one_unit(side):
            raise NoPatch(f"the run saw {NAMES.get(side.last, side.last)} at the output, the lines say {last.kind}")
        if kind == "binary-cross-entropy":
            return [*last.taken_off(), *swap_loss(program, kind, "binary-cross-entropy-with-logits")]
        if _one_unit(side) and not _of_numbers(side, signals):
            raise NoPatch("outputs, loss and targets must change together")
        return last.taken_off()

    def dose(self, finding: Finding, signals: Signals) -> dict[str, Any]:
        """Which module becomes what; "" stands for an activation put on the model's output."""
        side = output_side(signals)
        if side is None:
            return {}
        kind, path, to = side.path.kind, side.layers[-1] if len(side.layers) > 1 else None, "Identity"
        if kind in ("nll", "kl-divergence"):
            to = "LogSoftmax"
        elif kind == "binary-cross-entropy" or (
            _one_unit(side) and kind in _DISTANCES and not _of_numbers(side, signals)
        ):
            to = "Sigmoid"
        elif kind == "cross-entropy" and "LogSoftmax" not in side.names:
            to = "Softmax"  # the loss takes the logarithm itself
        called = path is None and bool(side.last or (to == "LogSoftmax" and "LogSoftmax" in side.names))
        if path is None and not called and to != "Identity":
            path = ""
        return {"layer": path, "to": to, "called": called}

    def random_dose(self, rng: Random) -> dict[str, Any]:
        """Any of the activations, in the place of what makes the output or on top of it."""
        return {"layer": rng.choice([None, ""]), "to": rng.choice(["Identity", "Softmax", "LogSoftmax", "Sigmoid"])}

    def act(  # type: ignore[override]
        self,
        applied: Applied,
        model: torch.nn.Module,
        optimizers: list[torch.optim.Optimizer],
        layer: str | None = None,
        to: str = "Identity",
        called: bool = False,
    ) -> None:
        """Takes the module away that makes the output from the logits, or puts the one there that the loss expects."""
        from gradscope.surgery.activations import change_output

        if called:
            raise NotApplicable("the output's activation is called as a function in forward: that needs your edit")
        change_output(applied, model, layer, to, 1)

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        side = output_side(signals)
        if side is None:
            return "Each loss fits one activation: logits for a cross-entropy, none for a squared error, softmax before NLL."
        activation = NAMES.get(side.last, side.last)
        kind = side.path.kind.replace("-", " ") or "loss"
        if _of_numbers(side, signals):
            return f"A softmax over 1 unit is always 1. The targets are numbers, which a {kind} compares with plain outputs."
        if _one_unit(side):
            return "A softmax over 1 unit is always 1. A sigmoid turns one output into a probability."
        if "Softmax" in side.names and side.path.classes > 1 and side.path.kind == "cross-entropy":
            floor = number(double_softmax_floor(side.path.classes))
            return f"The loss takes a softmax of its own. Without the model's its floor goes from {floor} to 0."
        if side.last:
            lowest, highest = side.range
            ends = f"from {limit(lowest)} to {limit(highest)}" if highest < 1e30 else f"of {limit(lowest)} and more"
            return f"{activation} gives numbers {ends}; a {kind} needs outputs that can be anything."
        return f"The {kind} is given outputs with no activation, and takes them for probabilities or their logarithms."

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        side = output_side(signals)
        kind = "" if side is None else side.path.kind
        if side is not None and _one_unit(side) and not _of_numbers(side, signals):
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


def _of_numbers(side: OutputSide, signals: Signals) -> bool:
    """Whether a distance is taken to targets that are no probabilities, behind a softmax over one unit."""
    target = asked(signals)
    outside = target is not None and (target.lowest < 0 or target.highest > 1)
    return _one_unit(side) and side.path.kind in _DISTANCES and outside


def _one_unit(side: OutputSide) -> bool:
    shape = side.path.output_shape
    return any(d < len(shape) and shape[d] == 1 for d in side.path.softmax_dimensions)
