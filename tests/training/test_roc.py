"""ROC, AUC, bootstrap, MedMNIST's figures and Dice: small cases by hand, many against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import training
from fastconv.errors import ArgumentError, ShapeError


def sample(seed: int, count: int = 200, levels: int = 15) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores with many ties that rank better than chance."""
    draw = np.random.default_rng(seed)
    true = draw.integers(0, 2, count)
    return true, np.round((draw.random(count) + 0.4 * true) * levels) / levels


@pytest.mark.parametrize("seed", range(10))
def test_auc_and_curve_are_those_of_scikit_learn(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    true, score = sample(seed)
    assert training.roc_auc(true, score) == pytest.approx(metrics.roc_auc_score(true, score), abs=1e-12)
    expected = metrics.roc_curve(true, score, drop_intermediate=False)
    for found, wanted in zip(training.roc_curve(true, score), expected, strict=True):
        np.testing.assert_allclose(found, wanted)


def test_auc_is_the_share_of_pairs_in_order() -> None:
    true, score = sample(3, 60)
    pairs = [(a > b) + 0.5 * (a == b) for a in score[true == 1] for b in score[true == 0]]
    assert training.roc_auc(true, score) == pytest.approx(np.mean(pairs))
    assert training.roc_auc(true, -score) == pytest.approx(1 - np.mean(pairs))
    assert training.roc_auc(true, np.zeros(60)) == 0.5


def test_the_interval_holds_the_value_and_narrows() -> None:
    narrow, wide = (training.roc_auc_interval(*sample(1, count), resamples=300) for count in (2000, 100))
    for interval in (narrow, wide):
        assert interval.low < interval.value < interval.high
    assert narrow.high - narrow.low < 0.5 * (wide.high - wide.low)
    assert training.roc_auc_interval(*sample(1), resamples=50, seed=7) == training.roc_auc_interval(
        *sample(1), resamples=50, seed=7
    )


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    truth = 0.8  # of two normal distributions 1.19 deviations apart: Phi(1.19 / sqrt 2)
    covered = 0
    for seed in range(100):
        draw = np.random.default_rng(seed)
        true = np.repeat([0, 1], 60)
        interval = training.roc_auc_interval(true, draw.normal(size=120) + 1.190232 * true, 0.9, resamples=200)
        covered += interval.low <= truth <= interval.high
    assert 80 <= covered <= 98


@pytest.mark.parametrize("task", ["multi-class", "ordinal-regression"])
def test_medmnist_multi_class(task: str) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(0)
    true = draw.integers(0, 4, 300)
    score = draw.dirichlet(np.ones(4), 300) + 0.2 * np.eye(4)[true]
    area, accuracy = training.medmnist_scores(true, score, task)
    one_against_rest = [metrics.roc_auc_score(true == i, score[:, i]) for i in range(4)]
    assert area == pytest.approx(np.mean(one_against_rest))
    assert accuracy == pytest.approx((score.argmax(1) == true).mean())


def test_medmnist_multi_label_and_binary() -> None:
    true, score = np.array([[0, 1], [1, 0], [1, 1]]), np.array([[0.2, 0.9], [0.7, 0.6], [0.6, 0.7]])
    assert training.medmnist_scores(true, score, "multi-label, binary-class") == (1.0, pytest.approx(5 / 6))
    two = np.stack([1 - score[:, 0], score[:, 0]], 1)
    for form in (score[:, 0], two):
        assert training.medmnist_scores(true[:, 0], form, "binary-class") == (1.0, 1.0)


def test_dice() -> None:
    a = np.zeros((4, 4), bool)
    a[:2] = True
    assert training.dice(a, a) == 1.0
    assert training.dice(a, ~a) == 0.0
    assert training.dice(a, np.ones((4, 4))) == pytest.approx(2 * 8 / 24)
    assert training.dice(~a & a, ~a & a) == 1.0


@pytest.mark.parametrize(
    "call, error, match",
    [
        (lambda: training.roc_auc([0, 1], [0.1]), ShapeError, "one shape"),
        (lambda: training.roc_auc([0, 0], [0.1, 0.2]), ArgumentError, "both among them"),
        (lambda: training.roc_auc([0, 2], [0.1, 0.2]), ArgumentError, "0 and 1"),
        (lambda: training.roc_auc([0, 1], [0.1, np.nan]), ArgumentError, "NaN"),
        (lambda: training.roc_auc_interval([0, 1], [0.1, 0.2], 1.0), ArgumentError, "confidence"),
        (lambda: training.roc_auc_interval([0, 1], [0.1, 0.2], resamples=0), ArgumentError, "resamples"),
        (lambda: training.medmnist_scores(np.zeros(3, int), np.zeros(3), "multi-class"), ShapeError, "classes"),
        (lambda: training.medmnist_scores(np.zeros(3, int), np.zeros((3, 2)), "other"), ArgumentError, "task"),
        (lambda: training.dice(np.zeros(3), np.zeros(2)), ShapeError, "dice"),
    ],
)
def test_what_is_refused(call: object, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        call()
