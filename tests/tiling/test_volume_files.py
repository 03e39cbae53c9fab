"""Disk to disk: every kind of source gives the same bits, targets keep geometry, and nothing is left half-written."""

import os
from pathlib import Path

import numpy as np
import pytest

from fastconv import models, nn, predict_volume, tensor
from fastconv.data import Volume, open_nifti, read_nifti, write_nifti
from fastconv.errors import DataError, ShapeError
from fastconv.tiling.sources import open_source
from fastconv.tiling.targets import NpyTarget

SIZES = (20, 16, 28)
AFFINE = np.array([[-2.0, 0, 0, 30], [0, 1.5, 0, -7], [0, 0, 3, 5], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def scan():
    return np.random.default_rng(0).standard_normal((2, *SIZES)).astype(np.float32)


@pytest.fixture(scope="module")
def net():
    return models.unet3d(2, 3, width=4, depth=2).eval()


@pytest.fixture(scope="module")
def answer(net, scan):
    return net(tensor(scan[None])).numpy()[0]


def volumes(scan):
    pytest.importorskip("nibabel")
    return [Volume(one, AFFINE) for one in scan]


def exactly(net, source, target=None, **options):
    return predict_volume(net, source, target, blend="exact", tile=(11, 9, 28), **options)


def test_arrays_lists_and_npy_files_are_one(net, scan, answer, tmp_path):
    np.save(tmp_path / "c.npy", scan)
    np.save(tmp_path / "f.npy", np.asfortranarray(scan))
    np.save(tmp_path / "swapped.npy", scan.astype(">f4"))
    np.save(tmp_path / "first.npy", scan[0])
    np.save(tmp_path / "second.npy", np.asfortranarray(scan[1]))
    several = [tmp_path / "first.npy", tmp_path / "second.npy"]
    sources = [scan, tensor(scan), scan[:, ::-1][:, ::-1], list(scan), several, [scan[0], several[1]]]
    sources += [tmp_path / f"{name}.npy" for name in ("c", "f", "swapped")]
    for source in sources:
        assert exactly(net, source, tmp_path / "y.npy") is None
        np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), answer)


def test_integers_are_converted_by_windows(tmp_path):
    voxels = np.random.default_rng(1).integers(-1000, 3000, (1, 9, 40, 33)).astype(np.int16)
    np.save(tmp_path / "ct.npy", voxels)
    conv = nn.Conv3d(1, 2, 3)
    want = conv(tensor(voxels[None].astype(np.float32))).numpy()[0]
    np.testing.assert_array_equal(exactly(conv, tmp_path / "ct.npy"), want)


def test_rows_that_are_longer_than_a_read(tmp_path):
    row = np.random.default_rng(2).standard_normal((1, 3, 600_000)).astype(np.float32)
    np.save(tmp_path / "long.npy", row)
    source = open_source("predict_volume", tmp_path / "long.npy")
    np.testing.assert_array_equal(source.read(((1, 3), (5, 599_999))), row[:, 1:3, 5:599_999])
    source.close()


@pytest.mark.parametrize("shape, window", [
    ((5,), ((1, 3),)), ((2, 4, 5), ((1, 3), (0, 5))), ((2, 4, 5), ((0, 4), (2, 3))),
    ((3, 2, 4, 5), ((0, 2), (1, 2), (0, 5))), ((3, 2, 4, 5), ((0, 2), (0, 4), (0, 5))),
    ((2, 4, 5), ((0, 2), (1, 4), (2, 3))),
])  # fmt: skip
def test_windows_of_an_npy_target(shape, window, tmp_path):
    want = np.zeros(shape, np.float32)
    place = (..., *(slice(*part) for part in window))
    values = np.random.default_rng(3).standard_normal(want[place].shape).astype(np.float32)
    want[place] = values
    with NpyTarget(tmp_path / "y.npy", shape, np.dtype(np.float32)) as target:
        target.write(window, values)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), want)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_keeps_the_geometry_and_header(net, scan, answer, tmp_path, suffix):
    first, second = volumes(scan)
    paths = [tmp_path / f"t1{suffix}", tmp_path / f"t2{suffix}"]
    write_nifti(paths[0], first)
    write_nifti(paths[1], second)
    target = tmp_path / f"answer{suffix}"
    assert exactly(net, paths, target) is None
    read = read_nifti(target, frame="all")
    np.testing.assert_array_equal(read.data, answer)
    np.testing.assert_array_equal(read.affine, AFFINE)
    assert read.header.get_xyzt_units()[0] == "mm"
    for options in ({"blend": "exact", "tile": 9}, {"overlap": 0.5, "tile": (12, 16, 8)}):
        predict_volume(net, paths, tmp_path / f"labels{suffix}", activation="argmax", **options)
        labels = read_nifti(tmp_path / f"labels{suffix}")
        assert labels.data.dtype == np.uint8
        np.testing.assert_array_equal(labels.affine, AFFINE)
        np.testing.assert_array_equal(labels.data, predict_volume(net, scan, activation="argmax", **options))


