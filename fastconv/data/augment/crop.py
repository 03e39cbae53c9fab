"""The crop that cuts or pads samples to one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...arguments import flag
from .draws import Draws
from .padding import PADDING, constant, window
from .ranges import choice, each, finite, whole_numbers
from .transform import Sample, Transform


class CropOrPad(Transform):
    """Cut the sample to ``size`` at a random place; an axis that is shorter is padded evenly.

    Args:
        size: for each spatial axis, or one for all.
        random: a random place, else the centre.
        padding: 'constant' (``value``, and ``label_value`` in the label map), 'edge' or 'reflect'.

    >>> from fastconv.data import augment
    >>> augment.Compose([CropOrPad((2, 5))])(np.ones((1, 4, 3)))[0].tolist()
    [[[0.0, 1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 1.0, 0.0]]]
    """

    def __init__(
        self, size: int | Sequence[int], *, random: bool = True, padding: str = "constant", value: float = 0.0,
        label_value: float = 0, probability: float = 1.0,
    ) -> None:  # fmt: skip
        op = "CropOrPad"
        super().__init__(probability=probability)
        self.size, self.random = whole_numbers(op, "size", size, 1), flag(op, "random", random)
        self.padding = choice(op, "padding", padding, PADDING)
        self.value = finite(op, "value", value, -1e300, 1e300)
        self.label_value = finite(op, "label_value", label_value, -1e300, 1e300)

    def draw(self, draws: Draws, spatial: tuple[int, ...], spacing: tuple[float, ...]) -> dict[str, Any]:
        size = each("CropOrPad", "size", self.size, len(spatial))
        start = [
            draws.integer(0, n - s) if self.random and n > s else (n - s) // 2 if n > s else -((s - n) // 2)
            for n, s in zip(spatial, size, strict=True)
        ]
        return {
            "start": start, "size": list(size), "original": list(spatial), "padding": self.padding,
            "value": self.value, "label_value": self.label_value,
        }  # fmt: skip

    @staticmethod
    def apply(
        image: np.ndarray, label: np.ndarray | None, *, start: list[int], size: list[int], original: list[int],
        padding: str, value: float, label_value: float,
    ) -> Sample:  # fmt: skip
        changed = window(image, start, size, padding, value)
        if label is None:
            return changed, None
        return changed, window(label, start, size, padding, constant("label_value", label_value, label.dtype))

    @staticmethod
    def undo(
        image: np.ndarray, label: np.ndarray | None, *, start: list[int], size: list[int], original: list[int],
        **fill: Any,
    ) -> Sample:  # fmt: skip
        return CropOrPad.apply(image, label, start=[-s for s in start], size=original, original=size, **fill)
