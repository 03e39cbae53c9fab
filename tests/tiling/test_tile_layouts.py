"""Layouts and windows: reshapes keep track of the volume's axes, and an interval's inputs are those that it sees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv import functional as F
from fastconv.errors import FastconvError
from fastconv.geometry import conv_geometry, conv_transpose_geometry, pool_geometry
from fastconv.tiling.layout import plain, reshaped, shape_in, volume, whole
from fastconv.tiling.windows import anywhere, conv_axis, every, pad_axis, pool_axis, transpose_axis, widened

INTERVAL = st.tuples(st.integers(0, 30), st.integers(1, 12))


def interval(drawn, size):
    start = drawn[0] % size
    return start, min(size, start + drawn[1])


@pytest.mark.parametrize("shape, expected", [
    ((1, 6, 5, 7), volume(6, (5, 7))), ((6, 35), (((None, 6),), ((0, 5), (1, 7)))),
    ((2, 3, 35), (((None, 2),), ((None, 3),), ((0, 5), (1, 7)))), ((6, 5, 1, 1, 7), None), ((30, 7), None),
    ((6, 7, 5), False), ((6, 36), False),
])  # fmt: skip
def test_reshapes(shape, expected):
    found = reshaped(volume(6, (5, 7)), shape)
    if expected is False:
        assert found is None
    else:
        assert shape_in(found, whole(found, 2)) == shape
        assert expected is None or found == expected


def test_axes_of_size_one():
    assert reshaped(volume(1, (1, 9)), (1, 1, 1, 1, 9)) == ((), (), (), ((0, 1),), ((1, 9),))
    assert plain((1, 4)) == ((), ((None, 4),))


@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 4), st.integers(0, 6), st.integers(1, 3), INTERVAL)
def test_a_convolution_reads_what_its_outputs_see(size, kernel, stride, padding, dilation, drawn):
    try:
        g = conv_geometry("conv1d", 1, (1, 1, size), (1, 1, kernel), None, stride, padding, dilation)
    except FastconvError:
        return
    out = interval(drawn, g.output[2])
    made, (low, high), before, after = conv_axis(g, 2, out)
    assert made[0] <= out[0] < out[1] <= made[1] <= g.output[2]
    assert 0 <= low < high <= size
    assert (high - low + before + after - dilation * (kernel - 1) - 1) // stride + 1 == made[1] - made[0]
    seen = {o * stride - padding + k * dilation for o in range(*made) for k in range(kernel)}
    assert {position for position in seen if 0 <= position < size} <= set(range(low, high))
    assert low - before == min(seen)


@given(st.integers(1, 20), st.integers(1, 5), st.integers(1, 4), st.integers(0, 4), st.integers(1, 3), INTERVAL)
def test_a_transposed_convolution_reads_what_reaches_its_outputs(size, kernel, stride, padding, dilation, drawn):
    try:
        g = conv_transpose_geometry("t", 1, (1, 1, size), (1, 1, kernel), None, stride, padding, 0, 1, dilation)
    except FastconvError:
        return
    out = interval(drawn, g.input[2])
    (low, high), before, _ = transpose_axis(g, 2, out, anywhere(g.output[2]))
    assert 0 <= low < high <= size
    assert before >= 0
    reach = {o for o in range(size) for k in range(kernel) if out[0] <= o * stride - padding + k * dilation < out[1]}
    assert reach <= set(range(low, high))


@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2), st.booleans(), INTERVAL)
def test_a_pool_keeps_its_windows(size, kernel, stride, padding, ceil_mode, drawn):
    try:
        g = pool_geometry("max_pool1d", 1, (1, 1, size), kernel, stride, padding, 1, ceil_mode)
    except FastconvError:
        return
    out = interval(drawn, g.output[2])
    (low, high), axis = pool_axis(g.windows[2], out)
    assert 0 <= low < high <= size
    part = slice(*out)
    assert tuple(s + low for s in axis.start) == g.windows[2].start[part]
    assert (axis.count, axis.divisor) == (g.windows[2].count[part], g.windows[2].divisor[part])


@given(
    st.integers(4, 20), st.integers(-2, 3), st.integers(-1, 3),
    st.sampled_from(("constant", "reflect", "replicate")), INTERVAL,
)  # fmt: skip
def test_a_padding_of_a_part_is_a_part_of_the_padding(size, before, after, mode, drawn):
    x = np.arange(1.0, size + 1)[None, None]
    want = F.pad(x, (before, after), mode=mode)
    out = interval(drawn, want.shape[2])
    made, (low, high), widths = pad_axis(size, before, after, mode, out)
    assert made[0] <= out[0] < out[1] <= made[1]
    np.testing.assert_array_equal(F.pad(x[..., low:high], widths, mode=mode), want[..., slice(*made)])


def test_widening_stays_within_the_axis():
    assert widened((0, 3), every(4)(3)) == (0, 3)
    assert widened((4, 8), every(4)(30)) == (4, 8)
