"""What the tiles of the CUDA products can reach at most on an H100 or H200, by counting; nothing is run or compiled.

    python -m bench.cuda_limits

A block multiplies a slice of the depth. That takes a multiprocessor so many cycles of arithmetic, and so many of its
shared memory, which moves 32 words a cycle; what takes longer is the limit. Left out is what would make it less:
waiting at barriers, addresses, memory outside. Counted are forward convolutions, whose weights are read 16 bytes at a
time along the depth and whose pixels one by one across it.
``wgmma`` reads shared memory itself: 64 rows and all columns of a tile, each 64 rows again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fastconv.backends.cuda import operands, tiles
from fastconv.backends.cuda.problem import Tile

from . import gpu_layers

# Multiplications and additions a cycle of a multiprocessor, from the data sheet of the H100 SXM: dense FLOP/s over
# 132 multiprocessors, 1.83 GHz (tensor cores) or 1.98 GHz, and 2.
PEAK = {"float32": 128, "float64": 64, "tf32": 1024, "bf16": 2048}
OF_MMA_SYNC = 0.63  # of the tensor cores' peak: Luo et al., Benchmarking and dissecting the Hopper GPU (2024)
BANKS = 32


class Cycles(NamedTuple):
    """What a slice takes of a multiprocessor: arithmetic at its peak and as it is issued, shared memory."""

    peak: float
    arithmetic: float
    reads: float
    writes: float

    @property
    def share(self) -> float:
        """Of the peak of arithmetic, at most."""
        return self.peak / max(self.arithmetic, self.reads + self.writes)

    @property
    def limit(self) -> str:
        return "shared memory" if self.reads + self.writes > self.arithmetic else "arithmetic"


def conflicts(addresses: list[int]) -> int:
    """Return the cycles in which a warp's lanes read or write a word each.

    >>> conflicts(list(range(32))), conflicts([0] * 32), conflicts([32 * i for i in range(32)])
    (1, 1, 32)
    """
    banks: dict[int, set[int]] = {}
    for address in addresses:
        banks.setdefault(address % BANKS, set()).add(address)
    return max(map(len, banks.values()))


def met(rows: int, tile: Tile, words: operands.Words, width: int) -> float:
    """Return how many words of an operand, read along the depth so many numbers at a time, are written to one bank at
    once: the mean over what a thread writes one after the other."""
    lies, lanes, count = operands.sliced(rows, tile, words), tile.depth // width, width // words.each
    written = [
        conflicts([int(lies.place(np.uint32(t % lanes * count + i))) + t // lanes for t in range(32)])
        for i in range(count)
    ]  # fmt: skip
    return sum(written) / count


def cycles(compute: str, tile: Tile, cores: str = "") -> Cycles:
    """Return what a slice of a tile takes; ``cores``: the instruction of tensor cores.

    >>> cycles("float32", Tile(128, 128, 8, 8, 8)).arithmetic
    1024.0
    """
    peak = tile.rows * tile.columns * tile.depth / PEAK[compute]
    warps = tile.threads / 32
    words = operands.Words(np.uint32, 2 if compute == "bf16" else 1, lambda low, high: low, cores)
    wide = 2 if compute == "float64" else 4  # numbers in 16 bytes
    weights, pixels = (size * tile.depth * 4 / wide / words.each / BANKS for size in (tile.rows, tile.columns))
    if cores == "wgmma":  # written without conflicts; each instruction reads 64 rows, and all columns
        reads = tile.rows / 64 * (64 + tile.columns) * tile.depth / words.each / BANKS
        return Cycles(peak, peak, reads, weights + pixels)
    writes = weights * met(tile.rows, tile, words, wide) + pixels
    if cores:
        steps = tile.depth / words.each / operands.WORDS
        reads = steps * warps * (2 * tile.thread_rows + tile.thread_columns)  # registers of a warp: a word of each lane
        return Cycles(peak, peak / OF_MMA_SYNC, reads, writes)
    vector = min(wide, tile.thread_rows, tile.thread_columns)
    reads = tile.depth * warps * (tile.thread_rows + tile.thread_columns) / vector  # 128 bytes or less that differ
    return Cycles(peak, peak, reads, writes)


def lines() -> Iterator[str]:
    yield "| compute | tile | arithmetic | as issued | shared reads | writes | of the peak, at most | limit |"
    yield "|---|---|--:|--:|--:|--:|--:|---|"
    listed = [
        ("float32", "", tiles._TILES[4]), ("float64", "", tiles._TILES[8]),
        *((compute, "mma.sync", entries) for compute, entries in tiles._CORES.items()),
        *((compute, "wgmma", tiles._WARPGROUPS) for compute in tiles._CORES),
    ]  # fmt: skip
    for compute, cores, tile in ((compute, cores, tile) for compute, cores, some in listed for tile, _ in some):
        c, name = cycles(compute, tile, cores), f"{compute} {cores}".strip()
        yield (
            f"| {name} | {tile.rows} x {tile.columns} x {tile.depth} "
            f"| {c.peak:.0f} | {c.arithmetic:.0f} | {c.reads:.0f} | {c.writes:.0f} "
            f"| {100 * c.share:.0f} % | {c.limit} |"
        )


def winograd() -> tuple[int, int]:
    """Return how many layers of shapes/conv.json another library may run by Winograd's algorithm: 3 x 3 (x 3) without
    stride, at least 16 channels a group; and how many there are."""
    layers = gpu_layers.listed("conv.json")
    found = [
        layer for layer in layers
        if set(layer["kernel"]) == {3} and set(layer["stride"]) == {1}
        and min(layer["channels"]) // layer["groups"] >= 16 and len(layer["kernel"]) > 1
    ]  # fmt: skip
    return len(found), len(layers)


def main() -> None:
    print("\n".join(lines()))
    some, every = winograd()
    print(
        f"\n{some} of {every} layers are 3 x 3 without stride: Winograd's algorithm multiplies 2.25 times less there."
    )


if __name__ == "__main__":
    main()
