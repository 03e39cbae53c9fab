"""The micro-kernels of bfloat16 pairs, per instruction set: how numbers are rounded, in which order products add up."""

import ctypes

import numpy as np
import pytest
from laboratory import ConvTile
from test_conv_tile_kernel import columns_of, panels, pixels_of
from test_micro_kernels import ISAS, POINTER, SIZE, OuterTile, edges_untouched, guarded, sizes_around, struct

from fastconv.backends.cpu import _lab, available_isas

PairColumns = struct("PairColumns", dst=POINTER, src=POINTER, rows=SIZE, columns=SIZE, ld=SIZE, si=SIZE, sj=SIZE)
PairRows = struct("PairRows", dst=POINTER, src=POINTER, row=POINTER, rows=SIZE, columns=SIZE, ld=SIZE, step=SIZE)
PackPairs = struct("PackPairs", dst=POINTER, src=POINTER, depth=SIZE, columns=SIZE, column=SIZE)
STRUCTS = {
    "conv_tile_pairs": ConvTile,
    "outer_tile_pairs": OuterTile,
    "pair_columns": PairColumns,
    "pair_rows": PairRows,
    "pack_pairs": PackPairs,
}
SPECIAL = [0, -0.0, 1, 1 + 2**-8, 1 + 3 * 2**-8, np.inf, -np.inf, np.nan, 3.4e38, -3.4e38, 2.0**-126]


