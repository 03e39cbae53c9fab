"""Single micro-kernels called through the laboratory window, with results that show writes beside them."""

import ctypes

import numpy as np

from fastconv.backends.cpu import _lab

ISAS = {"scalar": 0, "avx2": 1, "avx512": 2, "neon": 3, "avx512_bf16": 4}  # as enum fc_isa counts them
GUARD = 64  # elements of NaN before and after a result
POINTER, SIZE, FLAG, REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_double


def struct(**fields):
    return type("Arguments", (ctypes.Structure,), {"_fields_": list(fields.items())})


ConvTile = struct(
    x=POINTER, pixel=POINTER, tap=POINTER, w=POINTER, wtap=POINTER, bias=POINTER, y=POINTER, ypixel=POINTER,
    pixels=SIZE, listed=SIZE, taps=SIZE, depth=SIZE, columns=SIZE, panel=SIZE, accumulate=FLAG, relu=FLAG,
    warm=FLAG, residual=POINTER, rpixel=POINTER, gate=POINTER, gpixel=POINTER, later=FLAG, source=POINTER,
    spixel=POINTER,
)  # fmt: skip
Map = struct(y=POINTER, x=POINTER * 5, step=SIZE * 5, rows=SIZE, count=SIZE, scalar=REAL * 2, stream=FLAG, kind=FLAG)
Reduce = struct(
    x=POINTER, dy=POINTER, mean=POINTER, first=POINTER, second=POINTER, rows=SIZE, columns=SIZE, ldx=SIZE, lddy=SIZE,
    scale=POINTER, shift=POINTER,
)  # fmt: skip
Moments = struct(
    x=POINTER, start=POINTER, offset=POINTER, square=POINTER, count=SIZE, rows=SIZE, columns=SIZE, ldx=SIZE
)
Normalise = struct(
    y=POINTER, x=POINTER, dy=POINTER, mean=POINTER, scale=POINTER, shift=POINTER, slope=POINTER, rows=SIZE,
    columns=SIZE, ldy=SIZE, ldx=SIZE, lddy=SIZE, stream=FLAG, relu=FLAG, bias=POINTER, residual=POINTER, ldr=SIZE,
    by_row=FLAG,
)  # fmt: skip


def call(kernel: str, isa: str, dtype: type, arguments: ctypes.Structure) -> None:
    """Run a kernel of one instruction set and dtype."""
    _lab.call(kernel, ISAS[isa], int(dtype == np.float64), bytes(arguments))


def run(kernel, isa, dtype, arguments, **values):
    """``call`` with the struct ``arguments`` of these values, arrays by their addresses."""
    call(kernel, isa, dtype, arguments(**{k: v.ctypes.data if isinstance(v, np.ndarray) else v
                                          for k, v in values.items()}))  # fmt: skip


def values(name, shape, dtype, low=-3.0, high=3.0):
    return np.random.default_rng(len(name)).uniform(low, high, shape).astype(dtype)


def close(actual, wanted, dtype):
    scale = max(1.0, float(np.max(np.abs(wanted), initial=0)))
    np.testing.assert_allclose(actual, wanted, rtol=0, atol=64 * np.finfo(dtype).eps * scale)


def guarded(values: np.ndarray, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Return memory with NaN at both ends, and the view of it that holds ``values``."""
    memory = np.full(values.size + 2 * GUARD, np.nan, dtype)
    memory[GUARD : GUARD + values.size] = values.ravel()
    return memory, memory[GUARD : GUARD + values.size].reshape(values.shape)


def edges_untouched(memory: np.ndarray) -> bool:
    """Return whether nothing was written beside the view."""
    return bool(np.isnan(memory[:GUARD]).all() and np.isnan(memory[-GUARD:]).all())
