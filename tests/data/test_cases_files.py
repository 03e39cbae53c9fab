"""The user's own files: whatever is wrong with one is a DataError that names it; what is right is read as it is."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from fastconv.data.cases import CaseBatches, load
from fastconv.data.cases.frame import IGNORED, restored
from fastconv.errors import ArgumentError, DataError

Image = pytest.importorskip("PIL.Image", reason="Pillow (the images extra) is not installed")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(path: str, array: np.ndarray, **options: object) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if path.endswith(".npy"):
        np.save(path, array)
    elif path.endswith((".nii", ".nii.gz")):
        nibabel = pytest.importorskip("nibabel", reason="nibabel (the medical extra) is not installed")
        nibabel.save(nibabel.Nifti1Image(array, options.get("affine", np.eye(4))), path)
    else:
        Image.fromarray(array).save(path)


def picture(seed: int, *size: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size or (6, 5), dtype=np.uint8)


def classes(kind: str = ".png", *size: int) -> None:
    for i in range(10):
        write(f"set/{'ab'[i % 2]}/{i}{kind}", picture(i, *size))


def masks(kind: str = ".png", *size: int, affine: np.ndarray | None = None) -> None:
    for i in range(8):
        write(f"set/images/{i}{kind}", picture(i, *size), affine=affine)
        write(f"set/labels/{i}{kind}", picture(i, *size) // 128, affine=affine)


# ---------------------------------------------------------------------------------------------- what is right


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_images_are_normalised_by_the_training_set(dtype: str) -> None:
    classes()
    data = load("set")
    assert {name: len(part) for name, part in data.parts.items()} == {"train": 6, "val": 2, "test": 2}
    raw = np.stack([np.asarray(Image.open(case.image), np.float64) for case in data.parts["train"].cases])
    assert data.frame.mean == pytest.approx((raw.mean(),), rel=1e-12)
    assert data.frame.std == pytest.approx((raw.std(),), rel=1e-12)
    batches = CaseBatches(data, "train", 3, shuffle=False, dtype=dtype)
    x = np.concatenate([x for x, _ in batches.epoch(0)])
    assert x.dtype == dtype
    np.testing.assert_allclose(x[:, 0], (raw - raw.mean()) / raw.std(), atol=1e-6)
    labels = np.concatenate([t for _, t in batches.epoch(0)])
    assert [data.classes[i] for i in labels] == [case.target for case in data.parts["train"].cases]
    assert restored(data.frame.plain()) == data.frame


def test_a_limit_takes_some_of_each_class_and_a_batch_is_what_it_was_alone() -> None:
    for i in range(40):
        write(f"set/{'ab'[i // 20]}/{i:02}.png", picture(i))
    data = load("set")
    batches = CaseBatches(data, "train", 4, limit=12, seed=1)
    assert (batches.count, len(batches)) == (12, 3)
    labels = np.concatenate([t for _, t in batches.epoch(0)])
    assert 0 < labels.sum() < 12
    whole = CaseBatches(data, "train", 28, shuffle=False)
    alone, _ = whole.batch(np.array([5]), 0)
    together, _ = whole.batch(np.array([3, 5, 2]), 0)
    np.testing.assert_array_equal(alone[0], together[1])


def test_grey_and_colour_together_are_colour_and_16_bits_are_kept() -> None:
    classes()
    write("set/b/9.png", picture(9, 6, 5, 3))
    data = load("set")
    assert data.frame.channels == len(data.frame.mean) == 3
    x, _ = CaseBatches(data, "train", 10).batch(np.arange(6), 0)
    assert x.shape == (6, 3, 6, 5)
    deep = np.arange(30, dtype=np.uint16).reshape(6, 5) * 2000
    write("one/a/0.png", deep)
    for i in range(7):
        write(f"one/{'ab'[i % 2]}/{i}.png", deep)
    assert load("one").sample("train", 0).image.max() == 58000


def test_sizes_and_volumes() -> None:
    classes(".npy", 6, 5, 4)
    write("set/a/0.npy", picture(0, 7, 5, 4))
    with pytest.raises(DataError, match=r"set/a/0\.npy to have .*as others \(or --size\), got|set/a/\d\.npy to have"):
        load("set")
    data = load("set", size=[8, 3, 5])
    assert data.frame.size == (8, 3, 5)
    assert data.sample("train", 0).image.shape == (1, 8, 3, 5)
    with pytest.raises(ArgumentError, match=r"size of 3 numbers for images like set/.*, got 8 8"):
        load("set", size=[8, 8])
    write("set/b/1.npy", picture(1, 6, 5))
    with pytest.raises(DataError, match="axes, as others have"):
        load("set", size=[8, 3, 5])


def test_masks_become_classes_and_are_padded_with_what_does_not_count() -> None:
    for i in range(8):
        write(f"set/images/{i}.png", picture(i))
        write(f"set/labels/{i}.png", picture(i) // 128 * np.uint8(255))
    data = load("set", "segment")
    assert (data.classes, data.frame.values) == (("0", "255"), (0, 255))
    x, target = CaseBatches(data, "train", 8, multiple=4).batch(np.arange(3), 0)
    assert (x.shape, target.shape, target.dtype) == ((3, 1, 8, 8), (3, 8, 8), np.int64)
    np.testing.assert_array_equal(target[0, :6, :5], data.sample("train", 0).image[0] >= 128)
    assert (target[:, 6:] == IGNORED).all()
    assert (target[:, :, 5:] == IGNORED).all()
    assert not x[:, :, 6:].any()


def test_masks_with_a_palette_and_in_one_colour() -> None:
    masks()
    values = picture(0) // 128
    coloured = Image.fromarray(values)
    coloured.putpalette([0, 0, 0, 200, 10, 10])
    coloured.save("set/labels/0.png")
    write("set/labels/1.png", np.stack([picture(1) // 128] * 3, -1))
    data = load("set", "segment", shares=(0.0, 0.2))
    for part, cases in data.parts.items():
        for i, case in enumerate(cases.cases):
            np.testing.assert_array_equal(data.sample(part, i).mask, picture(int(case.image.stem)) // 128)
    write("set/labels/1.png", np.stack([picture(1) // 128, picture(2), picture(3)], -1))
    with pytest.raises(DataError, match=r"set/labels/1\.png to be a mask \(one value a pixel\), got colours"):
        load("set", "segment")


def test_spacing_of_volumes_follows_their_size() -> None:
    masks(".nii.gz", 6, 5, 4, affine=np.diag([2.0, -3, 4, 1]))
    assert load("set", "segment").sample("train", 0).spacing == (2, 3, 4)
    assert load("set", "segment", size=[3, 5, 8]).sample("train", 0).spacing == (4, 3, 2)
    first = load("set", "segment").sample("train", 0)
    np.testing.assert_array_equal(first.mask[:, ::-1], first.image[0, :, ::-1] >= 128)
    case = load("set", "segment").parts["train"].cases[0]
    np.testing.assert_array_equal(first.image[0], picture(int(case.image.name[0]), 6, 5, 4)[:, ::-1])  # turned to RAS
    write("set/labels/3.nii.gz", picture(3, 6, 5, 4) // 128, affine=np.diag([2.0, -3, 5, 1]))
    with pytest.raises(DataError, match=r"set/labels/3\.nii\.gz to lie where set/images/3\.nii\.gz lies"):
        load("set", "segment")


# ---------------------------------------------------------------------------------------------- what is wrong


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 grey pixels, 3.6 GB, in few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    )


def truncated() -> bytes:
    write("whole.png", picture(0, 64, 64))
    return Path("whole.png").read_bytes()[:500]


@pytest.mark.parametrize("damage, reason", [
    (lambda: b"", "set/a/4.png to be a readable image"),
    (lambda: b"GIF89a nonsense", "set/a/4.png to be a readable image"),
    (truncated, "set/a/4.png to be a readable image"),
    (bomb, "set/a/4.png of a sensible size"),
])  # fmt: skip
def test_damaged_pictures_are_named(damage, reason: str) -> None:
    classes()
    Path("set/a/4.png").write_bytes(damage())
    with pytest.raises(DataError) as caught:
        load("set")
    assert reason in str(caught.value)


def test_damaged_arrays_are_named() -> None:
    classes(".npy")
    whole = Path("set/a/4.npy").read_bytes()
    for data in (b"", whole[:-1], whole.replace(b"(6, 5)", b"(6000000000, 5)"[:6]), b"\x80\x04pickle"):
        Path("set/a/4.npy").write_bytes(data)
        with pytest.raises(DataError, match=r"set/a/4\.npy"):
            load("set")
    for array in (np.array(["x"]), np.zeros((0, 3)), np.zeros(4), np.zeros((2, 2), complex), np.zeros((1,) * 5)):
        np.save("set/a/4.npy", array)
        with pytest.raises(DataError, match=r"set/a/4\.npy"):
            load("set")


def test_numbers_that_are_not_finite_are_placed() -> None:
    classes(".npy")
    array = np.ones((6, 5), np.float32)
    array[2, 3] = np.nan
    np.save("set/a/4.npy", array)
    with pytest.raises(DataError, match=r"set/a/4\.npy to hold finite numbers, got nan at \(2, 3\)"):
        load("set")
    array[2, 3] = np.inf
    write("set/a/4.nii", array[None])
    Path("set/a/4.npy").unlink()
    with pytest.raises(DataError, match=r"set/a/4\.nii"):
        load("set")


@pytest.mark.parametrize("label, reason", [
    (np.full((6, 5), 7), r"set/labels/3\.npy to hold the classes 0, 1, got 7 at \(0, 0\)"),
    (np.zeros((6, 4), np.uint8), r"set/labels/3\.npy to have the sizes 6x5 of set/images/3\.npy, got 6x4"),
    (np.full((6, 5), 0.5), r"set/labels/3\.npy to hold whole numbers, a class each, got fractions"),
    (np.full((6, 5), np.nan), r"set/labels/3\.npy to hold finite numbers"),
])  # fmt: skip
def test_masks_that_do_not_fit_are_named(label: np.ndarray, reason: str) -> None:
    masks(".npy")
    np.save("set/labels/3.npy", label)
    with pytest.raises(DataError, match=reason):
        load("set", "segment", names=["no", "yes"])


def test_photographs_are_no_masks_and_one_class_is_none() -> None:
    masks()
    write("set/labels/2.png", picture(2, 6, 5))
    for i in range(8):
        write(f"set/labels/{i}.png", picture(i))
    with pytest.raises(DataError, match=r"set/labels/\d\.png to be a mask, with at most 64 classes"):
        load("set", "segment")
    for i in range(8):
        write(f"set/labels/{i}.png", np.zeros((6, 5), np.uint8))
    with pytest.raises(DataError, match=r"two classes in the training masks, got 0 alone in set/labels/\d\.png"):
        load("set", "segment")


def test_classes_that_cannot_be_learnt_are_named() -> None:
    for i in range(4):
        write(f"set/only/{i}.png", picture(i))
    with pytest.raises(DataError, match="at least two classes in set, got only alone"):
        load("set")
    for part in ("train", "test"):
        write(f"parts/{part}/a/1.png", picture(1))
    write("parts/train/b/1.png", picture(1))
    write("parts/test/c/1.png", picture(1))
    with pytest.raises(DataError, match="training cases of class c in parts, got none"):
        load("parts")


def test_gaps_name_row_and_column_or_are_filled() -> None:
    rows = ["path,label,age"]
    for i in range(10):
        write(f"x/{i}.png", picture(i))
        rows.append(f"x/{i}.png,{'ab'[i % 2]},{'' if i == 6 else 40 + i}")
    Path("cases.csv").write_text("\n".join(rows))
    with pytest.raises(
        DataError, match=r"cases\.csv row 8, x/6\.png to have a value in column 'age' \(or --missing mean"
    ):
        load("cases.csv")
    data = load("cases.csv", missing="mean")
    found = {c.name: s for part in data.parts.values() for c, s in zip(part.cases, part.scores, strict=True)}
    assert found["x/6.png"].tolist() == [0.0]
    (x, scores), _ = CaseBatches(data, "train", 4).batch(np.arange(2), 0)
    assert (x.shape, scores.shape, scores.dtype) == ((2, 1, 6, 5), (2, 1), np.float32)


def test_several_labels_a_sample_are_refused() -> None:
    arrays = {}
    for part in ("train", "val", "test"):
        arrays |= {f"{part}_images": np.zeros((2, 4, 4), np.uint8), f"{part}_labels": np.zeros((2, 3), np.uint8)}
    np.savez("many.npz", **arrays)
    with pytest.raises(DataError, match=r"one label a sample in many\.npz, got 3"):
        load("many.npz")
    with pytest.raises(DataError, match=r"a folder or a \.csv to segment, got many\.npz"):
        load("many.npz", "segment")


def test_what_is_not_kept_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    classes()
    kept = load("set")
    monkeypatch.setattr("fastconv.data.cases.dataset._CACHE", 0)
    again = load("set")
    assert not again.parts["train"].kept
    assert kept.fingerprint == again.fingerprint
    for a, b in zip(CaseBatches(kept, "train", 3).epoch(1), CaseBatches(again, "train", 3).epoch(1), strict=True):
        np.testing.assert_array_equal(a[0], b[0])
