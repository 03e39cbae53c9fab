"""Sizes and shape checks: output sizes against PyTorch's meta device, the windows, and every error message."""

from __future__ import annotations

import re

import numpy as np
import oracle
import pytest
from cases import CONV_CASES, POOL_CASES, TRANSPOSED_CASES, ConvCase, PoolCase
from hypothesis import given
from strategies import conv_cases, pool_cases

from fastconv import geometry
from fastconv.errors import ArgumentError, ShapeError


def conv_sizes_by_torch(case: ConvCase) -> tuple[int, ...]:
    t = oracle.torch()
    name = f"conv_transpose{case.rank}d" if case.transposed else f"conv{case.rank}d"
    x, w = (t.empty(shape, device="meta") for shape in (case.x_shape, case.w_shape))
    return tuple(getattr(t.nn.functional, name)(x, w, **case.arguments).shape)


def conv_sizes(case: ConvCase) -> tuple[int, ...]:
    g = case.geometry
    y5 = g.input_shape if case.transposed else g.output_shape
    return (*y5[:2], *y5[5 - case.rank :])


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("case", CONV_CASES + TRANSPOSED_CASES, ids=lambda case: case.id)
def test_conv_output_size_equals_torch(case):
    assert conv_sizes(case) == conv_sizes_by_torch(case)


@given(case=conv_cases(transposed=True))
def test_random_transposed_output_size_equals_torch(case):
    assert conv_sizes(case) == conv_sizes_by_torch(case)


@pytest.mark.parametrize("case", [c for c in POOL_CASES if c.n], ids=lambda case: case.id)
def test_pool_output_size_equals_torch(case):
    pool_sizes_equal_torch(case)


@given(case=pool_cases())
def test_random_pool_output_size_equals_torch(case):
    pool_sizes_equal_torch(case)


def pool_sizes_equal_torch(case: PoolCase) -> None:
    y = oracle.torch_pool(case.rank, case.kind, np.zeros(case.x_shape), **case.arguments)
    assert case.geometry.output_shape == (*y.shape[:2], *(1,) * (3 - case.rank), *y.shape[2:])


@given(case=pool_cases())
def test_windows_lie_inside_the_input_and_see_something(case):
    g = case.geometry
    for windows, size, output in zip(g.windows, g.input, g.output, strict=True):
        assert len(windows.start) == len(windows.count) == len(windows.divisor) == output
        for start, count, divisor in zip(windows.start, windows.count, windows.divisor, strict=True):
            assert start >= 0
            assert count >= 1
            assert start + windows.step * (count - 1) < size
            assert divisor >= count or windows.step > 1


def test_windows_of_a_padded_axis():
    windows = geometry.pool_geometry("pool", 1, (1, 1, 6), 3, 2, 1).windows[2]
    assert windows == geometry.AxisWindows(start=(0, 1, 3), count=(2, 3, 3), step=1, divisor=(3, 3, 3))
    windows = geometry.pool_geometry("pool", 1, (1, 1, 6), 3, 2, 1, count_include_pad=False).windows[2]
    assert windows.divisor == (2, 3, 3)


def test_windows_of_a_dilated_axis():
    windows = geometry.pool_geometry("pool", 1, (1, 1, 7), 3, 2, 2, 2).windows[2]
    assert (windows.start, windows.count, windows.step) == ((0, 0, 2, 4), (2, 3, 3, 2), 2)


def test_windows_of_an_adaptive_axis():
    windows = geometry.adaptive_pool_geometry("pool", 1, (1, 1, 7), 3).windows[2]
    assert (windows.start, windows.count) == ((0, 2, 4), (3, 3, 3))
    windows = geometry.adaptive_pool_geometry("pool", 1, (1, 1, 2), 3).windows[2]
    assert (windows.start, windows.count) == ((0, 0, 1), (1, 2, 1))


