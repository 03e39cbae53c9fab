"""Each convolution micro-kernel alone, per instruction set, around its block sizes, against plain sums in float64."""

import ctypes
import os
import re
from pathlib import Path

import numpy as np
import pytest
from laboratory import ConvTile

from fastconv.backends.cpu import _lab, available_isas

ISAS = {"scalar": 0, "avx2": 1, "avx512": 2, "neon": 3, "avx512_bf16": 4}
DTYPES = {np.float32: 0, np.float64: 1}
POINTER, SIZE, FLAG = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32


def struct(name, **fields):
    return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})


Ahead = struct("Ahead", data=POINTER, run=POINTER, runs=SIZE, length=SIZE)
OuterTile = struct(
    "OuterTile", x=POINTER, xpixel=POINTER, row=POINTER, dy=POINTER, ypixel=POINTER, dw=POINTER, pixels=SIZE, rows=SIZE,
    columns=SIZE, ld=SIZE, xstep=SIZE, ystep=SIZE, ahead=Ahead * 2, accumulate=FLAG,
)  # fmt: skip
Copy2d = struct(
    "Copy2d", dst=POINTER, src=POINTER, rows=SIZE, columns=SIZE, padded=SIZE, ld=SIZE, dj=SIZE, si=SIZE, sj=SIZE
)  # fmt: skip
FewRows = struct(
    "FewRows", x=POINTER, w=POINTER, bias=POINTER, y=POINTER, rows=SIZE, depth=SIZE, columns=SIZE, ldx=SIZE, ldw=SIZE,
    ldy=SIZE, by_rows=FLAG, far=FLAG,
)  # fmt: skip
Narrow = struct(
    "Narrow", x=POINTER, tap=POINTER, w=POINTER, bias=POINTER, y=POINTER, pixels=SIZE, taps=SIZE, depth=SIZE,
    columns=SIZE, ldx=SIZE, ldy=SIZE, accumulate=FLAG,
)  # fmt: skip
PackPanel = struct(
    "PackPanel", dst=POINTER, src=POINTER, taps=SIZE, depth=SIZE, columns=SIZE, column=SIZE, reversed=FLAG
)  # fmt: skip
Gather = struct("Gather", dst=POINTER, src=POINTER, pixel=POINTER, pixels=SIZE, channels=SIZE, ld=SIZE, channel=SIZE)
Accumulate = struct("Accumulate", dst=POINTER, src=POINTER, count=SIZE)
STRUCTS = {
    "conv_tile": ConvTile,
    "outer_tile": OuterTile,
    "copy2d": Copy2d,
    "gather": Gather,
    "accumulate": Accumulate,
    "few_rows": FewRows,
    "narrow": Narrow,
    "pack_panel": PackPanel,
}


