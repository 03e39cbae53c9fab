"""Who multiplies what in a tile: every product of a slice once, and the fragments of mma.sync as PTX has them. What
slices hold, and in how many cycles they are written, of ``wgmma`` too, whose instruction is in test_warpgroups.py."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain import FRAGMENTS, KINDS, NUMBERS, WARPGROUPS, brought, busy, cycles_of_writes, install, lying, once, words_of

from fastconv.backends.cuda import layouts, operands, scalars, tiles, ways
from fastconv.backends.cuda.problem import Tile

pytestmark = once
LANES = [tile for entries in tiles._TILES.values() for tile, _ in entries] + [tile for tile, _ in tiles._SIMULATED]
by_fragments = pytest.mark.parametrize("case", FRAGMENTS, ids=str)
by_cores = pytest.mark.parametrize("case", FRAGMENTS + WARPGROUPS, ids=str)


@pytest.fixture(autouse=True)
def plain_python(monkeypatch):
    install(monkeypatch)


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


@by_fragments
def test_fragments_have_each_element_of_a_tile_once(monkeypatch, case):
    compute, _, tile = case
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


@by_fragments
def test_fragments_are_those_of_the_ptx_isa(monkeypatch, case):
    """Each lane's registers are put together to the matrices of an instruction; its product must be the lane's sums."""
    compute, _, tile = case
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


@by_cores
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_word_has_neighbours_of_the_depth(kind, case):
    """Against the same loader without words, which products in the simulator try. An odd end cuts a word in two."""
    (compute, cores, tile), each = case, words_of(case.compute).each
    with np.errstate(over="ignore"):
        for rows in {tile.rows, tile.columns}:
            numbers = brought(kind, ways.Extent(rows, tile, np.float32, NUMBERS), 16, 27)
            words = brought(kind, ways.Extent(rows, tile, np.float32, words_of(compute, cores)), 16, 27)
            assert not any(value is None for value in words.reshape(-1))
            assert any(word[-1] for word in words.reshape(-1))
            for k, r in np.ndindex(words.shape):
                assert words[k, r] == tuple(numbers[each * k : each * (k + 1), r])


def cycles_of_reads(monkeypatch, compute: str, tile: Tile) -> tuple[int, int]:
    """The cycles in which a block's slice is read, and how many there are where banks never meet."""
    places: list[range] = []
    memory = scalars._simulated(np.uint32, 1)

    def load(array: Any, base: Any, offset: Any) -> int:
        places.append(range(int(base) + int(offset), int(base) + int(offset) + 1))
        return 0

    noted = memory._replace(load=load)
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


@by_fragments
def test_fragments_are_read_from_32_banks(monkeypatch, case):
    found, least = cycles_of_reads(monkeypatch, case.compute, case.tile)
    assert found == least > 0


@by_cores
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_words_are_written_to_32_banks(monkeypatch, kind, case):
    for rows in {case.tile.rows, case.tile.columns}:
        found, least = cycles_of_writes(monkeypatch, kind, rows, case)
        assert found == least > 0


@by_cores
def test_the_limits_of_the_guide_count_what_kernels_read_and_write(monkeypatch, case):
    tree = Path(__file__).parents[3]
    if not (tree / "bench" / "cuda_limits.py").is_file():
        pytest.skip("the source tree is not here")
    monkeypatch.syspath_prepend(str(tree))
    limits = importlib.import_module("bench.cuda_limits")
    counted = limits.cycles(case.compute, case.tile, case.cores)
    both = (("rows", 4, False), case.tile.rows), (("pixels", 2), case.tile.columns)
    assert counted.writes == sum(cycles_of_writes(monkeypatch, *one, case)[0] for one in both)
    if case.cores == "mma.sync":
        assert counted.reads == cycles_of_reads(monkeypatch, case.compute, case.tile)[0]
    else:  # each 64 rows and all columns, 32 words a cycle
        words = case.tile.depth // words_of(case.compute).each
        assert counted.reads == case.tile.rows / 64 * (64 + case.tile.columns) * words / 32
