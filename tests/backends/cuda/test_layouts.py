"""Who multiplies what in a tile: every product of a slice once, and the fragments of mma.sync as PTX has them."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.backends.cuda import launch, layouts, scalars, tiles
from fastconv.backends.cuda.problem import Tile

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
    monkeypatch.setattr(layouts, "memory", scalars._simulated)


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
    monkeypatch.setattr(layouts, "_pack", lambda pairs: None)
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


@pytest.mark.parametrize("compute, tile", FRAGMENTS, ids=str)
def test_fragments_are_those_of_the_ptx_isa(monkeypatch, compute, tile):
    """Each lane's registers are put together to the matrices of an instruction; its product must be the lane's sums."""
    pairs, calls = compute == "bf16", []
    monkeypatch.setattr(layouts, "_pack", lambda _: lambda low, high: (low, high))
    monkeypatch.setattr(layouts, "_multiply_add", lambda _: lambda *registers: calls.append(registers) or (0, 0, 0, 0))
    layout = layouts.layout(np.float32, tile, compute, True)
    rng = np.random.default_rng(0)
    a = rng.integers(-9, 9, (tile.depth, tile.rows + tile.pad)).astype(np.float32)
    b = rng.integers(-9, 9, (tile.depth, tile.columns + tile.pad)).astype(np.float32)
    terms, halves = layout.terms, 2 if pairs else 1
    for warp in {0, 1, tile.threads // 32 - 1}:
        recorded = []
        for lane in range(32):
            calls.clear()
            at_a, at_b = layout.start(np.uint32(32 * warp + lane))
            left, right = np.empty(tile.thread_rows, object), np.empty(tile.thread_columns, object)
            sums = np.zeros((tile.thread_rows, tile.thread_columns))
            layout.multiply(a.reshape(-1), b.reshape(-1), at_a, at_b, left, right, sums)
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
    rounded = np.array([layouts._to_bfloat16(value) for value in values], np.float32)
    np.testing.assert_array_equal(rounded, operand(values, "bf16"))
