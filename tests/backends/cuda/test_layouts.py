"""Who multiplies what in a tile: every product of a slice once, and the fragments of mma.sync as PTX has them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastconv.backends.cuda import launch, layouts, loaders, operands, scalars, tiles, windows
from fastconv.backends.cuda.problem import Tile, problem
from fastconv.geometry import conv_geometry

LANES = [tile for entries in tiles._TILES.values() for tile, _ in entries] + [tile for tile, _ in tiles._SIMULATED]
FRAGMENTS = [(compute, tile) for compute, entries in tiles._CORES.items() for tile, _ in entries]


class Device:
    """A machine whose kernels are plain Python."""

    simulated = False
    capability = (9, 0)

    def inline(self, function):
        return function


@pytest.fixture(autouse=True)
def plain_python(monkeypatch):
    monkeypatch.setattr(launch, "machine", Device)
    monkeypatch.setattr(launch, "inline", lambda function: function)
    for module in (layouts, loaders):
        monkeypatch.setattr(module, "memory", scalars._simulated)


def words_of(compute: str) -> operands.Words:
    """The words of tensor cores, as tuples of numbers."""
    if compute == "bf16":
        return operands.Words(np.uint32, 2, lambda low, high: (low, high), True)
    return operands.Words(np.uint32, 1, lambda low, high: (low,), True)


def lying(tile: Tile, words: operands.Words) -> tuple[operands.Slice, operands.Slice]:
    return operands.sliced(tile.rows, tile, words), operands.sliced(tile.columns, tile, words)


NUMBERS = operands.Words(np.float32, 1, lambda low, high: low)


def covered(layout: layouts.Layout, tile: Tile) -> np.ndarray:
    """How often each element of the tile is a thread's."""
    count = np.zeros((tile.rows, tile.columns), int)
    for t in range(tile.threads):
        row, column = layout.place(np.uint32(t))
        rows = [int(row) + int(layout.row_step(i)) for i in range(tile.thread_rows)]
        columns = [int(column) + int(layout.column_step(j)) for j in range(tile.thread_columns)]
        count[np.ix_(rows, columns)] += 1
    return count


@pytest.mark.parametrize("tile", LANES, ids=str)
def test_lanes_have_each_element_of_a_tile_once(tile):
    layout = layouts.layout(np.float32, tile, "float32", *lying(tile, NUMBERS))
    assert (covered(layout, tile) == 1).all()


@pytest.mark.parametrize("compute, tile", FRAGMENTS, ids=str)
def test_fragments_have_each_element_of_a_tile_once(monkeypatch, compute, tile):
    monkeypatch.setattr(layouts, "_multiply_add", lambda pairs: None)
    layout = layouts.layout(np.float32, tile, compute, *lying(tile, words_of(compute)))
    assert (covered(layout, tile) == 1).all()


