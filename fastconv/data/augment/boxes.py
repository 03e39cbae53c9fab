"""Cutting arrays into boxes, so that what is computed for each voxel never needs more than a little memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

BLOCK = 8192  # voxels of a box: about 1 MB with all that resampling computes for each


def boxes(shape: Sequence[int], most: int = BLOCK) -> Iterator[tuple[slice, ...]]:
    """Yield slices that cut ``shape`` into boxes of at most ``most`` elements: whole rows first, then planes.

    >>> [[(s.start, s.stop) for s in box] for box in boxes((3, 2), 4)]
    [[(0, 2), (0, 2)], [(2, 3), (0, 2)]]
    """
    cut = next((axis for axis in range(len(shape)) if prod(shape[axis + 1 :]) <= most), len(shape) - 1)
    step = max(1, most // max(1, prod(shape[cut + 1 :])))
    rest = tuple(slice(0, size) for size in shape[cut + 1 :])
    for outer in np.ndindex(*shape[:cut]):
        for first in range(0, shape[cut], step):
            here = slice(first, min(first + step, shape[cut]))
            yield (*(slice(i, i + 1) for i in outer), here, *rest)


def expand(coefficients: np.ndarray, tables: Sequence[np.ndarray], box: Sequence[slice]) -> np.ndarray:
    """Return a smooth field in ``box``: coefficients (F, m1, m2, ...) of products of functions of each axis, whose
    values at every position are ``tables`` [(n1, m1), (n2, m2), ...]. The result is (F, box)."""
    field = coefficients
    for table, here in zip(tables, box, strict=True):  # each contracts the first m and appends its positions
        field = np.einsum("fm...,nm->f...n", field, table[here])  # no BLAS: one order of sums
    return field