def call(kernel, isa, **arguments):
    values = {k: v.ctypes.data if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
    _lab.call(kernel, ISAS[isa], 0, bytes(STRUCTS[kernel](**values)))


def halves(a):
    """The bfloat16 numbers nearest to ``a``, ties to even, as 16 bits each: found by trying both neighbours."""
    down = (a.view(np.uint32) >> 16).astype(np.uint64)
    wide, up = np.abs(a.astype(np.float64)), down + 1

    def value(half):
        return np.abs((half << 16).astype(np.uint32).view(np.float32).astype(np.float64))

    with np.errstate(invalid="ignore"):  # NaN, which is not compared
        above = np.where((up & 0x7F80) == 0x7F80, 2.0**128, value(up))  # infinity, where rounding thinks 2^128
        low, high = wide - value(down), above - wide
    nearest = np.where((high < low) | ((high == low) & (down & 1 == 1)), up, down)
    return np.where(np.isfinite(a), nearest, down | np.where(np.isnan(a), 0x40, 0).astype(np.uint64)).astype(np.uint32)


def paired(first, second):
    return halves(first) | halves(second) << 16


def numbers(rng, shape):
    a = (rng.standard_normal(shape) * 2.0 ** rng.integers(-20, 20, shape)).astype(np.float32)
    flat = a.reshape(-1)
    flat[: len(SPECIAL)] = np.float32(SPECIAL[: flat.size])
    return a


def rounded(a):
    """Finite numbers, rounded, as float64."""
    return (halves(a) << 16).view(np.float32).astype(np.float64)


def wide_pairs(rows):
    """(2 K, C) -> pairs (K, C) as floats."""
    return np.ascontiguousarray(paired(rows[::2], rows[1::2])).view(np.float32)


@pytest.fixture(params=available_isas())
def isa(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_structs_are_those_of_the_headers():
    sizes = _lab.argument_sizes()
    assert {name: sizes[name] for name in STRUCTS} == {name: ctypes.sizeof(s) for name, s in STRUCTS.items()}


@pytest.mark.parametrize("layout", ["rows", "touching", "transposed", "scattered"])
def test_pair_columns(isa, rng, layout):
    width = _lab.block_sizes(ISAS[isa], 0)[0]
    for rows in (0, 1, 15, 17, 33):
        for columns in sorted({*sizes_around(width), *sizes_around(2 * width), 63, 64, 65, 131}):
            columns += layout == "touching" and columns % 2
            a = numbers(rng, (rows * 3 + 1, columns * 2))
            source = {
                "rows": a[:rows, :columns],
                "touching": np.ascontiguousarray(a[:rows, :columns]),
                "transposed": np.ascontiguousarray(a[:rows, :columns].T).T,
                "scattered": a[: 3 * rows : 3, ::-2],
            }[layout]
            ld = (columns + 1) // 2 + (0 if layout == "touching" else 3)
            memory, dst = guarded((max(rows, 1), ld), np.float32, rng)
            wanted = dst.copy()
            even = np.zeros((rows, columns + columns % 2), np.float32)
            even[:, :columns] = source
            wanted[:rows, : (columns + 1) // 2] = paired(even[:, ::2], even[:, 1::2]).view(np.float32)
            si, sj = (stride // 4 for stride in source.strides)
            call("pair_columns", isa, dst=dst, src=source, rows=rows, columns=columns, ld=ld, si=si, sj=sj)
            np.testing.assert_array_equal(dst.view(np.uint32), wanted.view(np.uint32))
            assert edges_untouched(memory)


@pytest.mark.parametrize("listed", [False, True])
def test_pair_rows(isa, rng, listed):
    width = _lab.block_sizes(ISAS[isa], 0)[0]
    for rows in (0, 1, 2, 5, 8):
        for columns in sizes_around(width):
            source = numbers(rng, (rows + 4, columns))
            order = rng.permutation(rows + 4)[:rows] if listed else np.arange(rows)
            even = np.zeros((rows + rows % 2, columns), np.float32)
            even[:rows] = source[order]
            memory, dst = guarded(((rows + 1) // 2 + 1, columns + 3), np.float32, rng)
            wanted = dst.copy()
            wanted[: (rows + 1) // 2, :columns] = paired(even[::2], even[1::2]).view(np.float32)
            call("pair_rows", isa, dst=dst, src=source, row=(order * columns) if listed else None, rows=rows,
                 columns=columns, ld=columns + 3, step=columns)  # fmt: skip
            np.testing.assert_array_equal(dst.view(np.uint32), wanted.view(np.uint32))
            assert edges_untouched(memory)


def test_pack_pairs(isa, rng):
    width, _, nr = _lab.block_sizes(ISAS[isa], 0)
    for depth in sorted({*sizes_around(width), *sizes_around(2 * width), 64}):
        for columns in sorted({1, width, max(1, nr - 1), nr}):
            w = numbers(rng, (columns, depth + 5))
            even = np.zeros((depth + depth % 2, nr), np.float32)
            even[:depth, :columns] = w[:, :depth].T
            memory, panel = guarded(((depth + 1) // 2, nr), np.float32, rng)
            call("pack_pairs", isa, dst=panel, src=w, depth=depth, columns=columns, column=depth + 5)
            np.testing.assert_array_equal(panel.view(np.uint32), paired(even[::2], even[1::2]))
            assert edges_untouched(memory)


@pytest.mark.parametrize("accumulate", [0, 1])
@pytest.mark.parametrize("bias", [False, True])
def test_conv_tile_pairs(isa, rng, bias, accumulate):
    nr = _lab.block_sizes(ISAS[isa], 0)[2]
    taps, depth = 3, 5
    for pixels in pixels_of(isa, np.float32):
        for columns in columns_of(isa, np.float32):
            x = rng.standard_normal((2 * taps * depth, pixels)).astype(np.float32)
            w = rng.standard_normal((2 * taps * depth, columns)).astype(np.float32)
            b = rng.standard_normal(columns).astype(np.float32)
            memory, y = guarded((pixels, columns), np.float32, rng)
            start = y.astype(np.float64) if accumulate else (b[:columns] if bias else 0.0)
            expected = start + rounded(x).T @ rounded(w)
            call(
                "conv_tile_pairs", isa, x=np.ascontiguousarray(wide_pairs(x).T), pixel=np.arange(pixels) * taps * depth,
                tap=np.arange(taps) * depth, w=panels(wide_pairs(w), nr), wtap=np.arange(taps) * depth * nr,
                bias=panels(b[None], nr) if bias else None, y=y, ypixel=np.arange(pixels) * columns, pixels=pixels,
                taps=taps, depth=depth, columns=columns, panel=taps * depth * nr, accumulate=accumulate,
            )  # fmt: skip
            np.testing.assert_allclose(y, expected, rtol=0, atol=64 * np.finfo(np.float32).eps)
            assert edges_untouched(memory)


@pytest.mark.parametrize("accumulate", [0, 1])
def test_outer_tile_pairs(isa, rng, accumulate):
    width, mr, nr = _lab.block_sizes(ISAS[isa], 0)
    for rows in (*sizes_around(mr), 5, 6, 16, 20, 22):
        for columns in sorted({*sizes_around(width), *sizes_around(nr), 2 * nr}):
            for pixels in (1, 5):
                x = rng.standard_normal((2 * pixels, rows)).astype(np.float32)
                dy = rng.standard_normal((2 * pixels, columns)).astype(np.float32)
                memory, dw = guarded((rows, columns), np.float32, rng)
                expected = rounded(x).T @ rounded(dy) + (dw.astype(np.float64) if accumulate else 0.0)
                call(
                    "outer_tile_pairs", isa, x=wide_pairs(x), dy=wide_pairs(dy), dw=dw, pixels=pixels, rows=rows,
                    columns=columns, ld=columns, xstep=rows, ystep=columns, accumulate=accumulate,
                )  # fmt: skip
                np.testing.assert_allclose(dw, expected, rtol=0, atol=64 * np.finfo(np.float32).eps)
                assert edges_untouched(memory)


def test_the_second_products_are_added_before_the_first(isa):
    nr = _lab.block_sizes(ISAS[isa], 0)[2]
    x, w = np.float32([[1.0], [2.0**13]]), np.ones((2, nr), np.float32)
    w[1] = 2.0**13
    y = np.full((1, nr), -(2.0**26), np.float32)  # with 1 added first, 2^26 - 1 would round to 2^26 and leave 0
    zero = np.zeros(1, np.int64)
    call("conv_tile_pairs", isa, x=wide_pairs(x), pixel=zero, tap=zero, w=wide_pairs(w), wtap=zero, y=y, ypixel=zero,
         pixels=1, taps=1, depth=1, columns=nr, accumulate=1)  # fmt: skip
    np.testing.assert_array_equal(y, 1)
