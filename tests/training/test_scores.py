"""Figures with intervals, and the losses and scores of tasks: against scikit-learn, torch and counting by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastconv import tensor
from fastconv.errors import ArgumentError
from fastconv.training import bootstrap, dice, report, roc_auc, scores, task


def answers(count: int = 60, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True classes and probabilities that are right more often than not, with ties among them."""
    draw = np.random.default_rng(seed)
    true = draw.integers(0, classes, count)
    logits = np.round(draw.normal(size=(count, classes)) + 1.5 * np.eye(classes)[true], 1)
    chance = np.exp(logits)
    return true, chance / chance.sum(1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_figures_are_those_of_scikit_learn(classes: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    true, chance = answers(80, classes)
    names = [f"c{k}" for k in range(classes)]
    found = scores.classification(true, chance, names)
    predicted = chance.argmax(1)
    assert found["accuracy"]["value"] == pytest.approx(metrics.accuracy_score(true, predicted))
    assert found["confusion"] == metrics.confusion_matrix(true, predicted).tolist()
    values = {figure: [found["classes"][name][figure]["value"] for name in names] for figure in scores.FIGURES}
    precision, recall, f1, support = metrics.precision_recall_fscore_support(true, predicted)
    others = [metrics.recall_score(true != k, predicted != k) for k in range(classes)]
    areas = [metrics.roc_auc_score(true == k, chance[:, k]) for k in range(classes)]
    wanted = zip(scores.FIGURES, (recall, others, precision, f1, areas), strict=True)
    for figure, expected in wanted:
        np.testing.assert_allclose(values[figure], expected, rtol=1e-12)
        assert found["mean"][figure]["value"] == pytest.approx(np.mean(expected))
        assert all(
            row[figure]["low"] <= row[figure]["value"] <= row[figure]["high"] for row in found["classes"].values()
        )
    assert [found["classes"][name]["samples"] for name in names] == support.tolist()
    assert json.loads(json.dumps(found)) == found


def test_intervals_are_those_of_resampled_samples() -> None:
    """Weights are how often each is drawn: the same draws, one by one, give the same ends."""
    true, chance = answers(120, 2)
    found = scores.classification(true, chance, ["no", "yes"])["classes"]["yes"]
    draw = np.random.default_rng(0)
    areas, hits = [], []
    for _ in range(bootstrap.RESAMPLES):
        chosen = draw.integers(0, 120, 120)
        areas.append(roc_auc(true[chosen], chance[chosen, 1]))
        hits.append((chance[chosen].argmax(1) == 1)[true[chosen] == 1].mean())
    for name, values in (("auc", areas), ("sensitivity", hits)):
        ends = np.quantile(values, [0.025, 0.975])
        np.testing.assert_allclose([found[name]["low"], found[name]["high"]], ends, rtol=1e-12)
    assert found["auc"]["value"] == pytest.approx(roc_auc(true, chance[:, 1]), rel=1e-12)


def test_an_interval_covers_as_often_as_it_says() -> None:
    draw = np.random.default_rng(1)

    def covers() -> bool:
        x = draw.normal(size=60)
        found = bootstrap.intervals(lambda w: np.array([w @ x / w.sum()]), 60)[0]
        return found.low <= 0 <= found.high

    assert 0.86 <= np.mean([covers() for _ in range(100)]) <= 0.99


def test_patients_are_resampled_whole() -> None:
    """Ten images of a patient are one patient: the interval is as wide as that of the patients alone."""
    draw = np.random.default_rng(2)
    x = draw.normal(size=30)
    groups = np.arange(30).repeat(10)
    alone = bootstrap.intervals(lambda w: np.array([w @ x / w.sum()]), 30)[0]
    many = x.repeat(10)
    whole = bootstrap.intervals(lambda w: np.array([w @ many / w.sum()]), 300, groups)[0]
    naive = bootstrap.intervals(lambda w: np.array([w @ many / w.sum()]), 300)[0]
    width = alone.high - alone.low
    assert whole.high - whole.low == pytest.approx(width, rel=0.1)
    assert naive.high - naive.low < 0.5 * width


def test_what_has_no_meaning_is_none() -> None:
    chance = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    found = scores.classification(np.array([0, 0, 1]), chance, ["a", "b", "c"])
    absent = found["classes"]["c"]
    assert absent["samples"] == 0
    assert absent["sensitivity"] == absent["auc"] == absent["f1"] == {"value": None, "low": None, "high": None}
    assert absent["precision"] == absent["f1"]
    assert found["mean"]["precision"]["value"] == 1
    assert absent["specificity"]["value"] == 1
    assert found["mean"]["sensitivity"]["value"] == 1
    json.dumps(found, allow_nan=False)
    assert report.interval_table(found).splitlines()[-2].split()[:2] == ["c", "-"]


def test_what_is_there_but_never_found_has_precision_0() -> None:
    chance = np.array([[0.8, 0.2], [0.9, 0.1], [0.6, 0.4]])
    found = scores.classification(np.array([0, 0, 1]), chance, ["a", "b"])
    assert found["classes"]["b"]["precision"]["value"] == 0
    assert found["mean"]["precision"]["value"] == pytest.approx(1 / 3)


def test_one_patient_has_no_interval() -> None:
    true, chance = answers(12, 2)
    found = scores.classification(true, chance, ["a", "b"], np.zeros(12, np.int64))
    assert found["accuracy"]["value"] == pytest.approx((chance.argmax(1) == true).mean())
    assert (found["accuracy"]["low"], found["accuracy"]["high"]) == (None, None)
    assert "(?-?)" in report.interval_table(found)
    alone = scores.segmentation(np.array([[0.9, 0.5]]), ["background", "lesion"])["mean"]["dice"]
    assert alone == {"value": 0.5, "low": None, "high": None}


def test_dice_of_cases() -> None:
    draw = np.random.default_rng(3)
    true, found = draw.integers(0, 3, (2, 6, 5, 4))
    rows = np.array([task.overlaps(t, f, 4) for t, f in zip(true, found, strict=True)])
    for k in range(3):
        expected = [dice(t == k, f == k) for t, f in zip(true, found, strict=True)]
        np.testing.assert_allclose(rows[:, k], expected)
    assert np.isnan(rows[:, 3]).all()
    result = scores.segmentation(rows, ["background", "a", "b", "never"])
    assert result["classes"]["never"]["cases"] == 0
    assert result["classes"]["never"]["dice"]["value"] is None
    assert result["classes"]["a"]["dice"]["value"] == pytest.approx(rows[:, 1].mean())
    assert result["mean"]["dice"]["value"] == pytest.approx(np.mean([task.score(row) for row in rows]))
    assert task.score(task.overlaps(np.zeros(3, int), np.zeros(3, int), 2)) == 1.0


# -------------------------------------------------------------------------------------------------- tasks


@pytest.mark.parametrize("size", [(5,), (4, 3), (3, 2, 4)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_loss_of_masks_is_that_of_torch(size: tuple[int, ...], dtype: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    draw = np.random.default_rng(4)
    x, target = draw.normal(size=(2, 3, *size)).astype(dtype), draw.integers(0, 3, (2, *size))
    target[0].flat[0] = -100
    ours = tensor(x, requires_grad=True)
    loss = task.Segment("dice", 3).loss(ours, target)
    loss.backward()

    y, t = torch.tensor(x, requires_grad=True), torch.tensor(target)
    known = (t >= 0).unsqueeze(1)
    hot = torch.nn.functional.one_hot(t.clamp(0), 3).movedim(-1, 1) * known
    share = torch.softmax(y, 1) * known
    axes = [0, *range(2, x.ndim)]
    soft = 2 * (share * hot).sum(axes) / (share.sum(axes) + hot.sum(axes) + 1e-6)
    theirs = torch.nn.functional.cross_entropy(y, t) + 1 - soft.mean()
    theirs.backward()
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    assert loss.item() == pytest.approx(theirs.item(), rel=tolerance)
    np.testing.assert_allclose(ours.grad, y.grad.numpy(), rtol=0, atol=tolerance)


def test_a_perfect_mask_costs_nothing() -> None:
    target = np.random.default_rng(5).integers(0, 2, (2, 4, 4))
    output = tensor(200.0 * np.moveaxis(np.eye(2)[target], -1, 1))
    assert task.Segment("dice", 2).loss(output, target).item() == pytest.approx(0, abs=1e-6)
    assert task.Segment("dice", 2).tally(output.numpy(), target) == 2.0


def test_losses_are_those_of_the_task() -> None:
    with pytest.raises(ArgumentError, match="loss cross-entropy or dice to segment, got 'half-sse'"):
        task.Segment("half-sse", 2)
    with pytest.raises(ArgumentError, match="loss cross-entropy or half-sse to classify, got 'dice'"):
        task.Classify("dice", 2)
