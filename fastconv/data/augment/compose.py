"""Compose: transforms one after the other, with the record of what was drawn; replaying and undoing such a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...arguments import integer
from ...errors import ArgumentError, DataError, DTypeError, FastconvError, ShapeError, mismatch
from .draws import sample_draws
from .ranges import finite
from .transform import Transform

Record = dict[str, Any]  # version, spatial and steps [{"transform": name, parameter: value}]: plain JSON
_VERSION = 1


class Compose:
    """Transforms applied in turn. What is drawn depends on seed, epoch, index and the place in the list alone.

    Args:
        transforms: the transforms, first to last.
        seed: below 2**64.

    Calling it returns ``(image, label, record)``: new C-contiguous arrays, and plain JSON data from which ``replay``
    makes the same bits again. A label map has a value for each voxel; a class of the whole sample stays outside.

    Raises:
        ShapeError: an image that is not (C, H, W) or (C, D, H, W), without voxels, or a label map that does not fit.
        DTypeError: an image other than float32 and float64.
        ArgumentError: an option, epoch, index or spacing that is none.

    >>> from fastconv.data import augment
    >>> pipeline = augment.Compose([augment.Flip(axes=(1,), chance=1.0)], seed=0)
    >>> image, _, record = pipeline(np.arange(4.0).reshape(1, 2, 2), epoch=3, index=17)
    >>> image.tolist()
    [[[2.0, 3.0], [0.0, 1.0]]]
    >>> record
    {'version': 1, 'spatial': [2, 2], 'steps': [{'transform': 'Flip', 'axes': [-2]}]}
    """

    def __init__(self, transforms: Sequence[Transform], *, seed: int = 0) -> None:
        self.transforms = tuple(transforms)
        for place, one in enumerate(self.transforms):
            if not isinstance(one, Transform):
                raise ArgumentError(mismatch("Compose", f"transforms[{place}] to be a Transform", repr(one)))
        self.seed = integer("Compose", "seed", seed, 0, 2**64 - 1)

    def __repr__(self) -> str:
        return f"Compose({list(self.transforms)!r}, seed={self.seed})"

    def __call__(
        self, image: Any, label: Any = None, *, epoch: int = 0, index: int = 0, spacing: Sequence[float] | None = None
    ) -> tuple[np.ndarray, np.ndarray | None, Record]:
        """Change one sample: image (C, spatial), label map ([L,] spatial), mm a voxel for each spatial axis (1)."""
        op = "Compose"
        epoch, index = integer(op, "epoch", epoch, 0), integer(op, "index", index, 0)
        image, label = x, t = _sample(op, image, label)
        size = _spacing(op, spacing, x.ndim - 1)
        steps: list[dict[str, Any]] = []
        draws = sample_draws(self.seed, epoch, index, len(self.transforms))
        for transform, own in zip(self.transforms, draws, strict=True):
            if own.uniform(0, 1) < transform.probability:
                parameters = transform.draw(own, x.shape[1:], size)
                x, t = transform.apply(x, t, **parameters)
                steps.append({"transform": type(transform).__name__, **parameters})
        record = {"version": _VERSION, "spatial": list(image.shape[1:]), "steps": steps}
        return _own(x, image), _own(t, label), record

    def batch(
        self, images: Any, labels: Any = None, *, epoch: int = 0, indices: Sequence[int],
        spacing: Sequence[float] | None = None,
    ) -> tuple[np.ndarray, np.ndarray | None, list[Record]]:  # fmt: skip
        """Change the samples of a batch: images (N, C, spatial), label maps (N, [L,] spatial), and the data set's index
        of each. A sample's result is the same in any batch.

        >>> from fastconv.data import augment
        >>> images, _, records = augment.Compose([augment.Rotate90()]).batch(np.zeros((2, 1, 4, 4)), indices=[5, 9])
        >>> images.shape, len(records)
        ((2, 1, 4, 4), 2)
        """
        op = "Compose.batch"
        images = np.asarray(images)
        maps: Any = [None] * len(indices) if labels is None else np.asarray(labels)
        if images.ndim not in (4, 5) or len(images) != len(indices) or len(images) != len(maps):
            expected = f"images (N, C, spatial), and labels, of {len(indices)} samples, as indices has"
            actual = f"shape {images.shape}" + ("" if labels is None else f" and {maps.shape}")
            raise ShapeError(mismatch(op, expected, actual))
        if not len(images):  # no sample has the shape that any other would have
            one = None if labels is None else np.zeros((1, *maps.shape[1:]), maps.dtype)
            x, t, _ = self.batch(np.zeros((1, *images.shape[1:]), images.dtype), one, indices=[0], spacing=spacing)
            return x[:0], None if t is None else t[:0], []
        done = [
            self(image, label, epoch=epoch, index=index, spacing=spacing)
            for image, label, index in zip(images, maps, indices, strict=True)
        ]
        x, t, records = zip(*done, strict=True)
        return np.stack(x), None if labels is None else np.stack(t), list(records)


def replay(record: Record, image: Any, label: Any = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Apply what a record says to an image and a label map of the sizes it was made with; to those it was made with,
    the result has the same bits.

    Raises:
        DataError: it is no record, or one of an unknown transform.
        ShapeError: other spatial sizes than the record's.

    >>> flip = {"version": 1, "spatial": [1, 2], "steps": [{"transform": "Flip", "axes": [-1]}]}
    >>> replay(flip, np.array([[[1., 2.]]]))
    (array([[[2., 1.]]]), None)
    """
    image, label = _sample("replay", image, label)
    steps = _steps("replay", record)
    if list(image.shape[1:]) != record["spatial"]:
        raise ShapeError(mismatch("replay", f"image (C, {record['spatial']}), as record has", f"shape {image.shape}"))
    return _run("replay", "apply", steps, image, label)


