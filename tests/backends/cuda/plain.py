"""Kernels' functions as plain Python: what the threads of a block leave in shared memory, and in how many cycles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

from fastconv import config
from fastconv.backends.cuda import launch, layouts, loaders, operands, scalars, tiles, ways, windows
from fastconv.backends.cuda.problem import Tile, problem
from fastconv.geometry import conv_geometry

once = pytest.mark.skipif(config.cuda_simulated(), reason="plain Python: the same without the simulator")


class Case(NamedTuple):
    """A tile of tensor cores."""

    compute: str
    cores: str
    tile: Tile


FRAGMENTS = [Case(compute, "mma.sync", tile) for compute, entries in tiles._CORES.items() for tile, _ in entries]
WARPGROUPS = [Case(compute, "wgmma", tile) for compute in tiles._CORES for tile, _ in tiles._WARPGROUPS]


class Device:
    """A machine whose kernels are plain Python."""

    simulated = False
    capability = (9, 0)

    def inline(self, function):
        return function


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let kernels' functions be plain Python until a test's end."""
    monkeypatch.setattr(launch, "machine", Device)
    monkeypatch.setattr(launch, "inline", lambda function: function)
    for module in (layouts, loaders, ways):
        monkeypatch.setattr(module, "memory", scalars._simulated)


def words_of(compute: str, cores: str = "mma.sync") -> operands.Words:
    """The words of tensor cores, as tuples of numbers."""
    if compute == "bf16":
        return operands.Words(np.uint32, 2, lambda low, high: (low, high), cores)
    return operands.Words(np.uint32, 1, lambda low, high: (low,), cores)


def lying(tile: Tile, words: operands.Words) -> tuple[operands.Slice, operands.Slice]:
    return operands.sliced(tile.rows, tile, words), operands.sliced(tile.columns, tile, words)


NUMBERS = operands.Words(np.float32, 1, lambda low, high: low)


GEOMETRY = conv_geometry("conv2d", 2, (2, 5, 6, 7), (4, 5, 3, 3), padding=1)
KINDS = [
    ("rows", 4, False), ("rows", 1, False), ("rows", 4, True), ("rows", 1, True),
    ("columns", 4, False), ("columns", 1, False), ("columns", 4, True), ("columns", 1, True),
    ("pixels", 2), ("pixels", 0), ("taps", 2), ("taps", 3),
]  # fmt: skip


def written(kind: tuple, extent: ways.Extent, start: int, end: int, count: int = 76, at: int = 0) -> np.ndarray:
    """What all threads of a block leave in shared memory of a slice of the depth, from a place on, of ``count`` rows in
    all. Numbers are whole: their products and sums are exact."""
    tile, axes = extent.tile, windows.forward_axes(GEOMETRY)
    array = np.random.default_rng(0).integers(-5000, 5000, 1 << 15).astype(np.float32)
    table = loaders.tap_table(*windows.taps(axes, 30), 512).reshape(-1)
    image = {"image": 40} if kind[0] in ("rows", "columns") else {}
    p = problem(**windows.numbers(axes) | image)
    load = loaders.loader(kind, extent)
    shared = np.full(at + extent.slice.size, None, object)
    stride, between, count = np.uint32(48), np.uint32(5 * 42), np.uint32(count)
    for t in map(np.uint32, range(tile.threads)):
        held, origins = np.zeros(load.held, np.float32), np.zeros(load.origins, np.uint64)
        state, first = np.zeros(load.state, np.int32), np.uint32(4)
        load.hoist(array, np.uint64(0), stride, between, table, p, first, count, t, origins, state)
        load.fetch(array, stride, between, table, p, np.uint32(start), np.uint32(end), t, origins, state, held)
        load.put(shared, np.uint32(load.slot(t) + np.uint32(at)), t, held)
    return shared


def brought(kind: tuple, extent: ways.Extent, start: int, end: int, count: int = 76) -> np.ndarray:
    """A slice of the depth as all threads of a block leave it in shared memory: elements by rows."""
    shared, lies, each = written(kind, extent, start, end, count), extent.slice, extent.words.each
    found = np.empty((extent.tile.depth // each, extent.rows), object)
    for k in range(len(found)):
        for m in map(np.uint32, range(extent.rows)):
            place = int(lies.place(np.uint32(k))) + int(m) * lies.across
            found[k, int(lies.row(m))], shared[place] = shared[place], None
    assert all(value is None for value in shared)  # what lies between is never written
    return found


def busy(accesses: Sequence[Sequence[range]]) -> int:
    """Return the cycles of shared memory in which a warp's lanes read or write, each so many words side by side at a
    time: of four words, eight lanes are served together."""
    cycles = 0
    for together in zip(*accesses, strict=True):
        (width,) = {len(places) for places in together}
        lanes = 32 // width
        for first in range(0, 32, lanes):
            places = {place for some in together[first : first + lanes] for place in some}
            cycles += max(np.bincount([place % 32 for place in places]))
    return cycles


def cycles_of_writes(monkeypatch: pytest.MonkeyPatch, kind: tuple, rows: int, case: Case) -> tuple[int, int]:
    """The cycles in which a block writes a slice of one operand, and the least in which so many words can be."""
    places: list[range] = []

    def noting(dtype: type, width: int) -> scalars.Memory:
        def store(array: Any, base: Any, offset: Any, value: Any) -> None:
            places.append(range(int(base) + int(offset), int(base) + int(offset) + width))

        return scalars._simulated(dtype, width)._replace(store=store)

    with monkeypatch.context() as patch:
        patch.setattr(ways, "memory", noting)
        words = words_of(case.compute, case.cores)
        load = loaders.loader(kind, ways.Extent(rows, case.tile, np.float32, words))
        cycles = count = 0
        for warp in range(0, case.tile.threads, 32):
            lanes = []
            for t in map(np.uint32, range(warp, warp + 32)):
                places.clear()
                load.put(None, load.slot(t), t, np.zeros(load.held, np.float32))
                lanes.append(list(places))
            cycles, count = cycles + busy(lanes), count + sum(len(some) for lane in lanes for some in lane)
    assert count == rows * case.tile.depth // words.each
    return cycles, count // 32
