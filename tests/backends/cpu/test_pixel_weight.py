"""Weight gradients of a single tap that sees no padding: sides in place or copied, blocks, parts, what is ahead."""

import numpy as np
import pytest
from fastconv.backends.cpu.conv_backward_weight import conv_backward_weight
from hypothesis import given, settings
from hypothesis import strategies as st

from fastconv.backends.cpu import runtime
from fastconv.geometry import conv_geometry


def channels_last(a, spare=0):
    """The same numbers, pixels side by side in memory, ``spare`` channels apart."""
    memory = np.full((*np.moveaxis(a, 1, -1).shape[:-1], a.shape[1] + spare), np.nan, a.dtype)
    inside = np.moveaxis(memory[..., : a.shape[1]], -1, 1)
    inside[...] = a
    return inside


def check(geometry, dtype, layout):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(geometry.input_shape).astype(dtype)
    dy = rng.standard_normal(geometry.output_shape).astype(dtype)
    seen = x[:, :, :: geometry.stride[0], :: geometry.stride[1], :: geometry.stride[2]]
    g = geometry.groups
    split = [a.reshape(a.shape[0], g, a.shape[1] // g, -1).astype(np.float64) for a in (dy, seen)]
    exact = np.einsum("ngop,ngip->goi", *split).reshape(geometry.weight_shape)
    if layout != "NCHW":
        x, dy = (channels_last(a, layout == "channels of a larger array") for a in (x, dy))
    before, results = runtime.get_num_threads(), []
    for threads in (1, 2):
        runtime.set_num_threads(threads)
        results.append(conv_backward_weight(dy, x, geometry))
    runtime.set_num_threads(before)
    np.testing.assert_array_equal(*results)
    pixels = dy.size // dy.shape[1]
    np.testing.assert_allclose(results[0], exact, rtol=0, atol=40 * np.finfo(dtype).eps * pixels**0.5)


LAYOUTS = ["NCHW", "channels-last", "channels of a larger array"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("ic", "oc", "size"),
    [
        (480, 64, 13),
        (64, 480, 13),
        (1030, 40, 9),
        (528, 260, 7),
        (192, 16, 40),
        (16, 192, 40),
        (7, 5, 60),
        (600, 600, 3),
    ],
)
def test_blocks_and_parts(ic, oc, size, layout, dtype):
    check(conv_geometry("conv3d", 3, (2, ic, 1, size, size), (oc, ic, 1, 1, 1)), dtype, layout)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_shape(data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    groups = data.draw(st.sampled_from([1, 1, 1, 2, 3]))
    ic, oc = draw(1, 150) * groups, draw(1, 150) * groups
    shape = (draw(1, 3), ic, draw(1, 3), draw(1, 13), draw(1, 13))
    geometry = conv_geometry(
        "conv3d", 3, shape, (oc, ic // groups, 1, 1, 1), stride=(1, draw(1, 2), draw(1, 2)), groups=groups
    )
    check(geometry, data.draw(st.sampled_from([np.float32, np.float64])), data.draw(st.sampled_from(LAYOUTS)))
