"""Kernels over channels of the compiled backend: sizes around the vector width, odd strides, precision of sums."""

from __future__ import annotations

from itertools import product

import numpy as np
import oracle
import pytest
from layouts import DTYPES, LAYOUTS, normal

from fastconv import backends
from fastconv.geometry import pool_geometry

pytest.importorskip("fastconv.backends.cpu.dispatch", reason="the compiled backend is not built")

by_dtype = pytest.mark.parametrize("dtype", DTYPES)
AROUND = (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 35)
LONG = (63, 64, 65, 257)


@pytest.fixture
def cpu(isa):
    return backends.get("cpu")


@pytest.fixture
def reference():
    return backends.get("reference")


def check(actual, wanted, what: str = "") -> None:
    for one, other in zip(actual, wanted, strict=True):
        oracle.assert_close(one, other, what=what)


@by_dtype
@pytest.mark.parametrize("layout", ["C", "channels_last", "every_other"])
def test_sizes_around_the_vector_width(cpu, reference, layout, dtype):
    for channels, length in [*product(AROUND, (1, 5)), *product((1, 3, 16, 17), AROUND + LONG)]:
        shape = (3, channels, length)
        change = LAYOUTS.get(layout, lambda a: a)
        x, dy = (change(normal((shape, name), shape, dtype)) for name in "xd")
        mean = normal("m", (channels,), dtype)
        rstd = np.abs(normal("r", (channels,), dtype)) + np.array(0.5, dtype)
        dloss, target = normal("l", (3, length), dtype), np.arange(3 * length).reshape(3, length) % channels

        def all_of(backend, x=x, dy=dy, mean=mean, rstd=rstd, dloss=dloss, target=target):
            loss, scale, log_prob = backend.cross_entropy_forward(x, target, None, -100, 0.1)
            return (
                backend.softmax_forward(x), backend.softmax_backward(dy, x), loss, scale, log_prob,
                backend.log_softmax_backward(dy, -np.abs(x)),
                backend.cross_entropy_backward(dloss, -np.abs(x), target, None, -100, 0.1),
                *backend.nll_forward(x, target, mean, -100, 0.0),
                backend.batch_norm_forward(x, mean, rstd, rstd, mean),
                backend.batch_norm_backward(dy, x, mean, rstd, rstd, True)[0],
                backend.bias_backward(dy),
            )  # fmt: skip

        if channels > 1:  # of one class every loss is 0 but for rounding
            check(all_of(cpu), all_of(reference), f"{shape}")


@by_dtype
@pytest.mark.parametrize("layout", ["C", "channels_last"])
def test_statistics_of_many_values_with_a_large_mean(cpu, layout, dtype):
    x = normal("many", (4, 3, 60_000), dtype) + np.array(1000, dtype)
    mean, variance = cpu.batch_norm_statistics(LAYOUTS.get(layout, lambda a: a)(x))
    wide = x.astype(np.longdouble)
    np.testing.assert_allclose(mean, wide.mean((0, 2)).astype(float), rtol=np.finfo(dtype).eps)
    np.testing.assert_allclose(variance, wide.var((0, 2)).astype(float), rtol=8 * np.finfo(dtype).eps)


@by_dtype
def test_an_average_over_a_large_window_keeps_its_digits(cpu, dtype):
    x = np.abs(normal("large", (1, 2, 40, 100, 100), dtype))
    geometry = pool_geometry("pool", 3, x.shape, (40, 100, 100))
    np.testing.assert_allclose(
        cpu.avg_pool_forward(x, geometry).ravel(), x.astype(np.longdouble).mean((0, 2, 3, 4)).astype(float),
        rtol=64 * np.finfo(dtype).eps,
    )  # fmt: skip


@by_dtype
@pytest.mark.parametrize("channels", AROUND)
@pytest.mark.parametrize("layout", ["C", "channels_last", "reversed"])
def test_pooling_of_any_number_of_channels(cpu, reference, layout, channels, dtype):
    shape = (2, channels, 3, 7, 9)
    x = LAYOUTS.get(layout, lambda a: a)(normal((shape, "x"), shape, dtype))
    geometry = pool_geometry("pool", 3, shape, 3, stride=2, padding=1, ceil_mode=True)
    y, indices = cpu.max_pool_forward(x, geometry)
    wanted, wanted_indices = reference.max_pool_forward(x, geometry)
    np.testing.assert_array_equal(y, wanted)
    np.testing.assert_array_equal(indices, wanted_indices)
    check(
        (cpu.max_pool_backward(y, indices, geometry), cpu.avg_pool_forward(x, geometry),
         cpu.avg_pool_backward(y, geometry)),
        (reference.max_pool_backward(wanted, wanted_indices, geometry), reference.avg_pool_forward(x, geometry),
         reference.avg_pool_backward(wanted, geometry)),
    )  # fmt: skip


@pytest.mark.parametrize("channels, size", [(40, 200), (3, 2000)])
def test_pooling_in_several_boxes(cpu, reference, channels, size):
    """The packed source of one sample exceeds a box: it is cut into rows and blocks of channels."""
    shape = (1, channels, 1, size, size // 4)
    x = normal((shape, "x"), shape, "float32")
    geometry = pool_geometry("pool", 2, (1, channels, size, size // 4), 3, stride=2)
    np.testing.assert_array_equal(cpu.max_pool_forward(x, geometry)[1], reference.max_pool_forward(x, geometry)[1])


def test_pooling_of_a_box_too_large_to_pack(cpu, reference):
    shape = (1, 2, 1, 1, 600_000)
    x = normal("long", shape, "float32")
    geometry = pool_geometry("pool", 1, (1, 2, 600_000), 5, stride=3, padding=2)
    np.testing.assert_array_equal(cpu.max_pool_forward(x, geometry)[1], reference.max_pool_forward(x, geometry)[1])
    dy = normal("dy", geometry.output_shape, "float32")
    check((cpu.avg_pool_backward(dy, geometry),), (reference.avg_pool_backward(dy, geometry),))


def test_places_beyond_the_whole_numbers_of_float32(cpu):
    size = (1 << 24) + 64
    x = np.zeros((1, 1, 1, 1, size), "float32")
    x[..., size - 3] = 1
    y, indices = cpu.max_pool_forward(x, pool_geometry("pool", 1, (1, 1, size), size))
    assert (y.dtype, y.item(), indices.item()) == (np.float32, 1, size - 3)


def test_softmax_of_many_classes(cpu, reference):
    x = normal("wide", (3, 40_000, 1), "float32")
    check((cpu.softmax_forward(x), cpu.log_softmax_forward(x)),
          (reference.softmax_forward(x), reference.log_softmax_forward(x)))  # fmt: skip
