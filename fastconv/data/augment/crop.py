"""Windows of an array that may reach beyond it, and the random crop that cuts or pads samples to one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...arguments import flag
from ...errors import ArgumentError, mismatch
from .draws import Draws
from .ranges import PADDING, choice, constant, each, finite, whole_numbers
from .transform import Sample, Transform


def window(
    array: np.ndarray, start: Sequence[int], size: Sequence[int], padding: str = "constant", value: float = 0
) -> np.ndarray:
    """Return ``size`` elements from ``start`` on along the last axes; what lies outside is padded.

    A view where nothing does. ``padding`` is 'constant' (``value``), 'edge' (the nearest element) or 'reflect'
    (mirrored about the edge's centre).

    >>> window(np.array([1, 2, 3]), [-1], [3])
    array([0, 1, 2])
    """
    rank = len(size)
    widths, inside = [(0, 0)] * (array.ndim - rank), [slice(None)] * (array.ndim - rank)
    for first, length, n in zip(start, size, array.shape[array.ndim - rank :], strict=True):
        low, high = max(first, 0), min(first + length, n)
        if low >= high:
            raise ArgumentError(mismatch("window", f"start and size to meet an axis of {n}", f"{first} and {length}"))
        inside.append(slice(low, high))
        widths.append((low - first, first + length - high))
    found = array[tuple(inside)]
    if not any(map(any, widths)):
        return found
    if padding == "constant":
        return np.pad(found, widths, constant_values=constant("value", value, array.dtype))
    return np.pad(found, widths, mode=padding)  # type: ignore[call-overload]


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
