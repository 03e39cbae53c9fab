"""Whether ``wgmma`` multiplies here as it should: a product with a known answer, before the first one that counts.

An instruction that reads shared memory by itself is described to it in bits that no compiler looks at. So each compute
mode has one small product of whole numbers first, exact in bfloat16, with rows, columns and terms that are all
different. The result is compared with the host's. If it is another one, ``mma.sync`` is used from then on, and a
warning says so. The verdict is that of a process and its device, and there before a tile is picked.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np

from ... import config
from ...errors import mismatch
from . import launch, warpgroups, windows
from .array import empty, from_numpy
from .problem import Tile, problem
from .product import Form, run

_TILE = Tile(128, 128, 16, 2, 32, 0)  # two warpgroups
_ROWS, _COLUMNS, _DEPTH = 100, 256, 40  # a rest of rows, two blocks, both stages, a rest of the depth


def passed(here: Any, compute: str) -> bool:
    """Return whether products of a compute mode run by ``wgmma`` on a machine; the first question asks the device.

    Raises:
        Uncapturable: it would be the first question, while a stream is captured.
    """
    if here.capability != warpgroups.CAPABILITY[:2] or not config.wgmma():
        return False
    return _verdict(here, compute) if here.runs else True


@cache
def _verdict(here: Any, compute: str) -> bool:
    if (capturing := launch.capture.get()) is not None:
        capturing.download("the first product by wgmma")
    try:
        what = None if answers(compute) else "another one"
    except Exception as error:  # of the compiler or the driver: without the instruction there is another way
        what = " ".join(repr(error).split())[:300]
    if what is None:
        return True
    wanted = "the product of two matrices of whole numbers"
    warnings.warn(f"{mismatch('wgmma', wanted, what)}; {compute} runs by mma.sync", RuntimeWarning, stacklevel=2)
    return False


def question() -> tuple[np.ndarray, np.ndarray]:
    """Return two matrices to multiply along their rows. Rows differ, and so do columns."""
    rng = np.random.default_rng(0)
    return tuple(rng.integers(-8, 9, (size, _DEPTH)).astype(np.float32) for size in (_ROWS, _COLUMNS))


def answers(compute: str) -> bool:
    """Return whether the device multiplies as the host does, to the bit."""
    a, b = question()
    c = empty((_ROWS, _COLUMNS), np.float32)
    rows = ("rows", 4, False)
    form = Form("float32", _TILE, rows, rows, "rows", 4, compute=compute, cores="wgmma")
    p = problem(rows=_ROWS, columns=_COLUMNS, depth=_DEPTH, part=_DEPTH, row_tiles=-(-_ROWS // _TILE.rows),
                a_stride=_DEPTH, b_stride=_DEPTH, c_stride=_COLUMNS)  # fmt: skip
    run("wgmma", form, p, 1, from_numpy(a), from_numpy(b), None, c, windows.no_table())
    return bool(np.array_equal(c.numpy(), a @ b.T))