def a_place(pairs: bool, lane: int, register: int, half: int) -> tuple[int, int]:
    """Row and k of a number of a, after the tables of the PTX ISA for m16n8k16 and m16n8k8."""
    group, in_group = lane // 4, lane % 4
    row = group + 8 * (register % 2)
    return (row, 2 * in_group + half + 8 * (register // 2)) if pairs else (row, in_group + 4 * (register // 2))


def b_place(pairs: bool, lane: int, register: int, half: int) -> tuple[int, int]:
    """k and column of a number of b."""
    group, in_group = lane // 4, lane % 4
    return (2 * in_group + half + 8 * register, group) if pairs else (in_group + 4 * register, group)


def as_words(numbers: np.ndarray, each: int, lies: operands.Slice) -> np.ndarray:
    """Numbers (k, r) as words in a slice, of which one holds so many neighbours in k, the first one first."""
    depth, rows = numbers.shape
    words = np.full(lies.size, None, object)
    for k, r in np.ndindex(depth // each, rows):
        at = int(lies.place(np.uint32(k))) + r
        assert words[at] is None
        words[at] = tuple(numbers[k * each : (k + 1) * each, r])
    return words


def instructions(layout: layouts.Layout, tile: Tile, lies: tuple, thread: int, a: Any, b: Any) -> None:
    """Let a thread multiply a slice."""
    at_a, at_b = (int(at) for at in layout.start(np.uint32(thread)))
    left, right = np.empty(tile.thread_rows, object), np.empty(tile.thread_columns, object)
    sums = np.zeros((tile.thread_rows, tile.thread_columns))
    for step in range(lies[0].size // lies[0].step):
        places = (np.uint32(at + step * one.step) for at, one in zip((at_a, at_b), lies, strict=True))
        layout.multiply(a, b, *places, left, right, sums)


@pytest.mark.parametrize("compute, tile", FRAGMENTS, ids=str)
def test_fragments_are_those_of_the_ptx_isa(monkeypatch, compute, tile):
    """Each lane's registers are put together to the matrices of an instruction; its product must be the lane's sums."""
    pairs, calls = compute == "bf16", []
    monkeypatch.setattr(layouts, "_multiply_add", lambda _: lambda *registers: calls.append(registers) or (0, 0, 0, 0))
    words = words_of(compute)
    halves, terms = words.each, words.each * operands.WORDS
    lies = lying(tile, words)
    layout = layouts.layout(np.float32, tile, compute, *lies)
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-9, 9, (tile.depth, size)).astype(np.float32) for size in (tile.rows, tile.columns))
    slices = [as_words(numbers, halves, one) for numbers, one in zip((a, b), lies, strict=True)]
    count = tile.thread_rows * tile.thread_columns // 4  # instructions of a step
    for warp in {0, 1, tile.threads // 32 - 1}:
        recorded = []
        for lane in range(32):
            calls.clear()
            instructions(layout, tile, lies, 32 * warp + lane, *slices)
            recorded.append(list(calls))
        assert len(recorded[0]) == count * tile.depth // terms
        for number in range(count):
            i, j = 2 * (number // (tile.thread_columns // 2)), 2 * (number % (tile.thread_columns // 2))
            product = np.zeros((16, 8))
            for call in range(number, len(recorded[0]), count):
                matrix_a, matrix_b = np.full((16, terms), np.nan), np.full((terms, 8), np.nan)
                for lane in range(32):
                    for half in range(halves):
                        for register in range(4):
                            matrix_a[a_place(pairs, lane, register, half)] = recorded[lane][call][register][half]
                        for register in range(2):
                            matrix_b[b_place(pairs, lane, register, half)] = recorded[lane][call][4 + register][half]
                product += matrix_a @ matrix_b
            for lane in range(32):
                row, column = layout.place(np.uint32(32 * warp + lane))
                for c in range(4):
                    of_a = a[:, int(row) + int(layout.row_step(i + c // 2))]
                    of_b = b[:, int(column) + int(layout.column_step(j + c % 2))]
                    assert product[lane // 4 + 8 * (c // 2), 2 * (lane % 4) + c % 2] == of_a @ of_b


def test_numbers_are_rounded_to_bfloat16_as_in_the_reference():
    from fastconv.backends.reference.wide import operand

    values = np.random.default_rng(1).standard_normal(200).astype(np.float32)
    values = np.concatenate([values, np.float32([0, -0.0, np.inf, -np.inf, np.nan, 1 + 2**-8, 1 + 3 * 2**-8])])
    rounded = np.array([operands.to_bfloat16(value) for value in values], np.float32)
    np.testing.assert_array_equal(rounded, operand(values, "bf16"))


GEOMETRY = conv_geometry("conv2d", 2, (2, 5, 6, 7), (4, 5, 3, 3), padding=1)
KINDS = [
    ("rows", 4, False), ("rows", 1, False), ("rows", 4, True), ("rows", 1, True),
    ("columns", 4, False), ("columns", 1, False), ("columns", 4, True), ("columns", 1, True),
    ("pixels", 2), ("pixels", 0), ("taps", 2), ("taps", 3),
]  # fmt: skip


def brought(kind: tuple, extent: loaders.Extent, start: int, end: int) -> np.ndarray:
    """A slice of the depth as all threads of a block leave it in shared memory: elements by rows."""
    tile, each, axes = extent.tile, extent.words.each, windows.forward_axes(GEOMETRY)
    array = np.random.default_rng(0).standard_normal(1 << 15).astype(np.float32)
    table = loaders.tap_table(*windows.taps(axes, 5), 256).reshape(-1)
    image = {"image": 40} if kind[0] in ("rows", "columns") else {}
    p = problem(**windows.numbers(axes) | image)
    load = loaders.loader(kind, extent)
    lies = extent.slice
    shared = np.full(lies.size, None, object)
    stride, between, count = np.uint32(48), np.uint32(5 * 42), np.uint32(76)
    for t in map(np.uint32, range(tile.threads)):
        held, origins = np.zeros(load.held, np.float32), np.zeros(load.origins, np.uint64)
        state, first = np.zeros(load.state, np.int32), np.uint32(4)
        load.hoist(array, np.uint64(0), stride, between, table, p, first, count, t, origins, state)
        load.fetch(array, stride, between, table, p, np.uint32(start), np.uint32(end), t, origins, state, held)
        load.put(shared, load.slot(t), t, held)
    found = np.empty((tile.depth // each, extent.rows), object)
    for k in range(len(found)):
        found[k] = shared[int(lies.place(np.uint32(k))) :][: extent.rows]
        shared[int(lies.place(np.uint32(k))) :][: extent.rows] = None
    assert all(value is None for value in shared)  # what lies between is never written
    return found


@pytest.mark.parametrize("compute, tile", FRAGMENTS, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_word_has_neighbours_of_the_depth(kind, compute, tile):
    """Against the same loader without words, which products in the simulator try. An odd end cuts a word in two."""
    each = words_of(compute).each
    with np.errstate(over="ignore"):
        for rows in {tile.rows, tile.columns}:
            numbers = brought(kind, loaders.Extent(rows, tile, np.float32, NUMBERS), 16, 27)
            words = brought(kind, loaders.Extent(rows, tile, np.float32, words_of(compute)), 16, 27)
            assert not any(value is None for value in words.reshape(-1))
            assert any(word[-1] for word in words.reshape(-1))
            for k, r in np.ndindex(words.shape):
                assert words[k, r] == tuple(numbers[each * k : each * (k + 1), r])


def busy(accesses: list[list[int]], together: int = 1) -> int:
    """Return the cycles of shared memory in which a warp's lanes read or write the same number of words each, so many
    side by side; what one lane does ``together`` is done with 32 / together lanes at a time."""
    cycles, lanes = 0, 32 // together
    assert len({len(places) for places in accesses}) == 1
    for first in range(0, len(accesses[0]), together):
        for some in range(0, 32, lanes):
            places = {place for lane in accesses[some : some + lanes] for place in lane[first : first + together]}
            cycles += max(np.bincount([place % 32 for place in places]))
    return cycles


def cycles_of_reads(monkeypatch, compute: str, tile: Tile) -> tuple[int, int]:
    """The cycles in which a block's slice is read, and how many there are where banks never meet."""
    places: list[int] = []
    memory = scalars._simulated(np.uint32, 1)
    noted = memory._replace(load=lambda array, base, offset: places.append(int(base) + int(offset)) or 0)
    monkeypatch.setattr(layouts, "memory", lambda *_: noted)
    monkeypatch.setattr(layouts, "_multiply_add", lambda _: lambda *registers: (0, 0, 0, 0))
    lies = lying(tile, words_of(compute))
    layout, found, least = layouts.layout(np.float32, tile, compute, *lies), 0, 0
    for warp in range(0, tile.threads, 32):
        lanes = []
        for lane in range(32):
            places.clear()
            instructions(layout, tile, lies, warp + lane, None, None)
            lanes.append(list(places))
        found, least = found + busy(lanes), least + len(places)
    return found, least


def cycles_of_writes(kind: tuple, rows: int, compute: str, tile: Tile) -> tuple[int, int]:
    """The cycles in which a block writes a slice of one operand, and the least in which so many words can be."""
    load = loaders.loader(kind, loaders.Extent(rows, tile, np.float32, words_of(compute)))
    together = kind[1] if kind[0] == "columns" else 1
    found, words = 0, 0
    for warp in range(0, tile.threads, 32):
        lanes = []
        for t in map(np.uint32, range(warp, warp + 32)):
            shared: dict[int, Any] = {}
            load.put(shared, load.slot(t), t, np.zeros(load.held, np.float32))
            lanes.append([int(place) for place in shared])
        found, words = found + busy(lanes, together), words + sum(map(len, lanes))
    assert words == rows * tile.depth // words_of(compute).each
    return found, words // 32


@pytest.mark.parametrize("compute, tile", FRAGMENTS, ids=str)
def test_fragments_are_read_from_32_banks(monkeypatch, compute, tile):
    found, least = cycles_of_reads(monkeypatch, compute, tile)
    assert found == least > 0


@pytest.mark.parametrize("compute, tile", FRAGMENTS, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_words_are_written_to_32_banks(kind, compute, tile):
    for rows in {tile.rows, tile.columns}:
        found, least = cycles_of_writes(kind, rows, compute, tile)
        assert found == least > 0


@pytest.mark.parametrize("compute, tile", FRAGMENTS, ids=str)
def test_the_limits_of_the_guide_count_what_kernels_read_and_write(monkeypatch, compute, tile):
    tree = Path(__file__).parents[3]
    if not (tree / "bench" / "cuda_limits.py").is_file():
        pytest.skip("the source tree is not here")
    monkeypatch.syspath_prepend(str(tree))
    limits = importlib.import_module("bench.cuda_limits")
    counted = limits.cycles(compute, tile)
    assert counted.reads == cycles_of_reads(monkeypatch, compute, tile)[0]
    both = (("rows", 4, False), tile.rows), (("pixels", 2), tile.columns)
    assert counted.writes == sum(cycles_of_writes(*one, compute, tile)[0] for one in both)
