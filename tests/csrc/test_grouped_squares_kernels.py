"""Winograd of few channels a group, per instruction set: batches of tiles against plain sums in float64.

A batch covers an image with padding at two edges and outputs cut at the other two; weights and their gradient go
through the matrices of Toom and Cook. Results are guarded, and neighbouring channels are NaN.
"""

import ctypes

import numpy as np
import pytest
from laboratory import ISAS, call, edges_untouched, guarded
from test_grouped_kernels import Blocks, struct
from test_winograd_kernels import FORMS, matrices

from fastconv.backends.cpu import _lab, available_isas

POINTER, SIZE = ctypes.c_void_p, ctypes.c_int64
Arguments = struct(
    x=POINTER, y=POINTER, u=POINTER, bias=POINTER, planes=POINTER, square=POINTER, count=SIZE, xrow=SIZE, xcolumn=SIZE,
    yrow=SIZE, ycolumn=SIZE, blocks=Blocks, relu=ctypes.c_int32,
)  # fmt: skip
HEIGHT, WIDTH = 11, 15  # outputs; of the source one row and one column at the beginning are padding
MATRICES = matrices(4, 3, FORMS["4x3"][3])


@pytest.fixture(params=available_isas())
def isa(request):
    return request.param


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


def groupings(width):
    """Channels in and out of a group, and groups: whole vectors, short ones, and two vectors."""
    sizes = sorted({1, 2, 3, width // 2, width} & set(range(1, width + 1)))
    unlike = [(a, b) for a, b in [(1, 2), (2, 1), (3, width)] if max(a, b) <= width]
    for channels_in, channels_out in [(n, n) for n in sizes] + unlike:
        block = width // max(channels_in, channels_out)
        for groups in {1, block}:
            yield channels_in, channels_out, groups, block
    yield 2 * width, 2 * width, 1, 1


class Problem:
    """One block, ``count`` tiles."""

    def __init__(self, vector, channels_in, channels_out, groups, block, count, dtype, rng):
        self.width = width = max(vector, channels_out)
        self.dtype, self.count = dtype, count
        self.x = np.full((HEIGHT + 1, WIDTH + 1, groups * channels_in + 2), np.nan, dtype)
        self.x[..., :-2] = rng.standard_normal((HEIGHT + 1, WIDTH + 1, groups * channels_in))
        self.lane = np.zeros((channels_in, width), np.int32)
        for k in range(channels_in):
            self.lane[k, : block * channels_out] = np.arange(block * channels_out) // channels_out * channels_in + k
        dense = channels_out >= vector and channels_in > 1
        mixed = (channels_in > 1 or channels_out > 1) and not dense
        lanes = groups * channels_in, groups * channels_out
        self.blocks = Blocks(self.lane.ctypes.data if mixed else None, 1, channels_in, *lanes, *lanes)
        padded = np.pad(self.x[..., :-2].astype(np.float64), ((1, 0), (1, 0), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (0, 1))
        self.windows = windows.reshape(HEIGHT, WIDTH, groups, channels_in, 3, 3)
        tiles = [(h, w) for h in range(0, HEIGHT, 4) for w in range(0, WIDTH, 4)][-count:]
        self.seen = np.zeros((HEIGHT, WIDTH), bool)
        for h, w in tiles:
            self.seen[h : h + 4, w : w + 4] = True
        self.tiles = tiles

    def run(self, kernel, isa, y, u, bias, relu):
        channels, outputs = self.x.shape[-1], y.shape[-1]
        square = np.array([
            (((h - 1) * (WIDTH + 1) + w - 1) * channels, (h * WIDTH + w) * outputs, max(0, 1 - h),
             min(6, HEIGHT + 2 - h), max(0, 1 - w), min(6, WIDTH + 2 - w), min(4, HEIGHT - h), min(4, WIDTH - w))
            for h, w in self.tiles
        ], np.int64)  # fmt: skip
        planes = np.zeros((2, 36, self.count, self.width), self.dtype)
        call(kernel, isa, self.dtype, Arguments(
            self.x.ctypes.data, y.ctypes.data, u.ctypes.data, None if bias is None else bias.ctypes.data,
            planes.ctypes.data, square.ctypes.data, self.count, (WIDTH + 1) * channels, channels, WIDTH * outputs,
            outputs, self.blocks, relu,
        ))  # fmt: skip


def lanes_of(w, width):
    """(groups, out, in, ...) -> (..., in, width)"""
    lanes = np.zeros((*w.shape[3:], w.shape[2], width))
    outputs = np.moveaxis(w, 2, -1).reshape(-1, *w.shape[3:], w.shape[2])
    lanes[..., : len(outputs)] = np.moveaxis(outputs, 0, -1)
    return lanes


@pytest.mark.parametrize("count", [1, 3, 8, 12])
def test_grouped_squares(isa, dtype, count):
    width = _lab.block_sizes(ISAS[isa], int(dtype == np.float64))[0]
    rng = np.random.default_rng(3)
    _, g, _ = MATRICES
    for channels_in, channels_out, groups, block in groupings(width):
        for bias in (None, rng.standard_normal(2 * width).astype(dtype)):
            q = Problem(width, channels_in, channels_out, groups, block, count, dtype, rng)
            w = rng.standard_normal((groups, channels_out, channels_in, 3, 3))
            u = lanes_of(np.einsum("ai,bj,gokij->gokab", g, g, w), q.width).astype(dtype)
            expected = np.einsum("hwgkij,gokij->hwgo", q.windows, w).reshape(HEIGHT, WIDTH, -1)
            if bias is not None:
                expected = np.maximum(expected + bias[: expected.shape[-1]], 0)
            memory, y = guarded(np.full(expected.shape, np.nan), dtype)
            q.run("grouped_squares", isa, y, u, bias, bias is not None)
            bound = 256 * np.finfo(dtype).eps * np.sqrt(channels_in)
            np.testing.assert_allclose(y[q.seen], expected[q.seen], rtol=0, atol=bound)
            assert np.isnan(y[~q.seen]).all()
            assert edges_untouched(memory)


@pytest.mark.parametrize("count", [1, 3, 8, 12])
def test_grouped_squares_outer(isa, dtype, count):
    width = _lab.block_sizes(ISAS[isa], int(dtype == np.float64))[0]
    rng = np.random.default_rng(4)
    _, g, _ = MATRICES
    for channels_in, channels_out, groups, block in groupings(width):
        q = Problem(width, channels_in, channels_out, groups, block, count, dtype, rng)
        dy = rng.standard_normal((HEIGHT, WIDTH, groups * channels_out)).astype(dtype)
        gradient = np.where(q.seen[..., None], dy, 0).astype(np.float64).reshape(HEIGHT, WIDTH, groups, channels_out)
        expected = lanes_of(np.einsum("hwgkij,hwgo->gokij", q.windows, gradient), q.width)
        memory, u = guarded(np.ones((6, 6, channels_in, q.width)), dtype)  # it adds to what is there
        q.run("grouped_squares_outer", isa, dy, u, None, 0)
        actual = np.einsum("ai,bj,abkl->ijkl", g, g, u.astype(np.float64) - 1)
        lanes = np.s_[..., : groups * channels_out]
        np.testing.assert_allclose(actual[lanes], expected[lanes], rtol=0, atol=1024 * np.finfo(dtype).eps * count)
        assert edges_untouched(memory)
