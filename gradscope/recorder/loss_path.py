"""What lies between the head and the loss, read from the loss's graph while it is alive.

The walk goes back from the loss to the outputs that `passes.mark_heads` marked; what does not lead there (a penalty
on weights) is not on the way. Kinds, as `LossPath.kind` says them:

    cross-entropy, nll (without a logarithm before it), focal, binary-cross-entropy,
    binary-cross-entropy-with-logits, squared-error, root-squared-error, absolute-error, huber, kl-divergence, poisson,
    margin, triplet, cosine-embedding, ctc; "" for everything else
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from gradscope.recorder.loss_walk import LOGARITHMS, MOST_ENTRIES, RESHAPES, Term, Walk, are_complements, name_of
from gradscope.recorder.passes import Edge, Node, head_output, is_head
from gradscope.recorder.private import saved_number, saved_tensor, shape_at
from gradscope.records import LossPath

_MOST_OPERATIONS = 64  # that are written down
_MOST_TERMS = 32  # of a loss whose kind is looked at
_FUSED = {
    "MseLoss": "squared-error",
    "HuberLoss": "huber",
    "SmoothL1Loss": "huber",
    "BinaryCrossEntropy": "binary-cross-entropy",
    "BinaryCrossEntropyWithLogits": "binary-cross-entropy-with-logits",
    "KlDiv": "kl-divergence",
    "SoftMarginLoss": "margin",
    "MultiMarginLoss": "margin",
    "MultilabelMarginLoss": "margin",
    "CtcLoss": "ctc",
    "CudnnCtcLoss": "ctc",
    **dict.fromkeys(("NllLoss", "NllLoss2D", "NllLossNd"), "nll"),
}
# what the operations of losses that are put together from simple ones leave open
_BY_CLASS = {
    "KLDivLoss": "kl-divergence",
    "TripletMarginLoss": "triplet",
    "TripletMarginWithDistanceLoss": "triplet",
    "CosineEmbeddingLoss": "cosine-embedding",
    "MarginRankingLoss": "margin",
    "HingeEmbeddingLoss": "margin",
    "PoissonNLLLoss": "poisson",
    "L1Loss": "absolute-error",
    "MultiLabelSoftMarginLoss": "binary-cross-entropy-with-logits",
}
_REDUCTIONS = ("none", "mean", "sum")  # as torch numbers them


@dataclass(frozen=True)
class Reading:
    """What one loss showed. The tensor is the user's: it is copied and let go of before the step goes on."""

    path: LossPath
    target: torch.Tensor | None
    weight: float  # what a loss of 1 at every target would give; NaN: not known, or there are other terms
    averaged: bool = False  # by the loss itself, over the entries that count and by their weights
    class_weight: torch.Tensor | None = None
    ignored: int | None = None  # a class that does not count


def read_loss(loss: Edge, watcher: int, classes_seen: Sequence[str] = ()) -> Reading | None:
    """Reads the way from the heads to a loss; None when it does not lead to one.

    Args:
        loss: the edge at which the loss's graph begins.
        watcher: whose heads count, see `passes.mark_heads`.
        classes_seen: names of the loss modules that ran.
    """
    walk = Walk(loss, watcher)
    if not walk.heads:
        return None
    return _Classification(walk, classes_seen).reading()


