"""MNIST and Fashion-MNIST on disk, and the embedded digits."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from idx_files import idx_bytes, write_set

from fastconv import config, data
from fastconv.data import digits, mnist
from fastconv.errors import ArgumentError, DataError

REAL = config.data_dir()  # before the fixtures hide it


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("inside", ["", "sub"])
def test_finds_a_users_folder_with_or_without_its_name(tmp_path: Path, name: str, inside: str, packed: bool) -> None:
    folder = write_set(tmp_path / name if inside else tmp_path, packed=packed)
    lines: list[str] = []
    dataset = data.load(name, tmp_path, say=lines.append)
    assert (dataset.name, len(dataset.train), len(dataset.test), len(dataset.classes)) == (name, 12, 5, 10)
    assert len(lines) == 1
    assert f"from {folder} (found through --data)" in lines[0]


def test_the_sets_own_folder_comes_first(tmp_path: Path) -> None:
    write_set(tmp_path, train=11)
    write_set(tmp_path / "mnist", train=12)
    assert len(data.load("mnist", tmp_path).train) == 12


def test_environment_then_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path / "env" / "MNIST" / "raw", train=7)
    monkeypatch.setenv("FASTCONV_DATA", str(tmp_path / "env"))
    lines: list[str] = []
    assert len(data.load("auto", say=lines.append).train) == 7
    assert "FASTCONV_DATA" in lines[0]


def test_dotted_names_are_known(tmp_path: Path) -> None:
    write_set(tmp_path, packed=False)
    for path in list(tmp_path.iterdir()):
        path.rename(tmp_path / path.name.replace("-idx", ".idx"))
    assert len(data.load("mnist", tmp_path).train) == 12


def test_a_folder_without_the_set_is_an_error_not_a_download(tmp_path: Path) -> None:
    for name in ("mnist", "auto"):
        with pytest.raises(DataError, match="four MNIST files"):
            data.load(name, tmp_path)


def test_one_missing_file_is_a_missing_set(tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / mnist.MNIST.files[3].name).unlink()
    with pytest.raises(DataError, match="four MNIST files"):
        data.load("mnist", tmp_path)


def _labels(values: list[int]) -> bytes:
    return gzip.compress(idx_bytes(np.array(values, np.uint8)))


@pytest.mark.parametrize(
    "file, content, reason",
    [
        (0, b"nonsense", "IDX magic"),
        (0, gzip.compress(idx_bytes(np.zeros((12, 27, 28), np.uint8))), r"images \(N, 28, 28\)"),
        (0, gzip.compress(idx_bytes(np.zeros((12, 28, 28), np.float32))), "images uint8"),
        (0, gzip.compress(idx_bytes(np.zeros((0, 28, 28), np.uint8))), "not empty"),
        (1, _labels([1] * 11), r"labels integer \(12,\)"),
        (1, gzip.compress(idx_bytes(np.full(12, np.nan, np.float32))), r"labels integer \(12,\)"),
        (1, gzip.compress(idx_bytes(np.full(12, -1, np.int8))), "labels from 0 to 9, got -1 at position 0"),
        (1, _labels([1] * 11 + [10]), "labels from 0 to 9, got 10 at position 11"),
    ],
    ids=["garbage", "size", "dtype", "empty", "count", "nan", "negative", "range"],
)
def test_damage_is_named_and_auto_does_not_hide_it(tmp_path: Path, file: int, content: bytes, reason: str) -> None:
    write_set(tmp_path)
    (tmp_path / mnist.MNIST.files[file].name).write_bytes(content)
    for name in ("mnist", "auto"):
        with pytest.raises(DataError, match=reason):
            data.load(name, tmp_path)


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    write_set(tmp_path / "mnist")
    monkeypatch.setattr(Path, "read_bytes", denied)
    for name in ("mnist", "auto"):
        with pytest.raises(DataError, match=rf"{tmp_path}/mnist to be readable, got Permission denied"):
            data.load(name, tmp_path)
    with pytest.raises(DataError, match="to be readable"):
        data.load("mnist", tmp_path / ("long" * 2000))


def test_an_unknown_home_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentError, match="~nobody-of-this-name"):
        data.load("mnist", "~nobody-of-this-name/data")
    for variable, folder in (("FASTCONV_DATA", config.data_dir), ("FASTCONV_CACHE", config.cache_dir)):
        monkeypatch.setenv(variable, "~nobody-of-this-name")
        with pytest.raises(ArgumentError, match=f"{variable}: expected a folder"):
            folder()


def test_a_user_without_a_home_has_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(*arguments: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("FASTCONV_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert config.cache_dir().name == "fastconv"


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"auto, mnist, fashion-mnist, digits.*cifar"):
        data.load("cifar")


def test_the_embedded_digits_come_from_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="dataset: expected no folder for the embedded digits"):
        data.load("digits", tmp_path)


def test_the_embedded_digits_are_scikit_learns() -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn (the peers extra) is not installed")
    theirs = datasets.load_digits()
    with np.load(digits._PATH, allow_pickle=False) as ours:
        np.testing.assert_array_equal(ours["images"], theirs.images)
        np.testing.assert_array_equal(ours["labels"], theirs.target)


def test_the_embedded_digits_look_like_mnist() -> None:
    dataset = digits.load()
    assert (len(dataset.train), len(dataset.test)) == (1437, 360)
    images = np.concatenate([dataset.train.images, dataset.test.images]).astype(np.float64)
    assert images.shape == (1797, 28, 28)
    assert images.max() == 255
    assert set(dataset.train.labels) == set(dataset.test.labels) == set(range(10))
    mass = images.sum(axis=(1, 2))
    places = np.arange(28)
    for axis in (1, 2):
        middle = (images.sum(axis=3 - axis) @ places) / mass
        assert np.abs(middle - 14).max() <= 0.505  # half a pixel, and the rounding to 8 bits
        filled = images.any(axis=3 - axis)
        extent = 28 - filled[:, ::-1].argmax(axis=1) - filled.argmax(axis=1)
        assert extent.max() <= 20
    pixels = dataset.train.images / 255
    assert dataset.mean == pytest.approx(pixels.mean(), abs=5e-5)
    assert dataset.std == pytest.approx(pixels.std(), abs=5e-5)


def test_the_package_file_is_small_and_credited() -> None:
    assert os.path.getsize(digits._PATH) < 200_000
    text = digits._PATH.with_name("LICENSE.txt").read_text()
    for credit in ("Alpaydin", "Kaynak", "10.24432/C50P49", "CC BY 4.0"):
        assert credit in text


@pytest.mark.parametrize("source", mnist.SOURCES.values(), ids=mnist.SOURCES)
def test_the_published_files(source: mnist.Source) -> None:
    if not (REAL and mnist.find(source, REAL)):
        pytest.skip(f"{source.title} is not in FASTCONV_DATA")
    folder, _ = mnist.find(source, REAL)
    for remote in source.files:
        assert remote.verify((folder / remote.name).read_bytes()) is None
    dataset = mnist.read(source, folder)
    assert (len(dataset.train), len(dataset.test)) == (60_000, 10_000)
    assert dataset.train.images.mean() / 255 == pytest.approx(source.mean, abs=1e-4)
    assert dataset.train.images.std() / 255 == pytest.approx(source.std, abs=1e-4)
    assert np.bincount(dataset.test.labels).min() > 800
    if source is mnist.FASHION_MNIST:  # the names are the same: MNIST must not be taken from here
        assert mnist.find(mnist.MNIST, folder) is None
