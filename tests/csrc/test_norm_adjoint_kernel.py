"""The gradient of batch norm and its ReLU, the kernel alone: NumPy formulas, sums that go on, and no stray writes."""

import numpy as np
import pytest
from laboratory import ISAS, POINTER, SIZE, close, edges_untouched, guarded, run, struct, values

from fastconv.backends.cpu import _lab, available_isas

DTYPES = {np.float32: 0, np.float64: 1}
Adjoint = struct(
    y=POINTER, x=POINTER, dy=POINTER, residual=POINTER, mean=POINTER, scale=POINTER, shift=POINTER, first=POINTER,
    second=POINTER, rows=SIZE, columns=SIZE, ldy=SIZE, ldx=SIZE, lddy=SIZE, ldr=SIZE,
)  # fmt: skip
by_isa = pytest.mark.parametrize("isa", available_isas())
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


def shapes(isa, dtype):
    """Rows around a group of them, and columns around vectors."""
    width = _lab.block_sizes(ISAS[isa], DTYPES[dtype])[0]
    columns = sorted({1, 2, 3, max(1, width - 1), width, width + 1, 2 * width - 1, 2 * width, 3 * width + 2, 70})
    return [(rows, n) for rows in range(10) for n in columns]


def problem(rows, columns, dtype):
    """Return x and dy, in rows with something behind them, and mean, scale and shift."""
    x, dy = values("x", (rows, columns + 3), dtype), values("dy", (rows, columns + 1), dtype)
    return x, dy, *(values("c" * k, columns, dtype) for k in (3, 4, 5))


def passed(x, dy, mean, scale, shift):
    """dz and x - mean in float64."""
    columns = len(mean)
    d = x[:, :columns].astype(np.float64) - mean
    return np.where(d * scale + shift <= 0, 0, dy[:, :columns].astype(np.float64)), d


def adjoint(isa, x, dy, mean, scale, shift, first, second, y, **options):
    rows, columns = y.shape
    run("normalise_adjoint_rows", isa, x.dtype.type, Adjoint, y=y, x=x, dy=dy, mean=mean, scale=scale, shift=shift,
        first=first, second=second, rows=rows, columns=columns, ldx=x.shape[1], lddy=dy.shape[1],
        ldy=y.strides[0] // y.itemsize, **options)  # fmt: skip


def sums(columns, dtype):
    """Memory for both sums, with what they start from in it."""
    return guarded(values("first", columns, dtype), dtype), guarded(values("second", columns, dtype), dtype)


@by_dtype
@by_isa
@pytest.mark.parametrize("added", ["nothing", "residual", "y"])
def test_normalise_adjoint_rows(isa, dtype, added):
    for rows, columns in shapes(isa, dtype):
        arrays = problem(rows, columns, dtype)
        (one_memory, first), (two_memory, second) = sums(columns, dtype)
        start = first.astype(np.float64), second.astype(np.float64)
        memory, y = guarded(values("yy", (rows, columns), dtype), dtype)
        residual = y if added == "y" else values("rest", (rows, columns + 2), dtype)
        more = 0.0 if added == "nothing" else residual[:, :columns].astype(np.float64)
        options = {} if added == "nothing" else {"residual": residual, "ldr": residual.shape[1]}
        adjoint(isa, *arrays, first, second, y, **options)
        dz, d = passed(*arrays)
        close(y, dz * arrays[3] + more, dtype)
        close(first, start[0] + dz.sum(0), dtype)
        close(second, start[1] + (dz * d).sum(0), dtype)
        assert all(edges_untouched(one) for one in (memory, one_memory, two_memory))


@by_dtype
@by_isa
def test_rows_of_another_distance_stay_as_they_are_between(isa, dtype):
    for rows, columns in shapes(isa, dtype):
        arrays = problem(rows, columns, dtype)
        whole = np.full((rows + 1, columns + 5), 7, dtype)
        (_, first), (_, second) = sums(columns, dtype)
        adjoint(isa, *arrays, first, second, whole[:rows, 2 : columns + 2])
        close(whole[:rows, 2 : columns + 2], passed(*arrays)[0] * arrays[3], dtype)
        whole[:rows, 2 : columns + 2] = 7
        assert (whole == 7).all()


@by_dtype
@by_isa
def test_sums_go_on_row_by_row(isa, dtype):
    """A matrix in two calls, cut anywhere, has the bits of one."""
    for columns in sorted({n for _, n in shapes(isa, dtype)}):
        x, dy, *constants = problem(9, columns, dtype)
        results = []
        for cut in range(10):
            (_, first), (_, second) = sums(columns, dtype)
            y = np.zeros((9, columns), dtype)
            adjoint(isa, x[:cut], dy[:cut], *constants, first, second, y[:cut])
            adjoint(isa, x[cut:], dy[cut:], *constants, first, second, y[cut:])
            results.append((y, first, second))
        for result in results:
            for one, other in zip(result, results[0], strict=True):
                np.testing.assert_array_equal(one, other)


@by_dtype
@by_isa
def test_a_gate_that_is_nan_lets_the_gradient_through(isa, dtype):
    for rows, columns in shapes(isa, dtype)[10:]:
        arrays = problem(rows, columns, dtype)
        x, dy, scale = arrays[0], arrays[1], arrays[3]
        x[rows // 2, :columns:2] = np.nan
        (_, first), (_, second) = sums(columns, dtype)
        start, y = first.astype(np.float64), np.zeros((rows, columns), dtype)
        adjoint(isa, *arrays, first, second, y)
        np.testing.assert_array_equal(y[rows // 2, ::2], (dy[rows // 2, :columns] * scale)[::2])
        close(first, start + passed(*arrays)[0].sum(0), dtype)
        np.testing.assert_array_equal(np.isnan(second), np.arange(columns) % 2 == 0)
