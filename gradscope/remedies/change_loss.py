"""Use the loss that fits outputs and targets."""

from __future__ import annotations

import math

from gradscope.errors import NoPatch
from gradscope.numerals import number
from gradscope.patches import Edit, Program
from gradscope.patches.activations import final
from gradscope.patches.losses import average, change_target, lower_number, swap_loss, without_minus
from gradscope.records import Finding, LossPath
from gradscope.remedies.remedy import Remedy
from gradscope.signals import Signals
from gradscope.signals.output import asked
from gradscope.signals.progress import progress

_GAMMA = 2  # Lin et al. 2017


class ChangeLoss(Remedy):
    """Replaces the loss, its reduction or the shapes that it is given."""

    id = "change-loss"
    title = "Change the loss"
    cures = {"loss-mismatch": 1.0, "loss-reduction": 1.0, "output-activation": 0.4}
    needs_edit = "the loss is computed in your own code, behind the model"
    sources = (
        "torch.nn: what each loss expects as its input and target",
        "Lin et al. 2017, Focal loss for dense object detection (arXiv:1708.02002): gamma 2",
    )

    def why(self, finding: Finding, signals: Signals) -> str:
        """Why it should work here."""
        path = signals.run.info.loss_path or LossPath()
        went = progress(signals)
        if _is_broadcast(path):
            return (
                f"{max(path.output_shape)} outputs and targets made {path.compared_shape[0] * path.compared_shape[1]:,} "
                "comparisons. With equal shapes each output meets its own target."
            )
        if finding.causes and finding.causes[0].id == "loss-reduction" and path.output_shape:
            return f"A mean over {path.output_shape[0]} samples makes the steps that many times smaller than a sum."
        if went is not None and went.trivial < 0:
            return (
                f"The loss is at {number(went.now)} and falls without end. Without the minus it has a lowest value, 0."
            )
        if path.kind == "focal":
            return (
                f"With a gamma of {_GAMMA} a sample keeps most of its gradient until it is right, and loses it then: as the "
                "loss was meant."
            )
        if path.kind in ("nll", "kl-divergence"):
            return (
                "With logarithms of probabilities the loss has a lowest value, and it is 0 where every answer is right."
            )
        target = asked(signals)
        if (
            target is not None
            and path.target_dtype.startswith("float")
            and not 0 <= target.lowest <= target.highest <= 1
        ):
            ends = f"{number(target.lowest)} and {number(target.highest)}"
            return f"The targets lie between {ends}. A squared error compares numbers; a cross-entropy needs probabilities."
        return "A cross-entropy that takes the logits itself keeps its gradient where the answers are most wrong."

    def code(self, finding: Finding, signals: Signals) -> str:
        """Code to paste."""
        path = signals.run.info.loss_path or LossPath()
        went = progress(signals)
        if _is_broadcast(path):
            return "output = model(x)\nloss = criterion(output, y.view_as(output))  # equal shapes"
        if finding.causes and finding.causes[0].id == "loss-reduction":
            return f'criterion = torch.nn.{_module(path)}(reduction="mean")  # instead of "sum"'
        if went is not None and went.trivial < 0:
            return "loss = criterion(model(x), y)  # without the minus before it"
        if path.kind == "focal":
            return f"gamma = {_GAMMA}  # in the focal loss, or CrossEntropyLoss instead of it"
        if path.kind == "nll":
            return "criterion = torch.nn.CrossEntropyLoss()  # instead of NLLLoss, on the last layer's output as it is"
        if path.kind == "kl-divergence":
            return (
                'criterion = torch.nn.KLDivLoss(reduction="batchmean")\n'
                "log_probabilities = torch.nn.functional.log_softmax(model(x), dim=1)  # what it expects"
            )
        target = asked(signals)
        if (
            target is not None
            and path.target_dtype.startswith("float")
            and not 0 <= target.lowest <= target.highest <= 1
        ):
            return "criterion = torch.nn.MSELoss()  # the targets are numbers, not probabilities"
        if path.kind.startswith("binary"):
            return "criterion = torch.nn.BCEWithLogitsLoss()  # on outputs without a sigmoid"
        if path.kind == "triplet":
            return (
                "criterion = torch.nn.TripletMarginLoss(margin=0.2)\n"
                "embedding = torch.nn.functional.normalize(model(x), dim=1)  # cannot shrink to one point"
            )
        return "criterion = torch.nn.CrossEntropyLoss()  # on the last layer's output as it is, with class numbers"

    def edits(self, finding: Finding, signals: Signals, program: Program) -> list[Edit]:
        """Another loss, reduction or sign in the line that makes it, or targets of the outputs' shape."""
        path = signals.run.info.loss_path or LossPath()
        went, target = progress(signals), asked(signals)
        if _is_broadcast(path):
            return _equal_shapes(path, program)
        if finding.causes and finding.causes[0].id == "loss-reduction":
            return average(program, path.kind)
        if went is not None and went.trivial < 0 and path.kind not in ("nll", "kl-divergence"):
            return without_minus(program)
        if path.kind == "focal":
            return lower_number(program, "gamma", _GAMMA)
        if path.kind == "nll":
            return [*swap_loss(program, "nll", "cross-entropy"), *_without_softmax(program)]
        if path.kind in ("kl-divergence", "triplet"):
            raise NoPatch("the outputs must change with the loss")
        numbers = target is not None and not 0 <= target.lowest <= target.highest <= 1
        if numbers and path.target_dtype.startswith("float"):
            return swap_loss(program, path.kind, "squared-error")
        if path.kind == "binary-cross-entropy":
            return [*_without_sigmoid(program), *swap_loss(program, path.kind, "binary-cross-entropy-with-logits")]
        if path.kind == "squared-error" and path.target_dtype.startswith(("int", "long")):
            return swap_loss(program, path.kind, "cross-entropy")
        if path.kind == "cross-entropy":
            raise NoPatch("the loss is a cross-entropy already: what it is given has to change")
        raise NoPatch("the targets must change with the loss")


