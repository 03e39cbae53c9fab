"""Export of activations, arithmetic, reductions: what happens to each element by itself, or along axes."""

from __future__ import annotations

from math import inf, prod, sqrt
from typing import Any

import numpy as np

from ..graph import Node, Times, Value
from .export_builder import Builder, product, writes

# ------------------------------------------------------------------------------------- one value, elementwise


def _unary(b: Builder, node: Node, op: str, *more: str, **attributes: Any) -> None:
    """Write a node that takes a value in whatever sizes it lies."""
    name, sizes = b.stored(node.operands[0])
    b.put(node.result, b.emit(op, [name, *more], **attributes), sizes)


_PLAIN = {
    "relu_forward": "Relu", "sigmoid_forward": "Sigmoid", "tanh_forward": "Tanh",
}  # fmt: skip


@writes(*_PLAIN)
def _plain(b: Builder, node: Node) -> None:
    _unary(b, node, _PLAIN[node.verb])


@writes("leaky_relu_forward")
def _leaky_relu(b: Builder, node: Node) -> None:
    _unary(b, node, "LeakyRelu", alpha=float(node["negative_slope"]))


@writes("dropout_apply")
def _dropout_apply(b: Builder, node: Node) -> None:
    """A choice by a mask; masks that are drawn at random are refused where they are drawn."""
    x = b.exact(node["x"])
    if node["factor"] != 1:
        x = b.emit("Mul", [x, b.number(node["factor"], node.result.dtype)])
    b.put(node.result, b.emit("Where", [b.exact(node["mask"]), x, b.number(0, node.result.dtype)]))


@writes("relu_backward")
def _relu_backward(b: Builder, node: Node) -> None:
    """In a forward pass a choice: dy where y is above 0, else 0."""
    zero = b.number(0, node.result.dtype)
    refused = b.emit("LessOrEqual", [b.exact(node["y"]), zero])
    b.put(node.result, b.emit("Where", [refused, zero, b.exact(node["dy"])]))


@writes("matches")
def _matches(b: Builder, node: Node) -> None:
    """A mask of 1 and 0: equal, or NaN both."""
    x, best = b.exact(node["a"]), b.exact(node["best"])
    found = b.emit("Equal", [x, best])
    if _may_be_nan(b, node["a"]) and _may_be_nan(b, node["best"]):
        found = b.emit("Or", [found, b.emit("And", [b.emit("IsNaN", [x]), b.emit("IsNaN", [best])])])
    b.put(node.result, b.cast(found, node.result.dtype))


def _may_be_nan(b: Builder, value: Value) -> bool:
    while value in b.producers and b.producers[value].verb == "broadcast_to":
        value = b.producers[value]["a"]
    array = b.known(value)
    return array is None or bool(np.isnan(array).any())


@writes("cast")
def _cast(b: Builder, node: Node) -> None:
    name, sizes = b.stored(node["x"])
    if node["dtype"] == np.int64 and name in b.indices:
        name = b.indices[name]
    elif node["x"].dtype != node["dtype"]:
        name = b.cast(name, node["dtype"])
    b.put(node.result, name, sizes)


@writes("scale")
def _scale(b: Builder, node: Node) -> None:
    factor, a = node["factor"], node["a"]
    if factor == 1:
        b.put(node.result, *b.stored(a))
    elif not _mean(b, node, a, factor):
        if factor == -1:
            _unary(b, node, "Neg")
        else:
            _unary(b, node, "Mul", b.number(factor, node.result.dtype))


def _mean(b: Builder, node: Node, a: Any, factor: float) -> bool:
    """A sum divided by the number of its terms is a mean."""
    summed = b.producers.get(a)
    if summed is None or summed.verb != "sum":
        return False
    x = summed["a"]
    axes = _axes(summed["axis"], len(x.sizes))
    sizes = [x.sizes[i] for i in axes]
    if not axes or any(isinstance(size, Times) for size in sizes) or factor * prod(sizes) != 1:
        return False
    b.put(node.result, b.reduce("ReduceMean", b.exact(x), axes, summed["keepdims"]))
    return True


class _Expression:
    """Writes nodes, one inside the other: ``e("Mul", x, e("Sigmoid", x))``."""

    def __init__(self, builder: Builder, dtype: np.dtype) -> None:
        self._builder, self.dtype, self.opset = builder, dtype, builder.opset

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self._builder.emit(op, inputs, **attributes)

    def number(self, value: float) -> str:
        return self._builder.number(value, self.dtype)


def _hardsigmoid(e: _Expression, x: str, a: float, b: float) -> str:
    return e("HardSigmoid", x, alpha=float(a), beta=float(b))


def _softplus(e: _Expression, x: str, a: float) -> str:
    return e("Softplus", x) if a == 1 else e("Div", e("Softplus", e("Mul", x, e.number(a))), e.number(a))


def _clip(e: _Expression, x: str, a: float, b: float) -> str:
    return e("Clip", x, "" if a == -inf else e.number(a), "" if b == inf else e.number(b))


def _elu(e: _Expression, x: str, a: float, b: float) -> str:
    """x, or below 0 a * (exp(x / b) - 1)."""
    if b == 1:
        return e("Elu", x, alpha=float(a))
    if a == b and e.dtype == np.float32:  # ONNX defines it for no other
        return e("Celu", x, alpha=float(a))
    below = e("Elu", e("Div", e("Min", x, e.number(0)), e.number(b)), alpha=1.0)
    return e("Add", e("Relu", x), e("Mul", below, e.number(a)))


