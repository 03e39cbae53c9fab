"""NIfTI files read whole and by windows, as nibabel does; and written, windows and whole, header and affine kept."""

from __future__ import annotations

import errno
import gzip
import io
from pathlib import Path

import numpy as np
import pytest

from fastconv.data import NiftiWriter, Volume, open_nifti, read_nifti, read_volume, reorient, stack, write_nifti
from fastconv.errors import ArgumentError, DataError, DTypeError, ShapeError

nibabel = pytest.importorskip("nibabel")
AFFINE = np.array([[-0.9, 0.1, 0, 90], [0.05, 1.1, 0.2, -126], [0, -0.3, 2.5, -72], [0, 0, 0, 1]])
DTYPES = ["u1", "i1", "<i2", ">i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f4", ">f4", "<f8"]
NAMES = ["a.nii", "a.nii.gz"]
WINDOWS = [
    None,
    (slice(0, 1), slice(0, 1), slice(0, 1)),
    (slice(2, 5), slice(1, 6), slice(3, 4)),
    (slice(None), slice(2, None), slice(-2, None)),
    (slice(1, 3), slice(None), slice(None)),
    (slice(4, 5), slice(5, 6), slice(6, 7)),
    (slice(2, 2), slice(None), slice(0, 3)),
    (slice(None), slice(3, 3), slice(None)),
    (slice(None), slice(None), slice(9, 20)),
]


def values(shape: tuple[int, ...] = (5, 6, 7), dtype: str = "<i2") -> np.ndarray:
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 100, shape) if np.dtype(dtype).kind in "ui" else rng.normal(size=shape)
    return drawn.astype(dtype)


def save(
    path: Path, data: np.ndarray, affine: np.ndarray | None = AFFINE, kind: str = "Nifti1Image", slope: float = 0,
    intercept: float = 0,
) -> Path:  # fmt: skip
    """Write as nibabel does; the slope, if any, into the header alone."""
    order = ">" if data.dtype.str[0] == ">" else "<"
    header = getattr(nibabel, kind.replace("Image", "Header"))(endianness=order)
    nibabel.save(getattr(nibabel, kind)(data, affine, header, dtype=data.dtype), path)
    if slope:
        raw = path.read_bytes()
        raw = bytearray(gzip.decompress(raw) if path.suffix == ".gz" else raw)
        raw[112:120] = np.array([slope, intercept], "<f4").tobytes()
        path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_reading_is_nibabels(tmp_path: Path, name: str, dtype: str) -> None:
    data = values(dtype=dtype)
    found = read_nifti(save(tmp_path / name, data))
    wanted = nibabel.load(tmp_path / name)
    assert found.data.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(found.data, data)
    np.testing.assert_array_equal(found.data, wanted.dataobj)
    np.testing.assert_array_equal(found.affine, wanted.affine)
    assert found.orientation == "".join(nibabel.aff2axcodes(wanted.affine))
    assert found.header.endianness == (">" if dtype[0] == ">" else "<")
    assert found.path == tmp_path / name
    found.data[0, 0, 0] = 1  # an array of the user's own


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("slope, intercept", [(0.5, -10.0), (1.0, -1024.0), (-3.25, 0.0), (1e-3, 7.0)])
def test_scaling_is_nibabels(tmp_path: Path, name: str, slope: float, intercept: float) -> None:
    found = read_nifti(save(tmp_path / name, values(), slope=slope, intercept=intercept))
    assert found.data.dtype == np.float32
    np.testing.assert_array_equal(found.data, nibabel.load(tmp_path / name).get_fdata().astype(np.float32))
    with open_nifti(tmp_path / name) as file:
        assert file.dtype == np.float32
        np.testing.assert_array_equal(file.read(WINDOWS[2]), found.data[WINDOWS[2]])


def test_a_slope_of_one_is_none(tmp_path: Path) -> None:
    assert read_nifti(save(tmp_path / "a.nii", values(), slope=1.0)).data.dtype == np.int16


