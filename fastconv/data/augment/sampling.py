"""Values of an image and a label map at positions between voxels: one gather for every rank, a box at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from ...resampling import cubic, triangle
from .boxes import boxes
from .padding import PADDING, constant, fold
from .ranges import choice, finite
from .transform import Sample

INTERPOLATIONS = ("nearest", "linear", "cubic")
Positions = Callable[[tuple[slice, ...]], Sequence[np.ndarray]]
_KEYS = cubic(-0.5)  # the one of third order


def options(op: str, interpolation: Any, padding: Any, value: Any, label_value: Any) -> dict[str, Any]:
    """Check the options that every resampling transform has, and return them as parameters."""
    return {
        "interpolation": choice(op, "interpolation", interpolation, INTERPOLATIONS),
        "padding": choice(op, "padding", padding, PADDING),
        "value": value if value == "minimum" else finite(op, "value", value, -1e300, 1e300),
        "label_value": finite(op, "label_value", label_value, -1e300, 1e300),
    }


def resample(
    image: np.ndarray, label: np.ndarray | None, positions: Positions, *, interpolation: str, padding: str,
    value: float | str, label_value: float,
) -> Sample:  # fmt: skip
    """Return image and label map read at ``positions``: of each box of the result, an array for each axis that
    broadcasts to the box, in voxels of the image.

    Intensities are interpolated: 'nearest', 'linear', or 'cubic' (Keys 1981, a = -1/2). Labels take the nearest voxel.
    Outside, ``padding`` is 'constant' (``value``, or 'minimum' for the image's; ``label_value``), 'edge' or 'reflect'.
    """
    spatial = image.shape[1:]
    strides = [prod(spatial[axis + 1 :]) for axis in range(len(spatial))]
    fill = float(image.min()) if value == "minimum" else float(value)
    x, y = np.ascontiguousarray(image).reshape(len(image), -1), np.empty(image.shape, image.dtype)
    maps, t, u, background = None, None, None, None
    if label is not None:
        background = constant("label_value", label_value, label.dtype)
        maps = np.ascontiguousarray(label).reshape(-1, prod(spatial))
        t = np.empty(label.shape, label.dtype)
        u = t.reshape(-1, *spatial)
    for box in boxes(spatial):
        where = positions(box)
        if interpolation != "nearest":
            axes = zip(where, spatial, strides, strict=True)
            taps = [_taps(p, n, stride, interpolation, padding, x.dtype) for p, n, stride in axes]
            missing = _missing(taps) if fill and padding == "constant" else None
            for source, target in zip(x, y, strict=True):
                found = _weigh(source, taps)
                target[box] = found if missing is None else found + fill * missing
        if interpolation == "nearest" or maps is not None:
            offset, outside = _nearest(where, spatial, strides, padding)
            if interpolation == "nearest":
                _pick(x, y, box, offset, outside, x.dtype.type(fill))
            if maps is not None:
                _pick(maps, u, box, offset, outside, background)  # type: ignore[arg-type]
    return y, t


Taps = list[tuple[np.ndarray, np.ndarray, np.ndarray | None]]  # offset, weight, weight that fell outside


def _taps(position: np.ndarray, size: int, stride: int, interpolation: str, padding: str, dtype: np.dtype) -> Taps:
    """Return what an axis contributes: for each tap the offsets, their weights, and the weights that no voxel has."""
    first = np.floor(position)
    index = first.astype(np.int64)
    fraction = (position - first).astype(dtype)
    reach, kernel = (1, triangle) if interpolation == "linear" else (2, _KEYS)
    taps: Taps = []
    for step in range(1 - reach, reach + 1):
        here = index + step if step else index
        weight, lost = kernel(fraction - step), None
        if padding == "constant":
            inside = (here >= 0) & (here < size)
            if not inside.all():
                lost = np.where(inside, 0, weight)
                weight = np.where(inside, weight, 0)
        taps.append((fold(here, size, padding) * stride, weight, lost))
    return taps


def _missing(taps: Sequence[Taps]) -> np.ndarray | None:
    """Return the part of the weights that lies outside, 1 - product of all (1 - lost), or None where none does."""
    kept: Any = None
    for axis in taps:
        lost = [part for _, _, part in axis if part is not None]
        if lost:
            kept = (1 - sum(lost)) * (1 if kept is None else kept)
    return None if kept is None else 1 - kept


def _weigh(source: np.ndarray, taps: Sequence[Taps], offset: Any = 0) -> np.ndarray:
    """Return the weighted sum over the taps of all axes, the last innermost: 2 ** r reads for linear interpolation."""
    if not taps:
        return source.take(offset)
    total: Any = None
    for index, weight, _ in taps[0]:
        part = _weigh(source, taps[1:], offset + index) * weight
        total = part if total is None else np.add(total, part, out=total)
    return total


def _nearest(
    where: Sequence[np.ndarray], sizes: Sequence[int], strides: Sequence[int], padding: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return flat indices of the nearest voxels, and which positions lie outside where those are filled."""
    offset: Any = 0
    outside: Any = None
    for position, size, stride in zip(where, sizes, strides, strict=True):
        index = np.floor(position + 0.5).astype(np.int64)
        if padding == "constant":
            out = (index < 0) | (index >= size)
            if out.any():
                outside = out if outside is None else outside | out
        offset = offset + fold(index, size, padding) * stride
    return offset, outside


def _pick(
    source: np.ndarray, target: np.ndarray, box: tuple[slice, ...], offset: np.ndarray, outside: np.ndarray | None,
    fill: Any,
) -> None:  # fmt: skip
    for values, to in zip(source, target, strict=True):
        found = values.take(offset)
        to[box] = found if outside is None else np.where(outside, fill, found)
