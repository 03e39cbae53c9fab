"""Frame: how a case becomes what a network takes. It is fitted to the training cases and kept beside the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...errors import DataError, mismatch
from .case import Case
from .columns import Column, restore
from .read import Picture, read_image, read_mask
from .resample import nearest, resized

IGNORED = -100  # the class of what stands around a padded mask: cross_entropy leaves it out


@dataclass(frozen=True, slots=True)
class Frame:
    """Channels and sizes that every image is brought to, its mean and deviation by channel, classes and columns.

    ``values`` are what masks hold for each class; ``fixed``: sizes other than ``size`` are brought to it, else refused.
    """

    task: str
    classes: tuple[str, ...]
    channels: int
    size: tuple[int, ...]
    fixed: bool
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    values: tuple[int, ...] = ()
    columns: tuple[Column, ...] = ()
    missing: str = "refuse"

    @property
    def scores(self) -> int:
        """How many demographic numbers a case has."""
        return sum(column.width for column in self.columns)

    def image(self, case: Case, picture: Picture | None = None, strict: bool = True) -> np.ndarray:
        """Return a case's image (C, *size), resampled where its size is another, its numbers as they are; C is
        ``channels``, or 1 where a grey one stands for all of them.

        Args:
            picture: the image, where it has been read already.
            strict: refuse another size where the frame has none that is asked for; else keep it.

        Raises:
            DataError: what ``read_image`` raises, another rank, other channels or another size.
        """
        data = (picture or read_image(case)).data
        if data.ndim != len(self.size) + 1:
            wanted = f"{case.where} to have {len(self.size)} axes, as others have"
            raise DataError(mismatch("data", wanted, "x".join(map(str, data.shape[1:]))))
        if len(data) != self.channels and len(data) != 1:
            raise DataError(mismatch("data", f"{case.where} to have {self.channels} channels", len(data)))
        if data.shape[1:] == self.size:
            return data
        if self.fixed:
            return resized(data, self.size)
        if strict:
            wanted, found = ("x".join(map(str, sizes)) for sizes in (self.size, data.shape[1:]))
            raise DataError(mismatch("data", f"{case.where} to have {wanted} pixels, as others (or --size)", found))
        return data

    def normalised(self, image: np.ndarray, dtype: Any) -> np.ndarray:
        """Return an image (channels, *size) in ``dtype``, minus the mean and over the deviation of its channels."""
        lift = (slice(None), *[None] * (image.ndim - 1))
        out = np.broadcast_to(image, (self.channels, *image.shape[1:])).astype(dtype, order="C")
        out -= np.asarray(self.mean, dtype)[lift]
        out *= np.asarray([1 / s for s in self.std], dtype)[lift]
        return out

    def mask(self, case: Case, picture: Picture) -> np.ndarray:
        """Return a case's mask as classes, in the frame's size.

        Raises:
            DataError: what ``read_mask`` raises; a value that is no class.
        """
        found = read_mask(case, picture)
        values = np.asarray(self.values)
        places = np.searchsorted(values, found).clip(max=len(values) - 1)
        wrong = values[places] != found
        if wrong.any():
            known = ", ".join(map(str, self.values))
            where = tuple(int(i) for i in np.unravel_index(int(wrong.argmax()), found.shape))
            raise DataError(
                mismatch("data", f"{case.target} to hold the classes {known}", f"{found[where]} at {where}")
            )
        return nearest(places, self.size) if self.fixed else places

    def numbers(self, case: Case) -> list[float]:
        """Return a case's demographic numbers. Errors as ``Column.encode``."""
        pairs = zip(self.columns, case.values, strict=True)
        return [n for column, text in pairs for n in column.encode(text, case.where, self.missing)]

    def fitted(self, **known: Any) -> Frame:
        """Return the frame with more known of it."""
        return replace(self, **known)

    def plain(self) -> dict[str, Any]:
        """Return it as plain values, for ``restored``."""
        every = {name: getattr(self, name) for name in Frame.__slots__}
        plain = {name: list(v) if isinstance(v, tuple) else v for name, v in every.items()}
        return {**plain, "columns": [column.plain() for column in self.columns]}


def restored(plain: dict[str, Any]) -> Frame:
    """Return the frame of which ``plain`` tells.

    >>> frame = Frame("classify", ("a", "b"), 1, (8, 8), True, columns=(Column("age"),))
    >>> restored(frame.plain()) == frame
    True
    """
    every = {name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()}
    return Frame(**{**every, "columns": tuple(restore(column) for column in plain["columns"])})


def pad(array: np.ndarray, multiple: int, axes: int, value: float) -> np.ndarray:
    """Return ``array`` with its last ``axes`` axes filled up behind to multiples of ``multiple``.

    >>> pad(np.ones((1, 3)), 2, 1, 0.0)
    array([[1., 1., 1., 0.]])
    """
    more = [(0, 0)] * (array.ndim - axes) + [(0, -size % multiple) for size in array.shape[-axes:]]
    return np.pad(array, more, constant_values=value) if any(after for _, after in more) else array


def stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Return arrays of one shape as a batch."""
    return np.stack(arrays) if len(arrays) > 1 else arrays[0][None]
