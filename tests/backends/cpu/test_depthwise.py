"""Depthwise convolutions beyond the caches: stored past them and read ahead, and still the bits of one small image."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.backends.cpu import plan
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
