"""Accuracy of the functions of one variable, over all exponents of float32 and a wide range of float64.

An error is counted in units of the last place of the exact value, or of a larger number where the function's own
condition is bad: near a zero that is not at 0, and where an argument of an exponential is rounded. The exact values of
float32 are the reference's, in float64; float64 is compared in the norm.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import backends
from fastconv.backends.reference.pointwise import POINTWISE

pytest.importorskip("fastconv.backends.cpu.dispatch", reason="the compiled backend is not built")

# kind -> parameters, ulp allowed forward and backward
BOUNDS = {
    "elu": ((1.0, 1.0), 2.5, 2.5),
    "gelu": ((), 6.0, 6.0),
    "gelu_tanh": ((), 4.0, 5.0),
    "silu": ((), 3.5, 6.0),
    "mish": ((), 5.0, 8.0),
    "hardswish": ((), 2.5, 2.5),
    "hardsigmoid": ((0.25, 0.5), 1.0, 1.0),
    "softplus": ((1.0,), 3.0, 2.5),
    "softsign": ((), 2.0, 5.0),
    "clip": ((-0.5, 2.0), 0.0, 0.0),
    "hardtanh": ((-0.5, 2.0), 0.0, 0.0),
    "exp": ((), 2.0, 2.0),
    "log": ((), 2.0, 0.6),
    "sqrt": ((), 0.6, 1.6),
    "abs": ((), 0.0, 0.0),
    "reciprocal": ((), 0.6, 2.5),
    "erf": ((), 4.0, 3.5),
    "power": ((3.0, 0.0), 1.6, 1.6),
}


@pytest.fixture
def cpu(isa):
    return backends.get("cpu")


def floats(count: int) -> np.ndarray:
    """Return normal float32 numbers of every exponent and both signs, and a dense set where functions bend."""
    rng = np.random.default_rng(3)
    exponents = np.repeat(np.arange(1, 255, dtype=np.uint32), count)
    bits = exponents << 23 | rng.integers(0, 1 << 23, exponents.size, dtype=np.uint32)
    bits |= rng.integers(0, 2, exponents.size, dtype=np.uint32) << 31
    return np.concatenate([bits.view(np.float32), np.linspace(-110, 110, 40_001, dtype=np.float32),
                           np.linspace(-6, 6, 40_001, dtype=np.float32)])  # fmt: skip


def largest_error(actual: np.ndarray, exact: np.ndarray, condition: np.ndarray) -> float:
    """In ulp of the exact values, times ``condition``. What is less than 1024 times the least normal number may be 0: a
    factor of it was a subnormal number."""
    info = np.finfo(actual.dtype)
    known = np.isfinite(exact) & (np.abs(exact) <= info.max)
    small = known & (np.abs(exact) < 1024 * info.tiny)
    assert np.all(
        (actual[small] == 0) | (np.abs(actual[small] - exact[small]) <= 0.01 * np.abs(exact[small]) + info.tiny)
    )
    known &= ~small
    ulp = np.spacing(np.abs(exact[known]).astype(actual.dtype)).astype(exact.dtype)
    return float(np.max(np.abs(actual[known] - exact[known]) / (ulp * condition[known]), initial=0.0))


def condition(kind: str, x: np.ndarray, exact: np.ndarray, slope: bool) -> np.ndarray:
    """By what the error of a good computation grows."""
    grown = np.ones_like(x)
    if kind == "gelu_tanh":  # 2 u is rounded: the error of its exponential is in proportion to it
        inner = np.minimum(np.abs(x), 100)
        grown = np.where(x < 0, 1 + 1.6 * inner * (1 + 0.045 * inner * inner), grown)
    if slope and kind in ("gelu", "gelu_tanh", "silu", "mish", "hardswish"):  # zeros between -3 and 0
        near = (x > -3.5) & (x < -0.3)
        grown = np.where(near, np.maximum(grown, 0.25 / np.maximum(np.abs(exact), 1e-300)), grown)
    return grown


@pytest.mark.parametrize("kind", BOUNDS)
def test_float32_everywhere(cpu, kind):
    parameters, forward_bound, slope_bound = BOUNDS[kind]
    x = floats(40)
    wide = x.astype(np.float64)
    padded = (*parameters, 0.0, 0.0)[:2]
    with np.errstate(all="ignore"):
        exact, slope = POINTWISE[kind].forward(wide, *padded), POINTWISE[kind].slope(wide, *padded)
    y, dx = cpu.pointwise_forward(kind, x, *parameters), cpu.pointwise_backward(kind, np.ones_like(x), x, *parameters)
    forward = largest_error(y, exact, condition(kind, wide, exact, False))
    backward = largest_error(dx, slope, condition(kind, wide, slope, True))
    print(kind, "float32", round(forward, 2), round(backward, 2))
    assert forward <= forward_bound
    assert backward <= slope_bound


@pytest.mark.parametrize("exponent", [0.3, -1.7, 2.7, 11.0, -12.0, 100.3, 1e-3])
def test_general_powers_of_float32_everywhere(cpu, exponent):
    x = floats(40)
    with np.errstate(all="ignore"):
        exact, slope = x.astype(np.float64) ** exponent, exponent * x.astype(np.float64) ** (exponent - 1)
    y, dx = (f("power", *arrays, exponent) for f, arrays in (
        (cpu.pointwise_forward, (x,)), (cpu.pointwise_backward, (np.ones_like(x), x))
    ))  # fmt: skip
    forward, backward = largest_error(y, exact, np.ones_like(exact)), largest_error(dx, slope, np.ones_like(exact))
    print(exponent, round(forward, 2), round(backward, 2))
    assert forward <= 2.0
    assert backward <= 3.0
    np.testing.assert_array_equal(np.isnan(y), np.isnan(exact))


def test_powers_of_arrays_in_both_precisions(cpu):
    rng = np.random.default_rng(4)
    for dtype in (np.float32, np.float64):
        info = np.finfo(dtype)
        a = np.exp(rng.uniform(np.log(info.tiny), np.log(info.max), 100_000)).astype(dtype)
        most = np.log(info.max) / np.maximum(np.abs(np.log(a.astype(np.float64))), 1e-3)
        b = (rng.uniform(-0.99, 0.99, a.size) * np.minimum(most, 1e6)).astype(dtype)
        exact = a.astype(np.longdouble) ** b.astype(np.longdouble)
        known = (exact > 1024 * info.tiny) & (exact < info.max)
        y = cpu.power(a, b)
        error = np.abs(y[known] - exact[known]) / np.spacing(exact[known].astype(dtype))
        print(dtype.__name__, float(error.max()))
        assert error.max() <= 3.0
