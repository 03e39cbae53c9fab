"""Activations, softmax and its kin."""

from __future__ import annotations

from math import inf, prod
from typing import Any

import numpy as np

from .. import functional as F
from .registry import Node, Run, operator
from .values import beside, host, is_float, number

_SELU = 1.67326319217681884765625, 1.05070102214813232421875  # alpha, gamma, as ONNX defines them

for _name, _last, _function in [
    ("Relu", 14, F.relu), ("Sigmoid", 13, F.sigmoid), ("Tanh", 13, F.tanh), ("Softplus", 22, F.softplus),
    ("Softsign", 22, F.softsign), ("HardSwish", 22, F.hardswish), ("Mish", 22, F.mish),
]:  # fmt: skip
    operator(_name, last=_last)(lambda node, function=_function: lambda x: function(x))


@operator("LeakyRelu", last=16)
def leaky_relu(node: Node) -> Run:
    alpha = node.get("alpha", 0.01)
    return lambda x: F.leaky_relu(x, alpha)


@operator("PRelu", last=16)
def prelu(node: Node) -> Run:
    def run(x: Any, slope: Any) -> Any:
        if node.since < 7 and len(slope.shape) == 1:  # one a channel; later slopes broadcast as arrays do
            return F.prelu(x, slope)
        return F.add(F.relu(x), F.multiply(F.clip(x, max=0.0), slope))

    return run


@operator("Elu", last=22)
def elu(node: Node) -> Run:
    alpha = node.get("alpha", 1.0)
    return lambda x: F.elu(x, alpha)


@operator("Celu", last=28)
def celu(node: Node) -> Run:
    alpha = node.get("alpha", 1.0)
    return lambda x: F.celu(x, alpha)


@operator("Selu", first=6, last=22)
def selu(node: Node) -> Run:
    alpha, gamma = node.get("alpha", _SELU[0]), node.get("gamma", _SELU[1])
    return lambda x: F.multiply(F.elu(x, alpha), gamma)


@operator("Gelu", last=20)
def gelu(node: Node) -> Run:
    approximate = node.choice("approximate", "none", "none", "tanh")
    return lambda x: F.gelu(x, approximate)


@operator("Swish", last=24)
def swish(node: Node) -> Run:
    alpha = node.get("alpha", 1.0)
    return lambda x: F.silu(x) if alpha == 1 else F.multiply(x, F.sigmoid(F.multiply(x, alpha)))


@operator("HardSigmoid", last=22)
def hard_sigmoid(node: Node) -> Run:
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    return lambda x: F.hardtanh(F.add(F.multiply(x, alpha), beta), 0.0, 1.0)


@operator("ThresholdedRelu", last=22)
def thresholded_relu(node: Node) -> Run:
    alpha = node.get("alpha", 1.0)
    return lambda x: F.threshold(x, alpha, 0.0)


@operator("Shrink", last=9)
def shrink(node: Node) -> Run:
    bias, edge = node.get("bias", 0.0), node.get("lambd", 0.5)

    def run(x: Any) -> Any:
        if not is_float(x):
            return np.where(x < -edge, x + bias, np.where(x > edge, x - bias, 0)).astype(x.dtype)
        values = host(x)
        below = F.where(values < -edge, F.add(x, bias), 0.0)
        return F.where(values > edge, F.subtract(x, bias), below)

    return run


@operator("Clip", last=13, options=(1, 2))
def clip(node: Node) -> Run:
    bounds = node.get("min", -inf), node.get("max", inf)  # before opset 11

    def run(x: Any, low: Any = None, high: Any = None) -> Any:
        least = bounds[0] if low is None else number(low)
        most = bounds[1] if high is None else number(high)
        if is_float(x):
            return F.clip(x, min(least, most), most)
        return x if low is None and high is None else np.clip(x, low, high)

    return run


# ----------------------------------------------------------------------------------------- along an axis


def _along(node: Node, function: Any) -> Run:
    """Run ``function(x, axis)``: over one axis, or before opset 13 over all axes from one on, as a matrix's rows."""
    axis = node.get("axis", -1 if node.since >= 13 else 1)

    def run(x: Any) -> Any:
        if node.since >= 13:
            return function(x, axis)
        shape = tuple(x.shape)
        first = axis % len(shape)
        return F.reshape(function(F.reshape(x, (prod(shape[:first]), prod(shape[first:]))), 1), shape)

    return run


@operator("Softmax", last=13)
def softmax(node: Node) -> Run:
    return _along(node, F.softmax)


@operator("LogSoftmax", last=13)
def log_softmax(node: Node) -> Run:
    return _along(node, F.log_softmax)


@operator("Hardmax", last=13)
def hardmax(node: Node) -> Run:
    def first_maximum(x: Any, axis: int) -> Any:
        values = host(x)
        y = np.zeros_like(values)
        np.put_along_axis(y, values.argmax(axis=axis, keepdims=True), 1, axis)
        return beside(y, x)

    return _along(node, first_maximum)
