"""How softmax attention spreads over its keys, from what autograd keeps of it for the backward pass."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

from gradscope.recorder.private import saved_number, unchanged_saved_tensor
from gradscope.stats import cut, sketch, spaced

_FUSED = "ScaledDotProduct"  # its nodes are named after what computes it: flash, efficient, cuDNN …
_WRITTEN_OUT = ("SoftmaxBackward0", "SafeSoftmaxBackward0")
_PRODUCTS = {  # of queries and keys, by what they save
    "BmmBackward0": ("self", "mat2"),
    "BaddbmmBackward0": ("batch1", "batch2"),
    "MmBackward0": ("self", "mat2"),
}
_BETWEEN = ("View", "UnsafeView", "Expand", "ReshapeAlias", "Mul", "Div", "Add", "Sub", "MaskedFill", "Where", "ToCopy")
_MASKED = -1e4  # what is added to a logit that must not count; float16 has no room for much more
_PAIRS, _QUERIES = 8, 8  # of a sample and a head; of each


class Attention(NamedTuple):
    """Numbers of a few queries, shape `[sketch]`, and how many queries there are."""

    entropy: torch.Tensor  # over the logarithm of the number of keys, in [0, 1]; 1 where there is one key only
    logit: torch.Tensor | None  # the largest |logit|; None: not known
    queries: int


def may_be_attention(node: Any) -> bool:
    """Whether a node of the autograd graph has a name that attention's may have."""
    name: str = node.name()
    return name in _WRITTEN_OUT or name.startswith(_FUSED)


def is_attention(node: Any) -> bool:
    """Whether it is fused attention, or the softmax of attention that is written out."""
    return node.name().startswith(_FUSED) or (node.name() in _WRITTEN_OUT and _product(node) is not None)


def look(node: Any) -> Attention | None:
    """What an attention's node tells; None where it must not or cannot be read."""
    return _fused(node) if node.name().startswith(_FUSED) else _written_out(node)


def _fused(node: Any) -> Attention | None:
    query, key = unchanged_saved_tensor(node, "query"), unchanged_saved_tensor(node, "key")
    if query is None or key is None or query.is_nested or query.dim() != 4 or query.shape[0] != key.shape[0]:
        return None
    if not query.numel() or query.shape[1] % key.shape[1]:
        return None
    full = (*query.shape[:-1], key.shape[2])
    shared = query.shape[1] // key.shape[1]  # heads of queries that share one of keys
    samples, heads = spaced((key.shape[0], key.shape[1]), _PAIRS)
    (rows,) = spaced((query.shape[2],), _QUERIES)
    scale = saved_number(node, "scale")
    logits = _products(query[:, ::shared][samples, heads, rows], key[samples, heads].transpose(-2, -1))
    logits = logits * (key.shape[-1] ** -0.5 if scale is None else scale)
    kept = torch.ones_like(logits, dtype=torch.bool)
    biased = logits
    for name in ("attn_mask", "attn_bias"):
        mask = unchanged_saved_tensor(node, name)
        if mask is not None:
            part = mask.expand(full)[:, ::shared][samples, heads, rows]
            kept = part > _MASKED
            biased = logits + part
    if getattr(node, "_saved_is_causal", False):
        places = [torch.arange(full[axis], device=query.device) for axis in (2, 3)]
        kept = kept & (places[1] <= places[0][rows, None])
    shares = biased.masked_fill(~kept, -math.inf).softmax(-1)
    largest = logits.abs().masked_fill(~kept, 0).amax(-1)
    return Attention(_spread(shares, kept.sum(-1)), largest.reshape(-1), math.prod(full[:-1]))


def _written_out(node: Any) -> Attention | None:
    shares = unchanged_saved_tensor(node, "result")
    if shares is None or shares.is_nested or saved_number(node, "dim") not in (-1, shares.dim() - 1):
        return None
    if not shares.numel() or shares.dim() < 2:
        return None
    keys = shares.shape[-1]
    few = sketch(shares, cut(shares.shape, (shares.dim() - 1,), _PAIRS * _QUERIES, keys))
    count = torch.full_like(few[:, 0], keys)
    if shares.shape[-2] == keys:  # a causal mask leaves nothing after a query's own place
        places = torch.arange(keys, device=shares.device)
        own = sketch(places.expand(shares.shape[:-1]), cut(shares.shape[:-1], (), _PAIRS * _QUERIES, 1))
        causal = ((few > 0) & (places > own)).any().logical_not()
        count = torch.where(causal, own[:, 0] + 1, count)
    return Attention(_spread(few, count), _logits(node), math.prod(shares.shape[:-1]))


def _spread(shares: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """The entropy of each query's shares over the most that so many keys can have, shape `[queries]`."""
    most = keys.clamp(min=2).to(shares.dtype).log()
    return torch.where(keys > 1, torch.special.entr(shares).sum(-1) / most, 1.0).reshape(-1)


def _product(node: Any) -> tuple[Any, list[Any]] | None:
    """The product of queries and keys that a softmax is taken of, and the operations in between; None: another softmax."""
    between: list[Any] = []
    while len(between) < 12:
        following = [after for after, _ in node.next_functions if after is not None]
        node = next((after for after in following if after.name() in _PRODUCTS), following[0] if following else None)
        if node is None or node.name() in _PRODUCTS:
            return None if node is None or _has_weights(node) else (node, between)
        if node.name().rpartition("Backward")[0] not in _BETWEEN:
            return None
        between.append(node)
    return None


def _has_weights(product: Any) -> bool:
    """Whether one side of a product is a parameter, or needs no gradient: then it is a layer's, not attention's."""
    for side, _ in product.next_functions[-2:]:
        while side is not None and side.name().startswith(("TB", "Transpose", "Expand", "ReshapeAlias")):
            side = side.next_functions[0][0]
        if side is None or side.name().endswith("AccumulateGrad"):
            return True
    return False


def _logits(node: Any) -> torch.Tensor | None:
    """The largest |logit| of a few queries of written-out attention, before a mask; None where a factor is not known."""
    found = _product(node)
    if found is None:
        return None
    product, between = found
    factor = 1.0
    for operation in between:
        if operation.name().startswith(("Mul", "Div")):
            other = _factor(operation)
            if other is None:
                return None
            factor = factor * other if operation.name().startswith("Mul") else factor / other
    query, key = (unchanged_saved_tensor(product, name) for name in _PRODUCTS[product.name()])
    if query is None or key is None:
        return None
    if query.dim() == 2:
        query, key = query[None], key[None]
    (pairs,), (rows,) = spaced((query.shape[0],), _PAIRS), spaced((query.shape[1],), _QUERIES)
    return (_products(query[pairs, rows], key[pairs]) * factor).abs().amax(-1).reshape(-1)


def _factor(operation: Any) -> float | None:
    """The number that an operation multiplies or divides by; None where it is a tensor, or would have to be waited for."""
    number = saved_number(operation, "other")
    tensor = unchanged_saved_tensor(operation, "other") if number is None else None
    if tensor is not None and tensor.numel() == 1 and tensor.is_cpu:
        number = float(tensor)
    return number


def _products(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    with torch.autocast(query.device.type, enabled=False):
        return query.float() @ key.float()
