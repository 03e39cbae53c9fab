"""The kernels of Winograd's filtering along rows, per instruction set, against the direct sum in float64."""

import numpy as np
import pytest
from laboratory import FLAG, ISAS, POINTER, SIZE, edges_untouched, guarded, run, struct

from fastconv.backends.cpu import _lab, available_isas

Line = struct(dst=POINTER, src=POINTER, step=SIZE, plane=SIZE, count=SIZE)
Lines = struct(
    x=POINTER, tap=POINTER, w=POINTER, bias=POINTER, y=POINTER, index=POINTER, residual=POINTER, tile=SIZE, xplane=SIZE,
    wplane=SIZE, taps=SIZE, row=SIZE, column=SIZE, residual_row=SIZE, residual_column=SIZE, rows=SIZE, outputs=SIZE,
    channels=SIZE, relu=FLAG,
)  # fmt: skip
POINTS = 8
KERNEL = 3  # its rows, in these tests
BOUND = 3000  # units in the last place


@pytest.fixture(params=available_isas())
def isa(request):
    return request.param


@pytest.fixture(params=[np.float32, np.float64])
def dtype(request):
    return request.param


def turned(kernel, isa, dtype, src, taps):
    """(taps, count) -> (points, count) by one of the maps along a line."""
    memory, dst = guarded(np.zeros((POINTS, src.shape[1])), dtype)
    run(kernel, isa, dtype, Line, dst=dst, src=src, step=src.shape[1], plane=src.shape[1], count=src.shape[1])
    assert len(src) == taps
    assert edges_untouched(memory)
    return dst


def problem(isa, dtype, depth, outputs, columns):
    """Return the source (depth, lines, pixels), weights, bias, and both as the kernel takes them."""
    nr = _lab.block_sizes(ISAS[isa], int(dtype == np.float64))[2]
    rng = np.random.default_rng(depth + outputs + columns)
    tiles, lines = -(-outputs // 4), KERNEL + 1
    x = rng.standard_normal((depth, lines, 4 * tiles + 4)).astype(dtype)
    w = rng.standard_normal((columns, depth, KERNEL, 5)).astype(dtype)
    bias = np.zeros(nr, dtype)
    bias[:columns] = rng.standard_normal(columns)
    v = np.empty((depth, tiles, POINTS, lines), dtype)
    for k, t in np.ndindex(depth, tiles):
        pixels = np.ascontiguousarray(x[k, :, 4 * t : 4 * t + 8].T)
        v[k, t] = turned("winograd_line_input", isa, dtype, pixels, 8)
    u = np.zeros((POINTS, KERNEL, depth, nr), dtype)
    for h in range(KERNEL):
        packed = np.zeros((5, depth, nr), dtype)
        packed[:, :, :columns] = w[:, :, h].transpose(2, 1, 0)
        u[:, h] = turned("winograd_line_filter", isa, dtype, packed.reshape(5, -1), 5).reshape(POINTS, depth, nr)
    tap = np.array([k * v[0].size + h for h in range(KERNEL) for k in range(depth)], np.int64)
    common = {
        "x": v,
        "tap": tap,
        "w": u,
        "tile": POINTS * lines,
        "xplane": lines,
        "wplane": u[0].size,
        "taps": tap.size,
    }
    exact = np.zeros((2, outputs, columns))
    for r, o in np.ndindex(2, outputs):
        window = x[:, r : r + KERNEL, o : o + 5].astype(np.float64)
        exact[r, o] = np.einsum("khw,ckhw->c", window, w.astype(np.float64))
    return common, bias, exact


def column_counts(isa, dtype):
    width, _, nr = _lab.block_sizes(ISAS[isa], int(dtype == np.float64))
    return sorted({1, max(1, width - 1), width, width + 1, nr} & set(range(1, nr + 1)))


@pytest.mark.parametrize("depth, outputs", [(1, 1), (1, 4), (2, 7), (3, 12), (1, 17)])
def test_outputs(isa, dtype, depth, outputs):
    for columns in column_counts(isa, dtype):
        common, bias, exact = problem(isa, dtype, depth, outputs, columns)
        for rows, ended in [(2, False), (1, False), (2, True), (1, True)]:
            memory, y = guarded(np.full((rows, outputs, columns + 1), 7.0), dtype)
            residual = np.random.default_rng(1).standard_normal((rows, outputs, columns + 2)).astype(dtype)
            given = {"bias": bias, "residual": residual} if ended else {}
            run("winograd_lines", isa, dtype, Lines, y=y, row=y[0].size, column=columns + 1,
                residual_row=residual[0].size, residual_column=columns + 2, rows=rows, outputs=outputs,
                channels=columns, relu=ended, **given, **common)  # fmt: skip
            expected = exact[:rows]
            if ended:
                expected = np.maximum(expected + bias[:columns] + residual[:, :, :columns], 0)
            atol = BOUND * np.finfo(dtype).eps
            np.testing.assert_allclose(y[:, :, :columns], expected, rtol=0, atol=atol)
            assert (y[:, :, columns] == 7).all()
            assert edges_untouched(memory)


@pytest.mark.parametrize("relu", [0, 1])
@pytest.mark.parametrize("depth, outputs", [(1, 2), (2, 4), (1, 6), (1, 14)])
def test_pooled_outputs_are_the_maxima_of_outputs(isa, dtype, depth, outputs, relu):
    for columns in column_counts(isa, dtype):
        common, bias, _ = problem(isa, dtype, depth, outputs, columns)
        plain = np.empty((2, outputs, columns), dtype)
        run("winograd_lines", isa, dtype, Lines, y=plain, bias=bias, row=plain[0].size, column=columns, rows=2,
            outputs=outputs, channels=columns, relu=relu, **common)  # fmt: skip
        memory, y = guarded(np.full((outputs // 2, columns), 7.0), dtype)
        index = np.full((outputs // 2 + 1, columns), 9, np.uint8)
        run("winograd_lines_pool", isa, dtype, Lines, y=y, index=index, bias=bias, column=columns, rows=2,
            outputs=outputs, channels=columns, relu=relu, **common)  # fmt: skip
        places = plain.reshape(2, outputs // 2, 2, columns).transpose(1, 0, 2, 3).reshape(-1, 4, columns)
        np.testing.assert_array_equal(y, places.max(1))
        where = places.argmax(1)
        np.testing.assert_array_equal(index[:-1], np.where(y > 0, where, 255) if relu else where)
        assert (index[-1] == 9).all()
        assert edges_untouched(memory)
