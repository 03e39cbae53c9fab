"""The folder of a run: which one, what it holds, and writing into it. Nothing that was there is lost."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from ..data.files import write_atomic
from ..errors import CheckpointError, mismatch

CHECKPOINT_FILE, MODEL_FILE = "checkpoint.safetensors", "model.safetensors"
ANSWERS_FILE = "predictions.csv"
RUNS = Path("runs")


def create(explicit: str | None, name: str) -> Path:
    """Make the folder of a new run: ``explicit``, or the first free one of runs/NAME, runs/NAME-2, ...

    Raises:
        CheckpointError: the folder cannot be made.
    """
    folder = Path(explicit) if explicit else RUNS / name
    try:
        if explicit:
            folder.mkdir(parents=True, exist_ok=True)
        else:
            folder = _first_free(folder)
    except OSError as error:
        raise CheckpointError(
            mismatch("train", f"output folder {folder} to be writable", error.strerror or error)
        ) from None
    return folder


@contextmanager
def claimed(folder: Path, new: bool) -> Iterator[None]:
    """Hold a run's folder: no other process trains in it meanwhile. The system lets go of it when the process ends.

    Windows and some file systems have no such lock; there nothing is held.

    Args:
        new: of a new run, where none may be.

    Raises:
        CheckpointError: another process holds it, or it has a run and ``new``.
    """
    descriptor = None
    try:
        with suppress(ImportError, OSError):
            import fcntl

            descriptor = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                wanted = f"output folder {folder} for one process alone"
                raise CheckpointError(mismatch("train", wanted, "another that trains in it")) from None
        if new and any((folder / file).exists() for file in (CHECKPOINT_FILE, MODEL_FILE)):
            raise CheckpointError(
                mismatch("train", "an output folder without a run in it (or --resume to go on with it)", folder)
            )
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _first_free(folder: Path) -> Path:
    """Make ``folder``, or the first of folder-2, folder-3, ...; of two runs that start together each gets its own."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    names = chain([folder.name], (f"{folder.name}-{number}" for number in count(2)))
    while True:
        free = folder.with_name(next(names))
        with suppress(FileExistsError):
            free.mkdir()
            return free


def latest(file: str) -> Path:
    """Return the newest ``file`` in the folders under runs/.

    Raises:
        CheckpointError: there is none.
    """
    files = sorted(RUNS.glob(f"*/{file}"), key=lambda path: path.stat().st_mtime_ns)
    if not files:
        raise CheckpointError(mismatch("run", f"a file {RUNS / '*' / file} (train first, or name its folder)", "none"))
    return files[-1]


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically."""
    _write(path, json.dumps(value, indent=2) + "\n")


def write_lines(path: Path, values: Sequence[Any]) -> None:
    """Write values as JSON, a line each, atomically."""
    _write(path, "".join(json.dumps(value) + "\n" for value in values))


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as an .npy file, atomically."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    _write(path, buffer.getvalue())


def write_answers(path: Path, answers: Sequence[dict[str, Any]]) -> None:
    """Write what ``predict`` says of classes as a .csv with the columns file, class and probability, atomically."""
    text = io.StringIO()
    table = csv.DictWriter(text, ("file", "class", "probability"), extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(answers)
    _write(path, text.getvalue(), "predict")


def _write(path: Path, text: str | bytes, op: str = "train") -> None:
    try:
        write_atomic(path, text.encode(errors="surrogateescape") if isinstance(text, str) else text)
    except OSError as error:
        raise CheckpointError(mismatch(op, f"{path} to be writable", error.strerror or error)) from None
