"""The bias field of magnetic resonance: a smooth factor over the image."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...arguments import integer
from .boxes import boxes, expand
from .draws import Draws, Stream
from .ranges import finite
from .transform import Sample, Transform


class BiasField(Transform):
    """Multiply by exp(p), p a random polynomial of the position (van Leemput et al. 1999,
    https://doi.org/10.1109/42.811268), the same for every channel.

    Args:
        strength: coefficients are uniform in (-strength, strength), positions in -1..1 along each axis.
        order: the polynomial's degree; it has no constant term.

    >>> from fastconv.data import augment
    >>> x, _, _ = augment.Compose([BiasField(0.5)])(np.ones((1, 9, 9)))
    >>> x[0, 4, 4].item(), bool(x.std() > 0)  # the centre stays
    (1.0, True)
    """

    def __init__(self, strength: float = 0.3, *, order: int = 3, probability: float = 1.0) -> None:
        super().__init__(probability=probability)
        self.strength = finite("BiasField", "strength", strength, 0, 10)
        self.order = integer("BiasField", "order", order, 1, 8)

    def draw(self, draws: Draws, spatial: tuple[int, ...], spacing: tuple[float, ...]) -> dict[str, Any]:
        return {"strength": self.strength, "order": self.order, "stream": draws.stream()}

    @staticmethod
    def apply(image: np.ndarray, label: np.ndarray | None, *, strength: float, order: int, stream: int) -> Sample:
        if strength == 0:
            return image, label
        spatial = image.shape[1:]
        degrees = np.indices((order + 1,) * len(spatial)).sum(0)
        chosen = (degrees > 0) & (degrees <= order)
        coefficients = np.zeros(degrees.shape)
        coefficients[chosen] = strength * (2 * Stream(stream).uniform(np.count_nonzero(chosen)) - 1)
        axes = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in spatial)
        tables = [axis[:, None] ** np.arange(order + 1) for axis in axes]
        changed = np.empty(image.shape, image.dtype)
        for box in boxes(spatial):
            field = np.exp(expand(coefficients[None], tables, box)[0]).astype(image.dtype)
            np.multiply(image[:, *box], field, out=changed[:, *box])
        return changed, label
