"""MedMNIST v2: 18 small medical data sets with official splits, as one .npz file each.

Yang et al. 2023, https://doi.org/10.1038/s41597-022-01721-8; https://medmnist.com. Licences: CC BY 4.0, DermaMNIST
CC BY-NC 4.0. Checksums are the publishers' MD5, and SHA-256 where we had the file to compute it from.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import config
from ..errors import ArgumentError, DataError, mismatch
from .npz import read_npz

BINARY, MULTI_LABEL, MULTI_CLASS, ORDINAL = (
    "binary-class", "multi-label, binary-class", "multi-class", "ordinal-regression",
)  # fmt: skip


class Entry(NamedTuple):
    """What the publishers say of a set: its task, classes, channels, samples (train, val, test), MD5."""

    task: str
    classes: int
    channels: int
    samples: tuple[int, int, int]
    md5: str
    sha256: str | None = None


CATALOGUE = {
    "pathmnist": Entry(MULTI_CLASS, 9, 3, (89996, 10004, 7180), "a8b06965200029087d5bd730944a56c1"),
    "chestmnist": Entry(MULTI_LABEL, 14, 1, (78468, 11219, 22433), "02c8a6516a18b556561a56cbdd36c4a8"),
    "dermamnist": Entry(MULTI_CLASS, 7, 3, (7007, 1003, 2005), "0744692d530f8e62ec473284d019b0c7"),
    "octmnist": Entry(MULTI_CLASS, 4, 1, (97477, 10832, 1000), "c68d92d5b585d8d81f7112f81e2d0842"),
    "pneumoniamnist": Entry(BINARY, 2, 1, (4708, 524, 624), "28209eda62fecd6e6a2d98b1501bb15f"),
    "retinamnist": Entry(ORDINAL, 5, 3, (1080, 120, 400), "bd4c0672f1bba3e3a89f0e4e876791e4"),
    "breastmnist": Entry(
        BINARY, 2, 1, (546, 78, 156), "750601b1f35ba3300ea97c75c52ff8f6",
        "3a22d2a4625e7dd8903f0f59030e81a3d0c222bece2e5e10927456cb50efdec1",
    ),
    "bloodmnist": Entry(MULTI_CLASS, 8, 3, (11959, 1712, 3421), "7053d0359d879ad8a5505303e11de1dc"),
    "tissuemnist": Entry(MULTI_CLASS, 8, 1, (165466, 23640, 47280), "ebe78ee8b05294063de985d821c1c34b"),
    "organamnist": Entry(MULTI_CLASS, 11, 1, (34561, 6491, 17778), "68e3f8846a6bd62f0c9bf841c0d9eacc"),
    "organcmnist": Entry(MULTI_CLASS, 11, 1, (12975, 2392, 8216), "b9ceb9546e10131b32923c5bbeaea2b1"),
    "organsmnist": Entry(MULTI_CLASS, 11, 1, (13932, 2452, 8827), "9ab87b696fb54e2a387ebe992d6ed5f1"),
    "organmnist3d": Entry(MULTI_CLASS, 11, 1, (971, 161, 610), "a0c5a1ff56af4f155c46d46fbb45a2fe"),
    "nodulemnist3d": Entry(BINARY, 2, 1, (1158, 165, 310), "8755a7e9e05a4d9ce80a24c3e7a256f3"),
    "adrenalmnist3d": Entry(
        BINARY, 2, 1, (1188, 98, 298), "bbd3c5a5576322bc4cdfea780653b1ce",
        "8ffd78c0f000265deb7cf4ee0b454136fb3170f9839ecaa7bb01adf9f88aa7d1",
    ),
    "fracturemnist3d": Entry(MULTI_CLASS, 3, 1, (1027, 103, 240), "6aa7b0143a6b42da40027a9dda61302f"),
    "vesselmnist3d": Entry(BINARY, 2, 1, (1335, 191, 382), "b41fd4f7e7e2feedddb201585ecafa1b"),
    "synapsemnist3d": Entry(BINARY, 2, 1, (1230, 177, 352), "1235b78a3cd6280881dd7850a78eadb6"),
}  # fmt: skip
_PARTS = ("train", "val", "test")


class Part(NamedTuple):
    """``images`` uint8 (N, C, H, W) or (N, C, D, H, W); ``labels`` int64 (N,), or (N, L) where a sample has several."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, slots=True)
