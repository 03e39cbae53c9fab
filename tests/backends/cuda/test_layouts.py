"""Who multiplies what in a tile: every product of a slice once, and the fragments of mma.sync as PTX has them."""

from __future__ import annotations

import importlib
from pathlib import Path

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
    assert (covered(layouts.layout(np.float32, tile, "float32", False), tile) == 1).all()


@pytest.mark.parametrize("compute, tile", FRAGMENTS, ids=str)
def test_fragments_have_each_element_of_a_tile_once(monkeypatch, compute, tile):
    monkeypatch.setattr(layouts, "_multiply_add", lambda pairs: None)
    assert (covered(layouts.layout(np.float32, tile, compute, True), tile) == 1).all()


def a_place(pairs: bool, lane: int, register: int, half: int) -> tuple[int, int]:
    """Row and k of a number of a, after the tables of the PTX ISA for m16n8k16 and m16n8k8."""
    group, in_group = lane // 4, lane % 4
    row = group + 8 * (register % 2)
    return (row, 2 * in_group + half + 8 * (register // 2)) if pairs else (row, in_group + 4 * (register // 2))


def b_place(pairs: bool, lane: int, register: int, half: int) -> tuple[int, int]:
    """k and column of a number of b."""
    group, in_group = lane // 4, lane % 4
    return (2 * in_group + half + 8 * register, group) if pairs else (in_group + 4 * register, group)


def as_words(slices: np.ndarray, each: int) -> np.ndarray:
    """Slices (k, r) as flat words, of which one holds so many neighbours in k, the first one first."""
    depth, pitch = slices.shape
    words = np.empty((depth // each, pitch), object)
    for k, r in np.ndindex(words.shape):
        words[k, r] = tuple(slices[k * each : (k + 1) * each, r])
    return words.reshape(-1)


@pytest.mark.parametrize("compute, tile", FRAGMENTS, ids=str)
def test_fragments_are_those_of_the_ptx_isa(monkeypatch, compute, tile):
    """Each lane's registers are put together to the matrices of an instruction; its product must be the lane's sums."""
    pairs, calls = compute == "bf16", []
    monkeypatch.setattr(layouts, "_multiply_add", lambda _: lambda *registers: calls.append(registers) or (0, 0, 0, 0))
    layout = layouts.layout(np.float32, tile, compute, True)
    rng = np.random.default_rng(0)
    a = rng.integers(-9, 9, (tile.depth, tile.rows + tile.pad)).astype(np.float32)
    b = rng.integers(-9, 9, (tile.depth, tile.columns + tile.pad)).astype(np.float32)
    halves = 2 if pairs else 1
    terms = halves * layout.terms
    words_a, words_b = (as_words(slices, halves) for slices in (a, b))
    for warp in {0, 1, tile.threads // 32 - 1}:
        recorded = []
        for lane in range(32):
            calls.clear()
            at_a, at_b = layout.start(np.uint32(32 * warp + lane))
            left, right = np.empty(tile.thread_rows, object), np.empty(tile.thread_columns, object)
            sums = np.zeros((tile.thread_rows, tile.thread_columns))
            layout.multiply(words_a, words_b, at_a, at_b, left, right, sums)
            recorded.append(list(calls))
        for number in range(tile.thread_rows * tile.thread_columns // 4):
            i, j = 2 * (number // (tile.thread_columns // 2)), 2 * (number % (tile.thread_columns // 2))
            matrix_a, matrix_b = np.full((16, terms), np.nan), np.full((terms, 8), np.nan)
            for lane in range(32):
                for half in range(halves):
                    for register in range(4):
                        matrix_a[a_place(pairs, lane, register, half)] = recorded[lane][number][register][half]
                    for register in range(2):
                        matrix_b[b_place(pairs, lane, register, half)] = recorded[lane][number][4 + register][half]
            product = matrix_a @ matrix_b
            for lane in range(32):
                row, column = layout.place(np.uint32(32 * warp + lane))
                for c in range(4):
                    of_a = a[:terms, int(row) + int(layout.row_step(i + c // 2))]
                    of_b = b[:terms, int(column) + int(layout.column_step(j + c % 2))]
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
    shared = np.full(tile.depth // each * (extent.rows + tile.pad), None, object)
    stride, between, count = np.uint32(48), np.uint32(5 * 42), np.uint32(76)
    for t in map(np.uint32, range(tile.threads)):
        held, origins = np.zeros(load.held, np.float32), np.zeros(load.origins, np.uint64)
        state, first = np.zeros(load.state, np.int32), np.uint32(4)
        load.hoist(array, np.uint64(0), stride, between, table, p, first, count, t, origins, state)
        load.fetch(array, stride, between, table, p, np.uint32(start), np.uint32(end), t, origins, state, held)
        load.put(shared, load.slot(t), t, held)
    return shared.reshape(tile.depth // each, -1)[:, : extent.rows]


@pytest.mark.parametrize("tile", [tile for compute, tile in FRAGMENTS if compute == "bf16"], ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_word_of_bfloat16_has_two_neighbours_of_the_depth(kind, tile):
    """Against the same loader without words, which products in the simulator try. An odd end cuts a word in two."""
    one = operands.Words(np.float32, 1, lambda low, high: low)
    pairs = operands.Words(np.uint32, 2, lambda low, high: (low, high))
    with np.errstate(over="ignore"):
        for rows in {tile.rows, tile.columns}:
            numbers = brought(kind, loaders.Extent(rows, tile, np.float32, one), 16, 27)
            words = brought(kind, loaders.Extent(rows, tile, np.float32, pairs), 16, 27)
            assert not any(value is None for value in words.reshape(-1))
            assert any(high for _, high in words.reshape(-1))
            for k, r in np.ndindex(words.shape):
                assert words[k, r] == (numbers[2 * k, r], numbers[2 * k + 1, r])


@pytest.mark.parametrize("tile", [tile for _, tile in FRAGMENTS], ids=str)
def test_fragments_are_read_from_32_banks(tile):
    """The lanes of a warp that read one register of an operand: four elements of the depth by eight rows."""
    for extent in (tile.rows, tile.columns):
        pitch = extent + tile.pad
        assert len({(k * pitch + row) % 32 for k in range(4) for row in range(8)}) == 32


@pytest.mark.parametrize("compute, tile", FRAGMENTS, ids=str)
def test_the_limits_of_the_guide_count_what_kernels_read_and_write(monkeypatch, compute, tile):
    tree = Path(__file__).parents[3]
    if not (tree / "bench" / "cuda_limits.py").is_file():
        pytest.skip("the source tree is not here")
    monkeypatch.syspath_prepend(str(tree))
    limits = importlib.import_module("bench.cuda_limits")
    each, read = 2 if compute == "bf16" else 1, []
    counted = scalars._simulated(np.uint32, 1)._replace(load=lambda *_: read.append(1) or 0)
    monkeypatch.setattr(layouts, "memory", lambda *_: counted)
    monkeypatch.setattr(layouts, "_multiply_add", lambda _: lambda *registers: (0, 0, 0, 0))
    layout = layouts.layout(np.float32, tile, compute, True)
    left, right = np.empty(tile.thread_rows, object), np.empty(tile.thread_columns, object)
    sums = np.zeros((tile.thread_rows, tile.thread_columns))
    layout.multiply(None, None, np.uint32(0), np.uint32(0), left, right, sums)
    slices = tile.depth // each // layout.terms
    assert limits.cycles(compute, tile).reads == len(read) * slices * tile.threads / 32
    words = operands.Words(np.uint32, each, lambda low, high: low)
    written = 0
    for rows, kind in ((tile.rows, ("rows", 4, False)), (tile.columns, ("pixels", 2))):
        load, stores = loaders.loader(kind, loaders.Extent(rows, tile, np.float32, words)), []
        for t in range(tile.threads):
            shared = {}
            load.put(shared, load.slot(np.uint32(t)), np.uint32(t), np.zeros(load.held, np.float32))
            stores.append(list(shared))
        for warp in range(0, tile.threads, 32):
            written += sum(map(limits.conflicts, zip(*stores[warp : warp + 32], strict=True)))
    assert limits.cycles(compute, tile).writes == written
