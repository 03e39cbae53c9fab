"""Transform: what a change of a sample is. It draws parameters; they alone, without it, are applied and undone."""

from __future__ import annotations

from inspect import signature
from typing import Any, ClassVar

import numpy as np

from ...arguments import number
from ...errors import ArgumentError, mismatch
from .draws import Draws

Sample = tuple[np.ndarray, np.ndarray | None]  # image (C, spatial), label map ([L,] spatial)


class Transform:
    """A random change of a sample. A subclass is found by the name of its class when a record is replayed.

    Args:
        probability: of being applied at all, drawn for each sample.

    A subclass has ``draw`` and two functions of its parameters, ``apply`` and, where positions change and can be had
    back, ``undo``. Neither writes into its arrays; what they return may be views of them.

    >>> class Negative(Transform):
    ...     def draw(self, draws, spatial, spacing):
    ...         return {"about": draws.uniform(0, 1)}
    ...
    ...     @staticmethod
    ...     def apply(image, label, *, about):
    ...         return about - image, label
    >>> sorted(Negative.parameters)
    ['about']
    """

    known: ClassVar[dict[str, type[Transform]]] = {}
    parameters: ClassVar[frozenset[str]] = frozenset()  # what a step of a record must hold

    def __init__(self, *, probability: float = 1.0) -> None:
        self.probability = number(type(self).__name__, "probability", probability, 0, 1)

    def __init_subclass__(cls) -> None:
        if "apply" not in vars(cls):  # what several share
            return
        name = cls.__name__
        other = Transform.known.setdefault(name, cls)
        if other.__module__ != cls.__module__:  # the same name in one module: it was run again
            raise ArgumentError(mismatch("Transform", f"a name other than {name}, known from {other.__module__}", name))
        Transform.known[name] = cls
        given = signature(cls.apply).parameters.values()
        cls.parameters = frozenset(p.name for p in given if p.kind is p.KEYWORD_ONLY)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    def draw(self, draws: Draws, spatial: tuple[int, ...], spacing: tuple[float, ...]) -> dict[str, Any]:
        """Return the parameters for a sample of these sizes and millimetres a voxel: plain JSON, lists for tuples."""
        raise NotImplementedError

    @staticmethod
    def apply(image: np.ndarray, label: np.ndarray | None) -> Sample:
        """Return image and label map changed. Parameters are keyword-only arguments."""
        raise NotImplementedError

    @staticmethod
    def undo(image: np.ndarray, label: np.ndarray | None, **parameters: Any) -> Sample:
        """Return them with every voxel back in its place. Intensities stay: what changes only them has no ``undo``."""
        return image, label