def _gelu(e: _Expression, x: str, approximate: str) -> str:
    if e.opset >= 20:
        return e("Gelu", x, approximate=approximate)
    if approximate == "none":
        inner = e("Erf", e("Mul", x, e.number(sqrt(0.5))))
    else:
        cube = e("Mul", e("Mul", x, e("Mul", x, x)), e.number(0.044715))
        inner = e("Tanh", e("Mul", e("Add", x, cube), e.number(sqrt(2 / np.pi))))
    return e("Mul", e("Mul", x, e.number(0.5)), e("Add", inner, e.number(1)))


_NAMED = {
    "softsign": "Softsign", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "abs": "Abs", "reciprocal": "Reciprocal",
    "erf": "Erf", "floor": "Floor", "ceil": "Ceil", "round": "Round", "sign": "Sign", "sin": "Sin", "cos": "Cos",
}  # fmt: skip
# Kind -> what computes it of x; a and b are its parameters.
_KINDS = {
    "silu": lambda e, x, a, b: e("Mul", x, e("Sigmoid", x)),
    "mish": lambda e, x, a, b: e("Mul", x, e("Tanh", e("Softplus", x))),
    "hardswish": lambda e, x, a, b: e("HardSwish", x) if e.opset >= 14 else e("Mul", x, _hardsigmoid(e, x, 1 / 6, 0.5)),
    "hardsigmoid": _hardsigmoid,
    "softplus": lambda e, x, a, b: _softplus(e, x, a),
    "clip": _clip,
    "hardtanh": _clip,
    "power": lambda e, x, a, b: e("Pow", x, e.number(a)),
    "elu": _elu,
    "gelu": lambda e, x, a, b: _gelu(e, x, "none"),
    "gelu_tanh": lambda e, x, a, b: _gelu(e, x, "tanh"),
}


@writes("pointwise_forward")
def _pointwise(b: Builder, node: Node) -> None:
    kind = node["kind"]
    if kind in _NAMED:
        return _unary(b, node, _NAMED[kind])
    if kind not in _KINDS:
        raise b.refused(node, f"a kind of {', '.join((*_NAMED, *_KINDS))}", repr(kind))
    name, sizes = b.stored(node["x"])
    b.put(node.result, _KINDS[kind](_Expression(b, node.result.dtype), name, node["a"], node["b"]), sizes)


# --------------------------------------------------------------------------------------------------- two values

_BINARY = {"add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "maximum": "Max", "power": "Pow"}


@writes(*_BINARY)
def _binary(b: Builder, node: Node) -> None:
    _combined(b, node.result, _BINARY[node.verb], node["a"], node["b"])


def _combined(b: Builder, result: Value, op: str, first: Value, second: Value) -> None:
    one, two = b.stored(first), b.stored(second)
    if first.sizes == second.sizes and one.sizes == two.sizes:  # in whatever sizes both lie
        b.put(result, b.emit(op, [one.name, two.name]), one.sizes)
    else:
        b.put(result, b.emit(op, [b.exact(first), b.exact(second)]))


def follow(b: Builder, y: Value, node: Node) -> None:
    """Write what a verb does to its sum ``y``: a residual is added, an activation applied."""
    residual, activation = (node.arguments.get(name) for name in ("residual", "activation"))
    if residual is not None:
        _combined(b, y, "Add", y, residual)
    if activation is not None:
        if activation != "relu":
            raise b.refused(node, "activation 'relu'", repr(activation))
        name, sizes = b.stored(y)
        b.put(y, b.emit("Relu", [name]), sizes)


# -------------------------------------------------------------------------------------------------- along axes


def _axes(axis: Any, ndim: int) -> list[int]:
    if axis is None:
        return list(range(ndim))
    return [axis] if isinstance(axis, int) else list(axis)


@writes("sum")
def _sum(b: Builder, node: Node) -> None:
    x = node["a"]
    axes = _axes(node["axis"], len(x.sizes))
    name = b.reduce("ReduceSum", b.exact(x), axes, node["keepdims"]) if axes else b.exact(x)
    b.put(node.result, name)


@writes("extremes")
def _extremes(b: Builder, node: Node) -> None:
    x = b.exact(node["a"])
    found = b.reduce("ReduceMax" if node["largest"] else "ReduceMin", x, node["axis"], True)
    b.put(node.result, found)


@writes("softmax_forward", "log_softmax_forward")
def _softmax(b: Builder, node: Node) -> None:
    """x (A, C, B): an axis of what lies in the file, if it has just these before, in and behind it."""
    op = "Softmax" if node.verb == "softmax_forward" else "LogSoftmax"
    x = node["x"]
    stored, axis = b.stored(x), axis_of(b, x)
    if axis is None:
        b.put(node.result, b.emit(op, [b.exact(x)], axis=1))
    else:
        b.put(node.result, b.emit(op, [stored.name], axis=axis), stored.sizes)


def axis_of(b: Builder, x: Value) -> int | None:
    """Return which axis of what lies in the file is the middle one of ``x`` (A, C, B); None if there is none."""
    sizes = b.stored(x).sizes
    for axis, size in enumerate(sizes):
        if (product(sizes[:axis]), size, product(sizes[axis + 1 :])) == x.sizes:
            return axis
    return None
