"""Masks over images: the cases that went worst, their true outline and what was found. Of volumes the slice that has
most of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..data.cases import CaseSet
from ..plots import figure, write
from .task import score

_COLUMNS = 4
_COLOURS = (  # told apart by the colour-blind too (Okabe and Ito 2008, https://jfly.uni-koeln.de/color/)
    (0.00, 0.00, 0.00), (0.90, 0.60, 0.00), (0.34, 0.71, 0.91), (0.00, 0.62, 0.45), (0.94, 0.89, 0.26),
    (0.00, 0.45, 0.70), (0.84, 0.37, 0.00), (0.80, 0.47, 0.65),
)  # fmt: skip


def view(image: np.ndarray, index: int | None = None) -> np.ndarray:
    """Return an image (C, H, W), or a slice (by default the middle one) of a volume (C, D, H, W), as a picture.

    Three channels are colours, of others the first is shown; the darkest pixel is 0, the brightest 1.

    >>> view(np.array([[[2.0, 4.0]]]))
    array([[0., 1.]])
    """
    if image.ndim == 4:
        image = image[:, image.shape[1] // 2 if index is None else index]
    image = image.astype(np.float64)
    image = image - image.min()
    image /= max(float(image.max()), np.finfo(np.float64).tiny)
    return np.moveaxis(image, 0, -1) if len(image) == 3 else image[0]


def draw(data: CaseSet, part: str, found: np.ndarray, dice: np.ndarray, path: Path, most: int) -> None:
    """Draw the ``most`` cases of lowest score: what was found in colour, the outline of the truth as a line."""
    ranked = np.array([score(row) for row in dice])
    worst = np.argsort(ranked, kind="stable")[:most]
    rows = -(-len(worst) // _COLUMNS)
    drawn = figure(3 * _COLUMNS, 3.2 * rows + 0.5)
    drawn.suptitle("lowest Dice: found in colour, true outline as a line", fontsize=10)
    for place, index in enumerate(worst.tolist()):
        image, true, _ = data.sample(part, index)
        mask = found[index][tuple(map(slice, true.shape))]
        chosen = None
        if true.ndim == 3:
            chosen = int(((true > 0) | (mask > 0)).sum(axis=(1, 2)).argmax())
            true, mask = true[chosen], mask[chosen]
        axes = drawn.add_subplot(rows, _COLUMNS, place + 1)
        axes.imshow(view(image, chosen), cmap="gray", vmin=0, vmax=1)
        _masks(axes, true, mask, len(data.classes))
        axes.set_axis_off()
        name = data.parts[part].cases[index].name
        axes.set_title(f"{name[-28:]}  {ranked[index]:.3f}", fontsize=8)
    write(drawn, path)


def _masks(axes: Any, true: np.ndarray, mask: np.ndarray, classes: int) -> None:
    colours = np.array(_COLOURS)[np.arange(classes) % len(_COLOURS)]
    layer = np.concatenate([colours[mask], np.where(mask > 0, 0.45, 0.0)[..., None]], axis=-1)
    axes.imshow(layer, interpolation="nearest")
    for k in range(1, classes):
        if (true == k).any() and min(true.shape) > 1:
            axes.contour(true == k, levels=[0.5], colors=[colours[k]], linewidths=1.2)
