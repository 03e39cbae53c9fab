"""The numbers of a product: what its kernels are told besides arrays, as one named tuple; and its tile."""

from __future__ import annotations

from collections import namedtuple
from typing import NamedTuple

import numpy as np

from .scalars import reciprocal

_SPLITS = tuple(
    f"{name}_{part}" for name in ("row_tiles", "image", "plane", "row") for part in ("size", "magic", "shift")
)

# All are uint32. A sum runs over ``depth``, of which a block takes ``part``; strides and offsets count elements.
Problem = namedtuple(
    "Problem",
    [
        "rows", "columns", "depth", "part",
        *_SPLITS,  # of tiles into columns and rows of tiles; of pixels into images, planes, rows
        "a_stride", "a_image", "a_group",  # from row to row (or, lying the other way, from depth to depth)
        "b_stride", "b_image", "b_group",
        "c_stride", "c_image", "c_group", "c_part",
        "c_start", "c_plane", "c_row", "c_step",  # of the pixels of a phase in an image of c
        "size_d", "size_h", "size_w",  # of what is gathered from
        "stride_d", "stride_h", "stride_w",
        "start_d", "start_h", "start_w",  # of the first pixel's window: minus the padding, modulo 2**32
    ],
)  # fmt: skip


def problem(**numbers: int) -> Problem:
    """Return a problem of these numbers, the others 0; sizes that are divided by are given as ``image=``, and so on."""
    for name in ("row_tiles", "image", "plane", "row"):
        size = max(1, numbers.pop(name, 1))
        magic, shift = reciprocal(size)
        numbers |= {f"{name}_size": size, f"{name}_magic": magic, f"{name}_shift": shift}
    unknown = numbers.keys() - set(Problem._fields)
    if unknown:
        raise ValueError(f"no numbers of a problem: {sorted(unknown)}")
    return Problem(**{name: np.uint32(numbers.get(name, 0) & 0xFFFFFFFF) for name in Problem._fields})


class Tile(NamedTuple):
    """What a block computes: rows by columns, ``depth`` terms at a time; a thread has so many rows and columns."""

    rows: int
    columns: int
    depth: int
    thread_rows: int
    thread_columns: int
    pad: int = 4  # elements after each row of shared memory: neighbours in k lie in other banks

    @property
    def threads(self) -> int:
        return (self.rows // self.thread_rows) * (self.columns // self.thread_columns)
