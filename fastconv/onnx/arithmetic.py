"""Elementwise arithmetic, comparisons, logic, sums of products; constants of shapes and ranges."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from .. import functional as F
from .registry import Node, Run, operator
from .values import host, is_float


def _aligned(node: Node, a: Any, b: Any) -> Any:
    """Return b as opset 6 broadcasts it to a: its axes begin at a's ``axis``, or end with a's."""
    if node.since >= 7 or not node.get("broadcast", 0) or "axis" not in node.attributes:
        return b
    behind = len(a.shape) - node.get("axis") % len(a.shape) - len(b.shape)
    shape = (*b.shape, *(1,) * behind)
    return F.reshape(b, shape) if is_float(b) else b.reshape(shape)


def _binary(name: str, last: int, floats: Callable, others: Callable) -> None:
    def make(node: Node) -> Run:
        def run(a: Any, b: Any) -> Any:
            b = _aligned(node, a, b)
            return floats(a, b) if is_float(a) and is_float(b) else np.asarray(others(host(a), host(b)))

        return run

    operator(name, last=last)(make)


def _quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Integers divided as in C: towards zero."""
    if a.dtype.kind not in "iu":
        return a / b
    whole = a // b
    return whole + ((a - whole * b != 0) & ((a < 0) != (b < 0))).astype(a.dtype)


def _power(a: Any, b: Any) -> Any:
    if is_float(a):  # the exponent may be of any type
        exponent = host(b) if not is_float(b) else b
        if exponent.size == 1 and (not is_float(b) or not getattr(b, "requires_grad", False)):
            y = F.pow(a, float(host(exponent).reshape(())))
            return y if len(exponent.shape) <= len(a.shape) else F.reshape(y, exponent.shape)
        return F.pow(a, exponent.astype(a.dtype) if isinstance(exponent, np.ndarray) else exponent)
    return np.asarray(np.power(a, host(b))).astype(a.dtype)


_binary("Add", 14, F.add, np.add)
_binary("Sub", 14, F.subtract, np.subtract)
_binary("Mul", 14, F.multiply, np.multiply)
_binary("Div", 14, F.divide, _quotient)


@operator("Pow", last=15, options=(1,))
def power(node: Node) -> Run:
    return lambda a, b: _power(a, _aligned(node, a, b))


@operator("Mod", last=28)
def modulo(node: Node) -> Run:
    function = np.fmod if node.get("fmod", 0) else np.mod

    def run(a: Any, b: Any) -> Any:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(function(host(a), host(b)))

    return run


def _host_binary(name: str, last: int, function: Callable) -> None:
    def make(node: Node) -> Run:
        return lambda a, b: np.asarray(function(host(a), host(_aligned(node, a, b))))

    operator(name, last=last)(make)


for _name, _last, _function in [
    ("Equal", 19, np.equal), ("Greater", 13, np.greater), ("GreaterOrEqual", 16, np.greater_equal),
    ("Less", 13, np.less), ("LessOrEqual", 16, np.less_equal), ("And", 7, np.logical_and), ("Or", 7, np.logical_or),
    ("Xor", 7, np.logical_xor),
]:  # fmt: skip
    _host_binary(_name, _last, _function)


# ------------------------------------------------------------------------------------- any number of inputs


def _variadic(name: str, last: int, floats: Callable, others: Callable) -> None:
    def make(node: Node) -> Run:
        def run(*values: Any) -> Any:
            if all(is_float(value) for value in values):
                return reduce(floats, values)
            return np.asarray(reduce(others, map(host, values)))

        return run

    operator(name, last=last)(make)


_variadic("Sum", 13, F.add, np.add)
_variadic("Max", 13, F.maximum, np.maximum)
_variadic("Min", 13, F.minimum, np.minimum)


@operator("Mean", last=13)
def mean(node: Node) -> Run:
    return lambda *values: F.multiply(reduce(F.add, values), 1 / len(values))


# ------------------------------------------------------------------------------------------- one input


def _unary(name: str, last: int, floats: Callable, others: Callable) -> None:
    def make(node: Node) -> Run:
        return lambda x: floats(x) if is_float(x) else np.asarray(others(host(x)))

    operator(name, last=last)(make)


def _negative(x: Any) -> Any:
    return F.multiply(x, -1.0)


for _name, _last, _floats, _others in [
    ("Neg", 13, _negative, np.negative), ("Abs", 13, F.abs, np.abs), ("Sign", 13, F.sign, np.sign),
    ("Floor", 13, F.floor, np.floor), ("Ceil", 13, F.ceil, np.ceil), ("Round", 22, F.round, np.rint),
    ("Exp", 13, F.exp, np.exp), ("Log", 13, F.log, np.log), ("Sqrt", 13, F.sqrt, np.sqrt),
    ("Reciprocal", 13, F.reciprocal, np.reciprocal), ("Erf", 13, F.erf, F.erf), ("Sin", 22, F.sin, np.sin),
    ("Cos", 22, F.cos, np.cos),
]:  # fmt: skip
    _unary(_name, _last, _floats, _others)

for _name, _last, _function in [("Not", 1, np.logical_not), ("IsNaN", 20, np.isnan)]:
    operator(_name, last=_last)(lambda node, function=_function: lambda x: np.asarray(function(host(x))))


@operator("IsInf", last=20)
def is_infinite(node: Node) -> Run:
    above, below = node.get("detect_positive", 1), node.get("detect_negative", 1)

    def run(x: Any) -> Any:
        values = host(x)
        return np.isinf(values) & (((values > 0) & bool(above)) | ((values < 0) & bool(below)))

    return run


# ------------------------------------------------------------------------------------------- products


@operator("MatMul", last=13)
def matmul(node: Node) -> Run:
    def run(a: Any, b: Any) -> Any:
        if not is_float(a):
            return np.asarray(np.matmul(host(a), host(b)))
        if len(b.shape) == 2:  # one product, whatever stands before a's last axis
            return F.linear(a, F.permute(b, (1, 0)))
        if len(a.shape) == 2 < len(b.shape):
            return F.transpose(F.linear(F.transpose(b, -1, -2), a), -1, -2)
        return F.matmul(a, b)

    return run


@operator("Gemm", last=13)
def gemm(node: Node) -> Run:
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    turned = node.get("transA", 0), node.get("transB", 0)

    def run(a: Any, b: Any, c: Any = None) -> Any:
        a = F.permute(a, (1, 0)) if turned[0] else a
        weight = b if turned[1] else F.permute(b, (1, 0))  # (O, I), as linear takes it
        if c is not None and alpha == beta == 1 and tuple(c.shape) == (weight.shape[0],):
            return F.linear(a, weight, c)
        y = F.linear(a, weight)
        y = y if alpha == 1 else F.multiply(y, alpha)
        return y if c is None else F.add(y, c if beta == 1 else F.multiply(c, beta))

    return run