@pytest.mark.parametrize(
    "size, k, s, p, d, floor, ceil",
    [
        (7, 2, 2, 0, 1, 3, 4),
        (6, 2, 2, 0, 1, 3, 3),
        (5, 1, 3, 0, 1, 2, 2),
        (4, 2, 3, 1, 1, 2, 2),
        (10, 3, 2, 0, 2, 3, 4),
    ],
)
def test_ceil_mode(size, k, s, p, d, floor, ceil):
    assert geometry.pooled_size(size, k, s, p, p, d, False) == floor
    assert geometry.pooled_size(size, k, s, p, p, d, True) == ceil


def test_same_padding_puts_the_odd_zero_at_the_end():
    g = geometry.conv_geometry("conv2d", 2, (1, 1, 7, 8), (1, 1, 2, 4), padding="same")
    assert (g.padding, g.padding_end, g.output) == ((0, 0, 1), (0, 1, 2), (1, 7, 8))


def test_flops():
    assert geometry.conv_geometry("conv2d", 2, (2, 4, 8, 8), (6, 2, 3, 3), groups=2).flops == 2 * 2 * 6 * 36 * 2 * 9


@pytest.mark.parametrize("stride", [2, (2, 2), [2, 2], (2,), np.int64(2), (np.int32(2), 2)], ids=repr)
def test_an_argument_may_be_an_integer_or_integers(stride):
    g = geometry.conv_geometry("conv2d", 2, (1, 1, 8, 8), (1, 1, 2, 2), stride=stride)
    assert g.stride == (1, 2, 2)
    assert all(type(entry) is int for entry in g.stride)


def conv2d(x=(2, 4, 8, 8), w=(6, 4, 3, 3), **arguments):
    return geometry.conv_geometry("conv2d", 2, x, w, **arguments)


def transpose(x=(2, 4, 8, 8), w=(4, 6, 3, 3), **arguments):
    return geometry.conv_transpose_geometry("conv_transpose2d", 2, x, w, **arguments)


def pool(x=(2, 4, 8, 8), kernel_size=2, **arguments):
    return geometry.pool_geometry("max_pool2d", 2, x, kernel_size, **arguments)


def adaptive(x=(2, 4, 8, 8), output_size=2):
    return geometry.adaptive_pool_geometry("adaptive_avg_pool2d", 2, x, output_size)


