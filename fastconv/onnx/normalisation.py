"""Batch, instance, group, layer and other normalisations; dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional as F
from ..tensor import no_grad
from .conv_pool import power_sum, root
from .registry import Node, Run, operator
from .values import beside, host, number


@operator("BatchNormalization", last=15, state=(3, 4), modal=True)
def batch_normalization(node: Node) -> Run:
    eps, momentum = node.get("epsilon", 1e-5), node.get("momentum", 0.9)
    node.refuse("spatial", 1)
    by_file = bool(node.get("training_mode", 0)) if node.since >= 14 else node.has_output(1)
    held = node.inputs[3] in node.initial and node.inputs[4] in node.initial
    with_statistics = node.has_output(1)

    def run(x: Any, scale: Any, b: Any, mean: Any, var: Any, training: bool | None) -> Any:
        if not (by_file if training is None else training):
            return (F.batch_norm(x, mean, var, scale, b, False, eps=eps), mean, var, mean, var)
        moved = (mean, var) if held and training else (None, None)
        results = _statistics(x, mean, var, momentum) if with_statistics else ()
        return (F.batch_norm(x, *moved, scale, b, True, 1 - momentum, eps), *results)

    return run


def _statistics(x: Any, mean: Any, var: Any, momentum: float) -> tuple:
    """Return running mean and variance as ONNX moves them (the variance biased), and those of the batch."""
    axes = [0, *range(2, len(x.shape))]
    with no_grad():
        batch = F.mean(x, axes), F.variance(x, axes)
        return (
            tuple(
                F.add(F.multiply(old, momentum), F.multiply(new, 1 - momentum))
                for old, new in zip((mean, var), batch, strict=True)
            )
            + batch
        )


@operator("InstanceNormalization", last=22)
def instance_normalization(node: Node) -> Run:
    eps = node.get("epsilon", 1e-5)
    return lambda x, scale, b: F.group_norm(x, x.shape[1], scale, b, eps)


@operator("GroupNormalization", last=21)
def group_normalization(node: Node) -> Run:
    eps, groups = node.get("epsilon", 1e-5), node.get("num_groups")

    def run(x: Any, scale: Any, b: Any) -> Any:
        if node.since < 21:  # one a group
            scale, b = (_repeated(p, x.shape[1] // groups) for p in (scale, b))
        return F.group_norm(x, groups, scale, b, eps)

    return run


def _repeated(parameter: Any, times: int) -> Any:
    count = parameter.shape[0]
    return F.reshape(F.broadcast_to(F.reshape(parameter, (count, 1)), (count, times)), (count * times,))


def _last_axes(x: Any, axis: int) -> tuple[tuple[int, ...], list[int]]:
    """Return the sizes from ``axis`` on, and their axes."""
    axis %= len(x.shape)
    return tuple(x.shape[axis:]), list(range(axis, len(x.shape)))


@operator("LayerNormalization", last=17)
def layer_normalization(node: Node) -> Run:
    eps, axis = node.get("epsilon", 1e-5), node.get("axis", -1)
    with_statistics = node.has_output(1) or node.has_output(2)

    def run(x: Any, scale: Any = None, b: Any = None) -> Any:
        sizes, axes = _last_axes(x, axis)
        if all(p is None or tuple(p.shape) == sizes for p in (scale, b)):
            y = F.layer_norm(x, sizes, scale, b, eps)
        else:
            y = _affine(F.layer_norm(x, sizes, eps=eps), scale, b)
        if not with_statistics:
            return y
        return y, F.mean(x, axes, True), F.reciprocal(F.sqrt(F.add(F.variance(x, axes, True), eps)))

    return run


def _affine(y: Any, scale: Any, b: Any) -> Any:
    y = y if scale is None else F.multiply(y, scale)
    return y if b is None else F.add(y, b)


@operator("RMSNormalization", last=23)
def rms_normalization(node: Node) -> Run:
    eps, axis = node.get("epsilon", 1e-5), node.get("axis", -1)

    def run(x: Any, scale: Any) -> Any:
        _, axes = _last_axes(x, axis)
        root = F.sqrt(F.add(F.mean(F.multiply(x, x), axes, True), eps))
        return F.multiply(F.divide(x, root), scale)

    return run


@operator("LpNormalization", last=22)
def lp_normalization(node: Node) -> Run:
    axis, p = node.get("axis", -1), float(node.get("p", 2))

    def run(x: Any) -> Any:
        total = power_sum(x, p, [axis], True)
        least = float(np.finfo(x.dtype).tiny)  # what is all zeros stays so
        return F.divide(x, root(F.maximum(total, least), p))

    return run


@operator("MeanVarianceNormalization", last=13)
def mean_variance_normalization(node: Node) -> Run:
    axes = list(node.get("axes", [0, 2, 3]))

    def run(x: Any) -> Any:
        distance = F.subtract(x, F.mean(x, axes, True))
        return F.divide(distance, F.add(F.sqrt(F.mean(F.multiply(distance, distance), axes, True)), 1e-9))

    return run


@operator("LRN", last=13)
def lrn(node: Node) -> Run:
    size, options = node.get("size"), (node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0))

    def run(x: Any) -> Any:
        if size % 2:
            return F.local_response_norm(x, size, *options)
        # Of an even window ONNX has the longer half after the channel, PyTorch before it.
        return _reversed(F.local_response_norm(_reversed(x), size, *options))

    return run


def _reversed(x: Any) -> Any:
    return F.index_select(x, 1, np.arange(x.shape[1])[::-1])


@operator("Dropout", last=22, options=(1, 2), modal=True)
def dropout(node: Node) -> Run:
    by_file = node.since < 7 and not node.get("is_test", 0)
    share, with_mask = node.get("ratio", 0.5), node.has_output(1)

    def run(x: Any, ratio: Any = None, mode: Any = None, training: bool | None = None) -> Any:
        p = share if ratio is None else number(ratio)
        if training is None:
            training = by_file if mode is None else bool(number(mode))
        if not with_mask:
            return F.dropout(x, p, training)
        factors = F.dropout(beside(np.ones(x.shape, x.dtype), x), p, training)
        return F.multiply(x, factors), host(factors) != 0

    return run