def inverse(record: Record, image: Any, label: Any = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Undo the spatial changes of a record, the last first: predictions on a changed image go back to the original's
    voxels. Changes of intensity stay.

    Flips and rotations by 90 degrees are undone exactly; a crop leaves padding, an affine map interpolates twice.
    Any number of channels fits.

    Raises:
        DataError: it is no record, or one of an unknown transform.
        ArgumentError: a step that cannot be undone (Elastic).

    >>> flip = {"version": 1, "spatial": [1, 2], "steps": [{"transform": "Flip", "axes": [-1]}]}
    >>> inverse(flip, np.array([[[2., 1.]]]))
    (array([[[1., 2.]]]), None)
    """
    image, label = _sample("inverse", image, label)
    steps = _steps("inverse", record)
    if image.ndim - 1 != len(record["spatial"]):
        raise ShapeError(mismatch("inverse", f"image of {len(record['spatial'])} spatial axes", f"shape {image.shape}"))
    return _run("inverse", "undo", steps[::-1], image, label)


def _run(op: str, verb: str, steps: Sequence[Any], image: np.ndarray, label: np.ndarray | None) -> tuple:
    x, t = image, label
    for cls, parameters in steps:
        try:
            x, t = getattr(cls, verb)(x, t, **parameters)
        except FastconvError:
            raise
        except (TypeError, ValueError, IndexError, KeyError) as error:  # values that Compose never writes
            raise DataError(mismatch(op, f"{cls.__name__} with parameters of its kind", f"{parameters}")) from error
    return _own(x, image), _own(t, label)


def _steps(op: str, record: Any) -> list[tuple[type[Transform], dict[str, Any]]]:
    if not isinstance(record, dict) or not {"version", "spatial", "steps"} <= record.keys():
        raise DataError(mismatch(op, "record with version, spatial and steps", repr(record)[:200]))
    if record["version"] != _VERSION:
        raise DataError(mismatch(op, f"record of version {_VERSION}", repr(record["version"])))
    if not isinstance(record["spatial"], list) or not isinstance(record["steps"], list):
        raise DataError(mismatch(op, "record with lists spatial and steps", repr(record)[:200]))
    steps = []
    for place, step in enumerate(record["steps"]):
        parameters = dict(step) if isinstance(step, dict) else {}
        cls = Transform.known.get(str(parameters.pop("transform", None)))
        if cls is None:
            raise DataError(mismatch(op, f"steps[{place}] to name a known transform", repr(step)[:200]))
        if parameters.keys() != cls.parameters:
            expected = f"steps[{place}], {cls.__name__}, with {sorted(cls.parameters)}"
            raise DataError(mismatch(op, expected, sorted(map(str, parameters))))
        steps.append((cls, parameters))
    return steps


def _sample(op: str, image: Any, label: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Check a sample, and return it contiguous, in native byte order: strides must not change a sum's order."""
    image = np.asarray(image)
    if image.ndim not in (3, 4):
        raise ShapeError(mismatch(op, "image (C, H, W) or (C, D, H, W)", f"shape {image.shape}"))
    if image.dtype.kind != "f" or image.dtype.itemsize not in (4, 8):
        raise DTypeError(mismatch(op, "image float32 or float64", image.dtype))
    if not image.size:
        raise ShapeError(mismatch(op, "image with channels and voxels", f"shape {image.shape}"))
    if label is not None:
        label = np.asarray(label)
        rank = image.ndim - 1
        if label.ndim not in (rank, rank + 1) or label.shape[-rank:] != image.shape[1:]:
            raise ShapeError(mismatch(op, f"label ([L,] {image.shape[1:]}), as image has", f"shape {label.shape}"))
        label = _native(label)
    return _native(image), label


def _native(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _own(array: np.ndarray | None, given: np.ndarray | None) -> Any:
    """Return ``array`` contiguous and apart from the caller's."""
    if array is None or (array is not given and array.base is None and array.flags.c_contiguous):
        return array
    return array.copy()


def _spacing(op: str, spacing: Any, rank: int) -> tuple[float, ...]:
    if spacing is None:
        return (1.0,) * rank
    given = tuple(spacing)
    if len(given) != rank:
        raise ShapeError(mismatch(op, f"spacing of {rank} entries, as image has spatial axes", repr(spacing)))
    return tuple(finite(op, "spacing", entry, 1e-6, 1e6) for entry in given)
