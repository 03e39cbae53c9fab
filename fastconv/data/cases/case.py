"""A case: one image or volume of the user's, what is known of it, and where that was said. Reading it is read.py's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PARTS = ("train", "val", "test")
ALIASES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif")
VOLUMES = (".nii", ".nii.gz", ".npy")


@dataclass(frozen=True, slots=True)
class Case:
    """``name`` tells it from others and does not change when the folder moves; ``where`` is what messages call it.

    ``target`` is a class, or a mask; ``values`` are the texts of its demographic columns, in their order.
    """

    name: str
    image: Path | np.ndarray
    where: str
    target: str | Path | None = None
    part: str | None = None
    group: str | None = None
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """The cases found at ``source``, and the names of their demographic columns."""

    source: Path
    cases: list[Case]
    columns: tuple[str, ...] = ()


def suffix(path: str | os.PathLike[str]) -> str:
    """Return a file's suffix in lower case, that of NIfTI whole.

    >>> suffix("a/Scan.1.NII.gz"), suffix("b.JPG")
    ('.nii.gz', '.jpg')
    """
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def stem(path: str | os.PathLike[str]) -> str:
    """Return a file's name without its suffix.

    >>> stem("a/Scan.1.NII.gz")
    'Scan.1'
    """
    return Path(path).name[: -len(suffix(path)) or None]
