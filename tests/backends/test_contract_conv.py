"""Convolution, plain and transposed: every backend against PyTorch, and the contract of backends/base."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib import import_module

import numpy as np
import oracle
import pytest
from cases import CONV_CASES, TRANSPOSED_CASES, ConvCase, lift
from hypothesis import given
from layouts import DTYPES, LAYOUTS, normal, stretched
from strategies import conv_cases

from fastconv import backends

ALL_CASES = CONV_CASES + TRANSPOSED_CASES
LAYOUT_CASES = [CONV_CASES[1], CONV_CASES[4], CONV_CASES[12], CONV_CASES[30], CONV_CASES[35], TRANSPOSED_CASES[4]]
by_case = pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.id)
by_layout_case = pytest.mark.parametrize("case", LAYOUT_CASES, ids=lambda case: case.id)
by_dtype = pytest.mark.parametrize("dtype", DTYPES)


def problem(case: ConvCase, dtype: str) -> tuple[np.ndarray, ...]:
    """Return x, w, b and dy, with the shapes of torch."""
    geometry = case.geometry
    y5 = geometry.input_shape if case.transposed else geometry.output_shape
    shapes = (case.x_shape, case.w_shape, (case.oc,), (*y5[:2], *y5[5 - case.rank :]))
    return tuple(normal((case.id, name), shape, dtype) for name, shape in zip("xwbd", shapes, strict=True))


def lifted(case: ConvCase, dtype: str) -> tuple[np.ndarray, ...]:
    x, w, b, dy = problem(case, dtype)
    return x.reshape(lift(x.shape)), w.reshape(lift(w.shape)), b, dy.reshape(lift(dy.shape))


@cache
def expected(case: ConvCase, dtype: str) -> dict[str, np.ndarray]:
    """What torch gives, by the names of the five-axis results."""
    x, w, b, dy = problem(case, dtype)
    y, (dx, dw, db) = oracle.torch_conv(case.rank, case.transposed, x, w, b, dy, **case.arguments)
    return {name: a.reshape(lift(a.shape)) for name, a in (("y", y), ("dx", dx), ("dw", dw))} | {"db": db}


def compute(backend, case: ConvCase, x, w, b, dy) -> dict[str, np.ndarray]:
    """Forward and every gradient. A transposed convolution is the adjoint: the verbs trade places."""
    geometry = case.geometry
    forward, backward = backend.conv_forward, backend.conv_backward_input
    if case.transposed:
        forward, backward = backward, forward
        dw = backend.conv_backward_weight(x, dy, geometry)
    else:
        dw = backend.conv_backward_weight(dy, x, geometry)
    return {
        "y": forward(x, w, b, geometry),
        "dx": backward(dy, w, None, geometry),
        "dw": dw,
        "db": backend.bias_backward(dy),
    }


def check(actual: dict[str, np.ndarray], wanted: dict[str, np.ndarray], dtype: str) -> None:
    for name, value in actual.items():
        assert value.dtype == dtype, name
        oracle.assert_close(value, wanted[name], what=name)


@by_dtype
@by_case
def test_equals_torch(backend, case, dtype):
    check(compute(backend, case, *lifted(case, dtype)), expected(case, dtype), dtype)


@by_case
def test_without_bias(backend, case):
    x, w, b, dy = lifted(case, "float64")
    with_bias = compute(backend, case, x, w, b, dy)["y"]
    without = compute(backend, case, x, w, None, dy)["y"]
    oracle.assert_close(without + b[:, None, None, None], with_bias)


@given(case=conv_cases())
def test_random_convolutions_equal_torch(backend, case):
    for dtype in DTYPES:
        check(compute(backend, case, *lifted(case, dtype)), expected(case, dtype), dtype)


@given(case=conv_cases(transposed=True))
def test_random_transposed_convolutions_equal_torch(backend, case):
    for dtype in DTYPES:
        check(compute(backend, case, *lifted(case, dtype)), expected(case, dtype), dtype)


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
@by_layout_case
def test_takes_any_memory_order(backend, case, layout, dtype):
    arrays = [LAYOUTS[layout](a) for a in lifted(case, dtype)]
    check(compute(backend, case, *arrays), expected(case, dtype), dtype)


@pytest.mark.parametrize("axis", range(5))
@by_layout_case
def test_takes_zero_strides(backend, case, axis):
    x, w, b, dy = lifted(case, "float32")
    views = stretched(x, axis), stretched(w, axis), stretched(b, 0), stretched(dy, axis)
    copies = [np.array(a, order="C") for a in views]
    wanted = compute(backends.get("reference"), case, *copies)
    check(compute(backend, case, *views), wanted, "float32")


@by_layout_case
def test_writes_no_input_and_returns_new_arrays(backend, case):
    arrays = lifted(case, "float32")
    before = [a.copy() for a in arrays]
    results = compute(backend, case, *arrays)
    for array, copy in zip(arrays, before, strict=True):
        oracle.assert_same_bits(array, copy)
    for name, result in results.items():
        assert result.flags.writeable, name
        assert not any(np.shares_memory(result, a) for a in arrays), name


@by_dtype
@by_case
def test_parameter_gradients_are_contiguous(backend, case, dtype):
    results = compute(backend, case, *lifted(case, dtype))
    assert results["dw"].flags.c_contiguous
    assert results["db"].flags.c_contiguous


@by_dtype
@pytest.mark.parametrize("batch", [2, 5, 9])
@by_layout_case
def test_a_sample_does_not_know_its_batch(backend, case, batch, dtype):
    many, one = replace(case, n=batch), replace(case, n=1)
    x, w, b, dy = lifted(many, dtype)
    together = compute(backend, many, x, w, b, dy)
    for i in {0, batch // 2, batch - 1}:
        alone = compute(backend, one, x[i : i + 1], w, b, dy[i : i + 1])
        for name in ("y", "dx"):
            oracle.assert_same_bits(together[name][i : i + 1], alone[name], f"sample {i} of {name}")


@by_dtype
@by_layout_case
def test_runs_repeat(backend, case, dtype):
    arrays = lifted(case, dtype)
    first, second = compute(backend, case, *arrays), compute(backend, case, *arrays)
    for name, value in first.items():
        oracle.assert_same_bits(value, second[name], name)


@by_dtype
@by_layout_case
def test_thread_count_does_not_change_bits(isa, case, dtype):
    runtime = import_module("fastconv.backends.cpu.runtime")
    before = runtime.get_num_threads()
    case = replace(case, n=3)
    arrays = lifted(case, dtype)
    try:
        results = []
        for threads in (1, 2, 4):
            runtime.set_num_threads(threads)
            results.append(compute(backends.get("cpu"), case, *arrays))
    finally:
        runtime.set_num_threads(before)
    for other in results[1:]:
        for name, value in results[0].items():
            oracle.assert_same_bits(value, other[name], name)


@pytest.mark.parametrize("special", [np.nan, np.inf])
@by_layout_case
def test_special_values_reach_exactly_the_windows_that_see_them(backend, case, special):
    x, w = lifted(case, "float32")[:2]
    geometry = case.geometry
    x[-1, 0, ..., x.shape[-2] // 2, x.shape[-1] // 2] = special
    seen = (~np.isfinite(x)).astype("float64")
    reference = backends.get("reference")
    verb = "conv_backward_input" if case.transposed else "conv_forward"
    y = getattr(backend, verb)(x, w, None, geometry)
    hit = getattr(reference, verb)(seen, np.ones(w.shape), None, geometry)
    np.testing.assert_array_equal(~np.isfinite(y), hit > 0.5)
    assert not np.isfinite(y).all()


def test_empty_batch_gives_zero_weight_gradients(backend):
    case = ConvCase(0, 3, 4, (5, 5), 3)
    results = compute(backend, case, *lifted(case, "float32"))
    assert (results["y"].shape, results["dx"].shape) == ((0, 4, 1, 3, 3), (0, 3, 1, 5, 5))
    assert not any(results[name].any() for name in ("dw", "db"))


def test_explain_names_the_verb(backend):
    geometry = CONV_CASES[4].geometry
    for verb in ("conv_forward", "conv_backward_input", "conv_backward_weight"):
        assert verb in backend.explain(verb, geometry, "float32")
