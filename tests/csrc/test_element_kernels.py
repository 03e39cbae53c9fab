"""The kernels of functions of one variable, maxima, weighted rows and local responses, each alone: NumPy formulas, and
nothing is written beside a result."""

import ctypes

import numpy as np
import pytest
from laboratory import FLAG, POINTER, REAL, SIZE, Map, Reduce, close, edges_untouched, guarded, run, struct, values

from fastconv.backends.cpu import _lab, available_isas
from fastconv.backends.reference.pointwise import POINTWISE

COUNTS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 35, 70)
by_isa = pytest.mark.parametrize("isa", available_isas())
by_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)
# as enum fc_pointwise counts them
KINDS = ("elu", "gelu", "gelu_tanh", "silu", "mish", "hardswish", "hardsigmoid", "softplus", "softsign", "clip",
         "hardtanh", "exp", "log", "sqrt", "abs", "reciprocal", "erf", "power")  # fmt: skip


WeightedRows = struct(
    y=POINTER, x=POINTER, start=POINTER, row=POINTER, weight=POINTER, outputs=SIZE, columns=SIZE, ldy=SIZE, ldx=SIZE,
    accumulate=FLAG, parts=FLAG, offset=POINTER, share=POINTER,
)  # fmt: skip
LocalResponse = struct(
    y=POINTER, scale=POINTER, x=POINTER, dy=POINTER, terms=POINTER, channels=SIZE, positions=SIZE, size=SIZE,
    before=SIZE, ldy=SIZE, ldscale=SIZE, ldx=SIZE, lddy=SIZE, alpha=REAL, beta=REAL, k=REAL,
)  # fmt: skip


def pointers(*arrays):
    return (POINTER * 5)(*(a.ctypes.data for a in arrays))


@by_dtype
@by_isa
@pytest.mark.parametrize("kind", KINDS)
def test_functions_and_slopes(isa, dtype, kind):
    a, b = {"clip": (-1.0, 1.5), "hardtanh": (-1.0, 1.5), "hardsigmoid": (0.25, 0.5), "power": (3.0, 0)}.get(
        kind, (0.75, 0.5)
    )
    number = KINDS.index(kind)
    for count in COUNTS:
        x, dy = values("x", count, dtype), values("dy", count, dtype)
        x = np.abs(x) + dtype(0.1) if kind in ("log", "sqrt", "reciprocal") else x
        wide = x.astype(np.float64)
        memory, y = guarded(np.zeros(count), dtype)
        common = {"y": y, "rows": 1, "count": count, "kind": number}
        second = a if kind == "power" else b
        run("pointwise_forward", isa, dtype, Map, x=pointers(x), scalar=(REAL * 2)(a, second), **common)
        close(y, POINTWISE[kind].forward(wide, a, b), dtype)
        second = a - 1 if kind == "power" else b
        run("pointwise_backward", isa, dtype, Map, x=pointers(dy, x), scalar=(REAL * 2)(a, second), **common)
        close(y, dy * POINTWISE[kind].slope(wide, a, b), dtype)
        assert edges_untouched(memory)


@by_dtype
@by_isa
def test_maximum_and_matches(isa, dtype):
    for count in COUNTS:
        a, b = values("a", count, dtype), values("bb", count, dtype)
        a[::5], b[::7], b[1::3] = np.nan, np.nan, a[1::3]
        for name, wanted in (("maximum", np.maximum(a, b)), ("matches", (a == b) | (np.isnan(a) & np.isnan(b)))):
            memory, y = guarded(np.zeros(count), dtype)
            run(name, isa, dtype, Map, y=y, x=pointers(a, b), rows=1, count=count)
            np.testing.assert_array_equal(y, wanted)
            assert edges_untouched(memory)


