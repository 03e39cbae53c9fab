"""MedMNIST: files of its layout in two and three dimensions, grey and colour; the official splits where they are."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from fastconv.data import medmnist
from fastconv.errors import ArgumentError, DataError

DATA = os.environ.get("FASTCONV_DATA")  # the tests of this folder run without it, but for the last


def write(path: Path, shape: tuple[int, ...], labels: int = 1, **changes: np.ndarray | None) -> Path:
    arrays = {}
    for part, count in (("train", 5), ("val", 3), ("test", 2)):
        arrays[f"{part}_images"] = np.arange(count * int(np.prod(shape))).reshape(count, *shape).astype(np.uint8)
        arrays[f"{part}_labels"] = np.arange(count * labels).reshape(count, labels).astype(np.uint8)
    arrays |= changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize(
    "shape, expected", [((28, 28), (1, 28, 28)), ((28, 28, 3), (3, 28, 28)), ((9, 8, 7), (1, 9, 8, 7))]
)
def test_images_are_channels_first(tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    found = medmnist.read(write(tmp_path / "own.npz", shape))
    assert (found.name, found.task) == ("own", None)
    assert [part.images.shape for part in (found.train, found.val, found.test)] == [(n, *expected) for n in (5, 3, 2)]
    assert found.test.labels.tolist() == [0, 1]
    assert found.train.labels.dtype == np.int64
    original = np.arange(5 * np.prod(shape)).reshape(5, *shape).astype(np.uint8)
    if shape[-1] == 3:
        np.testing.assert_array_equal(found.train.images[:, 2], original[..., 2])
    else:
        np.testing.assert_array_equal(found.train.images[:, 0], original)


def test_the_catalogue_knows_which_axis_is_colour(tmp_path: Path) -> None:
    assert medmnist.read(write(tmp_path / "nodulemnist3d.npz", (4, 4, 3))).train.images.shape == (5, 1, 4, 4, 3)
    assert medmnist.read(write(tmp_path / "pathmnist_64.npz", (4, 4, 3))).train.images.shape == (5, 3, 4, 4)


def test_several_labels(tmp_path: Path) -> None:
    assert medmnist.read(write(tmp_path / "chestmnist.npz", (4, 4), labels=14)).train.labels.shape == (5, 14)


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"val_labels": None}, "val_labels"),
        ({"test_images": np.zeros((2, 4, 4), np.float32)}, "test_images"),
        ({"test_images": np.zeros((0, 4, 4), np.uint8)}, "test_images"),
        ({"train_labels": np.zeros((4, 1), np.uint8)}, "train_labels"),
        ({"train_labels": np.zeros((5, 1), np.float32)}, "train_labels"),
        ({"test_images": np.zeros((2, 4, 4, 4), np.uint8)}, "one kind"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, changes: dict, match: str) -> None:
    path = write(tmp_path / "own.npz", (4, 4), **changes)
    with pytest.raises(DataError, match=match) as caught:
        medmnist.load(path)
    assert str(path) in str(caught.value)


def test_a_checksum_must_hold_for_a_name(tmp_path: Path) -> None:
    path = write(tmp_path / "pneumoniamnist.npz", (4, 4))
    with pytest.raises(DataError, match="checksum"):
        medmnist.load("pneumoniamnist", tmp_path)
    assert medmnist.load(path).task == "binary-class"


@pytest.mark.parametrize("name", ["breastmnist_32", "breastmnist_", "adrenalmnist3d_128", "own_64", "breastmnist_64_1"])
def test_sizes_that_were_not_published(name: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="_224"):
        medmnist.load(name, tmp_path)


@pytest.mark.parametrize("name", ["pathmnist_64", "octmnist_128", "chestmnist_224", "adrenalmnist3d_64"])
def test_larger_images_have_checksums_too(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{name}\.npz.*zenodo.*{name}\.npz"):
        medmnist.load(name, tmp_path)
    write(tmp_path / f"{name}.npz", (4, 4))
    with pytest.raises(DataError, match="md5 checksum"):
        medmnist.load(name, tmp_path)


def test_a_sum_that_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "breastmnist_64.npz", (64, 64))
    monkeypatch.setitem(medmnist.LARGER, "breastmnist", hashlib.md5(path.read_bytes()).hexdigest())
    found = medmnist.load("breastmnist_64", tmp_path)
    assert (found.name, found.task, found.train.images.shape) == ("breastmnist", "binary-class", (5, 1, 64, 64))


def test_an_unknown_name_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="breastmnist"):
        medmnist.load("brestmnist")
    with pytest.raises(DataError, match="zenodo"):
        medmnist.load("breastmnist", tmp_path)


@pytest.mark.skipif(DATA is None, reason="FASTCONV_DATA is not set")
@pytest.mark.parametrize("name", ["adrenalmnist3d", "breastmnist"])
def test_the_official_splits(name: str) -> None:
    if not (Path(DATA) / "medmnist" / f"{name}.npz").is_file():
        pytest.skip(f"FASTCONV_DATA does not hold medmnist/{name}.npz")
    found = medmnist.load(name, DATA)
    entry = medmnist.CATALOGUE[name]
    assert tuple(len(part.labels) for part in (found.train, found.val, found.test)) == entry.samples
    assert found.task == entry.task
    assert set(np.unique(found.train.labels)) == set(range(entry.classes))
