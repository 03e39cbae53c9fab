"""``wgmma`` as the PTX ISA states it: a model that decodes descriptors, reads core matrices and hands out accumulators,
driven by the functions and the PTX that kernels are made of, from what loaders leave in shared memory."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pytest
from plain import KINDS, NUMBERS, WARPGROUPS, Case, brought, install, lying, once, words_of, written

from fastconv.backends.cuda import layouts, operands, tiles, warpgroups, ways, windows

pytestmark = once

by_case = pytest.mark.parametrize("case", WARPGROUPS, ids=str)
by_kind = pytest.mark.parametrize("kind", KINDS, ids=str)
SHARED = 48 << 10  # bytes that a kernel may have without asking
WHERE = {"a": 0x1000, "b": 0x1000 + SHARED // 2}  # where the slices of an operand begin in shared memory


# --------------------------------------------------------------------------------------- the instruction


class Descriptor(NamedTuple):
    """A matrix descriptor's fields; addresses and distances in bytes."""

    start: int
    leading: int  # K-major without swizzling: from core matrices to the next in k
    stride: int  # from core matrices to the next across
    base: int
    swizzle: int


def decoded(bits: int) -> Descriptor:
    """Bits 0 to 13 are the start, 16 to 29 and 32 to 45 the offsets, all without the lowest four bits of a number of
    18; 49 to 51 the base offset, 62 and 63 the swizzling mode."""
    fields = {0: 14, 16: 14, 32: 14, 49: 3, 62: 2}
    assert bits & ~sum(((1 << size) - 1) << at for at, size in fields.items()) == 0
    start, leading, stride, base, swizzle = (bits >> at & (1 << size) - 1 for at, size in fields.items())
    return Descriptor(start << 4, leading << 4, stride << 4, base, swizzle)


