"""The micro-kernels for few channels a group, per instruction set, against plain sums in float64.

Problems are rows of pixels with padding at both ends and kernel rows in any order; blocks are one to three, the last
one short. Results are guarded, and channels that no lane reads are NaN.
"""

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest
from laboratory import ISAS, call, edges_untouched, guarded

from fastconv.backends.cpu import _lab, available_isas

POINTER, SIZE = ctypes.c_void_p, ctypes.c_int64
NOWHERE = np.iinfo(np.int64).min
NEXT = 1 << 20  # what is asked for ahead need not be memory

# taps, step, spread: those with kernels of their own, and others
ROWS = [(3, 1, 1), (3, 2, 1), (5, 1, 1), (1, 1, 1), (2, 3, 1), (3, 1, 2), (6, 2, 3)]


def struct(**fields):
    return type("Arguments", (ctypes.Structure,), {"_fields_": list(fields.items())})


Blocks = struct(lane=POINTER, count=SIZE, depth=SIZE, xlanes=SIZE, ylanes=SIZE, last_xlanes=SIZE, last_ylanes=SIZE)
GroupedRow = struct(
    x=POINTER, row=POINTER, wrow=POINTER, w=POINTER, bias=POINTER, y=POINTER, next=POINTER, next_bytes=SIZE, rows=SIZE,
    taps=SIZE, pixels=SIZE, step=SIZE, spread=SIZE, low=SIZE, high=SIZE, xpixel=SIZE, ypixel=SIZE, wblock=SIZE,
    blocks=Blocks, relu=ctypes.c_int32,
)  # fmt: skip
GroupedOuter = struct(
    x=POINTER, row=POINTER, dy=POINTER, yrow=POINTER, dw=POINTER, next_x=POINTER, next_dy=POINTER, next_x_bytes=SIZE,
    next_dy_bytes=SIZE, lines=SIZE, rows=SIZE, taps=SIZE, pixels=SIZE, step=SIZE, spread=SIZE, low=SIZE, high=SIZE,
    xpixel=SIZE, ypixel=SIZE, wblock=SIZE, blocks=Blocks, turned=ctypes.c_int32,
)  # fmt: skip


@pytest.fixture(params=available_isas())
def isa(request):
    return request.param


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


