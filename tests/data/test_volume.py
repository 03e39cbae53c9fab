"""Volumes: spacing, orientation and reorienting as nibabel has them, and the checks that two volumes lie alike."""

from __future__ import annotations

import gzip
import sys
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest

from fastconv.data import Volume, check_pair, read_volume, reorient, same_geometry, stack, write_nifti
from fastconv.errors import ArgumentError, DataError, ShapeError

AXES = ["".join(p) for ends in product("RL", "AP", "SI") for p in permutations(ends)]
AFFINE = np.array([[-0.9, 0.1, 0, 90], [0.05, 1.1, 0.2, -126], [0, -0.3, 2.5, -72], [0, 0, 0, 1]])


def volume(data: np.ndarray | None = None, affine: np.ndarray = AFFINE, name: str = "a.nii") -> Volume:
    data = np.arange(60, dtype=np.float32).reshape(3, 4, 5) if data is None else data
    return Volume(data, affine, path=Path(name))


def test_orientation_is_nibabels() -> None:
    nibabel = pytest.importorskip("nibabel")
    rng = np.random.default_rng(0)
    for _ in range(300):
        affine = np.eye(4)
        affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.2, 5, 3)
        affine[0, :3] += rng.uniform(-0.1, 0.1, 3)  # a shear
        found = volume(affine=affine)
        assert found.orientation == "".join(nibabel.aff2axcodes(affine))
        np.testing.assert_allclose(found.spacing, nibabel.affines.voxel_sizes(affine))


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("lead", [(), (2,)])
def test_reorienting_moves_no_voxel(axes: str, lead: tuple[int, ...]) -> None:
    before = volume(np.random.default_rng(0).normal(size=(*lead, 3, 4, 5)))
    after = reorient(before, axes)
    assert after.orientation == axes
    assert np.shares_memory(after.data, before.data)
    for index in np.ndindex(after.shape[-3:]):
        place = after.affine @ (*index, 1)
        source = np.rint(np.linalg.solve(before.affine, place)[:3]).astype(int)
        np.testing.assert_allclose(before.affine @ (*source, 1), place, atol=1e-9)
        np.testing.assert_array_equal(after.data[(..., *index)], before.data[(..., *source)])
    back = reorient(after, before.orientation)
    np.testing.assert_array_equal(back.data, before.data)
    np.testing.assert_allclose(back.affine, before.affine, atol=1e-12)


def test_reorienting_is_nibabels() -> None:
    nibabel = pytest.importorskip("nibabel")
    found = reorient(volume(), "RAS")
    wanted = nibabel.as_closest_canonical(nibabel.Nifti1Image(volume().data, AFFINE))
    np.testing.assert_array_equal(found.data, wanted.dataobj)
    np.testing.assert_allclose(found.affine, wanted.affine, atol=1e-12)


@pytest.mark.parametrize("noise", [0, 1e-13])
@pytest.mark.parametrize("turn", [
    [[1, -1, 0], [1, 1, 0], [0, 0, 2**0.5]], [[2**0.5, 0, 0], [0, 1, 1], [0, -1, 1]],
    [[1, 0, 1], [0, 2**0.5, 0], [-1, 0, 1]],
])  # fmt: skip
def test_at_45_degrees_a_patient_lies_alike_whatever_the_axes_of_the_file(turn: list, noise: float) -> None:
    affine, rng = np.eye(4), np.random.default_rng(0)
    affine[:3, :3] = turn
    first = reorient(volume(affine=affine))
    assert first.orientation == "RAS"
    for axes in AXES:  # another file of the same voxels: its axes exchanged and turned
        file = reorient(volume(affine=np.eye(4)), axes)
        affine_of_file = affine @ file.affine
        affine_of_file[:3, :3] += noise * rng.normal(size=(3, 3))
        found = reorient(volume(file.data, affine_of_file))
        assert found.orientation == "RAS"
        np.testing.assert_array_equal(found.data, first.data)


@pytest.mark.parametrize("axes", ["", "RA", "RRS", "RASI", "ras", "XYZ", "RLS"])
def test_other_axes_are_refused(axes: str) -> None:
    with pytest.raises(ArgumentError, match="axes"):
        reorient(volume(), axes)


