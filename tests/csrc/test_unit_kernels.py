"""The micro-kernels of units (convolution, ReLU, max-pool), each alone, per instruction set, against plain NumPy."""

import ctypes

import numpy as np
import pytest
from laboratory import ConvTile

from fastconv.backends.cpu import _lab, available_isas

ISAS = {"scalar": 0, "avx2": 1, "avx512": 2, "neon": 3, "avx512_bf16": 4}
DTYPES = {np.float32: 0, np.float64: 1}
POINTER, SIZE, FLAG = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
DEAD = 255
GUARD = 40

by_isa = pytest.mark.parametrize("isa", available_isas())
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
by_channels = pytest.mark.parametrize("channels", [1, 3, 7, 8, 9, 16, 17, 33])


def struct(**fields):
    return type("Arguments", (ctypes.Structure,), {"_fields_": list(fields.items())})


LISTS = {"window": POINTER, "place": POINTER}
MASKED = {"dy": POINTER, "at": POINTER, "index": POINTER, "index_at": POINTER}
STRUCTS = {
    "pool_windows": struct(
        large=POINTER, **LISTS, small=POINTER, index=POINTER, at=POINTER, windows=SIZE, places=SIZE, channels=SIZE,
        relu=FLAG,
    ),
    "conv_pool": struct(
        x=POINTER, **LISTS, tap=POINTER, w=POINTER, wtap=POINTER, bias=POINTER, small=POINTER, index=POINTER,
        at=POINTER, windows=SIZE, places=SIZE, taps=SIZE, depth=SIZE, columns=SIZE, relu=FLAG,
    ),
    "unpool_windows": struct(
        large=POINTER, **LISTS, small=POINTER, at=POINTER, index=POINTER, index_at=POINTER, windows=SIZE, places=SIZE,
        channels=SIZE,
    ),
    "live_channels": struct(
        **LISTS, **MASKED, windows=SIZE, places=SIZE, channels=SIZE, channel=SIZE, ld=SIZE, value=POINTER,
        offset=POINTER, start=POINTER,
    ),
    "live_outer": struct(
        value=POINTER, offset=POINTER, end=POINTER, x=POINTER, row=POINTER, dw=POINTER, db=POINTER, windows=SIZE,
        channels=SIZE, rows=SIZE, width=SIZE, ld=SIZE, accumulate=FLAG,
    ),
    "live_scatter": struct(
        value=POINTER, offset=POINTER, start=POINTER, **LISTS, row=POINTER, w=POINTER, dx=POINTER, windows=SIZE,
        places=SIZE, channels=SIZE, rows=SIZE, width=SIZE,
    ),
    "masked_outer": struct(
        **LISTS, **MASKED, x=POINTER, row=POINTER, dw=POINTER, db=POINTER, windows=SIZE, places=SIZE, channels=SIZE,
        rows=SIZE, width=SIZE, ld=SIZE, accumulate=FLAG,
    ),
}  # fmt: skip
STRUCTS["live_places"] = STRUCTS["live_channels"]


def call(kernel, isa, dtype, **values):
    values = {k: v.ctypes.data if isinstance(v, np.ndarray) else v for k, v in values.items()}
    _lab.call(kernel, ISAS[isa], DTYPES[dtype], bytes(STRUCTS[kernel](**values)))


def guarded(shape, dtype, value=-3):
    """An array inside a larger one of -7."""
    memory = np.full(int(np.prod(shape)) + 2 * GUARD, 7, dtype)
    inside = memory[GUARD:-GUARD].reshape(shape)
    inside[:] = abs(value)
    return memory, inside


def untouched(memory):
    return (memory[:GUARD] == 7).all() and (memory[-GUARD:] == 7).all()


class Windows:
    """2 x 3 windows of 2 x 2 places in an image of 7 x 9 pixels, `channels` of dy, of which some are dead."""

    def __init__(self, channels, dtype, depth=1, rng=None):
        rng = np.random.default_rng(3) if rng is None else rng
        self.dtype, self.channels, self.depth = dtype, channels, depth
        self.image = (7, 9, depth)
        self.window = np.array([(2 * i * 9 + 2 * j) * depth for i in range(2) for j in range(3)])
        self.place = np.array([0, depth, 9 * depth, 10 * depth])
        self.count = len(self.window)
        self.at = np.arange(self.count) * (channels + 2)
        self.index_at = np.arange(self.count)[::-1].copy() * (channels + 1)
        self.dy = rng.standard_normal((self.count, channels + 2)).astype(dtype)
        self.index = rng.choice(np.array([0, 1, 2, 3, DEAD], np.uint8), (self.count, channels + 1))
        self.row = np.array([0, 9, 27]) * depth

    def live(self):
        """Yield (window, channel, place, gradient) of the live ones."""
        for p in range(self.count):
            for c in range(self.channels):
                q = self.index[self.count - 1 - p, c]
                if q != DEAD:
                    yield p, c, q, np.float64(self.dy[p, c])

    def lists(self, kernel, isa, ld=0):
        """Run a kernel that makes lists."""
        entries = self.count * self.channels
        value, offset = np.zeros(entries, self.dtype), np.zeros(entries, np.int64)
        start = np.zeros(max(self.channels, self.count * 5), np.int64)
        call(
            kernel, isa, self.dtype, window=self.window, place=self.place, dy=self.dy, at=self.at, index=self.index,
            index_at=self.index_at, windows=self.count, places=4, channels=self.channels, channel=1, ld=ld,
            value=value, offset=offset, start=start,
        )  # fmt: skip
        return value, offset, start


