"""The masks that ``predict`` writes: under which names, and that their values are those of the classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastconv.data import Volume, images
from fastconv.data.cases import Case
from fastconv.data.cases.read import Picture
from fastconv.errors import DataError
from fastconv.training import own

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.mark.parametrize("image, mask", [
    ("a.b.png", "a.b_mask.png"), ("a.npy", "a_mask.npy"), ("a.nii", "a_mask.nii"), ("x/a.nii.gz", "x/a_mask.nii.gz"),
    ("x/slice.dcm", "x/slice_mask.nii.gz"), ("a.npz", "a_mask.nii.gz"), ("IM0001", "IM0001_mask.nii.gz"),
    ("scan.v1/", "scan.v1_mask.nii.gz"), ("1.2.840.nii/", "1.2.840.nii_mask.nii.gz"),
])  # fmt: skip
def test_masks_are_named_after_their_images(image: str, mask: str) -> None:
    if image.endswith("/"):
        Path(image).mkdir()
    assert own._targets([Case(image, Path(image), image)], None) == [Path(mask)]
    assert own._targets([Case(image, Path(image), image)], "out") == [Path("out", Path(mask).name)]


def test_the_folder_one_stands_in_has_a_name(tmp_path: Path) -> None:
    assert own._targets([Case(".", Path(), ".")], "out") == [Path("out", f"{tmp_path.name}_mask.nii.gz")]


@pytest.mark.parametrize("values, kind", [
    ((0, 255), "u1"), ((0, 300), "i2"), ((-1, 1), "i2"), ((0, 40000), "i4"), ((0, 2**40), "i8"), ((-(2**31), 0), "i4"),
])  # fmt: skip
def test_values_of_masks_do_not_wrap(values: tuple[int, int], kind: str) -> None:
    array = np.array(values).reshape(1, 2, 1)
    own._write_mask(Path("a_mask.npy"), array, Picture(np.zeros((1, 1, 2, 1))))
    written = np.load("a_mask.npy")
    assert written.dtype == kind
    np.testing.assert_array_equal(written, array)
    nibabel = pytest.importorskip("nibabel", reason="nibabel (the medical extra) is not installed")
    volume = Volume(np.zeros((1, 2, 1), np.float32), np.eye(4))
    own._write_mask(Path("a_mask.nii"), array, Picture(volume.data[None], volume, volume))
    np.testing.assert_array_equal(np.asarray(nibabel.load("a_mask.nii").dataobj), array)


@pytest.mark.parametrize("high, dtype", [(255, np.uint8), (256, np.uint16), (65535, np.uint16)])
def test_pictures_of_masks_do_not_wrap(high: int, dtype: type) -> None:
    pytest.importorskip("PIL", reason="Pillow (the images extra) is not installed")
    values = np.array([[0, high, 1]])
    images.write_indices("mask.png", values)
    found = images.read_indices("mask.png")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("bad", [-1, 65536])
def test_pictures_of_values_beyond_16_bits_are_refused(bad: int) -> None:
    with pytest.raises(DataError, match=rf"values of 0 to 65535 for mask\.png, got {bad}"):
        images.write_indices("mask.png", np.array([[3, bad]]))
    assert not Path("mask.png").exists()
