"""Depthwise convolutions beyond the caches: stored past them and read ahead, and still the bits of one small image."""

from __future__ import annotations

import numpy as np
import pytest
from layouts import LAYOUTS

from fastconv.backends.cpu import plan, runtime
from fastconv.geometry import conv_geometry

CHANNELS = 96


def geometry_of(n, size, **options):
    """Of images (n, 96, size, size): three of 128x128 and their results take more than 24 MB, one does not."""
    return conv_geometry("conv2d", 2, (n, CHANNELS, size, size), (CHANNELS, 1, 3, 3), groups=CHANNELS, **options)


def last(array):
    return np.moveaxis(np.moveaxis(array, 1, -1).copy(), -1, 1)


@pytest.mark.parametrize("options", [{"padding": 1}, {"padding": 2, "stride": 2}, {"stride": 2}, {"padding": (0, 2)}])
def test_an_image_of_a_large_batch_has_the_bits_of_one_alone(isa, options):
    rng = np.random.default_rng(0)
    size = 128 if options.get("stride", 1) == 1 else 160
    many, one = geometry_of(4, size, **options), geometry_of(1, size, **options)
    x, dy = (last(rng.standard_normal(shape, dtype=np.float32)) for shape in (many.input_shape, many.output_shape))
    w = rng.standard_normal(many.weight_shape, dtype=np.float32)
    assert x.nbytes + dy.nbytes > 24 << 20 > (x.nbytes + dy.nbytes) // 4
    for verb, given in (("conv_forward", x), ("conv_backward_input", dy)):
        together = plan.choose(verb, many, 4)(given, w, None, many)
        for i in (0, 3):
            alone = plan.choose(verb, one, 4)(given[i : i + 1], w, None, one)
            np.testing.assert_array_equal(together[i], alone[0])


@pytest.mark.parametrize("stride", [1, 2])
def test_a_large_weight_gradient_is_the_sum_over_all_pixels(isa, stride):
    rng = np.random.default_rng(1)
    size = 128 if stride == 1 else 160
    geometry = geometry_of(4, size, padding=1, stride=stride)
    x, dy = (rng.standard_normal(shape, dtype=np.float32) for shape in (geometry.input_shape, geometry.output_shape))
    dw = plan.choose("conv_backward_weight", geometry, 4)(last(dy), last(x), geometry)
    padded = np.pad(x[:, :, 0], ((0, 0), (0, 0), (1, 1), (1, 1)))
    edge = geometry.output[1] * stride
    for i in range(3):
        for j in range(3):
            seen = padded[:, :, i : i + edge : stride, j : j + edge : stride]
            expected = np.einsum("nchw,nchw->c", seen, dy[:, :, 0], dtype=np.float64)
            np.testing.assert_allclose(dw[:, 0, 0, i, j], expected, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("wall", ["wall_behind_last", "wall_before_last"])
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((3, 96, 1, 131, 121), {"padding": (0, 1, 1)}),
        ((3, 96, 1, 131, 121), {"padding": (0, 7, 5)}),  # tiles that see padding alone
        ((3, 96, 1, 161, 162), {"padding": (0, 0, 1), "stride": (1, 2, 2)}),
        ((6, 96, 1, 130, 120), {"padding": (0, 4, 1), "stride": (1, 2, 2)}),
        ((1, 96, 11, 67, 61), {"padding": (2, 1, 1)}),
        ((2, 96, 8, 69, 63), {"padding": (1, 0, 1), "stride": (2, 1, 1)}),
        ((1, 96, 17, 69, 63), {"padding": (1, 1, 2), "dilation": (2, 1, 1), "stride": (1, 2, 2)}),
    ],
)
def test_a_large_weight_gradient_reads_nothing_outside_its_arrays(isa, shape, options, wall):
    """And its bits depend neither on threads nor on where the arrays lie."""
    taps = (1 if shape[2] == 1 else 3, 3, 3)
    geometry = conv_geometry("conv3d", 3, shape, (CHANNELS, 1, *taps), groups=CHANNELS, **options)
    rng = np.random.default_rng(2)
    x, dy = (rng.standard_normal(a, dtype=np.float32) for a in (geometry.input_shape, geometry.output_shape))
    assert x.nbytes + dy.nbytes > 24 << 20
    run = plan.choose("conv_backward_weight", geometry, 4)
    threads, walled = runtime.get_num_threads(), [LAYOUTS[wall](a) for a in (dy, x)]
    try:
        found = []
        for number in (1, 2):
            runtime.set_num_threads(number)
            found += [run(*walled, geometry), run(last(dy), last(x), geometry)]
    finally:
        runtime.set_num_threads(threads)
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)
    padded = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in options["padding"])))
    stride, dilation = options.get("stride", (1, 1, 1)), options.get("dilation", (1, 1, 1))
    for tap in np.ndindex(taps):
        first = [t * d for t, d in zip(tap, dilation, strict=True)]
        ends = [f + s * n for f, s, n in zip(first, stride, geometry.output, strict=True)]
        seen = padded[:, :, *(slice(*one) for one in zip(first, ends, stride, strict=True))]
        expected = np.einsum("ncdhw,ncdhw->c", seen, dy, dtype=np.float64)
        np.testing.assert_allclose(found[0][(slice(None), 0, *tap)], expected, rtol=1e-4, atol=2e-3)
