"""The depthwise micro-kernels, for planes of 3x3 taps and of 5x5 and 7x7, per instruction set, against plain sums.

Sums are float64. Planes have padding on all four sides; blocks are one to three, the last one short. Results are
guarded, and what lies outside the bounds is NaN.
"""

import ctypes

import numpy as np
import pytest
from laboratory import ISAS, call, edges_untouched, guarded

from fastconv.backends.cpu import _lab, available_isas

POINTER, SIZE = ctypes.c_void_p, ctypes.c_int64


def struct(pointers, sizes, flags=""):
    fields = [(name, POINTER) for name in pointers.split()] + [(name, SIZE) for name in sizes.split()]
    fields += [(name, ctypes.c_int32) for name in flags.split()]
    return type("Arguments", (ctypes.Structure,), {"_fields_": fields})


Depthwise = struct(
    "x plane wplane w bias y next",
    "next_bytes planes lines pixels taps step top bottom low high ytop ybottom ylow yhigh xrow xpixel yrow ypixel"
    " wblock blocks last",
    "relu stream",
)
DepthwiseOuter = struct(
    "x dy dw next_x next_dy",
    "next_x_bytes next_dy_bytes lines pixels step top bottom low high xrow xpixel yrow ypixel wblock blocks last",
)


@pytest.fixture(params=available_isas())
def isa(request):
    return request.param


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


def sources(planes, lines, pixels, step, channels, padded, dtype, rng, taps=3):
    """Planes with their bounds (top, bottom, low, high), and the windows (q, lines, pixels, r, t, channels) seen."""
    rows, columns, padding = (lines - 1) * step + taps, (pixels - 1) * step + taps, taps // 2 if padded else 0
    bounds = (padding, rows - padding, padding, columns - padding)
    x = np.full((planes, rows, columns, channels), np.nan, dtype)
    top, bottom, low, high = bounds
    inner = x[:, top:bottom, low:high]
    inner[...] = rng.standard_normal(inner.shape)
    clean = np.nan_to_num(x.astype(np.float64))
    i = np.arange(lines)[:, None] * step + np.arange(taps)
    p = np.arange(pixels)[:, None] * step + np.arange(taps)
    return x, bounds, clean[:, i[:, None, :, None], p[None, :, None, :]]