@by_isa
@by_dtype
@by_channels
@pytest.mark.parametrize("relu", [0, 1])
def test_pool_windows(isa, dtype, channels, relu):
    rng = np.random.default_rng(5)
    large = np.round(rng.standard_normal((7, 9, channels)), 1).astype(dtype)  # ties
    large[3, 2, 0] = np.nan
    large[:2, :2] -= 9
    w = Windows(channels, dtype, channels)
    memory, small = guarded((w.count, channels), dtype)
    index_memory, index = guarded((w.count, channels), np.uint8)
    call(
        "pool_windows", isa, dtype, large=large, window=w.window, place=w.place, small=small, index=index,
        at=np.arange(w.count) * channels, windows=w.count, places=4, channels=channels, relu=relu,
    )  # fmt: skip
    values = large.reshape(-1)[w.window[:, None, None] + w.place[:, None] + np.arange(channels)]
    values = np.where(values < 0, dtype(0), values) if relu else values
    np.testing.assert_array_equal(small, values.max(axis=1))  # NaN wins in both
    place = np.where(np.isnan(values).any(axis=1), np.isnan(values).argmax(axis=1), values.argmax(axis=1))
    dead = ~(small > 0) & ~np.isnan(small) if relu else np.zeros_like(place, bool)
    known = ~np.isnan(small)  # what a NaN lets through is the activation's business: test_contract_unit.py
    np.testing.assert_array_equal(index[known], np.where(dead, DEAD, place)[known])
    assert untouched(memory)
    assert untouched(index_memory)