def groupings(width):
    """Channels in and out of a group, and groups: whole vectors, short ones and a short last block."""
    sizes = sorted({1, 2, 3, 4, width // 2, 3 * width // 4, width} & set(range(1, width + 1)))
    unlike = [(a, b) for a, b in [(1, 2), (2, 1), (3, width)] if max(a, b) <= width]
    for channels_in, channels_out in [(n, n) for n in sizes] + unlike:
        block = width // max(channels_in, channels_out)
        for groups in {1, block, 2 * block, 3 * block - block // 2}:
            yield channels_in, channels_out, groups


def problem(width, channels_in, channels_out, groups, taps, step, spread, pixels, dtype, rng):
    """A row of `pixels` outputs over three source rows, padded by one position at the left and cut at the right."""
    q = SimpleNamespace(taps=taps, step=step, spread=spread, pixels=pixels)
    block = width // max(channels_in, channels_out)
    count = -(-groups // block)
    last = groups - (count - 1) * block
    reach = (pixels - 1) * step + (taps - 1) * spread + 1
    q.low, q.high = 1, max(1, reach - 1)
    q.x = np.full((3, reach, groups * channels_in), np.nan, dtype)  # positions beyond the bounds stay NaN
    q.x[:, q.low : q.high] = rng.standard_normal((3, q.high - q.low, groups * channels_in))
    lane = np.zeros((channels_in, width), np.int32)
    for k in range(channels_in):
        lane[k, : block * channels_out] = np.arange(block * channels_out) // channels_out * channels_in + k
    q.lane = lane
    dense = channels_out == width and channels_in > 1  # a vector is one group, channels in are broadcast
    mixed = (channels_in > 1 or channels_out > 1) and not dense
    q.blocks = Blocks(lane.ctypes.data if mixed else None, count, channels_in, block * channels_in,
                      block * channels_out, last * channels_in, last * channels_out)  # fmt: skip
    # windows (rows, pixels, taps, groups, channels in), zero where padding is
    clean = np.nan_to_num(q.x.astype(np.float64))
    position = np.arange(pixels)[:, None] * step + np.arange(taps) * spread
    q.windows = clean[:, position].reshape(3, pixels, taps, groups, channels_in)
    return q


def packed(w, width, block):
    """(groups, out, in, rows, taps) -> (blocks, rows, in, taps, width)"""
    groups, out, depth, rows, taps = w.shape
    count = -(-groups // block)
    full = np.zeros((count * block, out, depth, rows, taps), w.dtype)
    full[:groups] = w
    lanes = full.reshape(count, block * out, depth, rows, taps).transpose(0, 3, 2, 4, 1)
    result = np.zeros((*lanes.shape[:-1], width), w.dtype)
    result[..., : block * out] = lanes
    return result


@pytest.mark.parametrize("taps, step, spread", ROWS)
def test_grouped_row(isa, dtype, taps, step, spread):
    width = _lab.block_sizes(ISAS[isa], int(dtype == np.float64))[0]
    rng = np.random.default_rng(3)
    for channels_in, channels_out, groups in groupings(width):
        for pixels in (1, 4, 5, 7, 8, 14, 20):
            q = problem(width, channels_in, channels_out, groups, taps, step, spread, pixels, dtype, rng)
            block = width // max(channels_in, channels_out)
            w = rng.standard_normal((groups, channels_out, channels_in, 3, taps)).astype(dtype)
            bias = rng.standard_normal((groups, channels_out)).astype(dtype) if pixels % 2 else None
            wrow = rng.permutation(3)[:2]  # two of the three kernel rows, over source rows 2 and 0
            expected = np.einsum("rptgk,gokrt->pgo", q.windows[[2, 0]], w[:, :, :, wrow].astype(np.float64))
            if bias is not None:
                expected = expected + bias
            memory, y = guarded(np.zeros((pixels, groups * channels_out)), dtype)
            row = np.array([2, 0], np.int64) * q.x[0].size
            wp = packed(w, width, block)
            bp = None if bias is None else packed(bias[:, :, None, None, None], width, block)
            call("grouped_row", isa, dtype, GroupedRow(
                q.x.ctypes.data, row.ctypes.data, wrow.ctypes.data, wp.ctypes.data,
                None if bp is None else bp.ctypes.data, y.ctypes.data, NEXT, 100 * pixels, 2, taps, pixels, step,
                spread, q.low, q.high, q.x.shape[2], y.shape[1], wp[0].size, q.blocks, pixels % 2,
            ))  # fmt: skip
            expected = np.maximum(expected, 0) if pixels % 2 else expected
            np.testing.assert_allclose(y, expected.reshape(y.shape), rtol=0, atol=256 * np.finfo(dtype).eps)
            assert edges_untouched(memory)


def test_grouped_row_without_rows_stores_the_bias(isa, dtype):
    width = _lab.block_sizes(ISAS[isa], int(dtype == np.float64))[0]
    q = problem(width, 1, 1, width + 1, 3, 1, 1, 9, dtype, np.random.default_rng(0))
    bias = np.arange(2.0 * width).astype(dtype)
    memory, y = guarded(np.zeros((9, width + 1)), dtype)
    call("grouped_row", isa, dtype, GroupedRow(bias=bias.ctypes.data, y=y.ctypes.data, taps=3, pixels=9, step=1,
         spread=1, xpixel=width + 1, ypixel=width + 1, blocks=q.blocks))  # fmt: skip
    np.testing.assert_array_equal(y, np.broadcast_to(bias[: width + 1], y.shape))
    assert edges_untouched(memory)


@pytest.mark.parametrize("taps, step, spread", ROWS)
@pytest.mark.parametrize("rows", [1, 3, 5])
def test_grouped_outer(isa, dtype, taps, step, spread, rows):
    width = _lab.block_sizes(ISAS[isa], int(dtype == np.float64))[0]
    rng = np.random.default_rng(4)
    for channels_in, channels_out, groups in groupings(width):
        for pixels in (1, 7, 10):
            q = problem(width, channels_in, channels_out, groups, taps, step, spread, pixels, dtype, rng)
            block = width // max(channels_in, channels_out)
            dy = rng.standard_normal((2, pixels, groups * channels_out)).astype(dtype)
            source = rng.integers(-1, 3, (2, rows))  # -1: a row of padding
            windows = np.where((source >= 0)[:, :, None, None, None, None], q.windows[source], 0.0)
            gradient = dy.astype(np.float64).reshape(2, pixels, groups, channels_out)
            start = rng.standard_normal((groups, channels_out, channels_in, rows, taps)).astype(dtype)
            expected = start + np.einsum("irptgk,ipgo->gokrt", windows, gradient)
            row = np.where(source >= 0, source * q.x[0].size, NOWHERE)
            yrow = np.arange(2) * dy[0].size
            for turned in (0, 1) if channels_in == channels_out and channels_in % 4 == 0 and taps == 3 else (0,):
                # turned: the lanes are channels in
                start_lanes, wanted, used = (
                    packed(w.swapaxes(1, 2) if turned else w, width, block)
                    for w in (start, expected, np.ones_like(start))
                )
                memory, dw = guarded(start_lanes, dtype)
                call("grouped_outer", isa, dtype, GroupedOuter(
                    q.x.ctypes.data, row.ctypes.data, dy.ctypes.data, yrow.ctypes.data, dw.ctypes.data, NEXT, NEXT,
                    1000 * pixels, 100, 2, rows, taps, pixels, step, spread, q.low, q.high, q.x.shape[2], dy.shape[2],
                    dw[0].size, q.blocks, turned,
                ))  # fmt: skip
                lanes = used > 0  # the rest is nobody's
                np.testing.assert_allclose(dw[lanes], wanted[lanes], rtol=0, atol=256 * np.finfo(dtype).eps)
                assert edges_untouched(memory)


def test_structs_are_those_of_the_headers():
    sizes = _lab.argument_sizes()
    assert sizes["grouped_row"] == ctypes.sizeof(GroupedRow)
    assert sizes["grouped_outer"] == ctypes.sizeof(GroupedOuter)
