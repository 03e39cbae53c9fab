"""Further functions of one variable: activations of the literature, and plain mathematics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

from ..arguments import number
from ..backends.base import Array
from ..errors import ArgumentError, mismatch
from ..geometry import check_same_shape
from ..tensor import operand, operands, record
from ._common import named
from .arithmetic import broadcast_pair, multiply, summed_to

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _apply(op: str, kind: str, input: Any, a: float = 0.0, b: float = 0.0) -> Any:
    backend, x = operand(op, "input", input)
    y = backend.pointwise_forward(kind, x, a, b)
    return record(y, (input,), lambda dy, needs: (backend.pointwise_backward(kind, dy, x, a, b),))


def _gradient(op: str, kind: str, dy: Any, x: Any, a: float = 0.0, b: float = 0.0) -> Array:
    backend, dy, x = operands(op, dy=dy, x=x)
    check_same_shape(op, "x", x.shape, "dy", dy.shape)
    return backend.pointwise_backward(kind, dy, x, a, b)


def _plain(name: str, kind: str, says: str) -> tuple[Callable, Callable]:
    """Return a function without options, and its gradient."""

    def function(input: Any) -> Any:
        return _apply(name, kind, input)

    def backward(dy: Any, x: Any) -> Array:
        return _gradient(f"{name}_backward", kind, dy, x)

    function.__doc__ = f"Return {says}, elementwise."
    backward.__doc__ = f"Return dx of ``{name}`` for the input ``x``."
    return named(function, name), named(backward, f"{name}_backward")


exp, exp_backward = _plain("exp", "exp", "the exponential")
log, log_backward = _plain("log", "log", "the natural logarithm: minus infinity of 0, NaN below")
sqrt, sqrt_backward = _plain("sqrt", "sqrt", "the square root: NaN below 0")
abs, abs_backward = _plain("abs", "abs", "the absolute value; its gradient at 0 is 0")
reciprocal, reciprocal_backward = _plain("reciprocal", "reciprocal", "1 / input")
erf, erf_backward = _plain("erf", "erf", "the error function")
floor, floor_backward = _plain("floor", "floor", "the largest whole number that is not larger; its gradient is 0")
ceil, ceil_backward = _plain("ceil", "ceil", "the smallest whole number that is not smaller; its gradient is 0")
round, round_backward = _plain("round", "round", "the nearest whole number, the even one of two; its gradient is 0")
sign, sign_backward = _plain("sign", "sign", "-1, 0 or 1, NaN for NaN; its gradient is 0")
sin, sin_backward = _plain("sin", "sin", "the sine")
cos, cos_backward = _plain("cos", "cos", "the cosine")
softsign, softsign_backward = _plain("softsign", "softsign", "``input / (1 + |input|)``")


def pow(input: Any, exponent: Any) -> Any:
    """Return ``input ** exponent``: a number, or an array, with NumPy's broadcasting (``input`` may be a number then).

    >>> import numpy as np
    >>> pow(np.array([2.0, 3.0]), 2)
    array([4., 9.])
    >>> pow(np.array([2.0, 3.0]), np.array([1.0, 3.0]))
    array([ 2., 27.])
    """
    if not isinstance(exponent, Real) and (hasattr(exponent, "dtype") or isinstance(exponent, Sequence)):
        return _power(input, exponent)
    return _apply("pow", "power", input, number("pow", "exponent", exponent))


def _power(input: Any, exponent: Any) -> Any:
    backend, a, b = broadcast_pair("pow", input, exponent)

    def backward(dy: Array, needs: Sequence[bool]) -> tuple:
        slopes = backend.power_slope, backend.power_exponent_slope
        return tuple(
            summed_to(backend, backend.multiply(dy, slope(a, b)), array.shape) if need else None
            for slope, array, need in zip(slopes, (a, b), needs, strict=True)
        )

    return record(backend.power(a, b), (input, exponent), backward)


def pow_backward(dy: Any, x: Any, exponent: float) -> Array:
    """Return dx of ``pow`` for the input ``x``."""
    return _gradient("pow_backward", "power", dy, x, number("pow_backward", "exponent", exponent))


def clip(input: Any, min: float | None = None, max: float | None = None) -> Any:
    """Return input, at least ``min`` and at most ``max``; None is no bound. (torch: ``clamp``.)"""
    return _apply("clip", "clip", input, *_bounds("clip", min, max))


def clip_backward(dy: Any, x: Any, min: float | None = None, max: float | None = None) -> Array:
    """Return dy where ``min <= x <= max``, else 0."""
    return _gradient("clip_backward", "clip", dy, x, *_bounds("clip_backward", min, max))


def _bounds(op: str, low: float | None, high: float | None) -> tuple[float, float]:
    low = float("-inf") if low is None else number(op, "min", low)
    return low, float("inf") if high is None else number(op, "max", high, low)


def relu6(input: Any, inplace: bool = False) -> Any:
    """Return ``min(max(input, 0), 6)``. ``inplace`` changes nothing, here and below."""
    return _apply("relu6", "hardtanh", input, 0.0, 6.0)


def relu6_backward(dy: Any, x: Any) -> Array:
    """Return dy where ``0 < x < 6``, else 0."""
    return _gradient("relu6_backward", "hardtanh", dy, x, 0.0, 6.0)


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Any:
    """Return input, at least ``min_val`` and at most ``max_val``."""
    return _apply("hardtanh", "hardtanh", input, *_bounds("hardtanh", min_val, max_val))


def hardtanh_backward(dy: Any, x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Array:
    """Return dy where ``min_val < x < max_val``, else 0."""
    return _gradient("hardtanh_backward", "hardtanh", dy, x, *_bounds("hardtanh_backward", min_val, max_val))


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """Return input where positive, else ``alpha * (exp(input) - 1)`` (Clevert et al. 2016,
    https://arxiv.org/abs/1511.07289)."""
    return _apply("elu", "elu", input, number("elu", "alpha", alpha), 1.0)


def elu_backward(dy: Any, x: Any, alpha: float = 1.0) -> Array:
    """Return dx of ``elu`` for the input ``x``."""
    return _gradient("elu_backward", "elu", dy, x, number("elu_backward", "alpha", alpha), 1.0)


def celu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """Return input where positive, else ``alpha * (exp(input / alpha) - 1)``."""
    alpha = number("celu", "alpha", alpha, 1e-30)
    return _apply("celu", "elu", input, alpha, alpha)


def celu_backward(dy: Any, x: Any, alpha: float = 1.0) -> Array:
    """Return dx of ``celu`` for the input ``x``."""
    alpha = number("celu_backward", "alpha", alpha, 1e-30)
    return _gradient("celu_backward", "elu", dy, x, alpha, alpha)


def selu(input: Any, inplace: bool = False) -> Any:
    """Return 1.0507 times ``elu`` with alpha 1.6733 (Klambauer et al. 2017, https://arxiv.org/abs/1706.02515)."""
    return multiply(_apply("selu", "elu", input, _SELU_ALPHA, 1.0), _SELU_SCALE)


def selu_backward(dy: Any, x: Any) -> Array:
    """Return dx of ``selu`` for the input ``x``."""
    backend, dy = operands("selu_backward", dy=dy)
    return _gradient("selu_backward", "elu", backend.scale(dy, _SELU_SCALE), x, _SELU_ALPHA, 1.0)


def gelu(input: Any, approximate: str = "none") -> Any:
    """Return input times the normal distribution function of input (Hendrycks and Gimpel 2016,
    https://arxiv.org/abs/1606.08415); ``approximate='tanh'`` computes it by a hyperbolic tangent."""
    return _apply("gelu", _gelu_kind("gelu", approximate), input)


def gelu_backward(dy: Any, x: Any, approximate: str = "none") -> Array:
    """Return dx of ``gelu`` for the input ``x``."""
    return _gradient("gelu_backward", _gelu_kind("gelu_backward", approximate), dy, x)


def _gelu_kind(op: str, approximate: str) -> str:
    if approximate not in ("none", "tanh"):
        raise ArgumentError(mismatch(op, "approximate 'none' or 'tanh'", repr(approximate)))
    return "gelu" if approximate == "none" else "gelu_tanh"


def silu(input: Any, inplace: bool = False) -> Any:
    """Return ``input * sigmoid(input)``, also called swish."""
    return _apply("silu", "silu", input)


def silu_backward(dy: Any, x: Any) -> Array:
    """Return dx of ``silu`` for the input ``x``."""
    return _gradient("silu_backward", "silu", dy, x)


def mish(input: Any, inplace: bool = False) -> Any:
    """Return ``input * tanh(softplus(input))`` (Misra 2020, https://arxiv.org/abs/1908.08681)."""
    return _apply("mish", "mish", input)


def mish_backward(dy: Any, x: Any) -> Array:
    """Return dx of ``mish`` for the input ``x``."""
    return _gradient("mish_backward", "mish", dy, x)


def hardswish(input: Any, inplace: bool = False) -> Any:
    """Return ``input * min(max(input + 3, 0), 6) / 6`` (Howard et al. 2019, https://arxiv.org/abs/1905.02244)."""
    return _apply("hardswish", "hardswish", input)


def hardswish_backward(dy: Any, x: Any) -> Array:
    """Return dx of ``hardswish`` for the input ``x``."""
    return _gradient("hardswish_backward", "hardswish", dy, x)


def hardsigmoid(input: Any, inplace: bool = False) -> Any:
    """Return ``min(max(input / 6 + 1/2, 0), 1)``."""
    return _apply("hardsigmoid", "hardsigmoid", input, 1 / 6, 0.5)


def hardsigmoid_backward(dy: Any, x: Any) -> Array:
    """Return dx of ``hardsigmoid`` for the input ``x``."""
    return _gradient("hardsigmoid_backward", "hardsigmoid", dy, x, 1 / 6, 0.5)


def softplus(input: Any, beta: float = 1.0) -> Any:
    """Return ``log(1 + exp(beta * input)) / beta``, without overflow (torch's ``threshold`` is not needed)."""
    return _apply("softplus", "softplus", input, number("softplus", "beta", beta, 1e-30))


def softplus_backward(dy: Any, x: Any, beta: float = 1.0) -> Array:
    """Return dx of ``softplus`` for the input ``x``."""
    return _gradient("softplus_backward", "softplus", dy, x, number("softplus_backward", "beta", beta, 1e-30))