class MedMNIST:
    """A data set in its official splits. ``task`` is None where the file is none of the catalogue's."""

    name: str
    task: str | None
    train: Part
    val: Part
    test: Part


def load(name: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> MedMNIST:
    """Return a set by name (``"breastmnist"``) or the file at a path.

    A name is looked for as ``name.npz`` in ``folder`` or ``folder/medmnist``; without ``folder``, in FASTCONV_DATA, the
    cache and ``~/.medmnist``. Its checksum must hold; a file given by its path is taken as it is.

    Raises:
        ArgumentError: an unknown name.
        DataError: no such file, a wrong checksum, or arrays that are not those of MedMNIST; the message names the file.
    """
    if str(name).endswith(".npz"):
        return read(name)
    if name not in CATALOGUE:
        raise ArgumentError(mismatch("medmnist", f"one of {', '.join(CATALOGUE)}, or a path", repr(name)))
    places = [folder] if folder else [config.data_dir(), config.cache_dir(), Path.home() / ".medmnist"]
    candidates = [Path(p) / sub / f"{name}.npz" for p in places if p for sub in ("medmnist", "")]
    path = next((p for p in candidates if p.is_file()), None)
    if path is None:
        url = f"https://zenodo.org/records/10519652/files/{name}.npz"
        found = "none there, nor in " + ", ".join(str(p) for p in candidates[1:]) + f"; it can be had from {url}"
        raise DataError(mismatch("medmnist", f"a file {candidates[0]}", found))
    entry, data = CATALOGUE[name], path.read_bytes()
    if entry.sha256:
        wanted, found = entry.sha256, hashlib.sha256(data).hexdigest()
    else:
        wanted, found = entry.md5, hashlib.md5(data, usedforsecurity=False).hexdigest()
    if wanted != found:
        raise DataError(mismatch("medmnist", f"{path} to have checksum {wanted}", found))
    return read(path)


def read(path: str | os.PathLike[str]) -> MedMNIST:
    """Return the set in an .npz file of MedMNIST's layout.

    Raises:
        DataError: the file is damaged, lacks an array, or an array has another shape or dtype than it should.
    """
    path = Path(path)
    arrays = read_npz(path)
    name = path.stem.partition("_")[0]
    entry = CATALOGUE.get(name)
    channels = entry.channels if entry else None
    parts = [_part(path, part, arrays, channels) for part in _PARTS]
    if len({(part.images.ndim, part.images.shape[1], part.labels.shape[1:]) for part in parts}) != 1:
        shapes = ", ".join(f"{part.images.shape}, {part.labels.shape}" for part in parts)
        raise DataError(mismatch("medmnist", f"{path} to hold three parts of one kind", shapes))
    return MedMNIST(name, entry.task if entry else None, *parts)


def _part(path: Path, part: str, arrays: dict[str, np.ndarray], channels: int | None) -> Part:
    for what in ("images", "labels"):
        if f"{part}_{what}" not in arrays:
            raise DataError(mismatch("medmnist", f"{path} to hold {part}_{what}", f"only {', '.join(arrays)}"))
    images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    colour = channels == 3 or (channels is None and images.ndim == 4 and images.shape[-1] == 3)
    if images.dtype != np.uint8 or images.ndim not in ((4,) if colour else (3, 4)) or not images.size:
        expected = f"{part}_images in {path} to be uint8 (N, H, W{', 3' if colour else '), or (N, D, H, W'})"
        raise DataError(mismatch("medmnist", expected, f"{images.dtype} {images.shape}"))
    if labels.dtype.kind not in "iu" or labels.ndim != 2 or len(labels) != len(images):
        expected = f"{part}_labels in {path} to be integers ({len(images)}, L)"
        raise DataError(mismatch("medmnist", expected, f"{labels.dtype} {labels.shape}"))
    labels = labels.astype(np.int64)
    images = np.ascontiguousarray(np.moveaxis(images, -1, 1)) if colour else images[:, None]
    return Part(images, labels[:, 0] if labels.shape[1] == 1 else labels)
