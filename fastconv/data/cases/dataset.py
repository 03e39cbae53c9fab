"""A data set made of cases: every file read once before anything else happens, its parts, and the frame that fits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...arguments import integer
from ...errors import ArgumentError, DataError, mismatch
from .case import PARTS, Case, Listing
from .columns import fit
from .find import find
from .frame import Frame
from .pixels import Pixels
from .read import Picture, read_image, read_mask
from .split import split

_CACHE = 2 << 30  # bytes of decoded images that are kept; what is beyond is read again whenever it is needed
_MOST_CLASSES = 64  # in masks; more of them are a photograph


class Sample(NamedTuple):
    """``image`` (C, *size), numbers as in its file; ``mask`` (*size) of classes, if any; ``spacing`` of a volume's
    voxels in millimetres."""

    image: np.ndarray
    mask: np.ndarray | None
    spacing: tuple[float, ...] | None


@dataclass(slots=True)
class Cases:
    """A part of the data: its cases, their classes (``labels``; none for segmentation) and demographic numbers."""

    cases: list[Case]
    labels: np.ndarray
    scores: np.ndarray
    kept: dict[int, Sample] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.cases)

    def groups(self) -> np.ndarray | None:
        """Return a number for each case's group, (N,), or None where there are no groups."""
        if not self.cases or self.cases[0].group is None:
            return None
        return np.unique([case.group for case in self.cases], return_inverse=True)[1]


@dataclass(slots=True)
class CaseSet:
    """Cases for a task in parts. ``listing`` is a digest of their names, targets and groups, ``fingerprint`` one of
    every file's content as well."""

    name: str
    frame: Frame
    parts: dict[str, Cases]
    listing: str
    fingerprint: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        return self.frame.classes

    def sample(self, part: str, index: int) -> Sample:
        """Return what a network sees of a case."""
        cases = self.parts[part]
        return cases.kept.get(index) or _sample(self.frame, cases.cases[index], read_image(cases.cases[index]))