@pytest.mark.parametrize(
    "affine, match",
    [
        (np.zeros((4, 4)), "last row"),
        (np.diag([1, 1, 0, 1]), "spacing of 1 x 1 x 0"),
        (np.diag([1, 1, np.nan, 1]), "finite"),
        (np.diag([1e200, 1, 1, 1]), "spacing"),
        (np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "one plane"),
    ],
)
def test_affines_that_give_voxels_no_place(affine: np.ndarray, match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        volume(affine=affine)


def test_shapes_of_a_volume() -> None:
    with pytest.raises(ShapeError, match="data"):
        volume(np.zeros((3, 4)))
    with pytest.raises(ShapeError, match="affine"):
        volume(affine=np.eye(3))


def moved(by: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] += by
    return affine


@pytest.mark.parametrize(
    "other, match",
    [
        (volume(np.zeros((3, 4, 6)), name="b.nii"), "3 x 4 x 6 instead of 3 x 4 x 5"),
        (volume(affine=AFFINE @ np.diag([-1, 1, 1, 1]), name="b.nii"), "orientation RAS instead of LAS"),
        (volume(affine=AFFINE @ np.diag([1, 1, 1.2, 1]), name="b.nii"), "spacing"),
        (volume(affine=moved(0.2), name="b.nii"), "0.2 mm apart"),
    ],
)
def test_another_geometry_is_named(other: Volume, match: str) -> None:
    for check in (same_geometry, lambda a, b: stack([a, b]), lambda a, b: check_pair(a, b)):
        with pytest.raises(DataError, match=match) as caught:
            check(volume(), other)
        assert "a.nii" in str(caught.value)
        assert "b.nii" in str(caught.value)


def test_a_tenth_of_a_voxel_is_the_same() -> None:
    same_geometry(volume(), volume(affine=moved(0.08)))
    with pytest.raises(DataError, match="apart"):
        same_geometry(volume(), volume(affine=moved(0.08)), tolerance=0.05)


def test_stacking() -> None:
    first, second = volume(), volume(np.ones((2, 3, 4, 5)), name="b.nii")
    found = stack([first, second])
    assert found.shape == (3, 3, 4, 5)
    assert found.data.dtype == np.float64
    np.testing.assert_array_equal(found.data[0], first.data)
    assert found.path == first.path
    with pytest.raises(ShapeError, match="one volume"):
        stack([])


@pytest.mark.parametrize(
    "label, match",
    [
        (np.zeros((1, 3, 4, 5)), r"\(I, J, K\)"),
        (np.full((3, 4, 5), 0.5), "whole numbers"),
        (np.full((3, 4, 5), np.inf), "whole numbers"),
        (np.full((3, 4, 5), -1), "from 0"),
    ],
)
def test_labels_are_whole_numbers(label: np.ndarray, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        check_pair(volume(), volume(label, name="label.nii"))
    assert "label.nii, the label of a.nii" in str(caught.value)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_a_label_that_fits(dtype: type) -> None:
    check_pair(volume(), volume(np.ones((3, 4, 5), dtype), name="label.nii"))
    check_pair(volume(np.zeros((2, 3, 4, 5))), volume(np.ones((3, 4, 5), dtype), name="label.nii"))


def test_numpys_files(tmp_path: Path) -> None:
    data = np.arange(24.0).reshape(2, 3, 4)
    np.save(tmp_path / "a.npy", data)
    np.savez(tmp_path / "b.npz", anything=data)
    np.savez_compressed(tmp_path / "c.npz", data=data, affine=AFFINE, other=data)
    for name, affine in (("a.npy", np.eye(4)), ("b.npz", np.eye(4)), ("c.npz", AFFINE)):
        found = read_volume(tmp_path / name)
        np.testing.assert_array_equal(found.data, data)
        np.testing.assert_array_equal(found.affine, affine)
        assert found.path == tmp_path / name


@pytest.mark.parametrize(
    "arrays, match",
    [
        ({}, "one array"),
        ({"a": np.zeros((2, 2, 2)), "b": np.zeros((2, 2, 2))}, "one array"),
        ({"data": np.zeros((2, 2))}, r"float64 \(2, 2\)"),
        ({"data": np.zeros((2, 2, 0))}, r"\(2, 2, 0\)"),
        ({"data": np.zeros((2, 2, 2), complex)}, "complex128"),
        ({"data": np.zeros((2, 2, 2)), "affine": np.eye(3)}, "affine"),
        ({"data": np.zeros((2, 2, 2)), "affine": np.zeros((4, 4))}, "affine"),
        ({"data": np.full((2, 2, 2), np.nan)}, r"nan at voxel \(0, 0, 0\)"),
    ],
)
def test_archives_without_a_volume(tmp_path: Path, arrays: dict[str, np.ndarray], match: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=match) as caught:
        read_volume(tmp_path / "a.npz")
    assert str(tmp_path / "a.npz") in str(caught.value)


def test_voxels_that_are_no_numbers(tmp_path: Path) -> None:
    data = np.zeros((2, 3, 4), np.float32)
    data[1, 2, 3], data[1, 0, 3] = np.inf, np.nan
    np.save(tmp_path / "a.npy", data)
    with pytest.raises(DataError, match=r"nan at voxel \(1, 0, 3\)"):
        read_volume(tmp_path / "a.npy")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.npy", nan="keep").data, data)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.npy", nan="zero").data, np.zeros_like(data))
    with pytest.raises(ArgumentError, match="nan"):
        read_volume(tmp_path / "a.npy", nan="ignore")


def test_frames_of_numpys_files(tmp_path: Path) -> None:
    data = np.arange(48.0).reshape(2, 2, 3, 4)
    np.save(tmp_path / "a.npy", data)
    np.save(tmp_path / "b.npy", data[1])
    for name, frame, wanted in (("a", None, data), ("a", "all", data), ("a", 1, data[1]), ("b", None, data[1]),
                                ("b", 0, data[1]), ("b", "all", data[1:])):  # fmt: skip
        np.testing.assert_array_equal(read_volume(tmp_path / f"{name}.npy", frame=frame).data, wanted)
    for frame in (2, -1, True, "one"):
        with pytest.raises(ArgumentError, match="frame 0 to 1"):
            read_volume(tmp_path / "a.npy", frame=frame)
    with pytest.raises(ArgumentError, match="series"):
        read_volume(tmp_path / "a.npy", series="1.2")
    with pytest.raises(ArgumentError, match="frame"):
        read_volume(tmp_path, frame=0)


@pytest.mark.parametrize(
    "package, content", [("nibabel", gzip.compress(bytes(1000))), ("pydicom", bytes(128) + b"DICM" + bytes(1000))]
)
def test_readers_name_the_extra_that_they_need(
    tmp_path: Path, package: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in {package, *(name for name in sys.modules if name.startswith(f"{package}."))}:
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "scan").write_bytes(content)
    with pytest.raises(DataError, match=rf"{package} to read .*scan \(pip install 'fastconv\[medical\]'\)"):
        read_volume(tmp_path / "scan")
    if package == "nibabel":
        with pytest.raises(DataError, match=r"fastconv\[medical\]"):
            write_nifti(tmp_path / "a.nii", np.zeros((2, 2, 2)))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none there"):
        read_volume(tmp_path / "a.nii")