@pytest.mark.parametrize("name", NAMES)
def test_nifti_2(tmp_path: Path, name: str) -> None:
    found = read_nifti(save(tmp_path / name, values(), kind="Nifti2Image"))
    np.testing.assert_array_equal(found.data, values())
    np.testing.assert_array_equal(found.affine, AFFINE)
    assert type(found.header) is nibabel.Nifti2Header


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 2), (1, 3)])
def test_the_affine_is_nibabels(tmp_path: Path, codes: tuple[int, int]) -> None:
    image = nibabel.Nifti1Image(values(), None)
    other = AFFINE.copy()
    other[:3, 3] += 5
    image.header.set_zooms((1, 2, 3))
    image.header.set_qform(AFFINE if codes[0] else None, codes[0])
    image.header.set_sform(other if codes[1] else None, codes[1])
    nibabel.save(image, tmp_path / "a.nii")
    assert nibabel.load(tmp_path / "a.nii").header["qform_code"] == codes[0]
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii").affine, nibabel.load(tmp_path / "a.nii").affine)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("window", WINDOWS)
def test_windows(tmp_path: Path, name: str, window: tuple[slice, ...] | None) -> None:
    data = values(dtype=">f4")
    with open_nifti(save(tmp_path / name, data)) as file:
        assert file.shape == data.shape
        assert file.dtype == np.float32
        np.testing.assert_array_equal(file.read(window), data if window is None else data[window])
        np.testing.assert_array_equal(file.affine, nibabel.load(tmp_path / name).affine)


