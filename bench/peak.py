"""What this machine can do at most: multiply-adds from the nearest cache, and bytes of a copy, by number of threads.

    python -m bench.peak

The arithmetic is the product's own convolution micro-kernel on operands of a few KB (written to run at the processor's
rate), one Python thread a core, each call some milliseconds without the interpreter's lock. The copy is PyTorch's, of
arrays beyond all caches; a byte read and a byte written count two.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import numpy as np

import fastconv
from fastconv import config
from fastconv.backends.cpu import _lab, isa

from . import machine

COPY_BYTES = 256 << 20
_POINTERS = ("x", "pixel", "tap", "w", "wtap", "bias", "y", "ypixel")
_SIZES = ("pixels", "listed", "taps", "depth", "columns", "panel")


class ConvTile(ctypes.Structure):  # fc_conv_tile
    _fields_ = (
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, ctypes.c_int32) for name in ("accumulate", "relu", "warm")),
        *((name, ctypes.c_void_p) for name in ("residual", "rpixel", "gate", "gpixel")),
        ("later", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("source", "spixel")),
    )


def products(depth: int = 64, tiles: int = 1200) -> tuple[Callable[[], None], float]:
    """Return a call of the micro-kernel whose operands stay in the nearest cache, and its FLOPs."""
    code = config.ISAS.index(isa())
    nr, columns, rows = _lab.block_sizes(code, 0)[2], _lab.widest(code, 0), 24  # whole register tiles of each kind
    x, w = np.ones((rows, depth), np.float32), np.ones((columns // nr, depth, nr), np.float32)
    y = np.empty((rows, columns), np.float32)
    pixel = np.tile(np.arange(rows, dtype=np.int64) * depth, tiles)
    ypixel = np.tile(np.arange(rows, dtype=np.int64) * columns, tiles)
    tap = np.zeros(1, np.int64)
    arrays = {"x": x, "pixel": pixel, "tap": tap, "w": w, "wtap": tap, "y": y, "ypixel": ypixel}
    pointers = {name: array.ctypes.data for name, array in arrays.items()}
    sizes = {"pixels": len(pixel), "listed": 0, "taps": 1, "depth": depth, "columns": columns, "panel": depth * nr}
    arguments = bytes(ConvTile(**pointers, **sizes))

    def call(_keep: object = arrays) -> None:
        _lab.call("conv_tile", code, 0, arguments)

    call()
    if not np.all(y == depth):
        raise SystemExit("peak: the micro-kernel did not add what it was given")
    return call, 2.0 * len(pixel) * depth * columns


def arithmetic(threads: int, calls: int = 20) -> float:
    """Return GFLOP/s of so many threads together."""
    prepared = [products() for _ in range(threads)]

    def work(index: int) -> None:
        for _ in range(calls):
            prepared[index][0]()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
        began = time.perf_counter()
        list(pool.map(work, range(threads)))
        return threads * calls * prepared[0][1] / (time.perf_counter() - began) / 1e9


def bandwidth(threads: int) -> float:
    """Return GB/s of one copy, read and written bytes together."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    source = torch.ones(COPY_BYTES // 8)
    target = torch.empty_like(source)
    target.copy_(source)
    began = time.perf_counter()
    target.copy_(source)
    taken = time.perf_counter() - began
    torch.set_num_threads(before)
    return COPY_BYTES / taken / 1e9


def measure(threads: int, rounds: int = 9) -> dict[str, float]:
    """Return medians: GFLOP/s and GB/s."""
    pairs = [(arithmetic(threads), bandwidth(threads)) for _ in range(rounds)]
    flops, copied = zip(*pairs, strict=True)
    return {"gflops": median(flops), "gigabytes": median(copied)}


def main() -> None:
    parser = argparse.ArgumentParser(description="The machine's limits: multiply-adds and copied bytes a second.")
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, fastconv.get_num_threads()}))
    parser.add_argument("--rounds", type=int, default=9)
    machine.add_results_option(parser)
    options = parser.parse_args()
    limits = {str(threads): measure(threads, options.rounds) for threads in options.threads}
    machine.save("peak", {"limits": limits}, options.results)
    print("| threads | multiply-adds, GFLOP/s | copy, GB/s |\n|---|---|---|")
    for threads, limit in limits.items():
        print(f"| {threads} | {limit['gflops']:.0f} | {limit['gigabytes']:.0f} |")


if __name__ == "__main__":
    main()
