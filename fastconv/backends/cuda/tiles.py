"""The tiles that products come in, and the rule that picks one.

A tile is picked by the work of the busiest multiprocessor: its blocks, times the area of a tile, over the tile's speed,
and more where they have so few warps that arithmetic waits for memory.
Every tile sums in the same order, so the choice, which knows the batch and the device, never changes a bit. Where a sum
is cut into parts its tile and its parts are those of 132 multiprocessors on every device, for the same reason.
"""

from __future__ import annotations

from functools import lru_cache

from . import launch, warpgroup_check
from .problem import Tile

# Speed: multiplications for each value read from shared memory, and blocks on a multiprocessor to hide its delays,
# relative to the first tile; estimates from counts (on tensor cores those of bench/cuda_limits.py), not yet measured.
_TILES = {
    4: (
        (Tile(128, 128, 8, 8, 8), 1.0),
        (Tile(64, 128, 8, 8, 8), 0.95),
        (Tile(128, 64, 8, 8, 8), 0.95),
        (Tile(64, 64, 8, 8, 4), 0.8),
        (Tile(32, 128, 8, 8, 4), 0.75),
        (Tile(128, 32, 8, 8, 4), 0.75),
    ),
    8: ((Tile(64, 64, 8, 4, 4), 1.0), (Tile(32, 64, 8, 4, 4), 0.9), (Tile(64, 32, 8, 4, 4), 0.9)),
}
_CORES = dict.fromkeys(  # on tensor cores, by mma.sync
    ("bf16", "tf32"),
    ((Tile(128, 128, 16, 8, 16, 8), 1.0), (Tile(64, 64, 16, 4, 8, 8), 0.53), (Tile(32, 128, 16, 4, 8, 8), 0.49)),
)
_WARPGROUPS = (  # by wgmma
    (Tile(128, 256, 16, 2, 64, 0), 1.0),
    (Tile(128, 128, 16, 2, 32, 0), 0.8),
    (Tile(64, 128, 16, 2, 32, 0), 0.67),
    (Tile(64, 64, 16, 2, 16, 0), 0.5),
)
_SIMULATED = ((Tile(8, 8, 4, 4, 2), 1.0), (Tile(4, 8, 4, 2, 2), 0.9))
STANDARD = 132  # multiprocessors, where a choice must be the same everywhere
_BLOCKS = 4 * STANDARD  # that parts of a sum shall make, if there are terms enough
_SHORTEST = 256  # terms of a part
_WARPS = 8  # of a multiprocessor, that hide its delays: of 64 sums a thread, or half as many of 128
MOST_BYTES = 64 << 20  # of parts before they are added


def cores(compute: str) -> str:
    """Return the instruction of tensor cores by which products of a compute mode run here; nothing without them."""
    here = launch.machine()
    if compute == "float32" or here.simulated or here.capability < (8, 0):
        return ""
    return "wgmma" if warpgroup_check.passed(here, compute) else "mma.sync"


def taken_up(compute: str, itemsize: int) -> str:
    """Return the mode in which products run: float64 keeps its precision, and TF32 is for tensor cores alone (which the
    simulator pretends to have)."""
    there = launch.machine().capability >= (8, 0)
    return compute if itemsize == 4 and (compute != "tf32" or there) else "float32"


def candidates(itemsize: int, compute: str = "float32") -> tuple[tuple[Tile, float], ...]:
    if launch.machine().simulated:
        return _SIMULATED
    instruction = cores(compute)
    if instruction == "wgmma":
        return _WARPGROUPS
    return _CORES[compute] if instruction else _TILES[itemsize]


def pick(rows: int, columns: int, groups: int, itemsize: int, compute: str = "float32") -> Tile:
    """Return the tile for so many rows and columns of each group."""
    return _pick(rows, columns, groups, candidates(itemsize, compute), launch.machine().processors)


@lru_cache(maxsize=4096)
def _pick(rows: int, columns: int, groups: int, tiles: tuple, processors: int) -> Tile:
    def busiest(entry: tuple[Tile, float]) -> float:
        tile, speed = entry
        blocks = -(-rows // tile.rows) * -(-columns // tile.columns) * groups
        share = max(1, -(-blocks // processors))
        idle = max(1.0, _WARPS * 32 / (share * max(tile.threads, tile.rows * tile.columns // 64)))
        return share * tile.rows * tile.columns / speed * idle

    return min(tiles, key=busiest)[0]


def pick_parts(
    rows: int, columns: int, depth: int, groups: int, itemsize: int, compute: str = "float32"
) -> tuple[Tile, int, int]:
    """Return the tile, the parts and the terms of a part, for a sum that is cut where its tiles would keep few busy."""
    tile = _pick(rows, columns, groups, candidates(itemsize, compute), STANDARD)
    blocks = -(-rows // tile.rows) * -(-columns // tile.columns) * groups
    return tile, *cut(depth, blocks, rows * columns * groups * itemsize, tile.depth)


def cut(depth: int, blocks: int, nbytes: int, multiple: int, shortest: int | None = None) -> tuple[int, int]:
    """Return how many parts a sum is cut into, and the terms of a part, a multiple of ``multiple``.

    ``blocks`` and ``nbytes`` are those of one part, ``shortest`` the least terms that one shall have.
    """
    shortest = shortest or launch.tile(_SHORTEST, 64)
    parts = max(1, min(_BLOCKS // max(1, blocks), MOST_BYTES // max(1, nbytes), depth // shortest))
    part = -(-depth // (parts * multiple)) * multiple
    return max(1, -(-depth // max(1, part))), part


def width(form_tile: Tile, compute: str, neighbours: int, itemsize: int) -> int:
    """Return how many columns of c, of ``neighbours`` side by side, a thread may store together."""
    most = 2 if cores(compute) == "mma.sync" else min(16 // itemsize, form_tile.thread_columns)
    return most if neighbours % most == 0 else 1
