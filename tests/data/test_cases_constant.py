"""Columns and channels that are constant, and grey images among those in colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastconv.data.cases import CaseBatches, load
from fastconv.data.cases.columns import fit


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, array: np.ndarray) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    np.save(name, array)


def test_a_constant_column_is_not_divided_by_an_error_of_rounding() -> None:
    column = fit("dose", ["0.1"] * 3, ["r"] * 3)
    assert (column.mean, column.deviation) == (0.1, 1.0)
    assert column.encode("0.2", "r", "refuse") == [0.1]


def test_one_text_among_numbers_is_named() -> None:
    cells, rows = ["40", "6o", *["50"] * 7, "NA"], [f"t.csv row {i}" for i in range(2, 12)]
    assert fit("age", cells, rows).categories == ("40", "50", "6o")  # eight of nine
    wanted = "data: expected t.csv row 3 to have a number in column 'age', as most rows, got '6o'; it is taken for cat"
    with pytest.warns(UserWarning, match=wanted) as caught:
        assert fit("age", [*cells, "50"], [*rows, "t.csv row 12"]).categories == ("40", "50", "6o")
    assert len(caught) == 1


@pytest.mark.parametrize("value", [0.1, 1e9 + 0.1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [None, (5, 8, 31)])
def test_a_constant_channel_is_not_divided_by_an_error_of_rounding(
    value: float, dtype: str, size: tuple[int, ...] | None
) -> None:
    draw = np.random.default_rng(0)
    for i in range(8):
        image = draw.normal(size=(2, 3, 33, 12)).astype(dtype)
        image[1] = value
        write(f"set/{'ab'[i % 2]}/{i}.npy", image)
    frame = load("set", size=size).frame
    assert frame.mean[1] == pytest.approx(float(image[1, 0, 0, 0]), rel=20 * float(np.finfo(dtype).eps))
    assert frame.std[1] == 1.0
    assert 0.3 < frame.std[0] < 1.1


@pytest.mark.parametrize("colour", ["set/a/0.npy", "set/b/7.npy"])
@pytest.mark.parametrize("parts", [False, True])
def test_grey_images_stand_for_all_colours(colour: str, parts: bool) -> None:
    """Wherever the one in colour comes, statistics are those of the images lifted to three channels."""
    draw = np.random.default_rng(0)
    for i in range(8):
        name = f"set/{'ab'[i % 2]}/{i}.npy"
        image = draw.integers(0, 256, (7, 5, 3) if name == colour else (7, 5), dtype=np.uint8)
        write(name.replace("set", "set/train") if parts else name, image)
        if parts:
            write(name.replace("set", "set/test"), image)
    data = load("set")
    assert data.frame.channels == 3
    raw = [np.load(case.image) for case in data.parts["train"].cases]
    lifted = np.stack([image if image.ndim == 3 else np.stack([image] * 3, -1) for image in raw]).astype(np.float64)
    assert data.frame.mean == pytest.approx(lifted.mean((0, 1, 2)), rel=1e-12)
    assert data.frame.std == pytest.approx(lifted.std((0, 1, 2)), rel=1e-12)
    x, _ = CaseBatches(data, "train", 8, shuffle=False, dtype="float64").batch(np.arange(len(raw)), 0)
    wanted = (lifted - data.frame.mean) / data.frame.std
    np.testing.assert_allclose(x, np.moveaxis(wanted, -1, 1), rtol=1e-9, atol=1e-9)
