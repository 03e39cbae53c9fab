"""Taking elements by index or by a condition."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional as F
from .registry import Node, Run, operator
from .values import host, integers, is_float


@operator("Gather", last=13)
def gather(node: Node) -> Run:
    axis = node.get("axis", 0)

    def run(x: Any, indices: Any) -> Any:
        where = host(indices)
        first = axis % len(x.shape)
        if not is_float(x):
            return np.asarray(np.take(host(x), where, axis=first))
        size = x.shape[first]
        taken = F.index_select(x, first, np.where(where < 0, where + size, where).reshape(-1))
        return F.reshape(taken, (*x.shape[:first], *where.shape, *x.shape[first + 1 :]))

    return run


@operator("GatherElements", last=13)
def gather_elements(node: Node) -> Run:
    axis = node.get("axis", 0)

    def run(x: Any, indices: Any) -> Any:
        where = host(indices)
        if not is_float(x):
            return np.take_along_axis(host(x), where, axis)
        # Positions in the flat array, so that it is one selection along one axis.
        grid = list(np.indices(where.shape, sparse=True))
        grid[axis] = np.where(where < 0, where + x.shape[axis], where)
        flat = np.ravel_multi_index(np.broadcast_arrays(*grid), tuple(x.shape))
        return F.reshape(F.index_select(F.reshape(x, (-1,)), 0, flat.reshape(-1)), where.shape)

    return run


@operator("Slice", last=13)
def slices(node: Node) -> Run:
    fixed = [node.get(name) for name in ("starts", "ends", "axes")]

    def run(x: Any, *options: Any) -> Any:
        given = [None if value is None else integers(value) for value in (options or fixed)]
        starts, ends, axes, steps = (*given, None, None)[:4]
        axes = axes if axes is not None else range(len(starts))
        steps = steps if steps is not None else (1,) * len(starts)
        key = [slice(None)] * len(x.shape)
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            key[axis] = slice(*_bounds(start, end, step, x.shape[axis]), step)
        return (x if is_float(x) else host(x))[tuple(key)]

    return run


def _bounds(start: int, end: int, step: int, size: int) -> tuple[int | None, int | None]:
    """Return Python's bounds for ONNX's, which are clamped to the axis after negative ones counted from its end."""
    first, last = (v + size if v < 0 else v for v in (start, end))
    if step > 0:
        return min(max(first, 0), size), min(max(last, 0), size)
    last = min(max(last, -1), size - 1)
    return min(max(first, 0), size - 1), None if last < 0 else last


@operator("Where", last=16)
def where(node: Node) -> Run:
    def run(condition: Any, a: Any, b: Any) -> Any:
        if is_float(a) and is_float(b):
            return F.where(host(condition), a, b)
        return np.where(host(condition), host(a), host(b))

    return run


@operator("NonZero", last=13)
def non_zero(node: Node) -> Run:
    return lambda x: np.array(np.nonzero(host(x)), np.int64)


@operator("OneHot", last=28)
def one_hot(node: Node) -> Run:
    axis = node.get("axis", -1)

    def run(indices: Any, depth: Any, values: Any) -> Any:
        where, (off, on) = host(indices), host(values)
        count = int(host(depth).reshape(()))
        hot = (where[..., None] % count if where.size else where[..., None]) == np.arange(count)
        hot &= (where >= -count)[..., None] & (where < count)[..., None]
        y = np.where(hot, on, off).astype(host(values).dtype)
        return np.moveaxis(y, -1, axis)

    return run