@pytest.mark.parametrize("name", NAMES)
def test_frames(tmp_path: Path, name: str) -> None:
    data = values((5, 6, 7, 3))
    save(tmp_path / name, data)
    with pytest.raises(DataError, match=r"5 x 6 x 7 x 3: choose a frame \(frame=0\)") as caught:
        read_nifti(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    for frame in range(3):
        np.testing.assert_array_equal(read_volume(tmp_path / name, frame=frame).data, data[..., frame])
    channels = np.moveaxis(data, -1, 0)
    np.testing.assert_array_equal(read_nifti(tmp_path / name, "all").data, channels)
    with open_nifti(tmp_path / name, "all") as file:
        assert file.shape == (3, 5, 6, 7)
        np.testing.assert_array_equal(file.read(WINDOWS[2]), channels[(slice(None), *WINDOWS[2])])
    for frame in (3, -1, True, "some"):
        with pytest.raises(ArgumentError, match="frame 0 to 2"):
            read_nifti(tmp_path / name, frame)


@pytest.mark.parametrize(
    "shape, expected", [((5,), (5, 1, 1)), ((5, 6), (5, 6, 1)), ((5, 6, 7, 1), (5, 6, 7)), ((5, 6, 7, 1, 1), (5, 6, 7))]
)
def test_axes_of_one_voxel(tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    save(tmp_path / "a.nii", values(shape))
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii").data, values(shape).reshape(expected))


def test_five_axes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="three axes, or four, got 2 x 2 x 2 x 1 x 3"):
        read_nifti(save(tmp_path / "a.nii", values((2, 2, 2, 1, 3))))


def test_no_room_to_unpack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    full = Full()
    monkeypatch.setattr("tempfile.TemporaryFile", lambda: full)
    with pytest.raises(DataError, match=r"room for 772 bytes in .*a\.nii\.gz, got No space left"):
        open_nifti(save(tmp_path / "a.nii.gz", values()))
    assert full.closed


@pytest.mark.parametrize("window", [(slice(None),) * 2, (slice(None, None, 2),) * 3, (0, 1, 2)])
def test_other_windows_are_refused(tmp_path: Path, window: tuple) -> None:
    with open_nifti(save(tmp_path / "a.nii", values())) as file, pytest.raises(ShapeError, match="three slices"):
        file.read(window)


@pytest.mark.parametrize("name", NAMES)
def test_voxels_that_are_no_numbers(tmp_path: Path, name: str) -> None:
    data = values(dtype="<f4")
    data[3, 4, 5] = np.nan
    save(tmp_path / name, data)
    with pytest.raises(DataError, match=r"nan at voxel \(3, 4, 5\)") as caught:
        read_nifti(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    with open_nifti(tmp_path / name) as file:
        np.testing.assert_array_equal(file.read((slice(0, 3), slice(0, 4), slice(None))), data[:3, :4])
        with pytest.raises(DataError, match=r"nan at voxel \(3, 4, 5\)"):
            file.read((slice(2, 5), slice(3, 6), slice(4, 6)))
    np.testing.assert_array_equal(read_nifti(tmp_path / name, nan="keep").data, data)
    np.testing.assert_array_equal(read_nifti(tmp_path / name, nan="zero").data, np.nan_to_num(data))
    with pytest.raises(ArgumentError, match="nan"):
        read_nifti(tmp_path / name, nan="drop")


# ------------------------------------------------------------------------------------------------ writing


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["u1", "<i2", "<f4", "<f8", "<i8"])
@pytest.mark.parametrize("lead", [(), (2,)])
def test_writing_and_reading_back(tmp_path: Path, name: str, dtype: str, lead: tuple[int, ...]) -> None:
    volume = Volume(values((*lead, 5, 6, 7), dtype), AFFINE)
    write_nifti(tmp_path / name, volume)
    found = read_nifti(tmp_path / name, frame="all" if lead else None)
    assert found.data.dtype == volume.data.dtype
    np.testing.assert_array_equal(found.data, volume.data)
    np.testing.assert_allclose(found.affine, AFFINE, atol=1e-5)
    other = nibabel.load(tmp_path / name)
    np.testing.assert_array_equal(np.asarray(other.dataobj), np.moveaxis(volume.data, 0, -1) if lead else volume.data)
    np.testing.assert_allclose(other.affine, AFFINE, atol=1e-5)
    assert other.header.get_xyzt_units()[0] == "mm"
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lead", [(), (3,)])
@pytest.mark.parametrize("source", ["<i2", ">i2"])
def test_windows_written_in_any_order(tmp_path: Path, name: str, lead: tuple[int, ...], source: str) -> None:
    """Boxes of 2x3x4 over a header of either byte order."""
    like = read_nifti(save(tmp_path / "like.nii", values(dtype=source)))
    data = values((*lead, 5, 6, 7), "<f4")
    boxes = [(i, j, k) for i in range(0, 5, 2) for j in range(0, 6, 3) for k in range(0, 7, 4)]
    np.random.default_rng(1).shuffle(boxes)
    with NiftiWriter(tmp_path / name, data.shape, like=like) as writer:
        for i, j, k in boxes:
            window = slice(i, i + 2), slice(j, j + 3), slice(k, k + 4)
            writer.write(window, data[(..., *window)])
    np.testing.assert_array_equal(read_nifti(tmp_path / name, "all" if lead else None).data, data)


def test_what_no_window_held_is_zero(tmp_path: Path) -> None:
    with NiftiWriter(tmp_path / "a.nii", (3, 3, 3), np.uint8) as writer:
        writer.write((slice(1, 2),) * 3, np.full((1, 1, 1), 7, np.uint8))
    found = read_nifti(tmp_path / "a.nii").data
    assert found[1, 1, 1] == found.sum() == 7


def detailed(path: Path) -> Path:
    image = nibabel.Nifti1Image(values(), None)
    turn = np.diag([-2.0, 2.0, 3.0, 1.0])
    image.set_qform(turn, 1)
    image.set_sform(AFFINE, 4)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"a scan"
    image.header["cal_max"] = 300
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"kept"))
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_the_header_is_kept(tmp_path: Path, name: str) -> None:
    like = read_nifti(detailed(tmp_path / "like.nii.gz"))
    write_nifti(tmp_path / name, like.data > 50, like=like)
    found, wanted = nibabel.load(tmp_path / name).header, nibabel.load(tmp_path / "like.nii.gz").header
    np.testing.assert_array_equal(found.get_sform(), wanted.get_sform())
    np.testing.assert_array_equal(found.get_qform(), wanted.get_qform())
    for field in ("qform_code", "sform_code", "xyzt_units", "descrip", "pixdim"):
        np.testing.assert_array_equal(found[field], wanted[field])
    assert found.extensions[0].get_content() == b"kept"
    assert found["cal_max"] == 0  # the scan's window of display is not the mask's
    assert found.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(read_nifti(tmp_path / name).data, like.data > 50)