def test_volumes_and_open_files(net, scan, answer, tmp_path):
    several = volumes(scan)
    np.testing.assert_array_equal(exactly(net, several), answer)
    np.testing.assert_array_equal(exactly(net, Volume(scan, AFFINE)), answer)
    write_nifti(tmp_path / "both.nii", Volume(scan, AFFINE))
    with open_nifti(tmp_path / "both.nii", frame="all") as file:
        np.testing.assert_array_equal(exactly(net, file), answer)
        assert file.read().shape == scan.shape  # still open
    np.savez(tmp_path / "archive.npz", data=scan, affine=AFFINE)
    np.testing.assert_array_equal(exactly(net, tmp_path / "archive.npz"), answer)


def test_modalities_that_say_where_they_lie_speak_for_the_others(net, scan, tmp_path):
    first, second = volumes(scan)
    predict_volume(net, [scan[0], second], tmp_path / "mask.nii")
    np.testing.assert_array_equal(read_nifti(tmp_path / "mask.nii", frame="all").affine, AFFINE)
    moved = Volume(scan[1], np.diag([2.0, 2.0, 2.0, 1.0]))
    with pytest.raises(DataError):
        predict_volume(lambda x: x, [scan[0], first, moved])


def test_of_a_long_row_a_window_is_read(tmp_path, monkeypatch):
    np.save(tmp_path / "signal.npy", np.arange(3_000_000, dtype=np.float32).reshape(2, -1))
    counts = []
    plain = np.fromfile
    monkeypatch.setattr(np, "fromfile", lambda *given: counts.append(given[2]) or plain(*given))
    source = open_source("test", tmp_path / "signal.npy")
    found = source.read(((1_000, 1_010),))
    source.close()
    np.testing.assert_array_equal(found, np.arange(3_000_000).reshape(2, -1)[:, 1_000:1_010])
    assert sum(counts) == 20


def test_modalities_must_lie_alike(net, scan, tmp_path):
    first, second = volumes(scan)
    with pytest.raises(DataError, match="orientation RAS instead of LAS"):
        exactly(net, [first, Volume(second.data, np.diag([2.0, 2, 3, 1]))])


def test_an_answer_of_another_size_is_no_nifti(scan, tmp_path):
    with pytest.raises(ShapeError, match="an answer of the source's size"):
        exactly(nn.Conv3d(2, 1, 3), volumes(scan), tmp_path / "y.nii")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["y.npy", "y.nii", "y.nii.gz"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("blend", ["exact", "average"])
def test_nothing_is_left_half_written(net, scan, tmp_path, name, kind, blend, monkeypatch):
    pytest.importorskip("nibabel")
    target = tmp_path / name
    target.write_bytes(b"the old one")
    calls = []

    def fail(values, *options):
        calls.append(values.shape)
        if len(calls) == 3:
            raise kind
        return values

    monkeypatch.setattr("fastconv.tiling.predict._activated", fail)
    with pytest.raises(kind):
        predict_volume(net, scan, target, blend=blend, tile=(8, 16, 12))
    assert target.read_bytes() == b"the old one"
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("content, message", [
    (b"", "begin with an .npy header"), (b"\x93NUMPY\x01\x00", "begin with an .npy header"), (None, "to hold .* bytes"),
])  # fmt: skip
def test_damaged_files_are_named(content, message, tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((1, 8, 8), np.float32))
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    with pytest.raises(DataError, match=message) as caught:
        predict_volume(nn.Identity(), path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("source, target, message", [
    ("none.npy", None, "none.npy to be readable"), ("none.nii", None, "none.nii"), ("none.npz", None, "none.npz"),
    (np.zeros((1, 4, 4), np.float32), Path("nowhere") / "y.npy", "no folder nowhere"),
])  # fmt: skip
def test_files_that_are_not_there(source, target, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        predict_volume(nn.Identity(), source, target)


def test_a_bar_counts_the_tiles(capsys):
    predict_volume(nn.Identity(), np.zeros((1, 10, 10), np.float32), tile=4, overlap=0, progress=True)
    assert "tiles" in capsys.readouterr().err
    predict_volume(nn.Identity(), np.zeros((1, 10, 10), np.float32), tile=4)
    assert capsys.readouterr().err == ""