class _Classification:
    """Says what kind of loss a walk has found."""

    def __init__(self, walk: Walk, classes_seen: Sequence[str]) -> None:
        self._walk = walk
        self._hint = _BY_CLASS.get(classes_seen[0], "") if len(classes_seen) == 1 else ""

    def reading(self) -> Reading:
        walk = self._walk
        terms = list(walk.terms())
        kinds = [self._kind(term) for term in terms[:_MOST_TERMS]]
        main = next((i for i, kind in enumerate(kinds) if kind), 0)
        kind = kinds[main] if kinds else ""
        kind = kind or self._hint
        output = shape_at(*walk.heads[0])
        nodes = self._of_term(terms, main) if len(terms) > 1 and kind else walk.nodes
        path = LossPath(
            operations=tuple(node.name() for node in nodes[:_MOST_OPERATIONS]),
            kind=kind,
            output_shape=output,
            softmax_dimensions=tuple(_softmax_dimensions(nodes)),
        )
        if not terms:
            return Reading(path, None, math.nan)
        term = terms[main]
        node = comparing = self._comparing(term.node)
        if kind in ("cross-entropy", "nll") and name_of(node) not in _FUSED:
            before = reversed(self._walk.before(node))
            node = next((each for each in before if name_of(each) in _FUSED), node)
        target = self._target(node, kind)
        compared = self._compared_shape(node)
        reduction, entries = self._reduction(node, term, compared, kind, target, output)
        path = LossPath(
            **{
                **vars(path),
                "reduction": reduction,
                "compared_shape": compared,
                "target_shape": () if target is None else tuple(target.shape),
                "target_dtype": "" if target is None else str(target.dtype)[6:],
                "classes": self._classes(node, kind, output),
            }
        )
        class_weight, sure = self._weighting(node, kind)
        # what becomes of entries between a function and the summand is not known
        weight = entries * term.weight if len(terms) == 1 and sure and node is comparing else math.nan
        if name_of(node) not in _FUSED:
            target, sign = self._sign(node, kind, target)
            weight *= sign
        ignored = saved_number(node, "ignore_index")
        averaged = saved_number(node, "reduction") == _REDUCTIONS.index("mean")
        return Reading(path, target, weight, averaged, class_weight, None if ignored is None else int(ignored))

    def _of_term(self, terms: Sequence[Term], main: int) -> list[Node]:
        """The nodes of one summand and of what becomes of the sum."""
        own = {id(node) for node in self._walk.before(terms[main].node)}
        others = {id(node) for node in self._walk.before(*(term.node for term in terms))} - own
        return [node for node in self._walk.nodes if id(node) not in others]

    def _kind(self, term: Term) -> str:
        """The kind of one summand."""
        before = self._walk.before(term.node)
        names = [name_of(node) for node in before]
        has = set(names)
        fused = next((_FUSED[name] for name in reversed(names) if name in _FUSED), "")
        if fused == "nll" and has & LOGARITHMS:
            fused = "cross-entropy"
        if fused and name_of(term.node) in _FUSED:
            if fused == "squared-error" and term.rooted:
                return "root-squared-error"
            return fused
        if fused or {"Gather", "Index", "Mul"} & has:
            entropy = fused in ("nll", "cross-entropy", "binary-cross-entropy", "binary-cross-entropy-with-logits") or (
                has & {"LogSoftmax", "LogSigmoid"}
            )
            if entropy and "Pow" in has and "Mul" in has:
                return "focal"
        if fused:
            return fused
        return self._hand_written(term, has, names)

    def _hand_written(self, term: Term, has: set[str], names: list[str]) -> str:
        """The kind of a summand that is put together from simple operations."""
        node = self._comparing(term.node)
        name = name_of(node)
        if name in ("Pow", "Mul", "Abs") and self._difference(node) is not None:
            if name == "Abs":
                return "absolute-error"
            if name == "Pow" and saved_number(node, "exponent") != 2:
                return ""
            return "root-squared-error" if term.rooted else "squared-error"
        if self._hint:
            return self._hint
        back = self._walk.back(node)
        if name == "Sub" and [place for place, _ in back] == [1] and has & {*LOGARITHMS, "Softmax"} and "Mul" in has:
            return "kl-divergence"  # its first part is a number
        if has & {"LogSoftmax", "Logsumexp"} or {"Log", "Softmax"} <= has:
            return "" if self._is_weighted(node) or self._is_entropy(node) else "cross-entropy"
        if names.count("LogSigmoid") or names.count("Softplus"):
            return "binary-cross-entropy-with-logits" if "Mul" in has else ""
        if "Log" in has and ("Sigmoid" in has or names.count("Log") == 2) and "Mul" in has and "Pow" not in has:
            return "binary-cross-entropy"
        if names.count("Log") == 1 and has & {"Gather", "Index", "Mul"} and "Pow" not in has:
            return "cross-entropy"
        norms = sum(name in ("Norm", "LinalgVectorNorm") for name in names)
        if norms >= 2 and has & {"ClampMin", "Relu", "Clamp"}:
            return "triplet"
        if has & {"ClampMin", "Relu", "Clamp"} and "Rsub" in has and "Log" not in has:
            return "margin"
        return ""

    def _is_weighted(self, node: Node) -> bool:
        """Whether chosen log-probabilities are weighted one by one, as a policy's are with advantages."""
        before = self._walk.before(node)
        chosen = next((place for place, each in enumerate(before) if name_of(each) in ("Gather", "Index")), len(before))
        return any(name_of(each) == "Mul" and len(self._walk.back(each)) == 1 for each in before[chosen:])

    def _is_entropy(self, node: Node) -> bool:
        """Whether outputs are multiplied with their own logarithms."""
        products = [each for each in self._walk.before(node) if name_of(each) == "Mul"]
        return any(len(self._walk.back(each)) == 2 for each in products)

    def _sign(self, node: Node, kind: str, target: torch.Tensor | None) -> tuple[torch.Tensor | None, float]:
        """The targets of a loss written by hand, and which sign makes an entry of it positive."""
        if not kind.startswith(("cross-entropy", "binary-cross-entropy")):
            return target, 1.0
        back = self._walk.back(node)
        if name_of(node) == "Sub" and len(back) == 2 and name_of(back[0][1][0]) == "Logsumexp":
            return target, 1.0  # log-sum-exp less the logit of the class
        known = target is not None and target.is_floating_point() and target.is_cpu and target.numel() > 0
        if known and target is not None and float(target.max()) <= 0:
            return -target, 1.0  # -y * log(p)
        return target, -1.0

    def _comparing(self, node: Node) -> Node:
        """The node at which outputs meet targets; mostly the summand's own."""
        back = self._walk.back(node)
        while name_of(node) in RESHAPES and len(back) == 1 and not is_head(back[0][1], self._walk.watcher):
            node = back[0][1][0]
            back = self._walk.back(node)
        return node

    def _difference(self, node: Node) -> Node | None:
        """The subtraction that a square or an absolute value is taken of."""
        back = self._walk.back(node)
        if not back or (name_of(node) == "Mul" and (len(back) != 2 or not _twice(back[0][1][0], back[1][1][0]))):
            return None
        edge = back[0][1]
        while not is_head(edge, self._walk.watcher):
            if name_of(edge[0]) in ("Sub", "Rsub"):
                return edge[0]
            back = self._walk.back(edge[0])
            if name_of(edge[0]) not in RESHAPES or len(back) != 1:
                return None
            edge = back[0][1]
        return None

    def _target(self, node: Node, kind: str) -> torch.Tensor | None:
        """The targets that the loss compares outputs with; None where the graph does not keep them."""
        fused = saved_tensor(node, "target")
        if fused is not None:
            return _not_broadcast(fused)
        if kind in ("squared-error", "root-squared-error", "absolute-error"):
            return self._subtracted(node)
        if kind.startswith("binary-cross-entropy"):
            products = map(self._labels, self._walk.before(node))
            return next((labels for labels in products if labels is not None), None)
        if kind == "cross-entropy":
            for each in self._walk.before(node):
                if name_of(each) in ("Gather", "Index"):
                    found = saved_tensor(each, "index" if name_of(each) == "Gather" else "indices")
                    return found if found is not None and not found.dtype.is_floating_point else None
            labels = next(iter(self._walk.factors(node).values()), None)
            if labels is not None:
                return labels if labels.is_floating_point() else labels.to(torch.get_default_dtype())
        return None

    def _weighting(self, node: Node, kind: str) -> tuple[torch.Tensor | None, bool]:
        """The weights of classes, and whether it is sure that entries have no others."""
        if name_of(node) in _FUSED:
            if kind.startswith("binary-cross-entropy"):
                return saved_tensor(node, "pos_weight"), saved_tensor(node, "weight") is None
            return saved_tensor(node, "weight"), True
        factors = self._walk.factors(node)
        if kind.startswith("binary-cross-entropy"):
            return None, len(factors) == 2 and are_complements(*factors.values())
        if kind != "cross-entropy" or len(factors) == 0:
            return None, True
        if any(name_of(each) in ("Gather", "Index") for each in self._walk.before(node)) or len(factors) > 2:
            return None, False
        shapes = {shape_at(product, 0) for product in factors}
        weights = list(factors.values())[1:]
        single = all(each is not None and each.shape[-1:] == (each.numel(),) for each in weights)
        return next(iter(weights), None), single and len(shapes) == 1

    def _labels(self, node: Node) -> torch.Tensor | None:
        """What a log-probability is multiplied with in a binary cross-entropy written by hand."""
        back = self._walk.back(node) if name_of(node) == "Mul" else []
        if len(back) != 1 or name_of(back[0][1][0]) not in ("Log", "LogSigmoid"):
            return None
        before = self._walk.back(back[0][1][0])
        if len(before) != 1 or name_of(before[0][1][0]) in ("Rsub", "Neg", "Sub", "Add"):
            return None
        return saved_tensor(node, "other" if back[0][0] == 0 else "self")

    def _subtracted(self, node: Node) -> torch.Tensor | None:
        """What was subtracted from the outputs: outputs less the difference that a square keeps."""
        difference, subtraction = saved_tensor(node, "self"), self._difference(node)
        if difference is None or subtraction is None or difference.numel() > MOST_ENTRIES or not difference.is_cpu:
            return None
        (place, edge), *others = self._walk.back(subtraction)
        if others or name_of(subtraction) != "Sub":
            return None
        while not is_head(edge, self._walk.watcher) and name_of(edge[0]) in RESHAPES:
            edge = self._walk.back(edge[0])[0][1]
        if is_head(edge, self._walk.watcher):
            output = head_output(edge, self._walk.watcher)
        else:
            output = saved_tensor(edge[0], "result")
        if output is None or not output.is_cpu:
            return None
        with torch.no_grad():
            output, sign = output.detach(), -1 if place == 0 else 1
            if output.numel() == difference.numel():
                return output.reshape(difference.shape) + sign * difference.detach()
            if difference.shape == (output.numel(), output.numel()):  # (N, 1) beside (N,)
                down = shape_at(edge[0], edge[1])[-1:] == (1,)
                target = output.reshape((-1, 1) if down else (1, -1)) + sign * difference.detach()
                return target[0] if down else target[:, :1]
        return None

    def _compared_shape(self, node: Node) -> tuple[int, ...]:
        """The shape at which outputs met targets."""
        if name_of(node) in _FUSED:
            edges = [edge for _, edge in self._walk.back(node)]
            return shape_at(*edges[0]) if edges else ()
        difference = self._difference(node) if name_of(node) in ("Pow", "Mul", "Abs") else None
        return shape_at(node if difference is None else difference, 0)

    def _reduction(
        self,
        node: Node,
        term: Term,
        compared: tuple[int, ...],
        kind: str,
        target: torch.Tensor | None,
        output: tuple[int, ...],
    ) -> tuple[str, float]:
        """How the loss was put together from its entries, and over how many entries its weight is to be summed."""
        number = saved_number(node, "reduction")
        own = _REDUCTIONS[int(number)] if number is not None and 0 <= number < 3 else ""
        counted = math.prod(shape_at(node, 0))
        classes = self._classes(node, kind, compared) or 1
        if own == "sum":
            counted = math.prod(compared) // classes
        elif not own and target is not None and target.is_floating_point() and target.dim() == len(shape_at(node, 0)):
            counted //= classes  # probabilities of every class
        if own == "mean":
            return "mean", 1.0
        # divided by the samples it is a mean, however few they are
        summed = abs(term.weight) >= _SUMMED and abs(term.weight) * max((*output[:1], 1)) > 1 + 1e-6
        if own == "sum":
            return ("sum" if summed or math.isnan(term.weight) else "mean"), float(counted)
        summed = summed and not term.averaged
        return ("sum" if summed else "" if math.isnan(term.weight) else "mean"), float(counted)

    def _classes(self, node: Node, kind: str, shape: tuple[int, ...]) -> int:
        """How many classes a cross-entropy tells apart."""
        if kind not in ("cross-entropy", "nll", "focal"):
            return 0
        for each in reversed(self._walk.before(node)):
            name = name_of(each)
            if name in _FUSED:
                logs = [shape_at(*edge) for _, edge in self._walk.back(each)]
                return logs[0][min(1, len(logs[0]) - 1)] if logs and logs[0] else 0
            if name in ("LogSoftmax", "Softmax"):
                dimension, around = saved_number(each, "dim"), shape_at(each, 0)
                return around[int(dimension)] if dimension is not None and around else 0
        return shape[-1] if len(shape) > 1 else 0


