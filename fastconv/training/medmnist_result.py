"""MedMNIST's result files, which its ``python -m medmnist evaluate`` reads: scores in, a named CSV out, and back."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..data.files import write_atomic
from ..data.medmnist import CATALOGUE, MedMNIST
from ..errors import ArgumentError, DataError, ShapeError, mismatch
from .roc import medmnist_scores

_PARTS = ("train", "val", "test")
_NAME = re.compile(r"(?P<name>[a-z0-9]+)(?:_(?P<size>\d+))?_(?P<split>train|val|test).*?(?:@(?P<run>[^@.]+).*)?\.csv")
_SMALL = 28  # the size that names do not say


class Result(NamedTuple):
    """What a result file says: of which set, image size and split, the run, and ``score`` (N, columns) by sample."""

    name: str
    size: int
    split: str
    run: str | None
    score: np.ndarray


def save_medmnist(
    folder: str | os.PathLike[str], scans: MedMNIST, score: np.ndarray, split: str = "test", run: str = "1"
) -> Path:
    """Write scores as MedMNIST's evaluator does, and return the file: AUC and accuracy stand in its name.

    ``{name}{_size}_{split}_[AUC]{auc:.3f}_[ACC]{acc:.3f}@{run}.csv``, without the size where it is 28; a row for each
    sample, its index and then its scores.

    Args:
        folder: is made where it is missing.
        scans: the set, as ``data.medmnist.load`` gives it.
        score: (N, classes) of probabilities, (N,) or (N, 2) for a binary task, (N, L) for several labels.
        run: which of several trainings; without '@', '.' and separators of paths.

    Raises:
        ArgumentError: a set outside the catalogue, another split, or a run that cannot stand in a name.
        ShapeError: not a row for each sample.

    >>> import tempfile
    >>> from fastconv.data.medmnist import Part
    >>> part = Part(np.zeros((2, 1, 28, 28), np.uint8), np.array([0, 1]))
    >>> scans = MedMNIST("breastmnist", "binary-class", part, part, part)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_medmnist(folder, scans, np.array([[0.75, 0.25], [0.5, 0.5]]))
    ...     path.name, path.read_text().split()
    ('breastmnist_test_[AUC]1.000_[ACC]0.500@1.csv', ['0,0.75,0.25', '1,0.5,0.5'])
    """
    if split not in _PARTS:
        raise ArgumentError(mismatch("save_medmnist", f"split one of {', '.join(_PARTS)}", repr(split)))
    if scans.name not in CATALOGUE or scans.task is None:
        raise ArgumentError(mismatch("save_medmnist", "a set of MedMNIST", repr(scans.name)))
    if not re.fullmatch(r"[^@./\\\s]+", str(run)):
        raise ArgumentError(mismatch("save_medmnist", "a run that can stand in a file's name", repr(run)))
    part, score = getattr(scans, split), np.asarray(score)
    if score.ndim not in (1, 2) or len(score) != len(part.labels):
        raise ShapeError(mismatch("save_medmnist", f"score ({len(part.labels)}, columns)", score.shape))
    auc, accuracy = medmnist_scores(part.labels, score, scans.task)
    side = part.images.shape[-1]
    name = f"{scans.name}{'' if side == _SMALL else f'_{side}'}_{split}_[AUC]{auc:.3f}_[ACC]{accuracy:.3f}@{run}.csv"
    rows = (",".join(map(str, (i, *row))) for i, row in enumerate(score.reshape(len(score), -1)))
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, "".join(f"{row}\n" for row in rows).encode())
    return path


def read_medmnist(path: str | os.PathLike[str]) -> Result:
    """Return what a result file of MedMNIST holds, its rows put in the order of the samples.

    Raises:
        DataError: the file is missing, its name is none of MedMNIST's, or it does not hold a row of numbers for each
            sample; the message names it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "octmnist_64_test_[AUC]0.672_[ACC]0.892@3.csv"
    ...     _ = path.write_text("1,0.5,0.5\\n0,0.25,0.75\\n")
    ...     read_medmnist(path)
    Result(name='octmnist', size=64, split='test', run='3', score=array([[0.25, 0.75],
           [0.5 , 0.5 ]]))
    """
    path = Path(path)
    named = _NAME.fullmatch(path.name)
    if not named or named["name"] not in CATALOGUE:
        raise DataError(mismatch("read_medmnist", f"{path} to be named as MedMNIST's results", "another name"))
    try:
        lines = path.read_text(encoding="utf-8-sig").split()
        rows = np.array([[float(value) for value in line.split(",")] for line in lines], np.float64)
    except FileNotFoundError:
        raise DataError(mismatch("read_medmnist", f"a file {path}", "none there")) from None
    except OSError as error:
        raise DataError(mismatch("read_medmnist", f"{path} to be readable", error.strerror or error)) from None
    except ValueError as error:
        raise DataError(mismatch("read_medmnist", f"{path} to hold rows of numbers, as many in each", error)) from None
    if rows.ndim != 2 or rows.shape[1] < 2 or not np.array_equal(np.sort(rows[:, 0]), np.arange(len(rows))):
        raise DataError(mismatch("read_medmnist", f"{path} to hold an index from 0 and scores a row", rows.shape))
    score = rows[np.argsort(rows[:, 0]), 1:]
    return Result(named["name"], int(named["size"] or _SMALL), named["split"], named["run"], score)
