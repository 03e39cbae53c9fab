"""Products of matrices: the same bits on any number of threads, and from numbers that lie otherwise."""

import numpy as np
import oracle
import pytest
from layouts import DTYPES, LAYOUTS, normal

runtime = pytest.importorskip("fastconv.backends.cpu.runtime", reason="the compiled backend is not built")

from fastconv import backends  # noqa: E402


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "sizes", [(1, 700, 300, 70), (2, 9, 513, 33), (40, 5, 6, 7), (3, 1, 600, 200), (3, 200, 600, 1)]
)
def test_threads_and_memory_order_change_no_bit(isa, sizes, dtype):
    n, m, k, p = sizes
    a, b = normal("a", (n, m, k), dtype), normal("b", (n, k, p), dtype)
    cpu, before, results = backends.get("cpu"), runtime.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            runtime.set_num_threads(threads)
            results.append(cpu.matmul(a, b))
    finally:
        runtime.set_num_threads(before)
    results += [cpu.matmul(LAYOUTS["fortran"](a), b), cpu.matmul(a, LAYOUTS["every_other"](b))]
    for other in results[1:]:
        oracle.assert_same_bits(other, results[0])
    assert np.isfinite(results[0]).all()
