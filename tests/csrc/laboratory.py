"""Single micro-kernels called through the laboratory window, with results that show writes beside them."""

import ctypes

import numpy as np

from fastconv.backends.cpu import _lab

ISAS = {"scalar": 0, "avx2": 1, "avx512": 2, "neon": 3, "avx512_bf16": 4}  # as enum fc_isa counts them
GUARD = 64  # elements of NaN before and after a result


def call(kernel: str, isa: str, dtype: type, arguments: ctypes.Structure) -> None:
    """Run a kernel of one instruction set and dtype."""
    _lab.call(kernel, ISAS[isa], int(dtype == np.float64), bytes(arguments))


def guarded(values: np.ndarray, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Return memory with NaN at both ends, and the view of it that holds ``values``."""
    memory = np.full(values.size + 2 * GUARD, np.nan, dtype)
    memory[GUARD : GUARD + values.size] = values.ravel()
    return memory, memory[GUARD : GUARD + values.size].reshape(values.shape)


def edges_untouched(memory: np.ndarray) -> bool:
    """Return whether nothing was written beside the view."""
    return bool(np.isnan(memory[:GUARD]).all() and np.isnan(memory[-GUARD:]).all())