CONV_ERRORS = [
    ({"x": (4, 8, 8)}, ShapeError, "expected input of 4 axes (N, C, H, W), got shape (4, 8, 8)"),
    ({"w": (6, 4, 3)}, ShapeError, "expected weight of 4 axes, got shape (6, 4, 3)"),
    ({"w": (6, 4, 0, 3)}, ShapeError, "expected weight without empty axes, got shape (6, 4, 0, 3)"),
    ({"w": (6, 3, 3, 3)}, ShapeError, "expected weight (OC, 3, KH, KW) to match input (N, 4, H, W): 3 != 4"),
    (
        {"groups": 2},
        ShapeError,
        "expected weight (OC, 4, KH, KW) to match input (N, 4, H, W): 4 * 2 groups != 4",
    ),
    (
        {"w": (5, 2, 3, 3), "groups": 2},
        ShapeError,
        "expected weight's first axis (OC) divisible by groups 2, got 5",
    ),
    ({"groups": 0}, ArgumentError, "expected groups >= 1, got 0"),
    ({"groups": 1.0}, ArgumentError, "expected groups to be an integer, got 1.0"),
    ({"bias": (5,)}, ShapeError, "expected bias (6,) to match the output channels, got shape (5,)"),
    ({"bias": (6, 1)}, ShapeError, "expected bias (6,) to match the output channels, got shape (6, 1)"),
    ({"x": (2, 4, 0, 8)}, ShapeError, "expected input whose axes, the batch apart, are not empty, got (0, 8)"),
    ({"stride": 0}, ArgumentError, "expected stride >= 1, got 0"),
    ({"stride": -1}, ArgumentError, "expected stride >= 1, got -1"),
    ({"stride": 2.0}, ArgumentError, "expected stride to be an integer, got 2.0"),
    ({"stride": (2, 2.0)}, ArgumentError, "expected stride to be an integer, got 2.0"),
    ({"stride": None}, ArgumentError, "expected stride to be an integer, got None"),
    ({"stride": {}}, ArgumentError, "expected stride to be an integer, got {}"),
    ({"stride": (1, 1, 1)}, ArgumentError, "expected stride to be an int or 2 ints, got 3: (1, 1, 1)"),
    ({"stride": "same"}, ArgumentError, "expected stride to be an integer, got 'same'"),
    ({"padding": -1}, ArgumentError, "expected padding >= 0, got -1"),
    ({"padding": (0, -1)}, ArgumentError, "expected padding >= 0, got -1"),
    ({"padding": "full"}, ArgumentError, "expected padding to be 'same', 'valid' or integers, got 'full'"),
    (
        {"padding": "same", "stride": (1, 2)},
        ArgumentError,
        "expected stride 1 with padding 'same', got stride (1, 2)",
    ),
    ({"dilation": 0}, ArgumentError, "expected dilation >= 1, got 0"),
    (
        {"dilation": 4},
        ShapeError,
        "expected padded input at least as large as the dilated kernel (9, 9), got (8, 8)",
    ),
    (
        {"w": (6, 4, 11, 3), "padding": 1},
        ShapeError,
        "expected padded input at least as large as the dilated kernel (11, 3), got (10, 10)",
    ),
]
TRANSPOSED_ERRORS = [
    ({"x": (2, 4, 8)}, ShapeError, "expected input of 4 axes (N, C, H, W), got shape (2, 4, 8)"),
    ({"w": (5, 6, 3, 3)}, ShapeError, "expected weight (5, ...) to match input (N, 4, ...): 5 != 4"),
    ({"groups": 3}, ShapeError, "expected weight's first axis (IC) divisible by groups 3, got 4"),
    ({"bias": (5,)}, ShapeError, "expected bias (6,) to match the output channels, got shape (5,)"),
    ({"groups": 2, "bias": (6,)}, ShapeError, "expected bias (12,) to match the output channels, got shape (6,)"),
    ({"output_padding": -1}, ArgumentError, "expected output_padding >= 0, got -1"),
    (
        {"output_padding": 1},
        ArgumentError,
        "expected output_padding smaller than stride or dilation, got output_padding (1, 1)",
    ),
    (
        {"x": (2, 4, 1, 1), "padding": 2},
        ShapeError,
        "expected an output that is not empty, got sizes (-1, -1)",
    ),
    ({"padding": "same"}, ArgumentError, "expected padding to be an integer, got 'same'"),
]
POOL_ERRORS = [
    ({"x": (4, 8)}, ShapeError, "expected input of 4 axes (N, C, H, W), got shape (4, 8)"),
    ({"x": (2, 0, 8, 8)}, ShapeError, "expected input whose axes, the batch apart, are not empty, got (8, 8)"),
    ({"kernel_size": 0}, ArgumentError, "expected kernel_size >= 1, got 0"),
    ({"kernel_size": 2.5}, ArgumentError, "expected kernel_size to be an integer, got 2.5"),
    ({"stride": 0}, ArgumentError, "expected stride >= 1, got 0"),
    ({"dilation": 0}, ArgumentError, "expected dilation >= 1, got 0"),
    (
        {"padding": 2},
        ArgumentError,
        "expected padding of at most half the (dilated) kernel_size (2, 2), got (2, 2)",
    ),
    ({"divisor_override": 0}, ArgumentError, "expected divisor_override >= 1, got 0"),
    (
        {"kernel_size": 9},
        ShapeError,
        "expected padded input at least as large as the kernel, got input (8, 8), kernel_size (9, 9), padding (0, 0)",
    ),
    (
        {"x": (2, 4, 1, 8), "dilation": (3, 1), "padding": (2, 0)},
        ShapeError,
        "expected every window to see an input element, got one that sees padding alone",
    ),
]
ADAPTIVE_ERRORS = [
    ({"output_size": 0}, ArgumentError, "expected output_size >= 1, got 0"),
    (
        {"output_size": (2, 2, 2)},
        ArgumentError,
        "expected output_size to be an int or 2 ints, got 3: (2, 2, 2)",
    ),
    ({"output_size": "2"}, ArgumentError, "expected output_size to be an integer, got '2'"),
    ({"x": (2, 4, 8)}, ShapeError, "expected input of 4 axes (N, C, H, W), got shape (2, 4, 8)"),
]
ERRORS = [
    (make, op, *row)
    for make, op, rows in (
        (conv2d, "conv2d", CONV_ERRORS),
        (transpose, "conv_transpose2d", TRANSPOSED_ERRORS),
        (pool, "max_pool2d", POOL_ERRORS),
        (adaptive, "adaptive_avg_pool2d", ADAPTIVE_ERRORS),
    )
    for row in rows
]


