"""Which part of a volume is looked at: samplers of patches, random, balanced by label, or on a grid; and cutting them.

A patch is a tuple of slices, one for each spatial axis. What is drawn depends on seed, epoch and index alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, product
from math import prod
from typing import Any

import numpy as np

from ..arguments import integer, number
from ..errors import ArgumentError, DataError, DTypeError, ShapeError, mismatch
from .augment.padding import PADDING, window
from .augment.ranges import choice, each, whole_numbers
from .philox import PATCHES, words

Slices = tuple[slice, ...]


def extract(volume: Any, slices: Sequence[slice], *, padding: str = "constant", value: float = 0) -> np.ndarray:
    """Return a patch of ``volume`` (..., spatial): axes before the spatial ones are kept whole.

    A view, unless the patch reaches beyond the volume, where a start may be negative (``small='pad'`` of the samplers):
    that part is padded, with 'constant' (``value``), 'edge' or 'reflect'.

    Raises:
        ShapeError: fewer axes than slices.
        ArgumentError: a slice without a start or stop, with a step, or that misses the volume.

    >>> extract(np.arange(4), (slice(-1, 2),)).tolist()
    [0, 0, 1]
    """
    volume, padding = np.asarray(volume), choice("extract", "padding", padding, PADDING)
    if volume.ndim < len(slices):
        raise ShapeError(mismatch("extract", f"volume of {len(slices)} axes or more", f"shape {volume.shape}"))
    for one in slices:
        plain = isinstance(one, slice) and one.step in (None, 1) and None not in (one.start, one.stop)
        if not plain or one.stop <= one.start:
            raise ArgumentError(mismatch("extract", "slices from a start to a later stop, without a step", one))
    return window(volume, [s.start for s in slices], [s.stop - s.start for s in slices], padding, value)


class _Sampler:
    """What the samplers share: the volume's and the patch's sizes, and what to do where the patch is larger."""

    def __init__(self, shape: Sequence[int], size: int | Sequence[int], small: str) -> None:
        op = type(self).__name__
        self.shape = whole_numbers(op, "shape", shape, 1)
        self.size: tuple[int, ...] = each(op, "size", whole_numbers(op, "size", size, 1), len(self.shape))
        self.small = choice(op, "small", small, ("refuse", "pad"))
        if small == "refuse" and any(s > n for s, n in zip(self.size, self.shape, strict=True)):
            raise ShapeError(mismatch(op, f"size within shape {self.shape} (or small='pad')", self.size))

    def _cut(self, starts: Sequence[int]) -> Slices:
        """Return the patch at ``starts``, moved to lie inside; where it cannot, the volume is in its middle."""
        inside = [
            -((s - n) // 2) if s > n else min(max(first, 0), n - s)
            for first, s, n in zip(starts, self.size, self.shape, strict=True)
        ]
        return tuple(slice(first, first + s) for first, s in zip(inside, self.size, strict=True))


class _Drawn(_Sampler):
    def __init__(self, shape: Sequence[int], size: int | Sequence[int], seed: int, small: str) -> None:
        super().__init__(shape, size, small)
        self.seed = integer(type(self).__name__, "seed", seed, 0, 2**64 - 1)

    def __call__(self, epoch: int = 0, index: int = 0) -> Slices:
        """Return the patch of (seed, epoch, index)."""
        op = type(self).__name__
        epoch, index = integer(op, "epoch", epoch, 0), integer(op, "index", index, 0)
        return self._draw(words(self.seed, PATCHES, index, epoch).random_raw(4).tolist())

    def epoch(self, epoch: int, count: int, start: int = 0) -> Iterator[Slices]:
        """Yield the patches ``start`` to ``count`` - 1 of an epoch."""
        return (self(epoch, index) for index in range(start, count))

    def _draw(self, words: list[int]) -> Slices:
        raise NotImplementedError


class RandomPatches(_Drawn):
    """Patches at uniformly random places.

    Args:
        shape: spatial sizes of the volume.
        size: those of a patch, or one for all axes.
        seed: below 2**64.
        small: where the volume is smaller than the patch: 'refuse' it, or 'pad' it evenly: slices then reach beyond
            the volume, and ``extract`` pads.

    Raises:
        ShapeError: a volume of more than 4 axes, a patch larger than it or of another rank.
        ArgumentError: a number out of range.

    >>> sampler = RandomPatches((64, 64, 20), (32, 32, 20), seed=1)
    >>> extract(np.zeros((2, 64, 64, 20)), sampler(epoch=0, index=7)).shape
    (2, 32, 32, 20)
    >>> sampler(0, 7) == list(sampler.epoch(0, 8))[7]
    True
    """

    def __init__(
        self, shape: Sequence[int], size: int | Sequence[int], *, seed: int = 0, small: str = "refuse"
    ) -> None:
        super().__init__(shape, size, seed, small)
        if len(self.shape) > 4:  # a word for each
            raise ShapeError(mismatch("RandomPatches", "shape of up to 4 axes", self.shape))

    def _draw(self, words: list[int]) -> Slices:
        choices = (max(n - s + 1, 1) for n, s in zip(self.shape, self.size, strict=True))
        return self._cut([word * count >> 64 for word, count in zip(words, choices, strict=False)])


class BalancedPatches(_Drawn):
    """Patches about a voxel of a class: the class is drawn by weight, then one of its voxels is the centre, moved no
    further than it takes for the patch to lie inside.

    Args:
        label: integer or bool label map (spatial).
        size, seed, small: as of ``RandomPatches``.
        weights: of the classes; None means the same for each that is there. Classes that ``label`` has not are passed
            over, so that one table serves all volumes of a set; classes without a weight are never centres.

    Raises:
        DataError: none of the weighted classes is there.
        DTypeError: a label map that is neither integer nor bool.
        ShapeError: one without voxels or of more than 3 axes, a patch larger than it or of another rank.
        ArgumentError: a weight below 0, a class that is no integer, a number out of range.

    >>> label = np.zeros((32, 32), np.uint8)
    >>> label[3, 20] = 1
    >>> BalancedPatches(label, 9, weights={1: 1.0})()
    (slice(0, 9, None), slice(16, 25, None))
    """

    def __init__(
        self, label: Any, size: int | Sequence[int], *, weights: Mapping[int, float] | None = None, seed: int = 0,
        small: str = "refuse",
    ) -> None:  # fmt: skip
        op = "BalancedPatches"
        label = np.asarray(label)
        if label.dtype.kind not in "iub":
            raise DTypeError(mismatch(op, "label of an integer or bool dtype", label.dtype))
        if not label.size or not 1 <= label.ndim <= 3:
            raise ShapeError(mismatch(op, "label (spatial) of 1 to 3 axes, with voxels", f"shape {label.shape}"))
        super().__init__(label.shape, size, seed, small)
        present = sorted(set().union(*(np.unique(plane).tolist() for plane in label)))
        if weights is None:
            weights = dict.fromkeys(map(int, present), 1.0)
        given = {_class(c): number(op, f"weights[{c}]", w, 0, 1e300) for c, w in weights.items()}
        self.weights = {c: given[c] for c in map(int, present) if given.get(c)}
        if not self.weights:
            raise DataError(mismatch(op, f"a class of weights {given} in label", present))
        self._label = label
        # for each class, the voxels up to and including each plane: a voxel is found by looking into one plane
        self._counts = {
            c: np.cumsum([np.count_nonzero(plane == c) for plane in label]) for c in self.weights
        }  # fmt: skip

    def _draw(self, words: list[int]) -> Slices:
        classes, bounds = list(self.weights), list(accumulate(self.weights.values()))
        share = (words[0] >> 11) * 2.0**-53 * bounds[-1]
        chosen = classes[min(bisect_right(bounds, share), len(classes) - 1)]
        counts = self._counts[chosen]
        k = words[1] * int(counts[-1]) >> 64
        plane = int(np.searchsorted(counts, k, side="right"))
        before = int(counts[plane - 1]) if plane else 0
        place = np.flatnonzero(self._label[plane] == chosen)[k - before]
        centre = (plane, *map(int, np.unravel_index(place, self.shape[1:])))
        return self._cut([c - s // 2 for c, s in zip(centre, self.size, strict=True)])


def _class(value: Any) -> int:
    return integer("BalancedPatches", "a class of weights", value, -(2**63))


class GridPatches(_Sampler, Sequence[Slices]):
    """Patches on a grid that cover the volume, first axis slowest; the last of an axis ends where the volume does.

    Args:
        shape, size, small: as of ``RandomPatches``.
        overlap: voxels that neighbours share at least, below ``size``; one number, or one for each axis.

    Raises:
        ShapeError: a patch larger than the volume, or of another rank.
        ArgumentError: a number out of range, an overlap that leaves no step.

    >>> [(rows.start, columns.start) for rows, columns in GridPatches((5, 4), 3, overlap=1)]
    [(0, 0), (0, 1), (2, 0), (2, 1)]
    >>> len(GridPatches((512, 512, 100), 64, overlap=16))
    242
    """

    def __init__(
        self, shape: Sequence[int], size: int | Sequence[int], overlap: int | Sequence[int] = 0, *,
        small: str = "refuse",
    ) -> None:  # fmt: skip
        op = "GridPatches"
        super().__init__(shape, size, small)
        self.overlap = each(op, "overlap", whole_numbers(op, "overlap", overlap, 0), len(self.shape))
        if any(o >= s for o, s in zip(self.overlap, self.size, strict=True)):
            raise ArgumentError(mismatch(op, f"overlap below size {self.size}", self.overlap))
        self._starts = [
            [*range(0, max(n - s, 0), s - o), max(n - s, 0)]
            for n, s, o in zip(self.shape, self.size, self.overlap, strict=True)
        ]

    def __len__(self) -> int:
        return prod(map(len, self._starts))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(mismatch("GridPatches", f"an index below {len(self)}", index))
        places = np.unravel_index(index % len(self), [len(starts) for starts in self._starts])
        return self._cut([starts[place] for starts, place in zip(self._starts, places, strict=True)])

    def __iter__(self) -> Iterator[Slices]:
        return map(self._cut, product(*self._starts))
