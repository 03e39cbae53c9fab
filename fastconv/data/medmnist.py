"""MedMNIST v2 and MedMNIST+: 18 small medical data sets with official splits, as one .npz file for each and each size.

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
LARGER = {  # MD5 of the same samples at 64, 128 and 224 pixels a side
    "pathmnist": "55aa9c1e0525abe5a6b9d8343a507616 ac42d08fb904d92c244187169d1fd1d9 2c51a510bcdc9cf8ddb2af93af1eadec",
    "chestmnist": "9de6cd0b934ebb5b7426cfba5efbae16 db107e5590b27930b62dbaf558aebee3 45bd33e6f06c3e8cdb481c74a89152aa",
    "dermamnist": "b70a2f5635c6199aeaa28c31d7202e1f 2defd784463fa5243564e855ed717de1 8974907d8e169bef5f5b96bc506ae45d",
    "octmnist": "e229e9440236b774d9f0dfef9d07bdaf 0a97e76651ace45c5d943ee3f65b63ae abc493b6d529d5de7569faaef2773ba3",
    "pneumoniamnist": (
        "8f4eceb4ccffa70c672198ea285246c6 05b46931834c231683c68f40c47b2971 d6a3c71de1b945ea11211b03746c1fe1"
    ),
    "retinamnist": "afda852cc34dcda56f86ad2b2457dbcc e48e916a24454daf90583d4e6efb1a18 eae7e3b6f3fcbda4ae613ebdcbe35348",
    "breastmnist": "742edef2a1fd1524b2efff4bd7ba9364 363e4b3f8d712e9b5de15470a2aaadf1 b56378a6eefa9fed602bb16d192d4c8b",
    "bloodmnist": "2b94928a2ae4916078ca51e05b6b800b adace1e0ed228fccda1f39692059dd4c b718ff6835fcbdb22ba9eacccd7b2601",
    "tissuemnist": "123ece2eba09d0aa5d698fda57103344 61b955355d7425a89687b06cca3ce0c2 b077128c4a949f0a4eb01517f9037b9c",
    "organamnist": "2dcccc29b88e6da5a01161ef20cda288 eeae80d0a227a8d099027e1b3cfd3b60 50747347e05c87dd3aaf92c49f9f3170",
    "organcmnist": "3ce34a8724ea6f548e6db4744d03b6a9 773c1f009daa3fe5d9a2a201b2a7ed94 050f5e875dc056f6768abf94ec9995d1",
    "organsmnist": "53a6d115339d874c25e309a994ff46d3 ded0c5fa01a95dc4978b956f613e9b8e b354719e553fbbb2513d5533f52a4cb1",
    "organmnist3d": "58a2205adf14a9d0a189cb06dc78bf10",
    "nodulemnist3d": "c47c5b7d457bf6332200d2ea6d64ecd8",
    "adrenalmnist3d": "17721accfe9fb005146a47d33bc54b2f",
    "fracturemnist3d": "f01d7e6316aedf4210da0da5b7437b42",
    "vesselmnist3d": "6bb274a8846e1097066dcd64e2c4520f",
    "synapsemnist3d": "43bd14ebf3af9d3dd072446fedc14d5e",
}
_SIZES = ("64", "128", "224")
_PARTS = ("train", "val", "test")


class Part(NamedTuple):
    """``images`` uint8 (N, C, H, W) or (N, C, D, H, W); ``labels`` int64 (N,), or (N, L) where a sample has several."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, slots=True)
class MedMNIST:
    """A data set in its official splits. ``task`` is None where the file is none of the catalogue's; ``name`` has no
    size: that is the images'."""

    name: str
    task: str | None
    train: Part
    val: Part
    test: Part


def load(name: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> MedMNIST:
    """Return a set by name (``"breastmnist"``, ``"breastmnist_64"`` for images of 64 x 64) or the file at a path.

    A name is looked for as ``name.npz`` in ``folder`` or ``folder/medmnist``; without ``folder``, in FASTCONV_DATA, the
    cache and ``~/.medmnist``. Its checksum must hold; a file given by its path is taken as it is.

    Raises:
        ArgumentError: an unknown name.
        DataError: no such file, a wrong checksum, or arrays that are not those of MedMNIST; the message names the file.
    """
    if str(name).endswith(".npz"):
        return read(name)
    algorithm, wanted = _checksum(str(name))
    places = [folder] if folder else [config.data_dir(), config.cache_dir(), Path.home() / ".medmnist"]
    candidates = [Path(p) / sub / f"{name}.npz" for p in places if p for sub in ("medmnist", "")]
    path = next((p for p in candidates if p.is_file()), None)
    if path is None:
        url = f"https://zenodo.org/records/10519652/files/{name}.npz"
        found = "none there, nor in " + ", ".join(str(p) for p in candidates[1:]) + f"; it can be had from {url}"
        raise DataError(mismatch("medmnist", f"a file {candidates[0]}", found))
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    if wanted != found:
        raise DataError(mismatch("medmnist", f"{path} to have the {algorithm} checksum {wanted}", found))
    return read(path)


def _checksum(name: str) -> tuple[str, str]:
    """Return the algorithm and the sum of a file of the catalogue: SHA-256 where it is known."""
    flag, mark, size = name.partition("_")
    if flag in CATALOGUE and not mark:
        entry = CATALOGUE[flag]
        return ("sha256", entry.sha256) if entry.sha256 else ("md5", entry.md5)
    larger = dict(zip(_SIZES, LARGER.get(flag, "").split(), strict=False))
    if size in larger:
        return "md5", larger[size]
    expected = f"one of {', '.join(CATALOGUE)}, with _64, _128 or _224 (3d: _64) for larger images, or a path"
    raise ArgumentError(mismatch("medmnist", expected, repr(name)))


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
