"""Metrics against scikit-learn and by hand; tables and pictures made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastconv.errors import ShapeError
from fastconv.training import confusion_matrix, measure, plots, report


def test_by_hand() -> None:
    true = np.array([0, 0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 0, 0, 1, 1, 2, 2])
    metrics = measure(true, predicted, 4)
    assert metrics.confusion.tolist() == [[3, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert metrics.accuracy == pytest.approx(5 / 7)
    assert metrics.sensitivity.tolist() == [3 / 4, 1 / 2, 1, 0]
    assert metrics.precision.tolist() == [1, 1 / 2, 1 / 2, 0]
    np.testing.assert_allclose(metrics.f1, [6 / 7, 1 / 2, 2 / 3, 0], rtol=1e-15)
    assert metrics.support.tolist() == [4, 2, 1, 0]


@pytest.mark.parametrize("classes, count", [(2, 50), (10, 1000), (10, 12), (3, 1)])
def test_against_scikit_learn(classes: int, count: int) -> None:
    theirs = pytest.importorskip("sklearn.metrics", reason="scikit-learn (the peers extra) is not installed")
    rng = np.random.default_rng(count)
    true, predicted = rng.integers(0, classes, count), rng.integers(0, classes, count)
    metrics, labels = measure(true, predicted, classes), np.arange(classes)
    np.testing.assert_array_equal(metrics.confusion, theirs.confusion_matrix(true, predicted, labels=labels))
    assert metrics.accuracy == pytest.approx(theirs.accuracy_score(true, predicted), rel=1e-14)
    precision, recall, f1, support = theirs.precision_recall_fscore_support(
        true, predicted, labels=labels, zero_division=0
    )
    np.testing.assert_allclose(metrics.sensitivity, recall, rtol=1e-14)
    np.testing.assert_allclose(metrics.precision, precision, rtol=1e-14)
    np.testing.assert_allclose(metrics.f1, f1, rtol=1e-14)
    np.testing.assert_array_equal(metrics.support, support)


@pytest.mark.parametrize("true, predicted", [([0, 1], [0]), ([[0]], [[0]]), ([0, 2], [0, 1]), ([0, 1], [0, -1])])
def test_bad_input(true: list, predicted: list) -> None:
    with pytest.raises(ShapeError, match="confusion_matrix: expected"):
        confusion_matrix(np.array(true), np.array(predicted), 2)


def test_tables_are_aligned() -> None:
    metrics = measure(np.arange(10).repeat(120), np.roll(np.arange(10).repeat(120), 3), 10)
    names = ["T-shirt/top", "Ankle boot", *map(str, range(8))]
    for table in (report.metrics_table(metrics, names), report.confusion_table(metrics, names)):
        lines = table.splitlines()
        assert len({len(line) for line in lines}) == 1
        assert [line.split("  ")[0].strip() for line in lines[1:11]] == names


def test_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib (the plot extra) is not installed")
    image = pytest.importorskip("PIL.Image", reason="Pillow (the images extra) is not installed")
    rng = np.random.default_rng(0)
    true, probability = rng.integers(0, 10, 60), rng.random((60, 10))
    metrics = measure(true, probability.argmax(1), 10)
    parts = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    plots.learning_curves([{"epoch": e, **dict.fromkeys(parts, 1 / e)} for e in (1, 2, 3)], tmp_path / "a.png")
    plots.confusion(metrics, tuple("0123456789"), tmp_path / "b.png")
    pixels = rng.integers(0, 256, (60, 28, 28), np.uint8)
    plots.worst_mistakes(pixels, true, probability, tuple("0123456789"), tmp_path / "c.png")
    plots.worst_mistakes(pixels, probability.argmax(1), probability, tuple("0123456789"), tmp_path / "d.png")
    for name in "abcd":
        with image.open(tmp_path / f"{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 1  # not an empty sheet
