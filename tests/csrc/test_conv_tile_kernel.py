"""The micro-kernel of convolution alone, per instruction set, around its block sizes, one panel of weights and two."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from laboratory import ConvTile
from test_micro_kernels import DTYPES, ISAS, call, dtype, edges_untouched, guarded, isa, rng, sizes_around, tolerance

from fastconv.backends.cpu import _lab

__all__ = ["dtype", "isa", "rng"]  # fixtures


def columns_of(isa, dtype):
    """Numbers of columns around a vector, a panel and all that the kernel takes."""
    width, _, nr = _lab.block_sizes(ISAS[isa], DTYPES[dtype])
    wide = _lab.widest(ISAS[isa], DTYPES[dtype])
    around = {*sizes_around(width), nr - 1, nr, nr + 1, nr + width, nr + width + 1, wide - 1, wide}
    return sorted(n for n in around if 1 <= n <= wide)


def pixels_of(isa, dtype):
    """Numbers of pixels around a register tile, of one panel and of two."""
    mr = _lab.block_sizes(ISAS[isa], DTYPES[dtype])[1]
    return sorted({*sizes_around(mr), mr - 3, mr - 2, 2 * mr - 4})


def panels(w, nr):
    """(rows, columns) -> (panels, rows, nr), zeros beyond the columns."""
    rows, columns = w.shape
    padded = np.zeros((rows, -(-columns // nr) * nr), w.dtype)
    padded[:, :columns] = w
    return np.ascontiguousarray(padded.reshape(rows, -1, nr).transpose(1, 0, 2))


@pytest.mark.parametrize("accumulate", [0, 1])
@pytest.mark.parametrize("bias", [False, True])
def test_conv_tile(isa, dtype, rng, bias, accumulate):
    nr = _lab.block_sizes(ISAS[isa], DTYPES[dtype])[2]
    taps, depth = 3, 5
    tap = np.array([0, 7, 20], np.int64)
    for pixels in pixels_of(isa, dtype):
        for columns in columns_of(isa, dtype):
            x = rng.standard_normal(9 * pixels + 40).astype(dtype)
            pixel = (9 * rng.permutation(pixels)).astype(np.int64)
            w = rng.standard_normal((taps * depth, columns)).astype(dtype)
            order = rng.permutation(taps)  # where each tap's rows lie
            b = rng.standard_normal(columns).astype(dtype)
            memory, y = guarded((pixels, columns), dtype, rng)
            start = y.astype(np.float64) if accumulate else (b[:columns] if bias else 0.0)
            windows = x.astype(np.float64)[pixel[:, None, None] + tap[:, None] + np.arange(depth)]
            rows = w.reshape(taps, depth, columns)[order].reshape(taps * depth, columns)
            expected = start + windows.reshape(pixels, -1) @ rows.astype(np.float64)
            call(
                "conv_tile", isa, dtype, x=x, pixel=pixel, tap=tap, w=panels(w, nr), wtap=order * depth * nr,
                bias=panels(b[None], nr) if bias else None, y=y, ypixel=np.arange(pixels) * columns, pixels=pixels,
                taps=taps, depth=depth, columns=columns, panel=taps * depth * nr, listed=pixels, accumulate=accumulate,
            )  # fmt: skip
            np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance(dtype))
            assert edges_untouched(memory)


def single_products(isa, dtype, rng):
    """Yield a pixel's value each, a column's weight each, and the call that multiplies them, around the block sizes."""
    nr = _lab.block_sizes(ISAS[isa], DTYPES[dtype])[2]
    none = np.zeros(1, np.int64)
    for pixels in pixels_of(isa, dtype):
        for columns in columns_of(isa, dtype):
            x, w = rng.standard_normal(pixels).astype(dtype), rng.standard_normal(columns).astype(dtype)

            def multiply(y, x=x, w=w, **ending):
                pixels, columns = y.shape
                call(
                    "conv_tile", isa, dtype, x=x, pixel=np.arange(pixels), tap=none, w=panels(w[None], nr), wtap=none,
                    y=y, ypixel=np.arange(pixels) * columns, pixels=pixels, taps=1, depth=1, columns=columns, panel=nr,
                    **ending,
                )  # fmt: skip

            yield x, w, multiply


@pytest.mark.parametrize("relu", [0, 1])
@pytest.mark.parametrize("with_residual", [False, True])
def test_conv_tile_adds_the_residual_then_takes_the_maximum(isa, dtype, rng, with_residual, relu):
    for x, w, multiply in single_products(isa, dtype, rng):
        pixels, columns = len(x), len(w)
        x[-1], w[0] = np.nan, 3.0
        memory, y = guarded((pixels, columns), dtype, rng)
        residual = rng.standard_normal((pixels, columns + 2)).astype(dtype)[:, :columns]
        rpixel = (rng.permutation(pixels) * (columns + 2)).astype(np.int64)
        multiply(y, residual=residual if with_residual else None, rpixel=rpixel, relu=relu)
        expected = x[:, None] * w
        expected = expected + residual[rpixel // (columns + 2)] if with_residual else expected
        np.testing.assert_array_equal(y, np.maximum(expected, 0) if relu else expected)
        assert edges_untouched(memory)


@pytest.mark.parametrize("with_residual", [False, True])
def test_conv_tile_is_0_where_the_gate_is_closed(isa, dtype, rng, with_residual):
    for x, w, multiply in single_products(isa, dtype, rng):
        pixels, columns = len(x), len(w)
        memory, y = guarded((pixels, columns), dtype, rng)
        residual = rng.standard_normal((pixels, columns)).astype(dtype)
        gate = np.maximum(rng.standard_normal((pixels, columns + 3)), 0).astype(dtype)[:, :columns]
        gate[-1, -1] = np.nan
        order = rng.permutation(pixels)
        multiply(
            y, residual=residual if with_residual else None, rpixel=np.arange(pixels) * columns, gate=gate,
            gpixel=(order * (columns + 3)).astype(np.int64),
        )  # fmt: skip
        expected = x[:, None] * w
        expected = expected + residual if with_residual else expected
        np.testing.assert_array_equal(y, np.where(gate[order] <= 0, 0, expected))
        assert edges_untouched(memory)


@pytest.mark.parametrize("depth", [5, 70, 300])
def test_conv_tile_brings_near_what_comes_next(isa, dtype, rng, depth):
    nr, none = _lab.block_sizes(ISAS[isa], DTYPES[dtype])[2], np.zeros(1, np.int64)
    for pixels in pixels_of(isa, dtype):
        for columns in columns_of(isa, dtype):
            x = rng.standard_normal((pixels, depth)).astype(dtype)
            w = panels(rng.standard_normal((depth, columns)).astype(dtype), nr)
            apart, at = np.full((pixels, columns), np.nan, dtype), np.arange(pixels) * columns
            ending = {"residual": apart, "rpixel": at, "gate": np.zeros_like(apart), "gpixel": at, "later": 1}
            source = {"source": rng.standard_normal((2 * pixels, depth)).astype(dtype)}
            source["spixel"] = rng.permutation(2 * pixels).astype(np.int64) * depth
            results = []
            for options in ({}, ending, {**source, "listed": 2 * pixels}, {**source, "listed": pixels // 2},
                            {**ending, **source, "listed": pixels, "warm": 1}):  # fmt: skip
                memory, y = guarded((pixels, columns), dtype, rng)
                call(
                    "conv_tile", isa, dtype, x=x, pixel=np.arange(pixels) * depth, tap=none, w=w, wtap=none, y=y,
                    ypixel=at, pixels=pixels, taps=1, depth=depth, columns=columns, panel=depth * nr, **options,
                )  # fmt: skip
                assert edges_untouched(memory)
                results.append(y)
            for result in results[1:]:
                np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("depth", [1, 47])
def test_conv_tile_stores_past_the_caches(isa, dtype, rng, depth):
    width, _, nr = _lab.block_sizes(ISAS[isa], DTYPES[dtype])
    none, wide = np.zeros(1, np.int64), _lab.widest(ISAS[isa], DTYPES[dtype])
    for pixels in pixels_of(isa, dtype):
        for columns in range(width, wide + 1, width):
            x = rng.standard_normal((pixels, depth)).astype(dtype)
            w = panels(rng.standard_normal((depth, columns)).astype(dtype), nr)
            gate = rng.standard_normal((pixels, columns)).astype(dtype)
            at = rng.permutation(pixels).astype(np.int64) * columns
            results = []
            for warm in (1, 2):
                memory = np.full(pixels * columns + 256, np.nan, dtype)
                first = 64 + -(memory.ctypes.data // memory.itemsize) % 64  # a vector of any width begins there
                y = memory[first : first + pixels * columns]
                common = {"x": x, "pixel": np.arange(pixels) * depth, "tap": none, "w": w, "wtap": none, "y": y,
                          "ypixel": at, "gate": gate, "gpixel": at, "taps": 1, "depth": depth, "columns": columns,
                          "panel": depth * nr, "warm": warm}  # fmt: skip
                for count in (pixels, 0):
                    call("conv_tile", isa, dtype, pixels=count, listed=count, **common)
                assert np.isnan(memory[:first]).all()
                assert np.isnan(memory[first + y.size :]).all()
                results.append(y)
            np.testing.assert_array_equal(*results)


def test_conv_tile_without_taps_stores_the_bias(isa, dtype, rng):
    columns, pixels = _lab.widest(ISAS[isa], DTYPES[dtype]), max(pixels_of(isa, dtype))
    b = rng.standard_normal(columns).astype(dtype)
    memory, y = guarded((pixels, columns), dtype, rng)
    call("conv_tile", isa, dtype, pixel=np.zeros(pixels, np.int64), bias=b, y=y, ypixel=np.arange(pixels) * columns,
         pixels=pixels, columns=columns)  # fmt: skip
    np.testing.assert_array_equal(y, np.broadcast_to(b, y.shape))
    assert edges_untouched(memory)


def test_two_panels_have_the_bits_of_each_alone(isa, dtype, rng):
    nr, wide = _lab.block_sizes(ISAS[isa], DTYPES[dtype])[2], _lab.widest(ISAS[isa], DTYPES[dtype])
    pixels, depth, none = 17, 21, np.zeros(1, np.int64)
    x, w = rng.standard_normal((pixels, depth)).astype(dtype), rng.standard_normal((depth, wide)).astype(dtype)
    together, alone = np.zeros((pixels, wide), dtype), np.zeros((pixels, wide), dtype)
    common = {"x": x, "pixel": np.arange(pixels) * depth, "tap": none, "wtap": none, "ypixel": np.arange(pixels) * wide,
              "pixels": pixels, "taps": 1, "depth": depth}  # fmt: skip
    call("conv_tile", isa, dtype, w=panels(w, nr), y=together, columns=wide, panel=depth * nr, warm=1, **common)
    for first in range(0, wide, nr):
        part = np.ascontiguousarray(w[:, first : first + nr])
        y = np.zeros((pixels, wide), dtype)
        call("conv_tile", isa, dtype, w=part, y=y, columns=nr, **common)
        alone[:, first : first + nr] = y[:, :nr]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("by_rows", [0, 1])
@pytest.mark.parametrize("bias", [False, True])
def test_few_rows_sums_as_conv_tile_does(isa, dtype, rng, bias, by_rows):
    width, _, nr = _lab.block_sizes(ISAS[isa], DTYPES[dtype])
    for rows in (1, 2, 3, 4):
        for depth in [*sizes_around(width), 8, 9]:
            for columns in sizes_around(width):
                x = rng.standard_normal((rows, depth + 3)).astype(dtype)
                w = rng.standard_normal((depth, columns + 1) if by_rows else (columns, depth + 2)).astype(dtype)
                b = rng.standard_normal(columns).astype(dtype)
                memory, y = guarded((rows, columns), dtype, rng)
                call(
                    "few_rows", isa, dtype, x=x, w=w, bias=b if bias else None, y=y, rows=rows, depth=depth,
                    columns=columns, ldx=depth + 3, ldw=w.shape[1], ldy=columns, by_rows=by_rows,
                )  # fmt: skip
                assert edges_untouched(memory)
                matrix = w[:, :columns] if by_rows else w[:, :depth].T
                for first in range(0, columns, nr):
                    part = matrix[:, first : first + nr]
                    packed = np.zeros((depth, nr), dtype)
                    packed[:, : part.shape[1]] = part
                    start = np.zeros(nr, dtype)
                    start[: part.shape[1]] = b[first : first + nr]
                    expected = np.zeros((rows, part.shape[1]), dtype)
                    call(
                        "conv_tile", isa, dtype, x=x, pixel=np.arange(rows) * (depth + 3), tap=np.zeros(1, np.int64),
                        w=packed, wtap=np.zeros(1, np.int64), bias=start if bias else None, y=expected,
                        ypixel=np.arange(rows) * part.shape[1], pixels=rows, taps=1, depth=depth,
                        columns=part.shape[1], accumulate=0,
                    )  # fmt: skip
                    np.testing.assert_array_equal(y[:, first : first + nr], expected)


def test_the_bench_of_the_machines_limits_passes_the_kernels_arguments(monkeypatch):
    tree = Path(__file__).parents[2]
    if not (tree / "bench" / "peak.py").is_file():
        pytest.skip("the source tree is not here")
    monkeypatch.syspath_prepend(str(tree))
    peak = importlib.import_module("bench.peak")
    assert peak.ConvTile._fields_ == tuple(ConvTile._fields_)
    call, flops = peak.products(depth=8, tiles=2)  # verifies what it computed
    call()
    assert flops > 0