def _is_broadcast(path: LossPath) -> bool:
    """Whether each output was compared with each target."""
    outputs = math.prod(path.output_shape)
    return outputs > 1 and path.compared_shape == (outputs, outputs)


def _equal_shapes(path: LossPath, program: Program) -> list[Edit]:
    """Targets of the outputs' shape, where one dimension of 1 is all that they differ in."""
    output, target = path.output_shape, path.target_shape
    if output[:-1] == target and output[-1:] == (1,):
        return change_target(program, "{}.unsqueeze(-1)", "targets of the outputs' shape")
    if target[:-1] == output and target[-1:] == (1,):
        return change_target(program, "{}.squeeze(-1)", "targets of the outputs' shape")
    raise NoPatch(f"outputs {output} and targets {target} differ in more than a dimension of 1")


def _without_softmax(program: Program) -> list[Edit]:
    """The output without the softmax that the new loss has in it, where it has one."""
    last = final(program)
    return last.taken_off() if last is not None and "Softmax" in last.kind else []


def _without_sigmoid(program: Program) -> list[Edit]:
    """The output without the sigmoid that the new loss has in it."""
    last = final(program)
    if last is None or last.kind != "Sigmoid":
        raise NoPatch("nobody can say which line makes the output's sigmoid, which the new loss has in it")
    return last.taken_off()


def _module(path: LossPath) -> str:
    """The loss module of torch for a kind of loss."""
    modules = {
        "squared-error": "MSELoss",
        "absolute-error": "L1Loss",
        "huber": "SmoothL1Loss",
        "binary-cross-entropy": "BCELoss",
        "binary-cross-entropy-with-logits": "BCEWithLogitsLoss",
    }
    return modules.get(path.kind, "CrossEntropyLoss")
