"""Loader: order, resumption, normalisation, shifts."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.data import Loader, Split
from fastconv.errors import ArgumentError, DataError, DTypeError


def split(count: int = 10, size: int = 4) -> Split:
    rng = np.random.default_rng(0)
    return Split(rng.integers(0, 256, (count, size, size), dtype=np.uint8), np.arange(count))


def labels(loader: Loader, epoch: int, start: int = 0) -> list[int]:
    return [int(label) for _, t in loader.epoch(epoch, start) for label in t]


def test_an_epoch_has_every_sample_once_and_the_last_batch_is_kept() -> None:
    loader = Loader(split(), 4, seed=3)
    batches = list(loader.epoch(0))
    assert [len(t) for _, t in batches] == [4, 4, 2]
    assert len(loader) == 3
    assert sorted(labels(loader, 0)) == list(range(10))
    for x, t in batches:
        assert x.shape == (len(t), 1, 4, 4)
        assert x.dtype == np.float32
        assert t.dtype == np.int64


def test_order_depends_on_seed_and_epoch_alone() -> None:
    one, other = Loader(split(50), 7, seed=1), Loader(split(50), 7, seed=2)
    first = labels(one, 0)
    assert labels(one, 5) != first
    assert labels(other, 0) != first
    assert labels(one, 0) == first  # again, after another epoch
    assert labels(Loader(split(50), 50, seed=1), 0) == first  # whatever the batch size


def test_order_is_pinned() -> None:
    """A checkpoint of one NumPy version must resume under another: raw Philox words do not change."""
    assert labels(Loader(split(8), 8, seed=0), 0) == [5, 3, 7, 2, 4, 1, 0, 6]


def test_large_seeds_differ() -> None:
    """NumPy makes float64 of a list of a large and a small integer: neighbouring seeds must not become one."""
    one, other = (labels(Loader(split(50), 50, seed=2**64 - n), 0) for n in (1, 2))
    assert one != other


def test_an_epoch_resumes_at_any_batch() -> None:
    loader = Loader(split(23), 5, shift=1, seed=9)
    whole = list(loader.epoch(2))
    for start in range(6):
        rest = list(loader.epoch(2, start))
        assert len(rest) == 5 - start
        for (x, t), (x2, t2) in zip(whole[start:], rest, strict=True):
            np.testing.assert_array_equal(x, x2)
            np.testing.assert_array_equal(t, t2)


@pytest.mark.parametrize("dtype, bound", [("float32", 1e-6), ("float64", 1e-14)])
def test_normalisation(dtype: str, bound: float) -> None:
    data = split(300, 28)
    ((x, _),) = Loader(data, 300, mean=0.3, std=0.2, shuffle=False, dtype=dtype).epoch(0)
    expected = (data.images[:, None] / 255 - 0.3) / 0.2
    assert x.dtype == dtype
    assert np.linalg.norm(x - expected) <= bound * np.linalg.norm(expected)


def test_shift_moves_by_up_to_so_much_and_by_every_amount() -> None:
    image = np.zeros((9, 9), np.uint8)
    image[4, 4] = 255
    loader = Loader(Split(np.repeat(image[None], 400, 0), np.arange(400)), 64, shift=2, seed=0)
    moved = {}
    for x, t in loader.epoch(0):
        where = np.argwhere(x[:, 0] == 1)
        np.testing.assert_array_equal(where[:, 0], np.arange(len(t)))
        moved |= dict(zip(t.tolist(), map(tuple, where[:, 1:] - 4), strict=True))
    assert set(moved.values()) == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}
    unshuffled = Loader(loader.split, 7, shift=2, seed=0, shuffle=False)
    for x, t in unshuffled.epoch(0):  # the sample's index decides, not its place
        assert [tuple(place[1:] - 4) for place in np.argwhere(x[:, 0] == 1)] == [moved[i] for i in t.tolist()]
    again = [tuple(place) for x, _ in unshuffled.epoch(1) for place in np.argwhere(x[:, 0] == 1)[:, 1:] - 4]
    assert again != [moved[i] for i in range(400)]  # anew in each epoch


def test_batches_are_the_callers_own() -> None:
    data = split()
    before = data.images.copy()
    for x, _ in Loader(data, 4).epoch(0):
        x[:] = 7
    np.testing.assert_array_equal(data.images, before)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0}, {"batch_size": 2.5}, {"batch_size": "2"}, {"batch_size": True}, {"shift": -1},
        {"shift": 1.5}, {"seed": -1}, {"seed": 0.5}, {"seed": 2**64}, {"seed": None}, {"std": 0.0}, {"std": np.nan},
        {"std": None},
        {"mean": np.nan}, {"mean": (0.1, 0.2)}, {"shuffle": 1},
    ],
    ids=str,
)  # fmt: skip
def test_bad_arguments_are_named(options: dict) -> None:
    with pytest.raises(ArgumentError, match=f"^Loader: expected {next(iter(options))} "):
        Loader(split(), **options)


@pytest.mark.parametrize("dtype", ["int32", "float16", "uint8"])
def test_a_dtype_that_cannot_be_normalised_is_refused(dtype: str) -> None:
    with pytest.raises(DTypeError, match=f"^Loader: expected dtype float32 or float64, got {dtype!r}$"):
        Loader(split(), dtype=dtype)


@pytest.mark.parametrize(
    "epoch, start, name", [(-1, 0, "epoch"), (1.5, 0, "epoch"), (0, -1, "start"), (0, 0.5, "start")]
)
def test_an_epoch_that_is_none_is_refused(epoch: object, start: object, name: str) -> None:
    with pytest.raises(ArgumentError, match=f"^Loader.epoch: expected {name} "):
        next(Loader(split(), 4).epoch(epoch, start))


@pytest.mark.parametrize(
    "images, target",
    [
        (np.zeros((2, 3, 3), np.float32), np.arange(2)),
        (np.zeros((2, 3), np.uint8), np.arange(2)),
        (np.zeros((0, 3, 3), np.uint8), np.arange(0)),
        (np.zeros((2, 3, 3), np.uint8), np.arange(3)),
        (np.zeros((2, 3, 3), np.uint8), np.array([0.0, np.nan])),
    ],
    ids=["float images", "rank", "empty", "count", "NaN labels"],
)
def test_bad_splits_are_refused(images: np.ndarray, target: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"expected (images|labels)"):
        Split(images, target)
