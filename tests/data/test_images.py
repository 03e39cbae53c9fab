"""find_digit and what it is made of; digits drawn here, put on paper, photographed badly."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from fastconv.data import digits, find_digit, images, read_grey
from fastconv.errors import DataError

SEVEN = digits.load().train.images[7].astype(np.float64) / 255


def paper(scale: int = 6, height: int = 300, width: int = 400, at: tuple[int, int] = (60, 150)) -> np.ndarray:
    """A digit in dark ink on white paper, off the middle. Values 0..1."""
    field = np.zeros((height, width))
    big = images.resize(SEVEN, 28 * scale, 28 * scale)
    field[at[0] : at[0] + 28 * scale, at[1] : at[1] + 28 * scale] = np.clip(big, 0, 1)
    return 1 - field


def likeness(found: np.ndarray, wanted: np.ndarray = SEVEN) -> float:
    """The correlation of two pictures."""
    return float(np.corrcoef(found.ravel() / 255, wanted.ravel())[0, 1])


def shaded(page: np.ndarray) -> np.ndarray:
    y, x = np.meshgrid(*(np.linspace(0, 1, side) for side in page.shape), indexing="ij")
    light = 0.9 - 0.35 * x - 0.2 * y * y
    return light * (0.25 + 0.75 * page)


def noisy(page: np.ndarray) -> np.ndarray:
    return np.clip(page * 0.8 + 0.1 + np.random.default_rng(0).normal(0, 0.03, page.shape), 0, 1)


def with_specks(page: np.ndarray) -> np.ndarray:
    page = page.copy()
    page[10:14, 10:14] = page[280:284, 380:385] = 0
    return page


def with_an_edge(page: np.ndarray) -> np.ndarray:
    page = page.copy()
    page[:, -25:] = 0.2
    return page


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda page: page, id="dark on light"),
        pytest.param(lambda page: 1 - page, id="light on dark"),
        pytest.param(lambda page: 0.4 + 0.3 * page, id="faint"),
        pytest.param(lambda page: np.kron(page, np.ones((5, 5))), id="large"),
        pytest.param(lambda page: page[55:235, 145:325], id="cropped"),
        pytest.param(lambda page: page[::5, ::5], id="small"),
        shaded,
        noisy,
        with_specks,
        with_an_edge,
    ],
)
def test_finds_the_digit(change) -> None:
    found = find_digit(change(paper()))
    assert found.shape == (28, 28)
    assert found.dtype == np.uint8
    assert likeness(found) > 0.9
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 <= 20
    assert found.max() == 255


def test_broken_strokes_stay_together() -> None:
    page = np.ones((200, 200))
    page[50:150, 60:70] = 0  # two bars of an 11, a small gap in the first
    page[98:100, 60:70] = 1
    found = find_digit(page)
    assert np.ptp(np.flatnonzero(found.any(axis=1))) + 1 == 20


def test_a_thin_stroke_stays_bright() -> None:
    page = np.ones((600, 600))
    page[100:500, 300:303] = 0
    found = find_digit(page)
    assert found.max() == 255
    assert (found > 128).sum() >= 18


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(np.ones((50, 50)), id="white"),
        pytest.param(np.zeros((50, 50)), id="black"),
        pytest.param(np.full((50, 60), 0.5), id="grey"),
        pytest.param(np.linspace(0, 1, 2500).reshape(50, 50), id="gradient"),
        pytest.param(np.ones((1, 1)), id="one pixel"),
        pytest.param(0.5 + np.random.default_rng(0).normal(0, 0.01, (90, 90)), id="noise"),
    ],
)
def test_blank_pages_are_named(page: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"page\.png.*blank"):
        find_digit(page, "page.png")


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (2, 2), (3, 500)])
def test_odd_shapes_do_not_crash(shape: tuple[int, int]) -> None:
    page = np.ones(shape)
    page.flat[page.size // 2] = 0
    assert find_digit(page).shape == (28, 28)


def test_resize_is_exact_on_planes_and_keeps_the_mean() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((3, 40, 60))
    np.testing.assert_allclose(images.resize(x, 10, 15), x.reshape(3, 10, 4, 15, 4).mean((2, 4)), atol=0.25)
    np.testing.assert_allclose(images.resize(np.full((7, 9), 0.3), 20, 4), 0.3, rtol=1e-12)
    ramp = np.linspace(0, 1, 16)[None] * np.ones((16, 1))
    inner = images.resize(ramp, 64, 64)[:, 4:-4]
    np.testing.assert_allclose(np.diff(inner, axis=1), np.diff(inner, axis=1)[0, 0], rtol=1e-9)


def test_parts_are_eight_connected() -> None:
    ndimage = pytest.importorskip("scipy.ndimage", reason="scipy (with scikit-learn, the peers extra) is not installed")
    for seed in range(20):
        mask = np.random.default_rng(seed).random((30, 25)) < 0.35
        ours, count = images._parts(mask)
        theirs, expected = ndimage.label(mask, np.ones((3, 3)))
        assert count == expected
        assert len(set(zip(ours.ravel().tolist(), theirs.ravel().tolist(), strict=True))) == count + 1


# ------------------------------------------------------------------------------------------------ files


def save(path: Path, page: np.ndarray, mode: str = "L") -> Path:
    image = pytest.importorskip("PIL.Image", reason="Pillow (the images extra) is not installed")
    image.fromarray(np.rint(page * 255).astype(np.uint8)).convert(mode).save(path)
    return path


@pytest.mark.parametrize(
    "suffix, mode",
    [(suffix, mode) for suffix in ("png", "tif") for mode in ("L", "RGB", "P", "1")]
    + [("jpg", "L"), ("jpg", "RGB"), ("pgm", "L")],
)
def test_reads_image_files(tmp_path: Path, suffix: str, mode: str) -> None:
    page = np.rint(paper()) if mode == "1" else paper()
    grey = read_grey(save(tmp_path / f"a.{suffix}", page, mode))
    assert grey.shape == (300, 400)
    assert np.abs(grey - page).mean() < 0.005


def test_transparent_drawings_lie_on_white(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow (the images extra) is not installed")
    ink = np.zeros((300, 400, 4), np.uint8)
    ink[..., 3] = np.rint((1 - paper()) * 255)
    image.fromarray(ink).save(tmp_path / "a.png")
    assert np.abs(read_grey(tmp_path / "a.png") - paper()).max() < 0.01


def test_a_large_picture_is_reduced_as_it_is_read(tmp_path: Path) -> None:
    grey = read_grey(save(tmp_path / "a.png", np.kron(paper(), np.ones((10, 10)))))
    assert max(grey.shape) < 1300
    assert likeness(find_digit(grey)) > 0.9


def test_a_photograph_lies_as_its_exif_says(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow (the images extra) is not installed")
    photo = image.fromarray(np.rint(np.rot90(paper()) * 255).astype(np.uint8))
    exif = photo.getexif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees to see it upright
    photo.save(tmp_path / "a.jpg", exif=exif)
    assert likeness(find_digit(read_grey(tmp_path / "a.jpg"))) > 0.9


def test_a_decompression_bomb_is_named_and_never_unpacked(tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="Pillow (the images extra) is not installed")

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(DataError, match=r"a\.png of a sensible size"):
        read_grey(tmp_path / "a.png")


@pytest.mark.parametrize(
    "header, reason",
    [
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (10000000, 10000000), }", "bytes of values"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (-5, 3), }", "bytes of values"),
        ("{'descr': '<f8'", "begin with an .npy header"),
    ],
)
def test_lying_npy_headers_are_named(tmp_path: Path, header: str, reason: str) -> None:
    text = header.encode()
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(16))
    with pytest.raises(DataError, match=rf"a\.npy to .*{reason}"):
        read_grey(tmp_path / "a.npy")


@pytest.mark.parametrize(
    "page",
    [np.zeros((3, 3, 3)), np.zeros(5), np.zeros((0, 3)), np.full((9, 9), np.nan), np.array([[np.inf, 0]]),
     np.array([["a"]])],
)  # fmt: skip
def test_arrays_that_are_no_image_are_named(page: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"page\.png to be finite grey values"):
        find_digit(page, "page.png")


def test_sixteen_bits(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow (the images extra) is not installed")
    image.fromarray(np.rint(paper() * 65535).astype(np.uint16)).save(tmp_path / "a.png")
    assert np.abs(read_grey(tmp_path / "a.png") - paper()).max() < 0.01


@pytest.mark.parametrize("dtype, top", [(np.uint8, 255), (np.float32, 1), (np.float64, 1), (np.uint16, 65535)])
def test_npy_needs_no_pillow(tmp_path: Path, dtype: type, top: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    np.save(tmp_path / "a.npy", (paper() * top).astype(dtype))
    assert np.abs(read_grey(tmp_path / "a.npy") - paper()).max() < 0.01
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.png.*fastconv\[images\]"):
        read_grey(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.npy", "a.txt"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(40), b"\xff\xd8\xff\xe0" + bytes(40)])
def test_unreadable_files_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    pytest.importorskip("PIL", reason="Pillow (the images extra) is not installed")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        read_grey(tmp_path / name)


def test_truncated_missing_and_pickled_files_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "cut.png", paper())
    path.write_bytes(path.read_bytes()[:-100])
    np.save(tmp_path / "pickle.npy", np.array([{}], object))
    np.save(tmp_path / "nan.npy", np.full((9, 9), np.nan))
    for name in ("cut.png", "pickle.npy", "nan.npy", "missing.png", "missing.npy"):
        with pytest.raises(DataError, match=name):
            read_grey(tmp_path / name)
    with pytest.raises(DataError, match="directory"):
        read_grey(tmp_path)
