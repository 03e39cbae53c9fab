"""Products of matrices: every backend against PyTorch, and the contract of backends/base."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from layouts import DTYPES, LAYOUTS, normal, stretched

# Around register tiles and panels, a chunk of K and a task's rows; rows and columns alone; small ones, many a task.
SIZES = [
    ((2,), (2,), 3, 4, 5), ((), (), 1, 1, 1), ((3,), (3,), 9, 17, 33), ((2, 3), (3,), 5, 7, 31),
    ((2, 1), (3,), 16, 8, 32), ((2,), (), 4, 40, 70), ((2,), (2,), 5, 300, 47), ((1,), (2,), 530, 9, 65),
    ((2,), (2,), 1, 33, 70), ((2,), (2,), 70, 33, 1), ((3,), (3,), 1, 20, 1), ((300,), (300,), 3, 2, 3),
    ((5, 1, 1), (1, 2, 3), 8, 16, 16),
]  # fmt: skip
EMPTY = [((0,), (1,), 2, 3, 4), ((2,), (2,), 0, 3, 4), ((2,), (2,), 3, 0, 4), ((2,), (2,), 3, 4, 0)]
by_dtype = pytest.mark.parametrize("dtype", DTYPES)


def problem(a_lead, b_lead, m, k, p, dtype="float32"):
    return normal(("a", m), (*a_lead, m, k), dtype), normal(("b", p), (*b_lead, k, p), dtype)


def expected(a, b):
    return oracle.run(lambda t, x, y: t.matmul(x, y), (a, b))


@by_dtype
@pytest.mark.parametrize("sizes", SIZES + EMPTY, ids=str)
def test_equals_torch(backend, sizes, dtype):
    a, b = problem(*sizes, dtype)
    y = backend.matmul(a, b)
    assert y.dtype == dtype
    oracle.assert_close(y, expected(a, b))


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sizes", [((2,), (2,), 9, 17, 33), ((2,), (2,), 1, 33, 20), ((2,), (2,), 40, 33, 1)], ids=str)
def test_takes_any_memory_order(backend, sizes, layout, dtype):
    a, b = problem(*sizes, dtype)
    y = expected(a, b)
    oracle.assert_close(backend.matmul(LAYOUTS[layout](a), LAYOUTS[layout](b)), y)
    turned = [np.ascontiguousarray(np.swapaxes(x, 1, 2)) for x in (a, b)]  # as gradients have them
    oracle.assert_close(backend.matmul(*(np.swapaxes(x, 1, 2) for x in turned)), y)
    oracle.assert_close(backend.matmul(LAYOUTS[layout](a), np.swapaxes(turned[1], 1, 2)), y)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_takes_zero_strides(backend, axis):
    a, b = (stretched(x, axis) for x in problem((3,), (3,), 9, 17, 33))
    oracle.assert_close(backend.matmul(a, b), expected(a, b))


@by_dtype
@pytest.mark.parametrize("sizes", [(9, 300, 33), (3, 17, 40), (600, 5, 3), (70, 20, 1), (1, 20, 70)], ids=str)
def test_a_product_does_not_know_the_others(backend, sizes, dtype):
    m, k, p = sizes
    a, b = problem((13,), (13,), m, k, p, dtype)
    together = backend.matmul(a, b)
    for i in (0, 6, 12):
        oracle.assert_same_bits(backend.matmul(a[i : i + 1], b[i : i + 1]), together[i : i + 1], f"product {i}")
