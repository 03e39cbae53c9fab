"""Masks of the user's volumes as .npy, and where in them a number is that is not finite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastconv.data.cases import Case
from fastconv.data.cases.read import read_image, read_mask
from fastconv.errors import DataError

AFFINE = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -3], [0, 0, -3.0, 1], [0, 0, 0, 1]])


def case(folder: Path, mask: np.ndarray) -> Case:
    """A NIfTI image whose file has other axes than RAS, and its mask."""
    nibabel = pytest.importorskip("nibabel", reason="nibabel (the medical extra) is not installed")
    image = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, AFFINE), folder / "image.nii.gz")
    np.save(folder / "mask.npy", mask)
    return Case("image", folder / "image.nii.gz", "image", folder / "mask.npy")


def test_an_array_is_turned_as_the_image_of_its_file(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    found = case(tmp_path, (image > 0).astype(np.uint8))
    picture = read_image(found)
    assert picture.data.shape == (1, 5, 4, 6)
    np.testing.assert_array_equal(read_mask(found, picture), picture.data[0] > 0)


def test_an_array_with_the_axes_of_the_turned_image_is_refused(tmp_path: Path) -> None:
    found = case(tmp_path, np.zeros((5, 4, 6), np.uint8))
    with pytest.raises(DataError, match=r"mask\.npy to have the sizes 4x5x6 of .*image\.nii\.gz, got 5x4x6"):
        read_mask(found, read_image(found))


def test_a_number_that_is_not_finite_is_placed(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", np.zeros((6, 5), np.uint8))
    mask = np.zeros((6, 5), np.float32)
    mask[2, 3] = np.nan
    np.save(tmp_path / "mask.npy", mask)
    found = Case("image", tmp_path / "image.npy", "image", tmp_path / "mask.npy")
    with pytest.raises(DataError, match=r"mask\.npy to hold finite numbers, got nan at \(2, 3\)"):
        read_mask(found, read_image(found))