@by_isa
@by_dtype
@pytest.mark.parametrize("relu", [0, 1])
@pytest.mark.parametrize("places", [2, 4])
def test_conv_pool_has_the_bits_of_its_parts(isa, dtype, places, relu):
    rng = np.random.default_rng(6)
    nr = _lab.block_sizes(ISAS[isa], DTYPES[dtype])[2]
    for columns in sorted({1, nr // 2, max(1, nr // 2 - 1), nr // 2 + 1, nr}):
        for windows, special in ((0, 0), (1, np.nan), (5, 0), (7, np.inf), (13, 0)):
            taps, depth = 3, 4
            x = np.round(rng.standard_normal(windows * 8 + 200), 1).astype(dtype)
            x[windows + 5 :: 31] = special
            w = np.round(rng.standard_normal((taps * depth, nr)), 1).astype(dtype)
            bias = np.round(rng.standard_normal(nr) - 1, 1).astype(dtype)
            window, place = np.arange(windows) * 8, np.array([0, 4, 50, 54])[:places]
            tap, wtap = np.array([0, 9, 70]), np.arange(taps) * depth * nr
            at = np.arange(windows) * (columns + 1)
            pixel, ypixel = (window[:, None] + place).reshape(-1), np.arange(windows * places) * nr
            z = np.zeros((windows * places + 1, nr), dtype)
            part = ConvTile(
                *(a.ctypes.data for a in (x, pixel, tap, w, wtap, bias, z, ypixel)), windows * places, 0, taps, depth,
                columns, 0, 0,
            )  # fmt: skip
            _lab.call("conv_tile", ISAS[isa], DTYPES[dtype], bytes(part))
            results = []
            for kernel in ("pool_windows", "conv_pool"):
                memory, small = guarded((windows * (columns + 1) + 1,), dtype)
                index_memory, index = guarded(small.shape, np.uint8)
                common = {
                    "small": small, "index": index, "at": at, "windows": windows, "places": places, "relu": relu
                }  # fmt: skip
                if kernel == "pool_windows":
                    own = np.arange(places) * nr
                    call(kernel, isa, dtype, large=z, window=ypixel[::places].copy(), place=own, channels=columns,
                         **common)  # fmt: skip
                else:
                    call(kernel, isa, dtype, x=x, window=window, place=place, tap=tap, w=w, wtap=wtap, bias=bias,
                         taps=taps, depth=depth, columns=columns, **common)  # fmt: skip
                assert untouched(memory)
                assert untouched(index_memory)
                results.append((small.tobytes(), index.tobytes()))
            assert results[0] == results[1]


@by_isa
@by_dtype
@by_channels
def test_unpool_windows(isa, dtype, channels):
    w = Windows(channels, dtype, channels)
    memory, large = guarded((7, 9, channels), dtype)
    expected = large.copy()
    for p in range(w.count):
        expected.reshape(-1)[w.window[p] + w.place[:, None] + np.arange(channels)] = 0
    for p, c, q, value in w.live():
        expected.reshape(-1)[w.window[p] + w.place[q] + c] = value
    call(
        "unpool_windows", isa, dtype, large=large, window=w.window, place=w.place, small=w.dy, at=w.at, index=w.index,
        index_at=w.index_at, windows=w.count, places=4, channels=channels,
    )  # fmt: skip
    np.testing.assert_array_equal(large, expected)
    assert untouched(memory)


@by_isa
@by_dtype
@by_channels
def test_live_channels(isa, dtype, channels):
    w = Windows(channels, dtype)
    value, offset, end = w.lists("live_channels", isa)
    for c in range(channels):
        expected = [(w.dy[p, c], w.window[p] + w.place[q]) for p, other, q, _ in w.live() if other == c]
        found = slice(c * w.count, end[c])
        assert list(zip(value[found], offset[found], strict=True)) == expected


@by_isa
@by_dtype
@by_channels
def test_live_places(isa, dtype, channels):
    w = Windows(channels, dtype)
    value, offset, start = w.lists("live_places", isa, ld=11)
    for p in range(w.count):
        for q in range(4):
            expected = [(w.dy[p, c], 11 * c) for other, c, place, _ in w.live() if (other, place) == (p, q)]
            found = slice(start[5 * p + q], start[5 * p + q + 1])
            assert list(zip(value[found], offset[found], strict=True)) == expected


# Rows of widths around the blocks: vectors of 1 to 16 elements, 5 to 10 of them a block.
WIDTHS = (1, 5, 15, 16, 17, 33, 80, 160, 161, 200)


@by_isa
@by_dtype
@pytest.mark.parametrize("accumulate", [0, 1])
def test_live_outer(isa, dtype, accumulate):
    rng = np.random.default_rng(11)
    for width in WIDTHS:
        for rows in (1, 2, 3, 7, 40):
            w = Windows(3, dtype, depth=2)
            value, offset, end = w.lists("live_channels", isa)
            x = rng.standard_normal(2 * 63 + rows + width).astype(dtype)
            row = rng.permutation(rows)
            memory, dw = guarded((3, rows * width + 1), dtype, 2)
            db_memory, db = guarded((3,), dtype, 2)
            wide = np.zeros(dw.shape)
            if accumulate:
                wide += dw
            wide[:, -1] = dw[:, -1]
            total = np.full(3, 2.0 * accumulate)
            for p, c, q, gradient in w.live():
                at = w.window[p] + w.place[q] + row[:, None] + np.arange(width)
                wide[c, :-1] += gradient * x[at].astype(np.float64).reshape(-1)
                total[c] += gradient
            call(
                "live_outer", isa, dtype, value=value, offset=offset, end=end, x=x, row=row, dw=dw, db=db,
                windows=w.count, channels=3, rows=rows, width=width, ld=rows * width + 1, accumulate=accumulate,
            )  # fmt: skip
            np.testing.assert_allclose(dw, wide, rtol=0, atol=256 * np.finfo(dtype).eps)
            np.testing.assert_allclose(db, total, rtol=0, atol=256 * np.finfo(dtype).eps)
            assert untouched(memory)
            assert untouched(db_memory)


@by_isa
@by_dtype
def test_live_scatter(isa, dtype):
    rng = np.random.default_rng(12)
    for width in WIDTHS:
        for rows in (1, 2, 3, 7):
            for channels in (1, 5, 200):
                w = Windows(channels, dtype, depth=2)
                value, offset, start = w.lists("live_places", isa, ld=rows * width + 3)
                weights = rng.standard_normal((channels, rows * width + 3)).astype(dtype)
                row = rng.permutation(rows) * (width + 1)
                memory, dx = guarded((2 * 63 + rows * (width + 1),), dtype, 1)
                wide = np.ones(dx.shape)
                for p, c, q, gradient in w.live():
                    for r in range(rows):
                        at = w.window[p] + w.place[q] + row[r]
                        wide[at : at + width] += gradient * weights[c, r * width : (r + 1) * width].astype(np.float64)
                call(
                    "live_scatter", isa, dtype, value=value, offset=offset, start=start, window=w.window,
                    place=w.place, row=row, w=weights, dx=dx, windows=w.count, places=4, channels=channels, rows=rows,
                    width=width,
                )  # fmt: skip
                np.testing.assert_allclose(dx, wide, rtol=0, atol=2048 * np.finfo(dtype).eps)
                assert untouched(memory)


@by_isa
@by_dtype
@pytest.mark.parametrize("accumulate", [0, 1])
def test_masked_outer(isa, dtype, accumulate):
    rng = np.random.default_rng(13)
    for channels in (1, 4, 15, 16, 17, 40):
        for width in (1, 2, 5, 7, 8, 9, 12, 15, 16):
            for rows in (1, 3, 9):
                w = Windows(channels, dtype, depth=2)
                x = rng.standard_normal(2 * 63 + rows + width).astype(dtype)
                row = rng.permutation(rows)
                memory, dw = guarded((rows * width, channels + 1), dtype, 2)
                db_memory, db = guarded((channels,), dtype, 2)
                wide = np.full(dw.shape, 2.0 * accumulate)
                wide[:, -1] = dw[:, -1]
                total = np.full(channels, 2.0 * accumulate)
                for p, c, q, gradient in w.live():
                    at = w.window[p] + w.place[q] + row[:, None] + np.arange(width)
                    wide[:, c] += gradient * x[at].astype(np.float64).reshape(-1)
                    total[c] += gradient
                call(
                    "masked_outer", isa, dtype, window=w.window, place=w.place, dy=w.dy, at=w.at, index=w.index,
                    index_at=w.index_at, x=x, row=row, dw=dw, db=db, windows=w.count, places=4, channels=channels,
                    rows=rows, width=width, ld=channels + 1, accumulate=accumulate,
                )  # fmt: skip
                np.testing.assert_allclose(dw, wide, rtol=0, atol=256 * np.finfo(dtype).eps)
                np.testing.assert_allclose(db, total, rtol=0, atol=256 * np.finfo(dtype).eps)
                assert untouched(memory)
                assert untouched(db_memory)


@by_isa
@by_dtype
@pytest.mark.parametrize("place", [[0, 1], [0, 5], [0, 1, 2], [0, 1, 7, 9], [0, 1, 2, 9, 10, 11], [0, 12, 20, 32]])
@pytest.mark.parametrize("windows", [0, 1, 15, 16, 17, 23, 33, 40])
def test_masked_outer_of_other_windows(isa, dtype, place, windows):
    """Places that lie as two equal halves, near or far, and others; x ends with what the last window reads.

    Windows come in any order, in numbers around those that a kernel prepares at a time.
    """
    rng = np.random.default_rng(14)
    place = np.array(place)
    channels, row, width = 19, np.array([0, 3, 6]), 6
    window = rng.permutation(2 * np.arange(windows)) if windows > 20 else 2 * np.arange(windows)
    dy = rng.standard_normal((windows, channels)).astype(dtype)
    index = rng.choice(np.array([*range(len(place)), DEAD], np.uint8), (windows, channels))
    memory, x = guarded((max(window, default=0) + place[-1] + row[-1] + width,), dtype, 1)
    memory[:], x[:] = np.nan, rng.standard_normal(x.shape)
    dw, db = np.zeros((3 * width, channels), dtype), np.zeros(channels, dtype)
    wide, total = np.zeros(dw.shape), np.zeros(channels)
    for p, c in np.ndindex(windows, channels):
        if index[p, c] != DEAD:
            at = window[p] + place[index[p, c]] + row[:, None] + np.arange(width)
            wide[:, c] += x[at].astype(np.float64).reshape(-1) * dy[p, c]
            total[c] += dy[p, c]
    at = channels * np.arange(windows)
    call(
        "masked_outer", isa, dtype, window=window, place=place, dy=dy, at=at, index=index, index_at=at, x=x, row=row,
        dw=dw, db=db, windows=windows, places=len(place), channels=channels, rows=3, width=width, ld=channels,
        accumulate=0,
    )  # fmt: skip
    np.testing.assert_allclose(dw, wide, rtol=0, atol=256 * np.finfo(dtype).eps)
    np.testing.assert_allclose(db, total, rtol=0, atol=256 * np.finfo(dtype).eps)


def test_structs_are_those_of_the_headers():
    sizes = _lab.argument_sizes()
    assert {name: sizes[name] for name in STRUCTS} == {name: ctypes.sizeof(s) for name, s in STRUCTS.items()}
