"""DICOM series as volumes: order, places and values, after files that pydicom wrote; and those that are refused."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom")

import dicoms
from dicoms import AXIAL, OBLIQUE, SERIES, TURNED, one, series

from fastconv.data import read_dicom_series, read_volume
from fastconv.errors import DataError


def voxels(dtype: str = "i2", count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, (count, 4, 6)).astype(dtype)  # (K, rows, columns)


@pytest.mark.parametrize("orientation", [AXIAL, TURNED, OBLIQUE])
@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_every_pixel_lies_where_the_standard_says(tmp_path: Path, orientation: list[float], tilt: float) -> None:
    """PS3.3 C.7.6.2.1.1, pixel by pixel; x and y turned from LPS to RAS."""
    paths = series(tmp_path / "scan", voxels(), orientation, tilt=tilt)
    found = read_dicom_series(tmp_path / "scan")
    assert found.shape == (6, 4, 5)
    for path in paths:
        data = dicoms.pydicom.dcmread(path)
        origin, turn = np.array(data.ImagePositionPatient), np.array(data.ImageOrientationPatient)
        for row, column in ((0, 0), (3, 0), (0, 5), (2, 4)):
            place = origin + turn[:3] * column * data.PixelSpacing[1] + turn[3:] * row * data.PixelSpacing[0]
            index = np.linalg.solve(found.affine, [-place[0], -place[1], place[2], 1])[:3]
            np.testing.assert_allclose(index, np.rint(index), atol=1e-6)
            assert found.data[tuple(np.rint(index).astype(int))] == data.pixel_array[row, column]
    np.testing.assert_allclose(found.spacing, (0.75, 0.5, np.hypot(2.0, tilt)))


def test_orientation_and_the_affine_are_nibabels(tmp_path: Path) -> None:
    wrappers = pytest.importorskip("nibabel.nicom.dicomwrappers")
    paths = series(tmp_path / "scan", voxels(), OBLIQUE, SliceThickness=2.0)
    found = read_dicom_series(paths[0])  # the only one of the list
    wrapper = wrappers.wrapper_from_file(paths[0])
    swapped = found.affine[:, [1, 0, 2, 3]] * [1, 1, -1, 1]  # nibabel's axes: rows, columns, their right-handed normal
    np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ wrapper.affine, swapped, atol=1e-9)
    assert read_dicom_series(tmp_path / "scan").orientation == found.orientation == "PIR"


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_values_without_rescaling_stay_integers(tmp_path: Path, dtype: str) -> None:
    series(tmp_path / "scan", voxels(dtype))
    found = read_dicom_series(tmp_path / "scan")
    assert found.data.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found.data, voxels(dtype).transpose(2, 1, 0))
    np.testing.assert_array_equal(read_volume(tmp_path / "scan").data, found.data)


def test_every_slice_has_its_own_slope(tmp_path: Path) -> None:
    paths = [
        one(tmp_path / f"{k}", plane, (0, 0, 3 * k), RescaleSlope=0.5 * k + 1, RescaleIntercept=k - 1024)
        for k, plane in enumerate(voxels())
    ]
    found = read_dicom_series(reversed(paths))
    assert found.data.dtype == np.float32
    for k in range(5):
        np.testing.assert_array_equal(found.data[..., k], (voxels()[k] * (0.5 * k + 1) + k - 1024).astype("f4").T)


def test_a_folder_may_hold_other_files(tmp_path: Path) -> None:
    paths = series(tmp_path / "scan", voxels())
    (tmp_path / "scan" / "readme.txt").write_text("notes")
    (tmp_path / "scan" / "deeper").mkdir()
    report = dicoms.base(tmp_path / "scan" / "report.dcm", voxels()[0], series="1.2.3")
    report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    dicoms.save(report, Rows=None, Columns=None, PixelData=None)
    found = read_dicom_series(tmp_path / "scan")
    assert found.shape == (6, 4, 5)
    assert found.path == tmp_path / "scan"
    np.testing.assert_array_equal(read_volume(paths).data, found.data)


def test_a_series_is_chosen_by_its_uid(tmp_path: Path) -> None:
    series(tmp_path, voxels())
    other = one(tmp_path / "scout", voxels()[1], (0, 0, 0), series="1.2.3", SliceThickness=5)
    with pytest.raises(DataError, match=r"one series in .*series= chooses.*got 2: 1\.2\.3 \(scout\), ") as caught:
        read_dicom_series(tmp_path)
    assert SERIES in str(caught.value)
    assert read_dicom_series(tmp_path, SERIES).shape == (6, 4, 5)
    assert read_volume(tmp_path, series="1.2.3").path == other
    with pytest.raises(DataError, match=r"a series 9\.9"):
        read_dicom_series(tmp_path, "9.9")


def test_other_series_do_not_matter_once_one_is_chosen(tmp_path: Path) -> None:
    series(tmp_path, voxels())
    dicoms.save(dicoms.base(tmp_path / "screenshot", voxels("u1")[0], "1.2.3"), PhotometricInterpretation="RGB")
    assert read_dicom_series(tmp_path, SERIES).shape == (6, 4, 5)


def test_enhanced_frames_are_slices(tmp_path: Path) -> None:
    order = [3, 0, 4, 1, 2]
    found = read_volume(dicoms.enhanced(tmp_path / "scan", voxels(), order))
    slopes = np.arange(1, 6)[:, None, None]
    np.testing.assert_array_equal(found.data, (voxels() * slopes - 3.0).astype("f4").transpose(2, 1, 0))
    np.testing.assert_allclose(found.affine, [[-0.75, 0, 0, 100], [0, -0.5, 0, -50], [0, 0, 2, 20], [0, 0, 0, 1]])


def test_packed_pixels(tmp_path: Path) -> None:
    paths = series(tmp_path, voxels())
    for path in paths:
        data = dicoms.pydicom.dcmread(path)
        data.compress(dicoms.pydicom.uid.RLELossless, generate_instance_uid=False)
        data.save_as(path)
    np.testing.assert_array_equal(read_dicom_series(tmp_path).data, voxels().transpose(2, 1, 0))


def jpeg(path: Path, pixels: np.ndarray, kind: str = "JPEG", **fields: object) -> Path:
    """A slice whose pixels Pillow has packed."""
    image = pytest.importorskip("PIL.Image")
    syntax = {"JPEG": "1.2.840.10008.1.2.4.50", "JPEG2000": "1.2.840.10008.1.2.4.90"}[kind]
    packed = io.BytesIO()
    image.fromarray(pixels).save(packed, kind, **({"no_jp2": True} if kind == "JPEG2000" else {"quality": 100}))
    one(path, pixels, (0, 0, 0), SliceThickness=1)
    data = dicoms.pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = dicoms.pydicom.encaps.encapsulate([packed.getvalue()])
    data["PixelData"].VR = "OB"
    return dicoms.save(data, **fields)


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_frames_packed_as_pictures(tmp_path: Path, kind: str) -> None:
    pixels = np.add.outer(np.arange(40), 2 * np.arange(60)).astype(np.uint8)
    found = read_volume(jpeg(tmp_path / "a.dcm", pixels, kind))
    assert found.shape == (60, 40, 1)
    assert abs(found.data[..., 0].T.astype(int) - pixels).max() <= (1 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_packed_frames_that_are_larger_than_the_slice(tmp_path: Path, kind: str) -> None:
    path = jpeg(tmp_path / "a.dcm", np.zeros((2000, 3000), np.uint8), kind, Rows=4, Columns=6)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"a\.dcm to have 4 x 6 pixels, got a frame of 2000 x 3000"):
            read_volume(path)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def at(*heights: float) -> object:
    """A maker of a series of slices at these heights."""
    return lambda folder: [one(folder / f"{k}at{z:g}.dcm", voxels()[0], (0, 0, z)) for k, z in enumerate(heights)]


def differing(**fields: object) -> object:
    def make(folder: Path) -> None:
        series(folder, voxels())
        one(folder / "odd.dcm", **{"pixels": voxels()[0], "position": (-100, 50, 30), **fields})

    return make


@pytest.mark.parametrize(
    "make, match, names",
    [
        (at(0, 2, 4, 8, 10), r"every 2 mm, got 4 mm between .*: 1 missing", ["at4.dcm", "at8.dcm"]),
        (at(0, 2, 4, 10, 12, 14), r"6 mm between .*: 2 missing", ["at4.dcm", "at10.dcm"]),
        (at(0, 2, 4, 6.5, 8.5), r"every 2 mm, got 2.5 mm between", ["at4.dcm", "at6.5.dcm"]),
        (at(0, 2, 4, 4, 6), "different positions", ["2at4.dcm", "3at4.dcm"]),
        (differing(position=(-100, 50, 28)), "different positions", ["odd.dcm", "031.dcm"]),
        (differing(position=(-80, 50, 30)), "one line", ["mm beside it"]),
        (differing(pixels=voxels()[0, :3]), "rows and columns of .*4 x 6, got 3 x 6", ["odd.dcm", "003.dcm"]),
        (differing(spacing=(0.5, 0.8)), "PixelSpacing of .*0.75 x 0.5, got 0.8 x 0.5", ["odd.dcm", "003.dcm"]),
        (differing(orientation=TURNED), "ImageOrientationPatient of", ["odd.dcm", "003.dcm"]),
        (differing(PhotometricInterpretation="RGB", SamplesPerPixel=3), "grey values.*RGB, 3 samples", ["odd.dcm"]),
        (differing(PhotometricInterpretation="PALETTE COLOR"), "grey values", ["odd.dcm"]),
        (differing(NumberOfFrames=2, pixels=voxels()[:2]), "2 frames", ["odd.dcm"]),
        (differing(ImagePositionPatient=None), "ImagePositionPatient, got none", ["odd.dcm"]),
        (differing(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "right angles", ["odd.dcm"]),
        (differing(PixelSpacing=None), "PixelSpacing, got none", ["odd.dcm"]),
        (differing(PixelSpacing=[0, 0]), "PixelSpacing over 0", ["odd.dcm"]),
        (differing(RescaleSlope="1e400"), "RescaleSlope", ["odd.dcm"]),
        (differing(Rows=60000), "fits into its .* bytes", ["odd.dcm"]),
        (differing(NumberOfFrames=2_000_000_000), "fits into its", ["odd.dcm"]),
        (differing(Rows=0), "fits into its", ["odd.dcm"]),
        (differing(BitsAllocated=1), "bits a pixel", ["odd.dcm"]),
        (differing(syntax="1.2.840.10008.1.2.1.99"), "transfer syntax that is read, got deflated", ["odd.dcm"]),
        (differing(ModalityLUTSequence=[dicoms.Dataset()]), "table of values", ["odd.dcm"]),
        (differing(PixelData=bytes(10)), "intact", ["odd.dcm"]),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # pydicom's, of what these files are made of
def test_what_makes_no_volume(tmp_path: Path, make: object, match: str, names: list[str]) -> None:
    (tmp_path / "scan").mkdir()
    make(tmp_path / "scan")
    with pytest.raises(DataError, match=match) as caught:
        read_dicom_series(tmp_path / "scan")
    for name in names:
        assert name in str(caught.value)


def test_a_syntax_without_a_decoder(tmp_path: Path) -> None:
    data = dicoms.base(tmp_path / "a.dcm", voxels()[0])
    data.ImagePositionPatient, data.ImageOrientationPatient, data.PixelSpacing = [0, 0, 0], AXIAL, [1, 1]
    data.SliceThickness = 1
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.103"  # MPEG-4
    data.PixelData = dicoms.pydicom.encaps.encapsulate([bytes(100)])
    data["PixelData"].VR = "OB"
    dicoms.save(data)
    with pytest.raises(DataError, match="can be decoded") as caught:
        read_volume(tmp_path / "a.dcm")
    assert str(tmp_path / "a.dcm") in str(caught.value)


def test_one_slice_needs_a_thickness(tmp_path: Path) -> None:
    path = one(tmp_path / "a", voxels()[0], (0, 0, 0))
    with pytest.raises(DataError, match="SliceThickness"):
        read_volume(path)
    np.testing.assert_allclose(read_volume(one(path, voxels()[0], (0, 0, 0), SliceThickness=3)).spacing, (0.75, 0.5, 3))


@pytest.mark.parametrize("frames", [4, 6])
def test_frames_without_a_place(tmp_path: Path, frames: int) -> None:
    path = dicoms.enhanced(tmp_path / "a", voxels(), [0, 1, 2, 3, 4], NumberOfFrames=frames)
    with pytest.raises(DataError, match=r"a place for each|fits into"):
        read_volume(path)


@pytest.mark.parametrize("field", ["PixelSpacing", "ImagePositionPatient"])
@pytest.mark.parametrize("size", ["1e-250", "1e250"])
def test_places_that_no_number_holds(tmp_path: Path, field: str, size: str) -> None:
    for k in range(3):
        fields = {"PixelSpacing": [size, size]} if field == "PixelSpacing" else {field: ["0", "0", f"{k}{size[1:]}"]}
        one(tmp_path / f"{k}.dcm", voxels()[k], (0, 0, k), **fields)
    with pytest.raises(DataError, match=r"each pixel its place|different positions") as caught:
        read_dicom_series(tmp_path)
    assert "0.dcm" in str(caught.value)


def test_values_that_no_float_holds(tmp_path: Path) -> None:
    path = one(tmp_path / "a.dcm", voxels()[0] + 1, (0, 0, 0), SliceThickness=1, RescaleSlope="1e38")
    with pytest.raises(DataError, match=r"a\.dcm to hold finite numbers"):
        read_volume(path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none"):
        read_volume(tmp_path)
    with pytest.raises(DataError, match="none there"):
        read_dicom_series(tmp_path / "none")
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.raises(DataError, match=r"text\.dcm"):
        read_volume(tmp_path)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.98])
def test_truncated_files(tmp_path: Path, share: float) -> None:
    series(tmp_path, voxels())
    path = tmp_path / "003.dcm"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=r"003\.dcm"):
        read_dicom_series(tmp_path)