def label(value):
    """A name for a case, the same in every process."""
    return value.__name__ if callable(value) else str(value)[:60]


@pytest.mark.parametrize("make, op, arguments, error, message", ERRORS, ids=label)
def test_error_message(make, op, arguments, error, message):
    make()  # the defaults are sound: the argument alone is at fault, and a cached answer does not hide it
    with pytest.raises(error, match=f"^{re.escape(f'{op}: {message}')}$"):
        make(**arguments)


def test_messages_of_one_and_three_axes():
    with pytest.raises(ShapeError, match=re.escape("got (2,)")):
        geometry.conv_geometry("conv1d", 1, (1, 1, 2), (1, 1, 3))
    with pytest.raises(ShapeError, match=re.escape("conv3d: expected weight (OC, 2, KD, KH, KW) to match input")):
        geometry.conv_geometry("conv3d", 3, (1, 1, 4, 4, 4), (1, 2, 3, 3, 3))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: geometry.check_linear("linear", (), (2, 3), None), "expected input (*, I) of at least one axis, got"),
        (lambda: geometry.check_linear("linear", (4, 3), (3,), None), "expected weight (O, I), got shape (3,)"),
        (
            lambda: geometry.check_linear("linear", (4, 5), (2, 3), None),
            "expected weight (2, 3) to match input (*, 5): 3 != 5",
        ),
        (lambda: geometry.check_linear("linear", (4, 3), (2, 3), (3,)), "expected bias (2,) to match the output"),
        (lambda: geometry.channel_shape("linear", (3,)), "expected input (N, C, *) of at least two axes, got shape"),
        (
            lambda: geometry.check_per_channel("linear", "weight", (4,), 3),
            "expected weight (3,) to match the channels, got shape (4,)",
        ),
        (
            lambda: geometry.check_same_shape("linear", "input", (2, 3), "target", (3, 2)),
            "expected target to have the shape of input (2, 3), got shape (3, 2)",
        ),
    ],
    ids=label,
)
def test_other_checks(call, message):
    with pytest.raises(ShapeError, match="^" + re.escape(f"linear: {message}")):
        call()


def test_other_checks_pass():
    geometry.check_linear("linear", (3,), (2, 3), (2,))
    geometry.check_linear("linear", (4, 5, 3), (2, 3), None)
    geometry.check_per_channel("norm", "weight", None, 3)
    geometry.check_per_channel("norm", "weight", (3,), 3)
    geometry.check_same_shape("loss", "input", [2, 3], "target", (2, 3))
    assert geometry.channel_shape("norm", (2, 3)) == (2, 3, 1)
    assert geometry.channel_shape("norm", (2, 3, 4, 5)) == (2, 3, 20)
