"""Flips and rotations by 90 degrees: voxels move, none is computed, so they are undone exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...arguments import number
from ...errors import ArgumentError, mismatch
from .draws import Draws
from .ranges import spatial_axes, whole_numbers
from .transform import Sample, Transform


class Flip(Transform):
    """Mirror the sample along each of ``axes``, with a chance for each.

    Args:
        axes: of the image (C, spatial), from 1 on or counted from its end; None means all spatial ones.
        chance: that an axis is flipped.

    >>> from fastconv.data import augment
    >>> x, _, record = augment.Compose([Flip((-1,), chance=1.0)])(np.array([[[1.0, 2.0, 3.0]]]))
    >>> x.tolist(), record["steps"]
    ([[[3.0, 2.0, 1.0]]], [{'transform': 'Flip', 'axes': [-1]}])
    """

    def __init__(self, axes: Sequence[int] | None = None, *, chance: float = 0.5, probability: float = 1.0) -> None:
        super().__init__(probability=probability)
        self.axes = None if axes is None else whole_numbers("Flip", "axes", axes, -3)
        self.chance = number("Flip", "chance", chance, 0, 1)

    def draw(self, draws: Draws, spatial: tuple[int, ...], spacing: tuple[float, ...]) -> dict[str, Any]:
        rank = len(spatial)
        axes = range(-rank, 0) if self.axes is None else spatial_axes("Flip", self.axes, rank)
        return {"axes": [axis for axis in axes if draws.uniform(0, 1) < self.chance]}

    @staticmethod
    def apply(image: np.ndarray, label: np.ndarray | None, *, axes: list[int]) -> Sample:
        return np.flip(image, axes), None if label is None else np.flip(label, axes)

    undo = apply


class Rotate90(Transform):
    """Rotate by a multiple of 90 degrees in the plane of two axes, from the first towards the second (as ``np.rot90``).

    Shape and spacing stay: where the axes differ in either, the angles are 0 and 180 degrees.

    Args:
        axes: two of the image (C, spatial), from 1 on or counted from its end.
        turns: the numbers of quarter turns to choose from, -3 or more.

    >>> from fastconv.data import augment
    >>> image = np.array([[[1.0, 2.0], [3.0, 4.0]]])
    >>> augment.Compose([Rotate90(turns=(1,))])(image)[0].tolist()
    [[[2.0, 4.0], [1.0, 3.0]]]
    """

    def __init__(
        self, axes: Sequence[int] = (-2, -1), *, turns: Sequence[int] = (0, 1, 2, 3), probability: float = 1.0
    ) -> None:
        super().__init__(probability=probability)
        self.axes = whole_numbers("Rotate90", "axes", axes, -3)
        if len(self.axes) != 2:
            raise ArgumentError(mismatch("Rotate90", "two axes", repr(axes)))
        self.turns = whole_numbers("Rotate90", "turns", turns, -3)

    def draw(self, draws: Draws, spatial: tuple[int, ...], spacing: tuple[float, ...]) -> dict[str, Any]:
        one, two = axes = spatial_axes("Rotate90", self.axes, len(spatial))
        turns = self.turns
        if spatial[one] != spatial[two] or spacing[one] != spacing[two]:
            turns = tuple(turn for turn in turns if turn % 2 == 0) or (0,)
        return {"axes": axes, "turns": turns[draws.integer(0, len(turns) - 1)]}

    @staticmethod
    def apply(image: np.ndarray, label: np.ndarray | None, *, axes: list[int], turns: int) -> Sample:
        return np.rot90(image, turns, axes), None if label is None else np.rot90(label, turns, axes)

    @staticmethod
    def undo(image: np.ndarray, label: np.ndarray | None, *, axes: list[int], turns: int) -> Sample:
        return Rotate90.apply(image, label, axes=axes, turns=-turns)