_SUMMED = 0.25  # weight of one entry in the loss: a mean's is 1 over their number; half a sum of squares has 0.5


def _twice(one: Node, two: Node) -> bool:
    """Whether a product is a square: of one tensor, or of two differences made alike."""
    return one is two or (name_of(one) == name_of(two) == "Sub" and _feeds(one) == _feeds(two))


def _feeds(node: Node) -> list[int]:
    return [id(following) for following, _ in node.next_functions]


def _not_broadcast(target: torch.Tensor) -> torch.Tensor:
    """Targets as they were before they were broadcast: along added dimensions a tensor does not move in memory."""
    if target.layout is not torch.strided or not target.numel():
        return target
    for dimension, (size, stride) in enumerate(zip(target.shape, target.stride(), strict=True)):
        if stride == 0 and size > 1:
            target = target.narrow(dimension, 0, 1)
    while target.dim() > 1 and target.shape[0] == 1 and target.stride(0) == 0:
        target = target[0]
    return target


def _softmax_dimensions(nodes: Sequence[Node]) -> Iterator[int]:
    for node in nodes:
        dimension = saved_number(node, "dim") if name_of(node) in ("Softmax", "LogSoftmax") else None
        if dimension is not None:
            yield int(dimension) + (len(shape_at(node, 0)) if dimension < 0 else 0)
