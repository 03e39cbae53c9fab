"""MedMNIST's result files: names and rows as its evaluator writes them, and read back whatever their order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastconv import training
from fastconv.data.medmnist import CATALOGUE, MedMNIST, Part
from fastconv.errors import ArgumentError, DataError, ShapeError

RNG = np.random.default_rng(0)


def scans(name: str, side: int = 28, count: int = 40) -> MedMNIST:
    entry = CATALOGUE[name]
    several = entry.task.startswith("multi-label")
    labels = RNG.integers(0, 2, (count, entry.classes)) if several else np.arange(count) % entry.classes
    part = Part(np.zeros((count, entry.channels, side, side), np.uint8), labels)
    return MedMNIST(name, entry.task, part, part, part)


@pytest.mark.parametrize("name", ["breastmnist", "chestmnist", "pathmnist", "retinamnist"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_task_there_and_back(tmp_path: Path, name: str, dtype: type) -> None:
    data = scans(name)
    score = RNG.random((40, CATALOGUE[name].classes)).astype(dtype)
    path = training.save_medmnist(tmp_path / "new", data, score, run="seed7")
    auc, accuracy = training.medmnist_scores(data.test.labels, score, data.task)
    assert path == tmp_path / "new" / f"{name}_test_[AUC]{auc:.3f}_[ACC]{accuracy:.3f}@seed7.csv"
    found = training.read_medmnist(path)
    assert found[:4] == (name, 28, "test", "seed7")
    np.testing.assert_array_equal(found.score.astype(dtype), score)


def test_the_figures_are_scikit_learns(tmp_path: Path) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    data, score = scans("breastmnist"), RNG.random(40)
    path = training.save_medmnist(tmp_path, data, score, split="val")
    true = data.val.labels
    auc, accuracy = metrics.roc_auc_score(true, score), metrics.accuracy_score(true, score > 0.5)
    assert path.name == f"breastmnist_val_[AUC]{auc:.3f}_[ACC]{accuracy:.3f}@1.csv"


def test_rows_are_those_that_pandas_writes(tmp_path: Path) -> None:
    """``DataFrame(score).to_csv(path, header=None)``: an index, then the shortest digits that give the number back."""
    score = np.array([[0.1, 0.9], [1e-10, 1.0], [0.5, 1 / 3]], np.float32)
    path = training.save_medmnist(tmp_path, scans("breastmnist", count=3), score)
    assert path.read_bytes() == b"0,0.1,0.9\n1,1e-10,1.0\n2,0.5,0.33333334\n"


def test_larger_images_are_named(tmp_path: Path) -> None:
    path = training.save_medmnist(tmp_path, scans("breastmnist", side=64), RNG.random(40), run="3")
    assert path.name.startswith("breastmnist_64_test_[AUC]")
    assert training.read_medmnist(path)[:4] == ("breastmnist", 64, "test", "3")


def test_any_end_of_the_name_and_any_order_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "octmnist_val by someone.csv"
    path.write_text("2,0.1,0.9\n0,0.5,0.5\n1,1,0\n")
    found = training.read_medmnist(path)
    assert found[:4] == ("octmnist", 28, "val", None)
    assert found.score.tolist() == [[0.5, 0.5], [1.0, 0.0], [0.1, 0.9]]


@pytest.mark.parametrize(
    "error, match, change",
    [
        (ArgumentError, "split", {"split": "all"}),
        (ArgumentError, "run", {"run": "a/b"}),
        (ArgumentError, "run", {"run": ""}),
        (ArgumentError, "run", {"run": "1@2"}),
        (ArgumentError, "a set of MedMNIST", {"scans": MedMNIST("own", None, *[scans("breastmnist").test] * 3)}),
        (ShapeError, "score", {"score": np.zeros((39, 2))}),
        (ShapeError, "score", {"score": np.zeros((40, 2, 1))}),
        (ArgumentError, "NaN", {"score": np.full((40, 2), np.nan)}),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, error: type, match: str, change: dict) -> None:
    with pytest.raises(error, match=match):
        training.save_medmnist(tmp_path, **{"scans": scans("breastmnist"), "score": RNG.random((40, 2)), **change})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["breastmnist.csv", "own_test.csv", "breastmnist_test.txt", "breastmnist_x_test.csv"])
def test_other_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="named as"):
        training.read_medmnist(tmp_path / name)


@pytest.mark.parametrize("text", ["", "0,a", "0,1\n0,2", "1,0.5", "0,1\n1,2,3", "0\n1", "nan,1", "\0\xff"])
def test_other_contents(tmp_path: Path, text: str) -> None:
    path = tmp_path / "breastmnist_test@1.csv"
    with pytest.raises(DataError, match="none there"):
        training.read_medmnist(path)
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match="breastmnist_test@1"):
        training.read_medmnist(path)