def call(kernel, isa, dtype, **arguments):
    values = {k: v.ctypes.data if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
    _lab.call(kernel, ISAS[isa], DTYPES[dtype], bytes(STRUCTS[kernel](**values)))


def tolerance(dtype):
    return 64 * np.finfo(dtype).eps


@pytest.fixture(params=available_isas())
def isa(request):
    return request.param


@pytest.fixture(params=list(DTYPES), ids=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def sizes_around(block):
    return sorted({1, 2, max(1, block - 1), block, block + 1, 2 * block + 3})


def guarded(shape, dtype, rng):
    """An array with NaN on both sides, so that a stray write shows."""
    memory = np.full(int(np.prod(shape)) + 128, np.nan, dtype)
    inside = memory[64 : 64 + int(np.prod(shape))].reshape(shape)
    inside[...] = rng.standard_normal(shape)
    return memory, inside


def edges_untouched(memory):
    return np.isnan(memory[:64]).all() and np.isnan(memory[-64:]).all()


@pytest.mark.parametrize("way", ["listed", "near", "even"])
@pytest.mark.parametrize("accumulate", [0, 1])
def test_outer_tile(isa, dtype, rng, accumulate, way):
    width, mr, nr = _lab.block_sizes(ISAS[isa], DTYPES[dtype])
    for rows in (*sizes_around(mr), 5, 6, 16, 20, 22):
        for columns in sorted({*sizes_around(width), *sizes_around(nr), 2 * nr}):
            for pixels in (0, 1, 5, 8, 17):
                row = rng.permutation(rows).astype(np.int64) if way == "listed" else np.arange(rows)
                x = rng.standard_normal((max(pixels, 1), rows + 3)).astype(dtype)
                dy = rng.standard_normal((max(pixels, 1), columns + 1)).astype(dtype)
                memory, dw = guarded((rows, columns), dtype, rng)
                start = dw.astype(np.float64) if accumulate else 0.0
                product = x[:pixels, row].astype(np.float64).T @ dy[:pixels, :columns].astype(np.float64)
                xpixel, ypixel = np.arange(pixels) * (rows + 3), np.arange(pixels) * (columns + 1)
                lists = {"listed": {"row": row, "xpixel": xpixel, "ypixel": ypixel},
                         "near": {"xpixel": xpixel, "ypixel": ypixel},
                         "even": {"xstep": rows + 3, "ystep": columns + 1}}  # fmt: skip
                ahead = (Ahead * 2)()  # this call's pixels once more
                if way != "listed" and pixels:
                    ahead[0] = Ahead(x.ctypes.data, xpixel.ctypes.data, pixels, rows)
                    ahead[1] = Ahead(dy.ctypes.data, ypixel.ctypes.data, pixels - 1, columns)
                call(
                    "outer_tile", isa, dtype, x=x, dy=dy, dw=dw, pixels=pixels, rows=rows, columns=columns, ld=columns,
                    ahead=ahead, accumulate=accumulate, **lists[way],
                )  # fmt: skip
                np.testing.assert_allclose(dw, start + product, rtol=0, atol=tolerance(dtype))
                assert edges_untouched(memory)


def test_outer_tile_may_ask_for_anything_ahead(isa, dtype, rng):
    """Runs in sequence or apart, of few lines or of more than there are pixels, change no bit."""
    rows, columns, pixels = 13, 70, 9
    x, dy = rng.standard_normal((pixels, rows)).astype(dtype), rng.standard_normal((pixels, columns)).astype(dtype)
    memory = np.zeros(1 << 16, dtype)

    def product(*sides):
        dw, ahead = np.zeros((rows, columns), dtype), (Ahead * 2)()
        for i, (run, length) in enumerate(sides):
            ahead[i] = Ahead(memory.ctypes.data, run.ctypes.data, run.size, length)
        call(
            "outer_tile", isa, dtype, x=x, dy=dy, dw=dw, pixels=pixels, rows=rows, columns=columns, ld=columns,
            xstep=rows, ystep=columns, ahead=ahead, accumulate=0,
        )  # fmt: skip
        return dw

    alone, none = product(), (np.arange(0), 16)
    sides = [none, *((np.arange(runs) * (length + apart), length)
                     for runs in (1, 2, 7, 50) for length in (1, 16, 17, 600) for apart in (0, 3))]  # fmt: skip
    for i, side in enumerate(sides):
        np.testing.assert_array_equal(product(side, none), alone)
        np.testing.assert_array_equal(product(side, sides[-i]), alone)


@pytest.mark.parametrize("accumulate", [0, 1])
def test_every_way_of_outer_tile_has_the_same_bits(isa, dtype, rng, accumulate):
    width, mr, nr = _lab.block_sizes(ISAS[isa], DTYPES[dtype])
    rows, columns, pixels = 2 * mr + 7, 3 * nr + width - 1, 19
    x, dy = rng.standard_normal((pixels, rows)).astype(dtype), rng.standard_normal((pixels, columns)).astype(dtype)
    start = rng.standard_normal((rows, columns)).astype(dtype)
    lists = {"row": np.arange(rows), "xpixel": np.arange(pixels) * rows, "ypixel": np.arange(pixels) * columns}
    results = []
    for names in (("row", "xpixel", "ypixel"), ("xpixel", "ypixel"), ()):
        results.append(start.copy())
        call(
            "outer_tile", isa, dtype, x=x, dy=dy, dw=results[-1], pixels=pixels, rows=rows, columns=columns, ld=columns,
            xstep=rows, ystep=columns, accumulate=accumulate, **{name: lists[name] for name in names},
        )  # fmt: skip
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])


def matrix(layout, rows, columns, dtype, rng):
    if layout == "rows":
        return rng.standard_normal((rows, columns + 2), dtype)[:, :columns]
    if layout == "transposed":
        return rng.standard_normal((columns, rows), dtype).T
    if layout == "scattered":
        return rng.standard_normal((rows * 3, columns * 2), dtype)[::3, ::-2]
    return rng.standard_normal((rows, columns), dtype)