@by_dtype
@by_isa
@pytest.mark.parametrize("name, extreme", [("max_rows", np.max), ("min_rows", np.min)])
def test_extremes_of_rows(isa, dtype, name, extreme):
    for rows, columns in [(0, 5), (1, 1), *((9, count) for count in COUNTS)]:
        x, start = values("x", (rows, columns + 3), dtype), values("start", columns, dtype)
        x[rows // 2 : rows // 2 + 1, ::6], start[::11] = np.nan, np.nan
        memory, first = guarded(start, dtype)
        run(name, isa, dtype, Reduce, x=x, first=first, rows=rows, columns=columns, ldx=columns + 3)
        np.testing.assert_array_equal(first, extreme(np.concatenate([start[None], x[:, :columns]]), axis=0))
        assert edges_untouched(memory)


@by_dtype
@by_isa
@pytest.mark.parametrize("name, extreme", [("max_columns", np.max), ("min_columns", np.min)])
def test_extremes_of_columns(isa, dtype, name, extreme):
    for columns in (*COUNTS, 150):
        for rows in (0, 1, 3, *COUNTS[-5:]):
            x = values("x", (rows, columns + 3), dtype)
            x[::3, columns // 2], x[1::5, columns - 1], x[:, columns:] = np.nan, extreme([-9, 9]), np.nan
            memory, first = guarded(np.zeros(rows), dtype)
            run(name, isa, dtype, Reduce, x=x, first=first, rows=rows, columns=columns, ldx=columns + 3)
            np.testing.assert_array_equal(first, extreme(x[:, :columns], axis=1))
            assert edges_untouched(memory)


@by_dtype
@by_isa
def test_weighted_rows(isa, dtype):
    start, row = np.array([0, 3, 3, 4, 8]), np.array([2, 0, 2, 4, 1, 1, 3, 0])
    weight = values("weight", 8, dtype)
    for columns in COUNTS:
        x = values("x", (5, columns + 2), dtype)
        wide = [sum((weight[t] * x[row[t], :columns].astype(np.float64) for t in range(*start[o : o + 2])),
                    np.zeros(columns)) for o in range(4)]  # fmt: skip
        for accumulate in (0, 1):
            memory, y = guarded(np.full((4, columns), 0.5), dtype)
            run("weighted_rows", isa, dtype, WeightedRows, y=y, x=x, start=start, row=row, weight=weight, outputs=4,
                columns=columns, ldy=columns, ldx=columns + 2, accumulate=accumulate)  # fmt: skip
            close(y, np.array(wide) + 0.5 * accumulate, dtype)
            assert edges_untouched(memory)


@by_dtype
@by_isa
@pytest.mark.parametrize("parts", [1, 3])
def test_weighted_rows_of_parts_have_the_bits_of_two_steps(isa, dtype, parts):
    start, row, offset = np.array([0, 2, 2, 3, 6]), np.array([2, 0, 1, 1, 0, 2]), np.array([40, 0, 310])
    weight, share = values("weight", 6, dtype), values("share", 3, dtype)
    for columns in COUNTS:
        x = values("x", 310 + 3 * columns, dtype)
        between = np.empty(3 * columns, dtype)
        run("weighted_rows", isa, dtype, WeightedRows, y=between, x=x, start=np.array([0, parts]), row=offset,
            weight=share, outputs=1, columns=3 * columns, ldy=0, ldx=1)  # fmt: skip
        wanted, (memory, y) = np.empty((4, columns), dtype), guarded(np.zeros((4, columns)), dtype)
        shared = {"start": start, "row": row, "weight": weight, "outputs": 4, "columns": columns, "ldy": columns,
                  "ldx": columns}  # fmt: skip
        run("weighted_rows", isa, dtype, WeightedRows, y=wanted, x=between, **shared)
        run("weighted_rows", isa, dtype, WeightedRows, y=y, x=x, parts=parts, offset=offset, share=share, **shared)
        np.testing.assert_array_equal(y, wanted)
        assert edges_untouched(memory)


@by_dtype
@by_isa
@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("beta", [0.75, 1.0, 0.4])
def test_local_responses(isa, dtype, beta, rows):
    width = _lab.block_sizes(*({"scalar": 0, "avx2": 1, "avx512": 2, "neon": 3, "avx512_bf16": 4}[isa],
                               int(dtype is np.float64)))[0]  # fmt: skip
    suffix, size, before, alpha, k = "_rows" if rows else "", 4, 2, 0.3, 0.8
    for channels, positions in ((1, 3), (6, 17), (35, 5), (3, 40)):
        shape = (positions, channels) if rows else (channels, positions)
        x, dy = values("x", shape, dtype), values("dy", shape, dtype)
        terms = np.empty((channels + size + 1) * width, dtype)
        by_channel = (lambda a: a.T.astype(np.float64)) if rows else (lambda a: a.astype(np.float64))

        def windows(a, first, size=size, channels=channels):
            padded = np.pad(a, ((first, size - 1 - first), (0, 0)))
            return sum(padded[i : i + channels] for i in range(size))

        wide, gradient = by_channel(x), by_channel(dy)
        wanted_scale = k + alpha * windows(wide**2, before)
        (memory, y), (scale_memory, scale) = guarded(np.zeros(shape), dtype), guarded(np.zeros(shape), dtype)
        ld = dict.fromkeys(("ldy", "ldscale", "ldx", "lddy"), shape[1])
        common = {"y": y, "scale": scale, "x": x, "terms": terms, "channels": channels, "positions": positions,
                  "size": size, "alpha": alpha, "beta": beta, "k": k, **ld}  # fmt: skip
        run(f"lrn_forward{suffix}", isa, dtype, LocalResponse, before=before, **common)
        close(by_channel(scale), wanted_scale, dtype)
        close(by_channel(y), wide * wanted_scale**-beta, dtype)
        run(f"lrn_backward{suffix}", isa, dtype, LocalResponse, before=size - 1 - before, dy=dy, **common)
        reach = windows(gradient * wide * wanted_scale ** (-beta - 1), size - 1 - before)
        close(by_channel(y), gradient * wanted_scale**-beta - 2 * alpha * beta * wide * reach, dtype)
        assert edges_untouched(memory)
        assert edges_untouched(scale_memory)


def test_the_structs_are_those_of_the_headers():
    sizes = _lab.argument_sizes()
    names = {"pointwise_forward": Map, "pointwise_backward": Map, "max_rows": Reduce, "weighted_rows": WeightedRows,
             "lrn_forward": LocalResponse, "lrn_backward_rows": LocalResponse, "lrn_forward_rows": LocalResponse,
             "lrn_backward": LocalResponse}  # fmt: skip
    for name, arguments in names.items():
        assert ctypes.sizeof(arguments) == sizes[name], name
