"""Sums over rows, constants a row, and powers, each kernel alone: NumPy formulas, and no stray writes."""

import numpy as np
import pytest
from laboratory import POINTER, Map, Moments, Normalise, Reduce, close, edges_untouched, guarded, run, values

from fastconv.backends.cpu import available_isas

COUNTS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 63, 64, 70, 300)
by_isa = pytest.mark.parametrize("isa", available_isas())
by_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)


@by_dtype
@by_isa
def test_moments_of_lines(isa, dtype):
    for columns in COUNTS:
        rows, ld = 5, columns + 3
        x = values("x", (rows, ld), dtype) + 1000 * np.arange(rows, dtype=dtype)[:, None]  # means far from 0
        made = {name: guarded(np.zeros(rows), np.float64) for name in ("start", "offset", "square")}
        arrays = {name: array for name, (_, array) in made.items()}
        run("moment_lines", isa, dtype, Moments, x=x, rows=rows, columns=columns, ldx=ld, **arrays)
        wide, eps = x[:, :columns].astype(np.longdouble), np.finfo(dtype).eps
        mean = arrays["start"].astype(np.longdouble) + arrays["offset"]
        np.testing.assert_allclose(mean, wide.mean(1), rtol=eps / 2, atol=8 * eps)
        np.testing.assert_allclose(
            arrays["square"], columns * wide.var(1).astype(float), rtol=64 * eps, atol=columns * (4000 * eps) ** 2
        )
        assert all(edges_untouched(memory) for memory, _ in made.values())


@by_dtype
@by_isa
def test_gradient_sums_of_lines(isa, dtype):
    for rows in COUNTS[:-2]:
        columns = COUNTS[-1 - COUNTS.index(rows)]
        x, dy, mean = values("x", (rows, columns + 2), dtype), values("dy", (rows, columns + 1), dtype), None
        mean = values("mmm", rows, dtype)
        (memory, first), (other, second) = guarded(np.zeros(rows), dtype), guarded(np.zeros(rows), dtype)
        run("gradient_lines", isa, dtype, Reduce, x=x, dy=dy, mean=mean, first=first, second=second, rows=rows,
            columns=columns, ldx=columns + 2, lddy=columns + 1)  # fmt: skip
        slope = dy[:, :columns].astype(np.float64)
        close(first, slope.sum(1), dtype)
        close(second, (slope * (x[:, :columns] - mean[:, None].astype(np.float64))).sum(1), dtype)
        assert edges_untouched(memory)
        assert edges_untouched(other)


@by_dtype
@by_isa
def test_constants_of_rows_give_the_bits_of_constants_of_columns(isa, dtype):
    rows = 5
    for columns in COUNTS:
        x, dy = values("x", (rows, columns), dtype), values("dy", (rows, columns), dtype)
        constants = {name: values(name, rows, dtype) for name in ("mean", "scale", "shift", "slope")}
        common = {"columns": columns, "ldy": columns, "ldx": columns, "lddy": columns}
        for name, options in [
            ("normalise_rows", {}), ("normalise_rows", {"dy": dy, "relu": 1}),
            ("normalise_gradient_rows", {"dy": dy}),
            ("normalise_gradient_rows", {"dy": dy, "bias": constants["shift"]}),
        ]:  # fmt: skip
            memory, y = guarded(np.zeros((rows, columns)), dtype)
            run(name, isa, dtype, Normalise, y=y, x=x, rows=rows, by_row=1, **common, **constants, **options)
            assert edges_untouched(memory)
            for r in range(rows):
                wide = {key: np.full(columns, value[r]) for key, value in constants.items()}
                some = {key: v if np.ndim(v) == 0 else v[r:] for key, v in options.items()}
                some |= {"bias": wide["shift"]} if "bias" in some else {}
                _, line = guarded(np.zeros(columns), dtype)
                run(name, isa, dtype, Normalise, y=line, x=x[r:], rows=1, **common, **wide, **some)
                np.testing.assert_array_equal(y[r], line)


@by_dtype
@by_isa
def test_powers_and_their_slopes(isa, dtype):
    for count in COUNTS:
        a, b = values("a", count, dtype, 0.1, 5), values("bb", count, dtype)
        wide, exponent = a.astype(np.float64), b.astype(np.float64)
        for name, wanted in [
            ("power", wide**exponent), ("power_slope", exponent * wide ** (exponent - 1)),
            ("power_exponent_slope", wide**exponent * np.log(wide)),
        ]:  # fmt: skip
            memory, y = guarded(np.zeros(count), dtype)
            run(name, isa, dtype, Map, y=y, x=(POINTER * 5)(a.ctypes.data, b.ctypes.data), rows=1, count=count)
            np.testing.assert_allclose(y, wanted, rtol=16 * np.finfo(dtype).eps, atol=16 * np.finfo(dtype).tiny)
            assert edges_untouched(memory)