@pytest.mark.parametrize("layout", ["rows", "transposed", "scattered", "dense"])
def test_copy2d(isa, dtype, rng, layout):
    for rows in (1, 15, 16, 17, 33):
        for columns in (1, 15, 16, 17, 33):
            padded = columns if layout == "dense" else columns + 3
            source = matrix(layout, rows, columns, dtype, rng)
            memory, dst = guarded((rows, padded), dtype, rng)
            si, sj = (stride // source.itemsize for stride in source.strides)
            call("copy2d", isa, dtype, dst=dst, src=source, rows=rows, columns=columns, padded=padded, ld=padded, dj=1,
                 si=si, sj=sj)  # fmt: skip
            np.testing.assert_array_equal(dst[:, :columns], source)
            np.testing.assert_array_equal(dst[:, columns:], 0)
            assert edges_untouched(memory)


def test_copy2d_writes_with_a_stride(isa, dtype, rng):
    source = rng.standard_normal((5, 20)).astype(dtype)
    memory, dst = guarded((20, 5), dtype, rng)
    call("copy2d", isa, dtype, dst=dst, src=source, rows=5, columns=20, padded=20, ld=1, dj=5, si=20, sj=1)
    np.testing.assert_array_equal(dst, source.T)
    assert edges_untouched(memory)


@pytest.mark.parametrize("layout", ["rows", "transposed", "scattered", "dense"])
def test_gather(isa, dtype, rng, layout):
    for pixels in (0, 1, 15, 16, 17, 40):
        for channels in (1, 15, 16, 17, 33):
            source = matrix(layout, 64, channels, dtype, rng)
            step, channel = (stride // source.itemsize for stride in source.strides)
            for chosen in (np.arange(pixels), 3 + np.sort(rng.permutation(60)[:pixels]), np.zeros(pixels, np.int64)):
                memory, dst = guarded((max(pixels, 1), channels + 5), dtype, rng)
                expected = dst.copy()
                expected[:pixels, :channels] = source[chosen]
                call("gather", isa, dtype, dst=dst, src=source, pixel=chosen * step, pixels=pixels, channels=channels,
                     ld=channels + 5, channel=channel)  # fmt: skip
                np.testing.assert_array_equal(dst, expected)
                assert edges_untouched(memory)


def test_accumulate(isa, dtype, rng):
    width, _, _ = _lab.block_sizes(ISAS[isa], DTYPES[dtype])
    for count in sizes_around(width):
        source = rng.standard_normal(count).astype(dtype)
        memory, dst = guarded((count,), dtype, rng)
        expected = dst + source
        call("accumulate", isa, dtype, dst=dst, src=source, count=count)
        np.testing.assert_array_equal(dst, expected)
        assert edges_untouched(memory)


def test_structs_are_those_of_the_headers():
    sizes = _lab.argument_sizes()
    assert {name: sizes[name] for name in STRUCTS} == {name: ctypes.sizeof(s) for name, s in STRUCTS.items()}


def test_every_row_of_the_table_is_tested_somewhere():
    tests = Path(__file__).parent
    text = "\n".join(path.read_text() for path in tests.rglob("test_*.py"))
    untested = [name for name in _lab.argument_sizes() if not re.search(rf'"{name}"', text)]
    assert untested == []


def test_wrong_calls_are_refused():
    with pytest.raises(KeyError, match="no micro-kernel is called 'nothing'"):
        _lab.call("nothing", 0, 0, b"")
    with pytest.raises(ValueError, match="accumulate: expected 24 bytes of arguments, got 3"):
        _lab.call("accumulate", 0, 0, b"abc")
    with pytest.raises(ValueError, match="no such instruction set"):
        _lab.block_sizes(99, 0)


@pytest.mark.parametrize("accumulate", [0, 1])
@pytest.mark.parametrize("bias", [False, True])
def test_narrow(isa, dtype, rng, bias, accumulate):
    width, mr, nr = _lab.block_sizes(ISAS[isa], DTYPES[dtype])
    taps, depth, apart = np.array([0, 3, 1]), 5, 1024
    for columns in range(1, 9):
        block = min(8, mr * nr // width // columns) * width
        for pixels in sorted({1, width, width + 1, max(1, block - 1), block, block + 1, 2 * block + width}):
            ldy = -(-pixels // 16) * 16
            x = rng.standard_normal((depth, apart)).astype(dtype)
            w = rng.standard_normal((len(taps), depth, columns)).astype(dtype)
            b = rng.standard_normal(columns).astype(dtype)
            memory, y = guarded((columns, ldy), dtype, rng)
            start = y[:, :pixels].astype(np.float64) if accumulate else b[:, None] if bias else 0
            expected = start + sum(np.tensordot(w[t].astype(np.float64), x[:, at : at + pixels], (0, 0))
                                   for t, at in enumerate(taps))  # fmt: skip
            call(
                "narrow", isa, dtype, x=x, tap=taps, w=w, bias=b if bias else None, y=y, pixels=pixels, taps=len(taps),
                depth=depth, columns=columns, ldx=apart, ldy=ldy, accumulate=accumulate,
            )  # fmt: skip
            assert edges_untouched(memory)
            np.testing.assert_allclose(y[:, :pixels], expected, rtol=tolerance(dtype), atol=tolerance(dtype))


@pytest.mark.parametrize("backwards", [0, 1])
def test_pack_panel(isa, dtype, rng, backwards):
    width, _, nr = _lab.block_sizes(ISAS[isa], DTYPES[dtype])
    for taps in (1, 3, 9):
        for depth in sizes_around(width):
            for columns in sorted({1, width, max(1, nr - 1), nr}):
                w = rng.standard_normal((columns, depth * taps + 5)).astype(dtype)
                memory, panel = guarded((taps, depth, nr), dtype, rng)
                call(
                    "pack_panel", isa, dtype, dst=panel, src=w, taps=taps, depth=depth, columns=columns,
                    column=w.shape[1], reversed=backwards,
                )  # fmt: skip
                expected = w[:, : depth * taps].reshape(columns, depth, taps).transpose(2, 1, 0)
                np.testing.assert_array_equal(panel[..., :columns], expected[::-1] if backwards else expected)
                np.testing.assert_array_equal(panel[..., columns:], 0)
                assert edges_untouched(memory)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads cannot be held on a processor")
def test_round_trip_leaves_the_caller_where_it_may_run():
    before = os.sched_getaffinity(0)
    nanoseconds = _lab.round_trip()
    assert nanoseconds > 0 if len(before) > 1 else np.isnan(nanoseconds)
    assert os.sched_getaffinity(0) == before
