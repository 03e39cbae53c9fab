"""Mini-batches of a part of the user's cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..loader import Batches
from ..philox import LIMIT, words
from .dataset import CaseSet
from .frame import IGNORED, pad, stacked

Augment = Callable[..., tuple[np.ndarray, Any]]


class CaseBatches(Batches):
    """Batches ``(image (N, C, *size), target)``, the input ``(image, scores (N, S))`` where cases have scores.

    Targets are int64, (N,) of classes, or masks (N, *size). Sizes are filled up to multiples of ``multiple``, images
    with 0 and masks with the class that counts nothing.

    Args:
        limit: take only so many cases, drawn by the seed.
        augment: called with a normalised image (C, *size), its mask or None, ``epoch=``, ``index=`` (of the sample)
            and ``spacing=`` (millimetres, or None); returns both anew. It must depend on these alone.
    """

    def __init__(
        self, data: CaseSet, part: str, batch_size: int, *, multiple: int = 1, shuffle: bool = True, seed: int = 0,
        dtype: str = "float32", limit: int | None = None, augment: Augment | None = None,
    ) -> None:  # fmt: skip
        self.data, self.part, self.split = data, part, data.parts[part]
        self.chosen = np.arange(len(self.split))
        if limit and limit < len(self.split):
            drawn = words(seed, LIMIT, 0, 0).random_raw(len(self.split))
            self.chosen = np.sort(np.argsort(drawn, kind="stable")[:limit])
        super().__init__(len(self.chosen), batch_size, shuffle=shuffle, seed=seed)
        self.multiple, self.dtype, self.augment = multiple, np.dtype(dtype), augment

    def batch(self, index: np.ndarray, epoch: int) -> tuple[Any, np.ndarray]:
        images, masks = [], []
        index = self.chosen[index]
        rank = len(self.data.frame.size)
        for i in index.tolist():
            image, mask, spacing = self.data.sample(self.part, i)
            image = self.data.frame.normalised(image, self.dtype)
            mask = None if mask is None else mask.astype(np.int64)
            if self.augment is not None:
                image, mask = self.augment(image, mask, epoch=epoch, index=i, spacing=spacing)
            images.append(pad(image, self.multiple, rank, 0))
            if mask is not None:
                masks.append(pad(mask, self.multiple, rank, IGNORED))
        x = stacked(images)
        target = stacked(masks) if masks else self.split.labels[index]
        return (x, self.split.scores[index].astype(self.dtype)) if self.data.frame.scores else x, target
