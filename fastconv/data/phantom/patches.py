"""Square patches of a picture, as they lie or turned so that sound travels down, and balanced sets of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...arguments import flag, integer
from ...errors import ArgumentError, ShapeError, mismatch
from .anatomy import CLASSES, FLUID
from .bmode import Scan, scan

DARK = CLASSES[FLUID:]  # the four that a network tells apart


@dataclass(frozen=True, slots=True)
class Patches:
    """Labelled patches of several phantoms.

    Attributes:
        images: float32 (N, 1, size, size) in [0, 1], as the pixels lie.
        along: the same places, turned so that sound travels down.
        direction: float32 (N, 2), the unit vector (down, right) of the sound at the centre.
        labels: int64 (N,), 0 to 3: amniotic fluid, stomach bubble, umbilical vein, shadow.
        seeds: int64 (N,), the phantom that each patch is of.
    """

    images: np.ndarray
    along: np.ndarray
    direction: np.ndarray
    labels: np.ndarray
    seeds: np.ndarray


def cut(picture: Scan, centres: np.ndarray, size: int = 32, along: bool = False) -> np.ndarray:
    """Return patches around pixels of a picture, float32 (N, 1, size, size) in [0, 1], black beyond its edge.

    A patch's pixel is a pixel of the picture; where patches are turned, values between are bilinear.

    Args:
        centres: integers (N, 2), the rows and columns of the pixels.
        size: an even number; the centre lies at (size / 2, size / 2).
        along: turn each patch about its centre, so that sound travels from its top to its bottom there.

    Raises:
        ShapeError: centres of another shape.
        ArgumentError: an odd size, or centres that are no pixels of the picture.

    >>> one = scan(0, size=64)
    >>> cut(one, np.array([[20, 30], [40, 30]]), size=8, along=True).shape
    (2, 1, 8, 8)
    """
    op = "cut"
    size = integer(op, "size", size, 2)
    centres = np.asarray(centres)
    if centres.ndim != 2 or centres.shape[1] != 2:
        raise ShapeError(mismatch(op, "centres (N, 2)", centres.shape))
    if size % 2 or centres.dtype.kind not in "iu":
        got = f"size {size}, centres {centres.dtype}"
        raise ArgumentError(mismatch(op, "an even size and centres of integers", got))
    edge = len(picture.image)
    if centres.size and not 0 <= centres.min() <= centres.max() < edge:
        got = f"{centres.min()} to {centres.max()}"
        raise ArgumentError(mismatch(op, f"centres in [0, {edge - 1}]", got))
    image = np.pad(picture.image.astype(np.float32) / 255, size)  # a corner is less than a size away
    rows, columns = (centres + size).T
    if not flag(op, "along", along):
        whole = np.lib.stride_tricks.sliding_window_view(image, (size, size))
        return whole[rows - size // 2, columns - size // 2][:, None].copy()
    down, right = picture.direction[:, rows - size, columns - size][..., None, None]  # (N, 1, 1) each
    v, u = np.mgrid[:size, :size].astype(np.float32) - size // 2
    row, column = rows[:, None, None] + v * down - u * right, columns[:, None, None] + v * right + u * down
    top, left = np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)
    down, right = (row - top).astype(np.float32), (column - left).astype(np.float32)
    upper = (1 - right) * image[top, left] + right * image[top, left + 1]
    lower = (1 - right) * image[top + 1, left] + right * image[top + 1, left + 1]
    return ((1 - down) * upper + down * lower)[:, None]


def draw_patches(
    seeds: Sequence[int], count: int, size: int = 32, turn: float | None = None, margin: int = 2
) -> Patches:
    """Return ``count`` patches of the phantoms of ``seeds``, as many of each class (but for a remainder).

    Each phantom gives as many patches of a class as any other, as far as the class is in its picture; what is missing
    is drawn again from those that have it. Sets of different seeds have no phantom in common.

    Args:
        count: how many patches, at least one for each class.
        size, turn: as in ``cut`` and ``scan``.
        margin: pixels that the centre stays away from the border of its class.

    Raises:
        ArgumentError: an argument out of range, or a class that too few of the phantoms show.

    >>> few = draw_patches(range(3), 40, size=16)
    >>> few.images.shape, np.bincount(few.labels).tolist()
    ((40, 1, 16, 16), [10, 10, 10, 10])
    """
    op = "draw_patches"
    count, margin = integer(op, "count", count, len(DARK)), integer(op, "margin", margin, 0)
    if not len(seeds):
        raise ArgumentError(mismatch(op, "seeds of one phantom or more", "none"))
    share = -(-count // (len(DARK) * len(seeds)))
    parts, ranks = [], []  # of each phantom and class; a patch's rank is its turn among those of its phantom
    for seed in seeds:
        picture = scan(seed, turn=turn)
        draw = np.random.default_rng((seed, 0xC07))
        for label in range(len(DARK)):
            centres = draw.permutation(_inner(picture.labels == FLUID + label, margin))[: 2 * share]
            n = len(centres)
            ways = picture.direction[:, *centres.T].T
            straight, turned = (cut(picture, centres, size, along) for along in (False, True))
            parts.append((straight, turned, ways, np.full(n, label), np.full(n, seed)))
            ranks.append(np.arange(n))
    every = Patches(*map(np.concatenate, zip(*parts, strict=True)))
    rank = np.concatenate(ranks)
    chosen = []
    for label, name in enumerate(DARK):
        wanted = (count + len(DARK) - 1 - label) // len(DARK)
        here = np.flatnonzero(every.labels == label)
        if len(here) < wanted:
            raise ArgumentError(mismatch(op, f"seeds whose phantoms show {wanted} patches of {name}", len(here)))
        chosen.append(here[np.argsort(rank[here], kind="stable")[:wanted]])
    order = np.sort(np.concatenate(chosen))
    return Patches(*(getattr(every, name)[order] for name in Patches.__slots__))


def _inner(mask: np.ndarray, margin: int) -> np.ndarray:
    """Return the rows and columns (N, 2) of pixels whose neighbours ``margin`` away on all sides are in the mask."""
    kept = mask.copy()
    for axis in (0, 1):
        for shift in (-margin, margin):
            kept &= np.roll(mask, shift, axis)  # the picture's edge is outside the sector: nothing comes round
    return np.argwhere(kept)