def packed(w, width):
    """(channels, ...) -> (blocks, ..., width)"""
    blocks = -(-w.shape[0] // width)
    full = np.zeros((blocks * width, *w.shape[1:]), w.dtype)
    full[: w.shape[0]] = w
    return np.ascontiguousarray(np.moveaxis(full.reshape(blocks, width, *w.shape[1:]), 1, -1))


def shapes(width):
    for lines in (1, 2, 3, 6):
        for pixels in (1, 2, 4, 7, 13):
            yield lines, pixels, 1 + (lines * pixels) % (3 * width)
    yield 5, 11, width
    yield 4, 8, 2 * width
    yield 3, 22, width


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("kernel, taps", [("depthwise", 3), ("depthwise_lines", 5), ("depthwise_lines", 7)])
def test_depthwise(isa, dtype, kernel, taps, step, padded):
    width = _lab.block_sizes(ISAS[isa], int(dtype == np.float64))[0]
    rng = np.random.default_rng(5)
    for lines, pixels, channels in shapes(width):
        x, bounds, windows = sources(3, lines, pixels, step, channels, padded, dtype, rng, taps)
        w = rng.standard_normal((channels, 3, taps, taps)).astype(dtype)
        bias = rng.standard_normal(channels).astype(dtype) if pixels % 2 else None
        used = [2, 0][: 1 + lines % 2]  # of the kernel's planes, over source planes 0 and 1
        expected = np.einsum("qiprtc,cqrt->ipc", windows[: len(used)], w[:, used].astype(np.float64))
        if bias is not None:
            expected = expected + bias
        memory, y = guarded(np.zeros((lines, pixels, channels)), dtype)
        wp, bp = packed(w, width), None if bias is None else packed(bias, width)
        plane, wplane = np.arange(len(used)) * x[0].size, np.array(used, np.int64) * taps**2
        call(kernel, isa, dtype, Depthwise(
            x.ctypes.data, plane.ctypes.data, wplane.ctypes.data, wp.ctypes.data,
            None if bp is None else bp.ctypes.data, y.ctypes.data, x.ctypes.data, x.nbytes * (lines % 2), len(used),
            lines, pixels, taps, step, *bounds, 0, 0, 0, 0, x[0, 0].size,
            channels, y[0].size, channels, wp[0].size, len(wp), channels - (len(wp) - 1) * width,
            lines % 2,
        ))  # fmt: skip
        expected = np.maximum(expected, 0) if lines % 2 else expected
        np.testing.assert_allclose(y, expected, rtol=0, atol=256 * np.finfo(dtype).eps)
        assert edges_untouched(memory)


@pytest.mark.parametrize("kernel, taps", [("depthwise", 3), ("depthwise_lines", 7)])
def test_depthwise_without_planes_stores_the_bias(isa, dtype, kernel, taps):
    width = _lab.block_sizes(ISAS[isa], int(dtype == np.float64))[0]
    bias = np.arange(2.0 * width).astype(dtype)
    memory, y = guarded(np.zeros((2, 9, width + 1)), dtype)
    call(kernel, isa, dtype, Depthwise(
        bias=bias.ctypes.data, y=y.ctypes.data, lines=2, pixels=9, taps=taps, step=1, xpixel=width + 1,
        yrow=9 * (width + 1), ypixel=width + 1, blocks=2, last=1,
    ))  # fmt: skip
    np.testing.assert_array_equal(y, np.broadcast_to(bias[: width + 1], y.shape))
    assert edges_untouched(memory)


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("step", [1, 2])
def test_depthwise_outer(isa, dtype, step, padded):
    width = _lab.block_sizes(ISAS[isa], int(dtype == np.float64))[0]
    rng = np.random.default_rng(6)
    for lines, pixels, channels in shapes(width):
        x, bounds, windows = sources(1, lines, pixels, step, channels, padded, dtype, rng)
        dy = rng.standard_normal((lines, pixels, channels)).astype(dtype)
        start = rng.standard_normal((channels, 3, 3)).astype(dtype)
        expected = start + np.einsum("iprtc,ipc->crt", windows[0], dy.astype(np.float64))
        memory, dw = guarded(packed(start, width), dtype)
        call("depthwise_outer", isa, dtype, DepthwiseOuter(
            x.ctypes.data, dy.ctypes.data, dw.ctypes.data, None, None, 4096, x.nbytes, lines, pixels, step,
            *bounds, x[0, 0].size, channels,
            dy[0].size, channels, dw[0].size, len(dw), channels - (len(dw) - 1) * width,
        ))  # fmt: skip
        lanes = packed(np.ones_like(start), width) > 0  # the rest is nobody's
        wanted = packed(expected, width)
        np.testing.assert_allclose(dw[lanes], wanted[lanes], rtol=0, atol=256 * np.finfo(dtype).eps)
        assert edges_untouched(memory)


@pytest.mark.parametrize("padded", [True, False])
def test_depthwise_adjoint(isa, dtype, padded):
    width = _lab.block_sizes(ISAS[isa], int(dtype == np.float64))[0]
    rng = np.random.default_rng(7)
    for lines, pixels, channels in shapes(width):
        # source rows -1 to lines - 1 and positions likewise; with padding the first and the last are outside
        x = np.full((2, lines + 1, pixels + 1, channels), np.nan, dtype)
        bounds = (0, lines - 1, 0, pixels - 1) if padded else (-1, lines, -1, pixels)
        inner = x[:, bounds[0] + 1 : bounds[1] + 1, bounds[2] + 1 : bounds[3] + 1]
        inner[...] = rng.standard_normal(inner.shape)
        w = rng.standard_normal((channels, 2, 3, 3)).astype(dtype)
        bias = rng.standard_normal(channels).astype(dtype) if pixels % 2 else None
        whole = np.zeros((2 * lines, 2 * pixels, channels))
        source = np.nan_to_num(x.astype(np.float64))
        for r in range(3):
            for t in range(3):
                rows = source[:, 1 - r // 2 : 1 - r // 2 + lines, 1 - t // 2 : 1 - t // 2 + pixels]
                whole[r % 2 :: 2, t % 2 :: 2] += np.einsum("qipc,cq->ipc", rows, w[:, :, r, t].astype(np.float64))
        if bias is not None:
            whole = whole + bias
        kept = (int(padded), 2 * lines - padded, int(padded), 2 * pixels - padded)  # y is just that
        expected = whole[kept[0] : kept[1], kept[2] : kept[3]]
        expected = np.maximum(expected, 0) if lines % 2 else expected
        memory, y = guarded(np.zeros(expected.shape), dtype)
        wp, bp = packed(w, width), None if bias is None else packed(bias, width)
        plane, wplane = (np.arange(2) * x[0].size + x[0, 0].size + channels), np.arange(2) * 9
        call("depthwise_adjoint", isa, dtype, Depthwise(
            x.ctypes.data, plane.ctypes.data, wplane.ctypes.data, wp.ctypes.data,
            None if bp is None else bp.ctypes.data, y.ctypes.data - (y.shape[1] + 1) * channels * y.itemsize * padded,
            None, 0, 2, lines, pixels, 3, 2, *bounds, *kept, x[0, 0].size, channels, y.shape[1] * channels,
            channels, wp[0].size, len(wp), channels - (len(wp) - 1) * width, lines % 2,
        ))  # fmt: skip
        np.testing.assert_allclose(y, expected, rtol=0, atol=256 * np.finfo(dtype).eps)
        assert edges_untouched(memory)


@pytest.mark.parametrize("kernel, taps", [("depthwise", 3), ("depthwise_adjoint", 3), ("depthwise_lines", 5)])
def test_stores_past_the_caches_are_the_same(isa, dtype, kernel, taps):
    width = _lab.block_sizes(ISAS[isa], int(dtype == np.float64))[0]
    rng = np.random.default_rng(8)
    x, w = rng.standard_normal((9, 12, 2 * width)).astype(dtype), rng.standard_normal((2, taps**2, width)).astype(dtype)
    plane = np.array([x[0].size + x[0, 0].size])  # of the second pixel in the second row
    results = []
    for stream in (0, 1):
        memory = np.zeros(6 * 16 * 2 * width + 64, dtype)
        first = -memory.ctypes.data % 64 // memory.itemsize  # a vector's own address
        y = memory[first : first + 6 * 16 * 2 * width].reshape(6, 16, 2 * width)
        call(kernel, isa, dtype, Depthwise(
            x.ctypes.data, plane.ctypes.data, np.zeros(1, np.int64).ctypes.data, w.ctypes.data, None, y.ctypes.data,
            None, 0, 1, 2, 5, taps, 1, 0, 4, 0, 9, 0, 4, 0, 10, x[0].size, 2 * width, y[0].size, 2 * width, w[0].size,
            2, width, 0, stream,
        ))  # fmt: skip
        assert np.any(y)
        results.append(memory)
    np.testing.assert_array_equal(*[r[np.nonzero(r)] for r in results])


def test_structs_are_those_of_the_headers():
    sizes = _lab.argument_sizes()
    assert sizes["depthwise"] == sizes["depthwise_adjoint"] == sizes["depthwise_lines"] == ctypes.sizeof(Depthwise)
    assert sizes["depthwise_outer"] == ctypes.sizeof(DepthwiseOuter)
