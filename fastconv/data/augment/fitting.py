"""The door from a pipeline to ``training.fit``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...arguments import integer
from ...errors import ArgumentError, ShapeError, mismatch
from .compose import Compose, replay


def batches(
    pipeline: Compose, *, images: Sequence[int] = (0,), spacing: Sequence[float] | None = None
) -> Callable[..., tuple[tuple[Any, ...], Any]]:
    """Return what ``training.fit`` takes as ``augment``: it changes every sample of a batch by ``pipeline``.

    A sample's numbers depend on the pipeline's seed, what fit's generator says of seed, epoch and batch, and the
    sample's place in the batch. A target (N, spatial) or (N, L, spatial) of the image's sizes is a label map and
    changes with it; any other goes by.

    Args:
        images: which of the model's inputs are images of one sample; all change as the first does.
        spacing: millimetres of the images' voxels, the same for all; None: as in a call of the pipeline.

    >>> import fastconv as fc
    >>> from fastconv.data import augment
    >>> x, classes = np.zeros((4, 1, 8, 8), np.float32), np.array([0, 1, 1, 0])
    >>> model = fc.nn.Sequential(fc.nn.Flatten(), fc.nn.Linear(64, 2))
    >>> hook = augment.batches(augment.Compose([augment.Flip()], seed=1))
    >>> len(fc.training.fit(model, x, classes, epochs=2, augment=hook))
    2
    """
    if not isinstance(pipeline, Compose):
        raise ArgumentError(mismatch("batches", "pipeline to be a Compose", repr(pipeline)))
    places = tuple(integer("batches", "images", place, 0) for place in images)
    if not places:
        raise ArgumentError(mismatch("batches", "images to name an input", repr(images)))

    def change(generator: np.random.Generator, *given: Any) -> tuple[tuple[Any, ...], Any]:
        *inputs, target = given
        if max(places) >= len(inputs):
            raise ShapeError(mismatch("batches", f"at least {max(places) + 1} inputs", len(inputs)))
        first, *others = places
        main, goal = np.asarray(inputs[first]), target
        spatial = main.shape[2:]
        is_map = isinstance(target, np.ndarray) and target.shape[-len(spatial) :] == spatial
        is_map = is_map and target.ndim in (main.ndim - 1, main.ndim)
        key = int(generator.integers(2**63 - 1))
        inputs[first], changed, records = pipeline.batch(
            main, target if is_map else None, epoch=key, indices=range(len(main)), spacing=spacing
        )
        for place in others:
            parts = [replay(record, image)[0] for record, image in zip(records, inputs[place], strict=True)]
            inputs[place] = np.stack(parts) if parts else inputs[place]
        return tuple(inputs), changed if is_map else goal

    return change