def test_a_file_can_be_what_another_is_like(tmp_path: Path) -> None:
    with open_nifti(detailed(tmp_path / "like.nii.gz")) as like:
        write_nifti(tmp_path / "a.nii", np.zeros(like.shape, np.float32), like=like)
    assert nibabel.load(tmp_path / "a.nii").header["descrip"] == b"a scan"


def test_a_reoriented_volume_is_written_where_it_lies(tmp_path: Path) -> None:
    like = read_nifti(detailed(tmp_path / "like.nii.gz"))
    write_nifti(tmp_path / "a.nii", reorient(like, "PSR"))
    found = read_nifti(tmp_path / "a.nii")
    assert found.orientation == "PSR"
    assert found.header["descrip"] == b"a scan"
    assert found.header["sform_code"] == 4
    back = reorient(found, like.orientation)
    np.testing.assert_array_equal(back.data, like.data)
    np.testing.assert_allclose(back.affine, like.affine, atol=1e-4)


def test_scaled_files_become_files_of_floats(tmp_path: Path) -> None:
    like = read_nifti(save(tmp_path / "like.nii", values(), slope=0.5, intercept=3))
    write_nifti(tmp_path / "a.nii", like)
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii").data, like.data)
    write_nifti(tmp_path / "b.nii", stack([like, like]))
    assert nibabel.load(tmp_path / "b.nii").shape == (5, 6, 7, 2)


def test_long_axes_need_nifti_2(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii", np.zeros((40000, 1, 1), np.uint8))
    assert type(nibabel.load(tmp_path / "a.nii")) is nibabel.Nifti2Image


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(tmp_path / name, values())
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_of_a_failure(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"before")

    def interrupted() -> None:
        with NiftiWriter(tmp_path / name, (3, 3, 3)) as writer:
            writer.write(None, np.zeros((3, 3, 3), np.float32))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"before"


@pytest.mark.parametrize(
    "error, match, call",
    [
        (ArgumentError, "nii", lambda path: NiftiWriter(path / "a.img", (3, 3, 3))),
        (ShapeError, "shape", lambda path: NiftiWriter(path / "a.nii", (3, 3))),
        (ShapeError, "none of them 0", lambda path: NiftiWriter(path / "a.nii", (3, 0, 3))),
        (
            ShapeError,
            "as like has",
            lambda path: write_nifti(path / "a.nii", values(), Volume(values((5, 6, 8)), AFFINE)),
        ),
        (DTypeError, "float16", lambda path: write_nifti(path / "a.nii", values().astype(np.float16))),
        (DTypeError, "complex64", lambda path: write_nifti(path / "a.nii", values().astype(np.complex64))),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, error: type, match: str, call: object) -> None:
    with pytest.raises(error, match=match):
        call(tmp_path)
    assert not list(tmp_path.iterdir())


def test_windows_that_do_not_fit(tmp_path: Path) -> None:
    with NiftiWriter(tmp_path / "a.nii", (3, 4, 5)) as writer:
        with pytest.raises(ShapeError, match=r"values \(3, 4, 2\)"):
            writer.write((slice(None), slice(None), slice(3, 9)), np.zeros((3, 4, 6), np.float32))
        with pytest.raises(DTypeError, match="float32, got float64"):
            writer.write(None, np.zeros((3, 4, 5)))
