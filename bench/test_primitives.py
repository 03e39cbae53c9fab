"""Micro-benchmarks of the primitives, each direction alone, at the sizes of a LeNet step and of small layers.

    pytest bench --benchmark-enable --benchmark-only

Times of one engine on one machine, to see what a change does: ``--benchmark-autosave``, then ``--benchmark-compare`` or
``python -m bench.compare``. Claims against other engines come from the paired scripts beside this file. Convolutions,
units, pooling and linear layers are here; what memory limits is in test_elementwise.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import functional as F

# name: x, weight, options
CONVOLUTIONS = {
    "lenet_c1": ((64, 1, 28, 28), (32, 1, 5, 5), {}),
    "lenet_c3": ((64, 32, 12, 12), (64, 32, 5, 5), {}),
    "lenet_c3_exact": ((64, 32, 12, 12), (64, 32, 5, 5), {"exact": True}),
    "1d": ((16, 32, 256), (64, 32, 5), {"padding": 2}),
    "3x3": ((8, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
    "3x3_exact": ((8, 64, 56, 56), (64, 64, 3, 3), {"padding": 1, "exact": True}),
    "3x3_stride2": ((8, 64, 56, 56), (128, 64, 3, 3), {"padding": 1, "stride": 2}),
    "3x3_dilation2": ((8, 64, 28, 28), (64, 64, 3, 3), {"padding": 2, "dilation": 2}),
    "1x1": ((8, 256, 28, 28), (64, 256, 1, 1), {}),
    "7x7_stride2": ((4, 3, 112, 112), (64, 3, 7, 7), {"padding": 3, "stride": 2}),
    "grouped_4": ((4, 64, 28, 28), (64, 4, 3, 3), {"padding": 1, "groups": 16}),
    "grouped_32": ((4, 128, 28, 28), (128, 32, 3, 3), {"padding": 1, "groups": 4}),
    "depthwise": ((8, 64, 56, 56), (64, 1, 3, 3), {"padding": 1, "groups": 64}),
    "depthwise_stride2": ((8, 64, 56, 56), (64, 1, 3, 3), {"padding": 1, "groups": 64, "stride": 2}),
    "volume_3x3x3": ((2, 16, 16, 32, 32), (32, 16, 3, 3, 3), {"padding": 1}),
    "volume_1x1x1": ((2, 64, 8, 14, 14), (64, 64, 1, 1, 1), {}),
    "volume_3x1x1": ((2, 32, 16, 14, 14), (32, 32, 3, 1, 1), {"padding": (1, 0, 0)}),
    "volume_depthwise": ((2, 32, 16, 16, 16), (32, 1, 3, 3, 3), {"padding": 1, "groups": 32}),
}
TRANSPOSED = {
    "2x2_stride2": ((4, 64, 14, 14), (64, 32, 2, 2), {"stride": 2}),
    "3x3": ((4, 64, 14, 14), (64, 64, 3, 3), {"padding": 1}),
    "volume_2x2x2": ((1, 32, 8, 8, 8), (32, 16, 2, 2, 2), {"stride": 2}),
}
UNITS = {
    "lenet_c1": ((64, 1, 28, 28), (32, 1, 5, 5), {"pool": 2}),
    "lenet_c3": ((64, 32, 12, 12), (64, 32, 5, 5), {"pool": 2}),
    "lenet_c3_exact": ((64, 32, 12, 12), (64, 32, 5, 5), {"pool": 2, "exact": True}),
    "no_pool": ((8, 32, 28, 28), (32, 32, 3, 3), {"padding": 1}),
    "volume": ((2, 8, 16, 16, 16), (16, 8, 3, 3, 3), {"padding": 1, "pool": 2}),
}
# name: x, window, stride
POOLINGS = {
    "1d": ((16, 64, 256), 2, 2),
    "lenet_p2": ((64, 32, 24, 24), 2, 2),
    "overlapping": ((8, 64, 56, 56), 3, 2),
    "large": ((8, 64, 112, 112), 2, 2),
    "volume": ((2, 32, 16, 28, 28), 2, 2),
    "wide_window": ((4, 64, 28, 28), 7, 1),
}
ADAPTIVE = {"global": ((8, 512, 7, 7), 1), "uneven": ((8, 64, 28, 28), 5), "volume_global": ((2, 256, 4, 7, 7), 1)}
LINEAR = {"f5": (64, 1024, 256), "f6": (64, 256, 10), "one_row": (1, 1024, 1000), "wide": (16, 2048, 2048)}


def normal(*shape: int) -> np.ndarray:
    """A fixed array of this shape, float32."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def channels_last(array: np.ndarray) -> np.ndarray:
    """The same values with channels fastest in memory: how activations travel between layers."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)


def needs(direction: str) -> tuple[bool, bool, bool]:
    return direction == "backward_input", direction == "backward_weight", False


def run_convolution(benchmark, op, x_shape, w_shape, options, direction):
    rank = len(x_shape) - 2
    x, w = channels_last(normal(*x_shape)), normal(*w_shape)
    forward, backward = getattr(F, f"{op}{rank}d"), getattr(F, f"{op}{rank}d_backward")
    y = forward(x, w, **options)
    if direction == "forward":
        benchmark(forward, x, w, **options)
    else:
        benchmark(backward, channels_last(y), x, w, needs=needs(direction), **options)
    products = (y if op == "conv" else x).size * np.prod(w_shape[1:])
    benchmark.extra_info["flops"] = 2 * int(products)


@pytest.mark.parametrize("direction", ["forward", "backward_input", "backward_weight"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_conv(benchmark, name, direction):
    run_convolution(benchmark, "conv", *CONVOLUTIONS[name], direction)


@pytest.mark.parametrize("direction", ["forward", "backward_input", "backward_weight"])
@pytest.mark.parametrize("name", TRANSPOSED)
def test_conv_transpose(benchmark, name, direction):
    run_convolution(benchmark, "conv_transpose", *TRANSPOSED[name], direction)


@pytest.mark.parametrize("direction", ["forward", "backward_input", "backward_weight"])
@pytest.mark.parametrize("name", UNITS)
def test_conv_unit(benchmark, name, direction):
    """Backward holds a forward pass too: conv_unit_backward looks for the maxima again."""
    x_shape, w_shape, options = UNITS[name]
    x, w, b = channels_last(normal(*x_shape)), normal(*w_shape), normal(w_shape[0])
    y = F.conv_unit(x, w, b, **options)
    if direction == "forward":
        benchmark(F.conv_unit, x, w, b, **options)
    else:
        benchmark(F.conv_unit_backward, channels_last(y), x, w, b, needs=needs(direction), **options)


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("name", POOLINGS)
def test_pool(benchmark, name, kind, direction):
    shape, window, stride = POOLINGS[name]
    x, op = channels_last(normal(*shape)), f"{kind}_pool{len(shape) - 2}d"
    if kind == "max":
        y, indices = getattr(F, op)(x, window, stride, return_indices=True)
        saved = (indices,)
    else:
        y, saved = getattr(F, op)(x, window, stride), ()
    if direction == "forward":
        benchmark(getattr(F, op), x, window, stride)
    else:
        benchmark(getattr(F, f"{op}_backward"), channels_last(y), *saved, x.shape, window, stride)


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("name", ADAPTIVE)
def test_adaptive_pool(benchmark, name, kind, direction):
    shape, size = ADAPTIVE[name]
    x, op = channels_last(normal(*shape)), f"adaptive_{kind}_pool{len(shape) - 2}d"
    if kind == "max":
        y, indices = getattr(F, op)(x, size, return_indices=True)
        saved = (indices,)
    else:
        y, saved = getattr(F, op)(x, size), ()
    if direction == "forward":
        benchmark(getattr(F, op), x, size)
    else:
        benchmark(getattr(F, f"{op}_backward"), channels_last(y), *saved, x.shape)


@pytest.mark.parametrize("direction", ["forward", "backward_input", "backward_weight"])
@pytest.mark.parametrize("name", LINEAR)
def test_linear(benchmark, name, direction):
    rows, inside, outside = LINEAR[name]
    x, w, b = normal(rows, inside), normal(outside, inside), normal(outside)
    if direction == "forward":
        benchmark(F.linear, x, w, b)
    else:
        benchmark(F.linear_backward, F.linear(x, w, b), x, w, needs=needs(direction))
    benchmark.extra_info["flops"] = 2 * rows * inside * outside