def load(
    source: str | os.PathLike[str], task: str = "classify", *, size: Sequence[int] | None = None,
    group_column: str | None = None, columns: list[str] | None = None, missing: str = "refuse",
    shares: tuple[float, float] = (0.15, 0.15), seed: int = 0, names: Sequence[str] | None = None,
    frame: Frame | None = None, trained_on: str = "", same: bool = False, only: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> CaseSet:  # fmt: skip
    """Return the cases at ``source`` (``find`` says which), read, checked and divided (``split`` says how).

    Args:
        task: 'classify' or 'segment'.
        size: what all images are resampled to, (H, W) or the sizes along a volume's axes; None: they must agree.
        group_column, columns: of a table, as ``read_table``. missing: 'refuse' gaps in them, or take the 'mean'.
        shares: of val and test, where the data say nothing. seed: of that division, below 2**64.
        names: of the classes in masks, which hold 0, 1, ... then; None: the values of the training masks.
        frame: of a network that exists already: classes, columns and numbers are taken from it.
        trained_on: its ``CaseSet.listing``: of cases with another, those without a part are for testing.
        same: ``source`` is what it was trained on; where the listing says that it has changed since, nothing tells
            cases that were trained on from others, and those without a part are refused.
        only: the first of these parts that has cases is read, and no other.
        say: is told what was found.

    Raises:
        ArgumentError: sizes of another rank than the images, a seed out of range.
        DataError: whatever is wrong with the data; the message names the file, and the row of a table.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for i in range(20):
    ...         place = Path(folder, "bright" if i % 2 else "dark")
    ...         place.mkdir(exist_ok=True)
    ...         np.save(place / f"{i}.npy", np.full((8, 8), 100 * (i % 2) + i))
    ...     data = load(folder)
    >>> data.classes, {part: len(cases) for part, cases in data.parts.items()}
    (('bright', 'dark'), {'train': 14, 'val': 3, 'test': 3})
    """
    seed = integer("load", "seed", seed, 0, 2**64 - 1)
    listing = find(source, task, group_column, [c.name for c in frame.columns] if frame else columns)
    digest = _digest(listing)
    if frame and digest != trained_on:
        if same and any(case.part is None for case in listing.cases):
            wanted = f"{source} as it was when the network was trained (its split is not known otherwise)"
            raise DataError(mismatch("evaluate", wanted, "cases added, removed or relabelled"))
        listing.cases[:] = [replace(case, part=case.part or "test") for case in listing.cases]
    else:
        listing.cases[:] = split(listing.cases, shares, seed)
    every = {part: [case for case in listing.cases if case.part == part] for part in PARTS}
    if frame is None:
        frame = _frame(listing, every["train"], task, size, missing, names)
    chosen = [part for part in only or PARTS if every[part]]
    parts = {part: _part(frame, every[part]) for part in (chosen[:1] if only else chosen)}
    result = CaseSet(Path(source).resolve().name.partition(".")[0] or "data", frame, parts, digest)
    if not _read_all(result):
        result.frame = frame.fitted(channels=3)
        _read_all(result)
    counts = ", ".join(f"{len(cases):,} {part}" for part, cases in parts.items())
    what = f"{sum(map(len, parts.values())):,} cases, {len(frame.classes)} classes, {'x'.join(map(str, frame.size))}"
    say(f"data: {what} from {source}: {counts}")
    return result


def _frame(
    listing: Listing, train: list[Case], task: str, size: Sequence[int] | None, missing: str,
    names: Sequence[str] | None,
) -> Frame:  # fmt: skip
    """The frame as far as the first image and the training set's texts and masks tell; the pixels' mean comes later."""
    first = read_image(train[0])
    rank = first.data.ndim - 1
    if size is not None and (len(size) != rank or min(size) < 1):
        wanted = f"size of {rank} numbers for images like {train[0].where}"
        raise ArgumentError(mismatch("train", wanted, " ".join(map(str, size)) or "none"))
    classes, values = _labels(listing, train) if task == "classify" else _mask_classes(train, names)
    columns = tuple(
        fit(name, [case.values[i] for case in train], [case.where for case in train])
        for i, name in enumerate(listing.columns)
    )
    return Frame(
        task, classes, len(first.data), tuple(size or first.data.shape[1:]), size is not None,
        values=values, columns=columns, missing=missing,
    )  # fmt: skip


def _labels(listing: Listing, train: list[Case]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    found = {str(case.target) for case in listing.cases}
    whole = all(label.isascii() and label.isdigit() for label in found)
    classes = tuple(sorted(found, key=lambda label: (int(label), label) if whole else (0, label)))
    if len(classes) < 2:
        raise DataError(mismatch("data", f"at least two classes in {listing.source}", f"{classes[0]} alone"))
    lacking = [label for label in classes if label not in {case.target for case in train}]
    if lacking:
        raise DataError(mismatch("data", f"training cases of class {lacking[0]} in {listing.source}", "none"))
    return classes, ()


def _mask_classes(train: list[Case], names: Sequence[str] | None) -> tuple[tuple[str, ...], tuple[int, ...]]:
    if names:
        if len(names) > _MOST_CLASSES:
            raise ArgumentError(mismatch("data", f"at most {_MOST_CLASSES} names of classes", len(names)))
        return tuple(names), tuple(range(len(names)))
    found: set[int] = set()
    for case in train:
        found.update(np.unique(read_mask(case, read_image(case))).tolist())
        if len(found) > _MOST_CLASSES:
            wanted = f"{case.target} to be a mask, with at most {_MOST_CLASSES} classes in all"
            raise DataError(mismatch("data", wanted, f"{len(found)} values"))
    if len(found) < 2:
        where = f"{train[0].target} and the others"
        raise DataError(
            mismatch("data", "at least two classes in the training masks", f"{found.pop()} alone in {where}")
        )
    values = tuple(sorted(found))
    return tuple(map(str, values)), values


def _part(frame: Frame, cases: list[Case]) -> Cases:
    place = {label: i for i, label in enumerate(frame.classes)}
    labels = []
    for case in cases if frame.task == "classify" else ():
        if case.target not in place:
            raise DataError(mismatch("data", f"{case.where} of a class of {', '.join(place)}", repr(case.target)))
        labels.append(place[case.target])
    scores = np.array([frame.numbers(case) for case in cases], np.float64).reshape(len(cases), frame.scores)
    return Cases(cases, np.array(labels, np.int64), scores)


def _sample(frame: Frame, case: Case, picture: Picture) -> Sample:
    image, spacing = frame.image(case, picture), None
    if picture.volume is not None:
        old = picture.data.shape[1:]
        spacing = tuple(s * a / b for s, a, b in zip(picture.volume.spacing, old, image.shape[1:], strict=True))
    return Sample(image, frame.mask(case, picture).astype(np.uint8) if frame.task == "segment" else None, spacing)


def _digest(listing: Listing) -> str:
    rows = sorted((c.name, c.target.name if isinstance(c.target, Path) else c.target, c.group) for c in listing.cases)
    return hashlib.sha256(repr((rows, listing.columns)).encode()).hexdigest()


def _read_all(data: CaseSet) -> bool:
    """Read every case: what is damaged comes to light. Keep what there is room for; fit mean and deviation.

    Return False as soon as grey images turn out to have one in colour among them.
    """
    digest, room = hashlib.sha256(), _CACHE
    pixels = Pixels(data.frame.channels)
    for part, cases in data.parts.items():
        for i, case in enumerate(cases.cases):
            picture = read_image(case)
            if not data.frame.mean and (data.frame.channels, len(picture.data), picture.data.ndim) == (1, 3, 3):
                return False
            sample = _sample(data.frame, case, picture)
            image, mask, _ = sample
            digest.update(f"{part}|{case.name}|{case.target if mask is None else ''}|{picture.data.shape}".encode())
            digest.update(np.ascontiguousarray(picture.data))
            if mask is not None:
                digest.update(np.ascontiguousarray(mask))
            if part == "train":
                pixels.add(image, resampled=image.shape[1:] != picture.data.shape[1:])
            room -= image.nbytes + (mask.nbytes if mask is not None else 0)
            if room >= 0:
                cases.kept[i] = sample
    digest.update(b"".join(cases.scores.tobytes() for cases in data.parts.values()))
    data.fingerprint = digest.hexdigest()
    if not data.frame.mean:
        data.frame = data.frame.fitted(**pixels.fitted())
    return True