def matrix(bits: int, rows: int, memory: dict[int, tuple]) -> np.ndarray:
    """Return the K-major operand of an instruction, (rows, 8 words of numbers); ``memory`` is known by its bytes.

    A core matrix is 8 rows of 16 bytes without a gap. Two in k make 32 bytes a row.
    """
    d = decoded(bits)
    assert (d.base, d.swizzle) == (0, 0)
    words = [
        [memory[d.start + r // 8 * d.stride + w // 4 * d.leading + r % 8 * 16 + w % 4 * 4] for w in range(8)]
        for r in range(rows)
    ]
    return np.array(words, np.float64).reshape(rows, -1)


def accumulator(thread: int, n: int) -> tuple[int, int]:
    """Row and column of register n of a thread of the warpgroup (PTX ISA, fragment D of m64nNk16 and m64nNk8)."""
    warp, lane = divmod(thread, 32)
    return 16 * warp + lane // 4 + 8 * (n // 2 % 2), 8 * (n // 4) + 2 * (lane % 4) + n % 2


MULTIPLY = re.compile(
    r"wgmma\.mma_async\.sync\.aligned\.m64n(\d+)k(\d+)\.f32\.(\w+)\.(\w+) "
    r"\{([^}]*)\}, \$(\d+), \$(\d+), add, (1, 1(?:, 0, 0)?)"
)


def steps_of(text: str, compute: str, columns: int) -> list[tuple[list[int], int, int]]:
    """Read the PTX of a slice: the operands of each instruction, as registers and descriptors of a and b."""
    lines = [line.strip() for line in text.strip("{}\n").split(";") if line.strip()]
    assert lines[:3] == [".reg .pred add", "setp.eq.u32 add, 0, 0", "wgmma.fence.sync.aligned"]
    assert lines[-1] == "wgmma.commit_group.sync.aligned"
    found = []
    for line in lines[3:-1]:
        n, k, *kinds, sums, of_a, of_b, options = MULTIPLY.fullmatch(line).groups()
        wanted = ("16", "bf16", "1, 1, 0, 0") if compute == "bf16" else ("8", "tf32", "1, 1")  # not transposed
        assert (int(n), k, {*kinds}, options) == (columns, wanted[0], {wanted[1]}, wanted[2])
        found.append(([int(each.strip().removeprefix("$")) for each in sums.split(",")], int(of_a), int(of_b)))
    return found


# ------------------------------------------------------------------------------------------- whole slices


@pytest.fixture
def begun(monkeypatch):
    """What threads start: descriptors of a, of b, and the sums, in the order of threads."""
    install(monkeypatch)
    calls: list[tuple] = []
    monkeypatch.setattr(warpgroups, "address", lambda: lambda array: np.uint32(WHERE[array]))
    monkeypatch.setattr(warpgroups, "instructions", lambda *_: lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(warpgroups, "wait", lambda columns: None)
    monkeypatch.setattr(warpgroups, "announce", lambda: None)
    return calls


def layout_of(case: Case) -> tuple[layouts.Layout, tuple[operands.Slice, operands.Slice]]:
    lies = lying(case.tile, words_of(case.compute, "wgmma"))
    return layouts.layout(np.float32, case.tile, case.compute, *lies), lies


def multiplied(case: Case, begun: list[tuple], stage: int, memory: dict[int, tuple]) -> np.ndarray:
    """Return c as all threads of a block hold it after a slice, which lies in a stage."""
    tile, (layout, lies) = case.tile, layout_of(case)
    text = warpgroups.statement(case.compute == "bf16", tile.columns, lies[0].size // (2 * lies[0].pitch))
    steps, count = steps_of(text, case.compute, tile.columns), tile.columns // 2
    c = np.full((tile.rows, tile.columns), np.nan)
    for t in range(tile.threads):
        places = zip(layout.start(np.uint32(t)), lies, strict=True)
        at = (np.uint32(int(place) + stage * one.size) for place, one in places)
        layout.multiply("a", "b", *at, None, None, np.zeros((tile.thread_rows, tile.thread_columns)))
    for first in range(0, tile.threads, 128):
        group = begun[first : first + 128]
        of_a, of_b, _ = group[0]
        assert all((a, b) == (of_a, of_b) for a, b, _ in group)
        given = [*[None] * (2 * count), *map(int, of_a), *map(int, of_b)]  # the operands of the statement
        assert len(steps) == len(of_a) == len(of_b)
        for registers, a, b in steps:
            assert registers == list(range(count))
            product = matrix(given[a], 64, memory) @ matrix(given[b], tile.columns, memory).T
            for thread, (_, _, sums) in enumerate(group):
                for n, place in enumerate(warpgroups.registers(tile.columns)):
                    sums[place] += product[accumulator(thread, n)]
        for thread, (_, _, sums) in enumerate(group):
            row, column = layout.place(np.uint32(first + thread))
            for i, j in np.ndindex(sums.shape):
                place = int(row) + int(layout.row_step(i)), int(column) + int(layout.column_step(j))
                assert np.isnan(c[place])
                c[place] = sums[i, j]
    return c


@by_kind
@by_case
def test_a_block_multiplies_what_its_threads_wrote(begun, kind, case):
    """Both stages, a slice that ends within the depth; against numbers that the same loader brings without words."""
    tile, words, memory, wanted = case.tile, words_of(case.compute, "wgmma"), {}, []
    stage = KINDS.index(kind) % 2
    with np.errstate(over="ignore"):
        for name, rows in (("a", tile.rows), ("b", tile.columns)):
            extent = ways.Extent(rows, tile, np.float32, words)
            left = written(kind, extent, 16, 27, 280, stage * extent.slice.size)
            assert sum(word is not None for word in left) == rows * tile.depth // words.each
            memory |= {WHERE[name] + 4 * i: word for i, word in enumerate(left) if word is not None}
            numbers = brought(kind, ways.Extent(rows, tile, np.float32, NUMBERS), 16, 27, 280).astype(np.float64)
            assert len(np.unique(numbers, axis=1).T) == rows  # they differ
            wanted.append(numbers)
        found = multiplied(case, begun, stage, memory)
    np.testing.assert_array_equal(found, wanted[0].T @ wanted[1])


@by_case
def test_sums_go_through_the_registers_once(case):
    places = warpgroups.registers(case.tile.columns)
    assert sorted(places) == list(np.ndindex(case.tile.thread_rows, case.tile.thread_columns))


@by_case
def test_four_neighbours_of_c_are_a_threads_and_the_next_four_the_next_threads(begun, case):
    layout, _ = layout_of(case)
    for t in range(0, case.tile.threads, 4):
        rows, columns = zip(*(map(int, layout.place(np.uint32(t + q))) for q in range(4)), strict=True)
        assert len(set(rows)) == 1
        for j in range(0, case.tile.thread_columns, 4):
            side_by_side = [columns[q] + int(layout.column_step(j + i)) for q in range(4) for i in range(4)]
            assert side_by_side == list(range(side_by_side[0], side_by_side[0] + 16))


@by_case
def test_descriptors_reach_all_of_shared_memory(case):
    """Addresses have 18 bits, and what an instruction reads lies within the slice."""
    for lies, rows in zip(lying(case.tile, words_of(case.compute, "wgmma")), case.tile[:2], strict=True):
        fixed = warpgroups.distances(lies)
        for start in range(0, SHARED, 16):
            found = decoded(int(warpgroups.descriptor(np.uint32(start), fixed)))
            assert found == (start, 4 * lies.pitch, 128, 0, 0)
        steps = lies.size // (2 * lies.pitch)
        last = (steps - 1) * 2 * found.leading + found.leading + (rows // 8 - 1) * found.stride + 128
        assert last == 4 * lies.size
    assert sum(2 * 4 * lies.size for lies in lying(case.tile, words_of(case.compute, "wgmma"))) <= SHARED


def test_a_table_of_taps_has_whole_tiles():
    for entries in (*tiles._TILES.values(), *tiles._CORES.values(), tiles._WARPGROUPS):
        for tile, _ in entries:
            assert not any(windows._MULTIPLE % size for size in tile[:3])
