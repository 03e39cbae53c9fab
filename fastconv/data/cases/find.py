"""Which cases a folder, a table or an archive holds. Nothing of images is read here, but for archives."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import DataError, mismatch
from .. import medmnist
from .case import ALIASES, PARTS, PICTURES, VOLUMES, Case, Listing, stem, suffix
from .table import read_table

_IMAGES, _MASKS = ("images", "image"), ("labels", "masks", "label", "mask")


def find(
    source: str | os.PathLike[str], task: str = "classify", group_column: str | None = None,
    columns: list[str] | None = None,
) -> Listing:  # fmt: skip
    """Return the cases at ``source``, in an order that their names alone decide (a table's: that of its rows).

    A folder has a folder a class (``task="classify"``), or ``images`` and ``labels`` with files of the same names
    (``"segment"``); either may stand in each of ``train``, ``val`` and ``test``, of which ``train`` may be missing
    where there is nothing else. A ``.csv`` is a table (table.py), an ``.npz`` of MedMNIST's layout is its three parts.

    Raises:
        DataError: nothing there, no cases, two folders of one part, an image without its mask or the other way round;
            the message names both.
    """
    path = Path(source)
    kind = suffix(path)
    if path.is_dir():
        listing = Listing(path, _in_folder(path, task))
    elif not path.is_file():
        raise DataError(mismatch("data", f"a folder, a .csv or an .npz {path}", "none there"))
    elif kind == ".csv":
        return read_table(path, task, group_column, columns)
    elif kind == ".npz" and task == "classify":
        listing = Listing(path, _in_archive(path))
    else:
        wanted = "a folder or a .csv" if kind == ".npz" else "a folder, a .csv or an .npz"
        raise DataError(mismatch("data", f"{wanted} to {task}", path))
    for option, value in (("group_column", group_column), ("columns", columns)):
        if value:
            raise DataError(mismatch("data", f"a .csv for {option} {value}", path))
    return listing


def _in_folder(folder: Path, task: str) -> list[Case]:
    entries = _folders(folder)
    named = [(ALIASES[entry.name.lower()], entry) for entry in entries if entry.name.lower() in ALIASES]
    found = dict(named)
    collect = _classes if task == "classify" else _pairs
    if not named or ("train" not in found and len(named) < len(entries)):
        return collect(folder, folder, None)
    for part, entry in named:
        if found[part] != entry:
            raise DataError(mismatch("data", f"one folder of cases to {part}", f"{entry} and {found[part]}"))
    return [case for part in PARTS if part in found for case in collect(found[part], folder, part)]


def _classes(folder: Path, top: Path, part: str | None) -> list[Case]:
    cases = []
    for label in _folders(folder):
        files = _files(label)
        if not files:
            raise DataError(mismatch("data", f"images or volumes in {label}", "none there"))
        cases += [Case(_name(f, top), f, str(f), label.name, part) for f in files]
    if not cases:
        raise DataError(mismatch("data", f"a folder a class in {folder}, with images or volumes", "none there"))
    return cases


def _pairs(folder: Path, top: Path, part: str | None) -> list[Case]:
    images, masks = (_by_stem(folder, names) for names in (_IMAGES, _MASKS))
    for here, there, what in ((images, masks, "a mask for"), (masks, images, "an image for")):
        alone = sorted(set(here) - set(there))
        if alone:
            other = next(iter(there.values())).parent
            raise DataError(mismatch("data", f"{what} {here[alone[0]]}", f"none called {alone[0]} in {other}"))
    return [Case(_name(images[key], top), images[key], str(images[key]), masks[key], part) for key in sorted(images)]


def _by_stem(folder: Path, names: tuple[str, ...]) -> dict[str, Path]:
    place = next((folder / name for name in names if (folder / name).is_dir()), None)
    files = _files(place) if place else []
    if not files:
        raise DataError(mismatch("data", f"images or volumes in {place or folder / names[0]}", "none there"))
    found: dict[str, Path] = {}
    for file in files:
        if stem(file) in found:
            raise DataError(mismatch("data", f"one file called {stem(file)}", f"{found[stem(file)]} and {file}"))
        found[stem(file)] = file
    return found


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    """The images and volumes under a folder; other files (notes, what systems leave behind) are passed over."""
    known = (*PICTURES, *VOLUMES)
    return sorted(p for p in folder.rglob("*") if suffix(p) in known and not p.name.startswith(".") and p.is_file())


def _name(file: Path, top: Path) -> str:
    return file.relative_to(top).as_posix()


def _in_archive(path: Path) -> list[Case]:
    data = medmnist.read(path)
    if data.train.labels.ndim > 1:
        raise DataError(mismatch("data", f"one label a sample in {path}", f"{data.train.labels.shape[1]}"))
    cases = []
    for part in PARTS:
        images, labels = getattr(data, part)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            cases.append(Case(f"{part}/{i}", image, f"{path}: {part} image {i}", str(label), part))
    return cases
