"""What is taken in squares of vectors and turned in registers, at every place of its first element in a cache line."""

import numpy as np
import pytest
from test_micro_kernels import DTYPES, ISAS, call, dtype, edges_untouched, guarded, isa, rng

from fastconv.backends.cpu import _lab

__all__ = ["dtype", "isa", "rng"]  # fixtures

LINE = 64


def weights_at(offset, columns, depth, step, dtype, rng):
    """(columns, depth), the columns ``step`` elements apart, the first one ``offset`` elements into a cache line."""
    memory = np.full(columns * step + 2 * LINE, np.nan, dtype)
    start = -memory.ctypes.data % LINE // memory.itemsize + offset
    w = np.lib.stride_tricks.as_strided(memory[start:], (columns, depth), (step * memory.itemsize, memory.itemsize))
    w[...] = rng.standard_normal(w.shape)
    return w


def cases(width, nr):
    for offset in range(width):
        for depth in (1, width - 1, width, width + 1, 3 * width):
            if depth > 0:
                yield offset, depth, nr if (offset + depth) % 2 else max(1, nr - 1)


@pytest.mark.parametrize("far", [0, 1])
def test_products_of_few_rows_have_the_same_bits_at_every_alignment(isa, dtype, rng, far):
    width, _, nr = _lab.block_sizes(ISAS[isa], DTYPES[dtype])
    for offset, depth, columns in cases(width, nr):
        x = rng.standard_normal((2, depth)).astype(dtype)
        w = weights_at(offset, columns, depth, 4 * width, dtype, rng)
        found = []
        for weights, step, asks in ((w, 4 * width, far), (np.hstack([w, w[:, :1]]), depth + 1, 0)):
            memory, y = guarded((2, columns), dtype, rng)
            call("few_rows", isa, dtype, x=x, w=weights, y=y, rows=2, depth=depth, columns=columns, ldx=depth,
                 ldw=step, ldy=columns, by_rows=0, far=asks)  # fmt: skip
            assert edges_untouched(memory)
            found.append(y)
        np.testing.assert_array_equal(*found)
        np.testing.assert_allclose(found[0], x.astype(np.float64) @ w.T, rtol=0, atol=1e3 * np.finfo(dtype).eps)


@pytest.mark.parametrize("backwards", [0, 1])
def test_panels_are_packed_alike_at_every_alignment(isa, dtype, rng, backwards):
    width, _, nr = _lab.block_sizes(ISAS[isa], DTYPES[dtype])
    for taps in (1, 2):
        for offset, depth, columns in cases(width, nr):
            w = weights_at(offset, columns, depth * taps, 8 * width, dtype, rng)
            memory, panel = guarded((taps, depth, nr), dtype, rng)
            call("pack_panel", isa, dtype, dst=panel, src=w, taps=taps, depth=depth, columns=columns,
                 column=8 * width, reversed=backwards)  # fmt: skip
            expected = w.reshape(columns, depth, taps).transpose(2, 1, 0)
            np.testing.assert_array_equal(panel[..., :columns], expected[::-1] if backwards else expected)
            np.testing.assert_array_equal(panel[..., columns:], 0)
            assert edges_untouched(memory)


@pytest.mark.parametrize("ld", [80, 600])
@pytest.mark.parametrize("rows", [1, 33, 127, 128, 129, 513, 1100])
def test_matrices_are_turned_alike_at_every_alignment(isa, dtype, rng, rows, ld):  # in strips, and square by square
    width, _, _ = _lab.block_sizes(ISAS[isa], DTYPES[dtype])
    for offset in range(width):
        for columns in (1, width, width + 3, 64 + offset % 7):
            source = weights_at(offset, columns, rows, 1152 + offset % 2, dtype, rng)
            memory, copied = guarded((rows, ld), dtype, rng)
            before = copied.copy()
            call("copy2d", isa, dtype, dst=copied, src=source, rows=rows, columns=columns, padded=columns + 2, ld=ld,
                 dj=1, si=1, sj=1152 + offset % 2)  # fmt: skip
            np.testing.assert_array_equal(copied[:, :columns], source.T)
            np.testing.assert_array_equal(copied[:, columns : columns + 2], 0)
            np.testing.assert_array_equal(copied[:, columns + 2 :], before[:, columns + 2 :])
            assert edges_untouched(memory)
