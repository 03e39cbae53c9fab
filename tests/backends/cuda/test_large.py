"""Arrays of more than 2**31 elements, on a GPU that has the memory; in the simulator the same steps, small."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.backends.cuda import launch
from fastconv.geometry import conv_geometry, pool_geometry

NEEDED = 56 << 30  # bytes: up to four arrays, in pieces of a size class


@pytest.fixture
def large(cuda):
    here = launch.machine()
    cuda.empty_cache()
    if not here.simulated and here.free_memory() < NEEDED:
        pytest.skip(f"{NEEDED >> 30} GB of free device memory are needed")
    yield not here.simulated
    cuda.empty_cache()


def ends(rows):
    return 0, rows // 2 - 1, rows - 1


def test_elements_sums_and_pools(cuda, large):
    rows, columns = ((1 << 15) + 2, 1 << 16) if large else (6, 8)
    assert rows * columns > 2**31 or not large
    row, column = np.arange(rows, dtype="f4"), np.arange(columns, dtype="f4")  # their sums are exact
    x = cuda.add(cuda.from_numpy(row[:, None]), cuda.from_numpy(column))
    turned = cuda.permute(x, (1, 0))
    for c in ends(columns):
        np.testing.assert_array_equal(turned[c].numpy(), row + column[c])
    del turned
    np.testing.assert_allclose(cuda.sum(x, 1).numpy(), columns * (row + column.mean(dtype="f8")), rtol=1e-5)
    np.testing.assert_allclose(cuda.sum(x, 0).numpy(), rows * (column + row.mean(dtype="f8")), rtol=1e-5)
    twice = cuda.relu_forward(cuda.add(x, x))
    for r in ends(rows):
        np.testing.assert_array_equal(x[r].numpy(), row[r] + column)
        np.testing.assert_array_equal(twice[r].numpy(), 2 * (row[r] + column))
    del twice
    geometry = pool_geometry("max_pool2d", 2, (1, 1, rows, columns), 2)
    y, winners = cuda.max_pool_forward(cuda.reshape(x, geometry.input_shape), geometry, "winners")
    dx = cuda.reshape(cuda.max_pool_backward(y, winners, geometry), (rows, columns))
    for r in (0, *(i // 2 * 2 + 1 for i in ends(rows))):
        wanted = np.where((np.arange(columns) % 2 == 1) & (r % 2 == 1), row[r] + column, 0)
        np.testing.assert_array_equal(dx[r].numpy(), wanted)


@pytest.mark.parametrize(
    "channels, image", [(1, (64, 64)), (16, (64, 64)), (16, None)], ids=["narrow", "tiles", "one_sample"]
)
def test_convolutions(cuda, large, channels, image):
    """Of a single tap, so that every output is known: batches are cut, and a sample of 2**30 takes 64 bits."""
    n = (2**31 // (channels * 64 * 64) + 1 if large else 3) if image else 1
    image = image if image and large else (5, 4) if not large else (1 << 14, (1 << 13) + 1)
    geometry = conv_geometry("conv2d", 2, (n, channels, *image), (channels, channels, 1, 1))
    assert n * channels * image[0] * image[1] > 2**31 or not large
    w = np.zeros((channels, channels), np.float32)
    w[np.arange(channels), np.arange(channels)[::-1]] = 2  # channels in another order, twice
    weights = cuda.from_numpy(w.reshape(geometry.weight_shape))
    x = cuda.broadcast_to(cuda.from_numpy(np.arange(image[1], dtype="f4")), geometry.input_shape)
    x = cuda.add(x, cuda.from_numpy(np.arange(channels, dtype="f4").reshape(channels, 1, 1, 1)))
    y = cuda.conv_forward(x, weights, None, geometry)
    for sample in ends(n):
        for c in (0, channels - 1):
            wanted = 2 * (np.arange(image[1]) + channels - 1 - c)
            np.testing.assert_array_equal(y[sample, c, 0, -1].numpy(), wanted)
    dx = cuda.conv_backward_input(y, weights, None, geometry)
    for sample in ends(n):
        np.testing.assert_array_equal(dx[sample, channels - 1, 0, 0].numpy(), 4 * (np.arange(image[1]) + channels - 1))
    del dx, y
    if geometry.n == 1 and large:
        return  # a thread would add a weight's 2**27 products one by one
    ones = cuda.broadcast_to(cuda.from_numpy(np.ones((), np.float32)), geometry.output_shape)
    dw = cuda.conv_backward_weight(ones, x, geometry).numpy().reshape(channels, channels)
    each = n * image[0] * (np.arange(image[1]).sum() + image[1] * np.arange(channels))
    np.testing.assert_allclose(dw, np.broadcast_to(each, dw.shape), rtol=1e-4)
