"""Groups of a large array, whose tiles are copied together: each still has the bits that it has alone."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.backends.cpu import plan
from fastconv.geometry import conv_geometry

IMAGES, EDGE = 3, 21
BEYOND = 2 << 20  # bytes: the caches of a core do not hold them


def geometry_of(channels, groups, **options):
    return conv_geometry(
        "conv2d", 2, (IMAGES, channels * groups, EDGE, EDGE), (channels * groups, channels, 3, 3), groups=groups,
        **options,
    )  # fmt: skip


def last(array):
    return np.moveaxis(np.moveaxis(array, 1, -1).copy(), -1, 1)


@pytest.mark.parametrize(
    ("channels", "groups", "options"),
    [
        (40, 15, {"stride": 2, "padding": 1}),  # bundles of 12 and 3
        (33, 18, {"padding": (2, 0), "exact": True}),
        (64, 10, {"dilation": 2, "padding": 3}),
        (100, 6, {"stride": (1, 2), "padding": 1}),
    ],
)
def test_a_group_has_the_bits_that_it_has_alone(isa, channels, groups, options):
    rng = np.random.default_rng(channels)
    many, one = (geometry_of(channels, count, **options) for count in (groups, 1))
    x, dy = (last(rng.standard_normal(shape, dtype=np.float32)) for shape in (many.input_shape, many.output_shape))
    w = rng.standard_normal(many.weight_shape, dtype=np.float32)
    assert x.nbytes > BEYOND > x.nbytes // groups
    for verb, given in (("conv_forward", x), ("conv_backward_input", dy)):
        together = plan.choose(verb, many, 4)(given, w, None, many)
        for group in (0, 1, groups // 2, groups - 1):
            part = slice(group * channels, (group + 1) * channels)
            alone = plan.choose(verb, one, 4)(last(given[:, part]), w[part], None, one)
            np.testing.assert_array_equal(together[:, part], alone)


def test_channels_first_is_copied_group_by_group_to_the_same_bits(isa):
    rng = np.random.default_rng(0)
    geometry = geometry_of(40, 15, stride=2, padding=1)
    x = rng.standard_normal(geometry.input_shape, dtype=np.float32)
    w = rng.standard_normal(geometry.weight_shape, dtype=np.float32)
    forward = plan.choose("conv_forward", geometry, 4)
    np.testing.assert_array_equal(forward(x, w, None, geometry), forward(last(x), w, None, geometry))
