"""Functions of one variable: every backend against PyTorch, and the reference at the ends of the number line."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from layouts import DTYPES, LAYOUTS, distinct, normal, stretched

from fastconv import backends
from fastconv.backends.reference.pointwise import POINTWISE

# kind -> its parameters, and the same of PyTorch: a name and options
TORCH = {
    "elu": ((0.7, 1.0), "elu", {"alpha": 0.7}),
    "gelu": ((), "gelu", {}),
    "gelu_tanh": ((), "gelu", {"approximate": "tanh"}),
    "silu": ((), "silu", {}),
    "mish": ((), "mish", {}),
    "hardswish": ((), "hardswish", {}),
    "hardsigmoid": ((1 / 6, 0.5), "hardsigmoid", {}),
    "softplus": ((1.5,), "softplus", {"beta": 1.5, "threshold": 100}),
    "softsign": ((), "softsign", {}),
    "clip": ((-0.75, 0.5), "clip", {"min": -0.75, "max": 0.5}),
    "hardtanh": ((-0.75, 0.5), "hardtanh", {"min_val": -0.75, "max_val": 0.5}),
    "exp": ((), "exp", {}),
    "abs": ((), "abs", {}),
    "reciprocal": ((), "reciprocal", {}),
    "erf": ((), "erf", {}),
    "log": ((), "log", {}),
    "sqrt": ((), "sqrt", {}),
    "celu": ((0.7, 0.7), "celu", {"alpha": 0.7}),
}
POWERS = (0.0, 1.0, 2.0, 3.0, 0.5, 1.5, -0.5, -1.0, -2.0, 8.0, 0.3, -1.7, 11.0)
TORCH |= {f"power {a:g}": ((a,), "pow", {"exponent": a}) for a in POWERS}
POSITIVE = ("log", "sqrt", *(f"power {a:g}" for a in POWERS if a % 1))
ROUNDED = ("hardsigmoid", "celu")  # by PyTorch to float32, its parameter
SHAPES = [(4, 3, 5), (), (7,), (2, 33, 7), (0, 3), (2, 3, 4, 5), (40_000,)]
by_name = pytest.mark.parametrize("name", TORCH)
by_kind = pytest.mark.parametrize("kind", POINTWISE)
by_dtype = pytest.mark.parametrize("dtype", DTYPES)
PARAMETERS = {"clip": (-0.5, 2.0), "hardtanh": (-0.5, 2.0), "hardsigmoid": (0.25, 0.5), "power": (2.0, 0.0)}


def kind_of(name: str) -> str:
    return "elu" if name == "celu" else name.split()[0]


def problem(name: str, shape: tuple[int, ...], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    x = 2 * distinct((shape, "x"), shape, dtype)
    x = np.asarray(np.abs(x) if name in POSITIVE else x)
    return x, np.asarray(normal((shape, "dy"), shape, dtype))


def compute(backend, kind: str, x: np.ndarray, dy: np.ndarray, a: float = 0.0, b: float = 0.0):
    return backend.pointwise_forward(kind, x, a, b), backend.pointwise_backward(kind, dy, x, a, b)


@by_dtype
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@by_name
def test_equals_torch(backend, name, shape, dtype):
    parameters, theirs, options = TORCH[name]
    x, dy = problem(name, shape, dtype)
    wanted, (wanted_dx,) = oracle.torch_functional(theirs, (x,), dy, **options)
    y, dx = compute(backend, kind_of(name), x, dy, *parameters)
    assert y.dtype == dx.dtype == dtype
    bound = max(oracle.BOUNDS[dtype], 1e-7 if name in ROUNDED else 0)
    oracle.assert_close(y, wanted, bound)
    oracle.assert_close(dx, np.zeros(shape) if wanted_dx is None else wanted_dx, bound)


@by_dtype
@by_kind
def test_the_ends_of_the_number_line(backend, kind, dtype):
    """Against the reference's own float64; results of subnormal size may be 0. At infinity a slope is its or
    the limit where that is NaN."""
    info = np.finfo(dtype)
    sizes = [0, info.tiny, 1e-20, 1e-5, 0.5, 1, 3, 20, 80, 100, 700, 1e4, 1e18, info.max / 4, info.max, np.inf]
    x = np.array([*sizes, *(-s for s in sizes), np.nan], dtype)
    parameters = PARAMETERS.get(kind, (1.0, 1.0))
    function = POINTWISE[kind]
    with np.errstate(all="ignore"):
        wanted = function.forward(x.astype("f8"), *parameters).astype(dtype)
        slope = function.slope(x.astype("f8"), *parameters).astype(dtype)
    y, dx = compute(backend, kind, x, np.ones_like(x), *parameters)
    scale = 1.0 if kind == "hardsigmoid" else 0.0  # whose own rounding is absolute
    bounds = {"rtol": 200 * info.eps, "atol": info.tiny + scale * info.eps}
    np.testing.assert_allclose(y, wanted, **bounds)
    known = ~np.isnan(slope)
    np.testing.assert_allclose(dx[known], slope[known], **{**bounds, "atol": max(bounds["atol"], info.eps)})
    assert np.isnan(y[-1])


@by_dtype
@by_kind
def test_subnormal_inputs_count_as_they_are_or_as_zero(backend, kind, dtype):
    small = np.array([np.finfo(dtype).smallest_subnormal, np.finfo(dtype).tiny / 3], dtype)
    x = np.concatenate([small, -small])
    parameters = PARAMETERS.get(kind, (1.0, 1.0))
    reference = backends.get("reference")
    for actual, exact, flushed in zip(
        compute(backend, kind, x, np.ones_like(x), *parameters),
        compute(reference, kind, x, np.ones_like(x), *parameters),
        compute(reference, kind, np.copysign(np.zeros_like(x), x), np.ones_like(x), *parameters),
        strict=True,
    ):
        near = [np.isclose(actual, wanted, rtol=1e-5, atol=np.finfo(dtype).tiny) for wanted in (exact, flushed)]
        assert np.all(near[0] | near[1] | (np.isnan(actual) & (x < 0)))


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
@by_kind
def test_takes_any_memory_order(backend, kind, layout, dtype):
    x, dy = np.abs(distinct("x", (3, 17, 6), dtype)), normal("dy", (3, 17, 6), dtype)
    before = x.copy(), dy.copy()
    parameters, change = PARAMETERS.get(kind, (1.0, 1.0)), LAYOUTS[layout]
    wanted = compute(backend, kind, x, dy, *parameters)
    for arrays in ((change(x), change(dy)), (x, change(dy)), (change(x), dy)):
        for actual, plain in zip(compute(backend, kind, *arrays, *parameters), wanted, strict=True):
            oracle.assert_same_bits(actual, plain)
    oracle.assert_same_bits(x, before[0])
    oracle.assert_same_bits(dy, before[1])


@by_kind
def test_takes_zero_strides(backend, kind):
    x, dy = np.abs(distinct("x", (3, 17, 6), "float32")), normal("dy", (3, 17, 6), "float32")
    parameters = PARAMETERS.get(kind, (1.0, 1.0))
    for axis in range(3):
        views = stretched(x, axis), stretched(dy, (0, 2, 0)[axis])
        copies = [np.array(a, order="C") for a in views]
        for actual, plain in zip(
            compute(backend, kind, *views, *parameters), compute(backend, kind, *copies, *parameters), strict=True
        ):
            oracle.assert_same_bits(actual, plain)
            assert actual.flags.writeable


@by_dtype
@by_kind
def test_an_element_does_not_know_its_place(backend, kind, dtype):
    x, dy = np.abs(distinct("x", (67,), dtype)), normal("dy", (67,), dtype)
    parameters = PARAMETERS.get(kind, (1.0, 1.0))
    together = compute(backend, kind, x, dy, *parameters)
    for i in (0, 1, 15, 16, 33, 64, 66):
        for many, one in zip(together, compute(backend, kind, x[i : i + 1], dy[i : i + 1], *parameters), strict=True):
            oracle.assert_same_bits(many[i : i + 1], one, f"{kind} at {i}")
