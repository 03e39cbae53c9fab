"""Weight gradients of few channels a group whose pixels lie far apart: blocks copied in bundles and chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import DTYPES, LAYOUTS, normal
from oracle import relative_error

from fastconv import backends
from fastconv.backends.cpu import plan, runtime
from fastconv.geometry import conv_geometry

CASES = [
    ((2, 512, 2, 7, 9), (512, 4, 3, 3, 3), {"padding": 1, "stride": (1, 2, 2)}),
    ((3, 1024, 1, 5, 6), (1024, 4, 1, 3, 3), {"padding": (0, 1, 1), "stride": (1, 1, 2)}),  # more than a bundle
    ((1, 512, 1, 70, 9), (512, 4, 1, 3, 3), {"padding": (0, 0, 1), "dilation": (1, 30, 1)}),  # tiles too large for one
    ((2, 512, 1, 9, 8), (1024, 4, 1, 3, 2), {}),
    ((2, 512, 1, 9, 15), (512, 8, 1, 3, 3), {"padding": (0, 1, 1)}),
    ((2, 512, 1, 9, 15), (512, 16, 1, 3, 3), {"padding": (0, 1, 1), "stride": (1, 2, 2)}),
    ((2, 516, 1, 6, 7), (516, 4, 1, 3, 3), {"padding": (0, 1, 1)}),  # a block with fewer groups
    ((2, 512, 1, 9, 15), (512, 16, 1, 3, 5), {"padding": (0, 1, 2), "stride": (1, 2, 2)}),  # five taps a row
    ((13, 512, 1, 28, 28), (512, 16, 1, 3, 3), {"padding": (0, 1, 1), "stride": (1, 2, 2)}),  # past the caches
    ((0, 512, 1, 6, 7), (512, 4, 1, 3, 3), {}),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("x, w, options", CASES)
def test_far_pixels_give_the_reference_and_the_bits_of_near_ones(isa, x, w, options, dtype):
    geometry = conv_geometry("conv3d", 3, x, w, groups=x[1] // w[1], **options)
    arrays = normal("dy", geometry.output_shape, dtype), normal("x", geometry.input_shape, dtype)
    far = [LAYOUTS["wall_behind_last"](a) for a in arrays]
    expected = backends.get("reference").conv_backward_weight(*(a.astype(np.float64) for a in arrays), geometry)
    run = plan.choose("conv_backward_weight", geometry, arrays[0].itemsize)
    before = runtime.get_num_threads()
    try:
        for threads in (1, 2, 16):
            runtime.set_num_threads(threads)
            found = run(*far, geometry)
            np.testing.assert_array_equal(found, run(*arrays, geometry))
            assert relative_error(found, expected) <= {"float32": 1e-6, "float64": 1e-13}[dtype]
    finally:
        runtime.set_num_threads(before)


@settings(max_examples=60, deadline=None)
@given(
    depth=st.sampled_from([2, 4, 6, 8, 12, 16]), groups=st.integers(1, 9), n=st.integers(1, 3),
    plane=st.tuples(st.integers(1, 20), st.integers(1, 34)), stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.integers(1, 3), padding=st.tuples(st.integers(0, 7), st.integers(0, 7)), dtype=st.sampled_from(DTYPES),
)  # fmt: skip
def test_rows_of_three_taps(isa, depth, groups, n, plane, stride, dilation, padding, dtype):
    """Any part of a row may be padding: its ends, whole pixels, or all of it."""
    x_shape, w_shape = (n, depth * groups, *plane), (depth * groups, depth, 3, 3)
    padding = tuple(max(p, dilation - (size - 1) // 2) for p, size in zip(padding, plane, strict=True))
    geometry = conv_geometry(
        "conv2d", 2, x_shape, w_shape, groups=groups, stride=stride, dilation=dilation, padding=padding, exact=True
    )
    dy, x = (normal(name, getattr(geometry, f"{name}_shape"), dtype) for name in ("output", "input"))
    expected = backends.get("reference").conv_backward_weight(dy.astype(np.float64), x.astype(np.float64), geometry)
    run = plan.choose("conv_backward_weight", geometry, x.itemsize)
    arrays = [LAYOUTS["channels_last"](a) for a in (dy, x)]
    found = run(*arrays, geometry)
    bound = {"float32": 2e-6, "float64": 2e-14}[dtype] * np.sqrt(dy.size / dy.shape[1]) * 4
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)
    np.testing.assert_array_equal(found, run(*(LAYOUTS["wall_behind_last"](a) for a in arrays), geometry))
