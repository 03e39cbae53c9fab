"""Functions of one variable, each with its slope: y = f(x; a, b) and dy/dx."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import pi, sqrt
from typing import Any

from ...errors import DeviceError, mismatch
from . import elementwise, launch
from .activation import sigmoid
from .array import DeviceArray

cuda: Any = None
math: Any = None

_CUBIC = 0.044715  # Hendrycks and Gimpel 2016: gelu by tanh


def softplus(number: type) -> Callable:
    """log(1 + exp(x)) where the exponential never overflows."""
    zero = number(0)

    def f(x):
        return (x if x > zero or x != x else zero) + math.log1p(math.exp(-math.fabs(x)))

    return f


def _elu(number: type) -> tuple[Callable, Callable]:
    zero, one = number(0), number(1)

    def f(x, a, b):
        return x if x > zero else a * math.expm1(x / b)

    def slope(x, a, b):
        return one if x > zero else a / b * math.exp(x / b)

    return f, slope


def _gelu(number: type) -> tuple[Callable, Callable]:
    half, root, density = number(0.5), number(sqrt(0.5)), number(1 / sqrt(2 * pi))

    def f(x, a, b):
        return x * half * math.erfc(-x * root)

    def slope(x, a, b):
        return half * math.erfc(-x * root) + x * (math.exp(-half * x * x) * density)

    return f, slope


def _gelu_tanh(number: type) -> tuple[Callable, Callable]:
    half, one, root, cubic = number(0.5), number(1), number(sqrt(2 / pi)), number(_CUBIC)
    third, far, zero, two = number(3 * _CUBIC), number(50), number(0), number(2)
    logistic = launch.inline(launch.function(sigmoid, number))

    def f(x, a, b):
        return x * logistic(two * root * (x + cubic * x * x * x), zero, zero)  # 1 + tanh(u) is 2 logistic(2 u)

    def slope(x, a, b):
        if math.fabs(x) > far:  # where squares might overflow
            return one if x > zero else zero
        t = math.tanh(root * (x + cubic * x * x * x))
        return half * (one + t) + half * x * (one - t * t) * root * (one + third * x * x)

    return f, slope


def _silu(number: type) -> tuple[Callable, Callable]:
    logistic, zero, one = launch.inline(launch.function(sigmoid, number)), number(0), number(1)

    def f(x, a, b):
        return x * logistic(x, zero, zero)

    def slope(x, a, b):
        s = logistic(x, zero, zero)
        return s * (one + x * (one - s))

    return f, slope


def _mish(number: type) -> tuple[Callable, Callable]:
    logistic, plus = launch.inline(launch.function(sigmoid, number)), launch.inline(launch.function(softplus, number))
    zero, one = number(0), number(1)

    def f(x, a, b):
        return x * math.tanh(plus(x))

    def slope(x, a, b):
        t = math.tanh(plus(x))
        return t + x * (one - t * t) * logistic(x, zero, zero)

    return f, slope


def _hardswish(number: type) -> tuple[Callable, Callable]:
    zero, one, three, six, half = (number(n) for n in (0, 1, 3, 6, 0.5))

    def f(x, a, b):
        gate = x / six + half
        gate = zero if gate < zero else (one if gate > one else gate)
        return x * gate

    def slope(x, a, b):
        return zero if x <= -three else (one if x >= three else x / three + half)

    return f, slope


def _hardsigmoid(number: type) -> tuple[Callable, Callable]:
    zero, one = number(0), number(1)

    def f(x, a, b):
        y = a * x + b
        return zero if y < zero else (one if y > one else y)

    def slope(x, a, b):
        y = a * x + b
        return a if zero < y and y < one else zero

    return f, slope


def _softplus(number: type) -> tuple[Callable, Callable]:
    logistic, plus = launch.inline(launch.function(sigmoid, number)), launch.inline(launch.function(softplus, number))
    zero = number(0)

    def f(x, a, b):
        return plus(a * x) / a

    def slope(x, a, b):
        return logistic(a * x, zero, zero)

    return f, slope


def _softsign(number: type) -> tuple[Callable, Callable]:
    one = number(1)

    def f(x, a, b):
        return x / (one + math.fabs(x))

    def slope(x, a, b):
        scale = one / (one + math.fabs(x))
        return scale * scale

    return f, slope


def _clipped(x, a, b):
    return a if x < a else (b if x > b else x)


def _clip(number: type) -> tuple[Callable, Callable]:
    zero, one = number(0), number(1)
    return _clipped, lambda x, a, b: one if a <= x and x <= b else zero


def _hardtanh(number: type) -> tuple[Callable, Callable]:
    zero, one = number(0), number(1)
    return _clipped, lambda x, a, b: one if a < x and x < b else zero


def _exp(number: type) -> tuple[Callable, Callable]:
    return (lambda x, a, b: math.exp(x)), (lambda x, a, b: math.exp(x))


def _log(number: type) -> tuple[Callable, Callable]:
    one = number(1)
    return (lambda x, a, b: math.log(x)), (lambda x, a, b: one / x)


def _sqrt(number: type) -> tuple[Callable, Callable]:
    half = number(0.5)
    return (lambda x, a, b: math.sqrt(x)), (lambda x, a, b: half / math.sqrt(x))


def _abs(number: type) -> tuple[Callable, Callable]:
    zero, one = number(0), number(1)

    def slope(x, a, b):
        return one if x > zero else (-one if x < zero else x)  # 0 at 0, NaN at NaN

    return (lambda x, a, b: math.fabs(x)), slope


def _reciprocal(number: type) -> tuple[Callable, Callable]:
    one = number(1)
    return (lambda x, a, b: one / x), (lambda x, a, b: -one / (x * x))


def _erf(number: type) -> tuple[Callable, Callable]:
    scale = number(2 / sqrt(pi))
    return (lambda x, a, b: math.erf(x)), (lambda x, a, b: scale * math.exp(-x * x))


def _power(number: type) -> tuple[Callable, Callable]:
    zero, one = number(0), number(1)

    def slope(x, a, b):
        return zero if a == zero else a * math.pow(x, a - one)

    return (lambda x, a, b: math.pow(x, a)), slope


def _to_whole(number: type, rule: Callable) -> tuple[Callable, Callable]:
    """``rule(x, below)``: the whole number for x, from the one at or below it."""
    zero, one, whole = number(0), number(1), number(2.0 ** (23 if number(0).itemsize == 4 else 52))
    chosen = launch.inline(rule)

    def f(x, a, b):
        if not math.fabs(x) < whole:  # all of them whole, infinity or NaN
            return x
        toward_zero = number(int(x))
        return number(chosen(x, toward_zero - one if toward_zero > x else toward_zero))

    return f, lambda x, a, b: zero


def _below(x, below):
    return below


def _above(x, below):
    return below if below == x else below + 1


def _nearest(x, below):
    distance = x - below
    if distance == 0.5:
        return below if int(below) % 2 == 0 else below + 1
    return below if distance < 0.5 else below + 1


def _floor(number: type) -> tuple[Callable, Callable]:
    return _to_whole(number, _below)


def _ceil(number: type) -> tuple[Callable, Callable]:
    return _to_whole(number, _above)


def _round(number: type) -> tuple[Callable, Callable]:
    return _to_whole(number, _nearest)


def _sign(number: type) -> tuple[Callable, Callable]:
    zero = number(0)
    return launch.function(_abs, number)[1], lambda x, a, b: zero


def _sin(number: type) -> tuple[Callable, Callable]:
    return (lambda x, a, b: math.sin(x)), (lambda x, a, b: math.cos(x))


def _cos(number: type) -> tuple[Callable, Callable]:
    return (lambda x, a, b: math.cos(x)), (lambda x, a, b: -math.sin(x))


KINDS = {
    "elu": _elu, "gelu": _gelu, "gelu_tanh": _gelu_tanh, "silu": _silu, "mish": _mish, "hardswish": _hardswish,
    "hardsigmoid": _hardsigmoid, "softplus": _softplus, "softsign": _softsign, "clip": _clip, "hardtanh": _hardtanh,
    "exp": _exp, "log": _log, "sqrt": _sqrt, "abs": _abs, "reciprocal": _reciprocal, "erf": _erf, "power": _power,
    "floor": _floor, "ceil": _ceil, "round": _round, "sign": _sign, "sin": _sin, "cos": _cos,
}  # fmt: skip


def _known(kind: str) -> Callable:
    if kind not in KINDS:
        raise DeviceError(mismatch("pointwise", f"a function that CUDA has a kernel for ({', '.join(KINDS)})", kind))
    return KINDS[kind]


@cache
def _forward(kind: str) -> Callable:
    def make(number: type) -> Callable:
        return launch.function(_known(kind), number)[0]

    make.__name__ = kind
    return make


@cache
def _backward(kind: str) -> Callable:
    def make(number: type) -> Callable:
        slope = launch.inline(launch.function(_known(kind), number)[1])
        return lambda dy, x, a, b: dy * slope(x, a, b)

    make.__name__ = f"{kind}_slope"
    return make


def pointwise_forward(kind: str, x: DeviceArray, a: float = 0.0, b: float = 0.0) -> DeviceArray:
    return elementwise.map_unary(kind, _forward(kind), x, a, b)


def pointwise_backward(kind: str, dy: DeviceArray, x: DeviceArray, a: float = 0.0, b: float = 0.0) -> DeviceArray:
    return elementwise.map_binary(f"{kind}_backward", _backward(kind), dy, x, a, b)
