"""Few channels a group where padding reaches past a kernel's middle tap: runs of pixels that begin or end outside."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import backends
from fastconv.backends.cpu import plan
from fastconv.geometry import conv_geometry


@pytest.mark.parametrize("channels", [4, 8, 16])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [1, 2, 3])
def test_all_directions_agree_with_the_reference(isa, channels, stride, padding):
    rng = np.random.default_rng(channels)
    shape, w_shape = (2, 4 * channels, 9, 23), (4 * channels, channels, 3, 3)
    geometry = conv_geometry("conv2d", 2, shape, w_shape, stride=stride, padding=padding, groups=4)
    x, w, dy = (rng.standard_normal(s) for s in (geometry.input_shape, geometry.weight_shape, geometry.output_shape))
    x, dy = (np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1) for a in (x, dy))
    reference = backends.get("reference")
    for verb, arguments in (
        ("conv_forward", (x, w, None)),
        ("conv_backward_input", (dy, w, None)),
        ("conv_backward_weight", (dy, x)),
    ):
        expected = getattr(reference, verb)(*arguments, geometry)
        np.testing.assert_allclose(plan.choose(verb, geometry, 8)(*arguments, geometry), expected, rtol=0, atol=1e-11)
