"""AdaBoost: the lecture's numbers, the bound on its training error, scikit-learn's answers."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastconv.boost import AdaBoostClassifier, Bins, DecisionStump
from fastconv.errors import ArgumentError, DataError, ShapeError


class Answers:
    """A weak learner that gives what it was told to."""

    def __init__(self, *answers: np.ndarray) -> None:
        self.answers = answers
        self.seen: list[np.ndarray] = []

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray) -> Answers:
        self.seen.append(sample_weight.copy())
        self.answer = self.answers[len(self.seen) - 1]
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.answer

    def __deepcopy__(self, memo: dict) -> Answers:
        copied = Answers(*self.answers)
        copied.seen = self.seen  # of all copies
        return copied


def clouds(samples: int = 120, features: int = 5, classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes in float32 without equal values."""
    rng = np.random.default_rng((seed, classes))
    labels = rng.integers(0, classes, samples)
    return (rng.normal(size=(samples, features)) + labels[:, None] * 0.7).astype(np.float32), labels


def grid(samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Few values, labels that no stump explains."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4, (samples, 3)).astype(np.float64), rng.integers(0, 2, samples)


# ------------------------------------------------------------------------------------- the textbook's numbers


def test_the_lectures_worked_example():
    """100 questions, h1 has 80 right: alpha = ln 2, then 1/160 for each right one and 1/40 for each wrong one.

    The notes print 1/200 and 1/50, which is D exp(-+alpha) before it is divided by Z = 0.8.
    """
    y = np.repeat([-1, 1], 50)
    answer = np.where(np.arange(100) % 5 == 0, -y, y)
    model = AdaBoostClassifier(Answers(answer), n_estimators=1).fit(np.zeros((100, 1)), y)
    assert model.estimator_errors_[0] == pytest.approx(0.2)
    assert model.estimator_weights_[0] == pytest.approx(log(2))
    np.testing.assert_allclose(model.sample_weight_, np.where(answer == y, 1 / 160, 1 / 40))
    np.testing.assert_allclose(model.sample_weight_ * 0.8, np.where(answer == y, 1 / 200, 1 / 50))
    assert model.error_bound()[0] == pytest.approx(0.8)


def test_the_vote_is_the_sign_of_the_sum():
    y = np.array([1, 1, 1, -1, -1, -1, -1, -1])
    answers = [y * np.where(np.isin(np.arange(8), wrong), -1, 1) for wrong in ([0, 1], [2], [3, 4])]
    model = AdaBoostClassifier(Answers(*answers), n_estimators=3).fit(np.zeros((8, 1)), y)
    D = np.full(8, 1 / 8)
    alphas = []
    for answer in answers:
        error = D[answer != y].sum()
        alphas.append(0.5 * log((1 - error) / error))
        D = D * np.exp(-alphas[-1] * answer * y)
        D = D / D.sum()
    np.testing.assert_allclose(model.estimator_weights_, alphas)
    np.testing.assert_allclose(model.sample_weight_, D)
    H = sum(alpha * answer for alpha, answer in zip(alphas, answers, strict=True))
    np.testing.assert_allclose(model.decision_function(np.zeros((8, 1))), H / sum(alphas), atol=1e-15)
    np.testing.assert_array_equal(model.predict(np.zeros((8, 1))), np.sign(H))
    np.testing.assert_allclose(model.estimator.seen[0], 1 / 8)


@given(st.integers(4, 40), st.integers(0, 10**6), st.sampled_from(["gini", "error"]), st.sampled_from([1.0, 0.3]))
def test_the_training_error_is_never_above_its_bound(samples, seed, criterion, rate):
    X, y = grid(samples, seed)
    weight = np.random.default_rng(seed).integers(0, 3, samples) + np.eye(samples)[0]
    try:
        model = AdaBoostClassifier(n_estimators=12, criterion=criterion, learning_rate=rate).fit(X, y, weight)
    except (ArgumentError, DataError):  # one class, or no stump better than chance
        return
    bound = model.error_bound()
    if rate == 1.0:
        e = model.estimator_errors_
        np.testing.assert_allclose(bound, np.cumprod(2 * np.sqrt(e * (1 - e))), rtol=1e-9)
    for labels, most in zip(model.staged_predict(X), bound, strict=True):
        assert np.average(labels != y, weights=weight) <= most + 1e-12


def test_a_perfect_learner_outvotes_those_before_it():
    y = np.array([0, 0, 1, 1, 2, 2])
    worse = np.array([0, 1, 1, 1, 2, 2])
    model = AdaBoostClassifier(Answers(worse, y, worse), n_estimators=5).fit(np.zeros((6, 1)), y)
    assert len(model.estimators_) == 2
    np.testing.assert_array_equal(model.predict(np.zeros((6, 1))), y)
    assert AdaBoostClassifier().fit([[0], [1]], ["a", "b"]).estimator_weights_.tolist() == [1]


# --------------------------------------------------------------------------------------------- scikit-learn


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_agrees_with_scikit_learn(classes, weighted):
    ensemble = pytest.importorskip("sklearn.ensemble")
    for seed in range(3):
        X, y = clouds(classes=classes, seed=seed)
        test, _ = clouds(500, classes=classes, seed=100 + seed)
        weight = np.random.default_rng(seed).integers(0, 4, len(y)).astype(float) if weighted else None
        ours = AdaBoostClassifier(n_estimators=25).fit(X, y, weight)
        with np.errstate(divide="ignore"):  # it takes the logarithm of weights that are 0
            theirs = ensemble.AdaBoostClassifier(n_estimators=25, random_state=0).fit(X, y, weight)
        np.testing.assert_allclose(2 * ours.estimator_weights_, theirs.estimator_weights_, rtol=1e-6)
        np.testing.assert_allclose(ours.estimator_errors_, theirs.estimator_errors_, rtol=1e-6)
        for mine, other in zip(ours.estimators_, theirs.estimators_, strict=True):
            assert mine.feature_ == other.tree_.feature[0]
            assert mine.threshold_ == other.tree_.threshold[0]
        for mine, other in zip(ours.staged_predict(test), theirs.staged_predict(test), strict=True):
            np.testing.assert_array_equal(mine, other)
        np.testing.assert_allclose(list(ours.staged_score(X, y)), list(theirs.staged_score(X, y)))
        for mine, other in zip(ours.staged_predict_proba(test), theirs.staged_predict_proba(test), strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-9)
        np.testing.assert_allclose(ours.predict_proba(test), theirs.predict_proba(test), atol=1e-9)
        scale = 2 if classes == 2 else 1
        np.testing.assert_allclose(scale * ours.decision_function(test), theirs.decision_function(test), atol=1e-9)


def test_with_scikit_learns_trees_as_weak_learners():
    ensemble = pytest.importorskip("sklearn.ensemble")
    from sklearn.tree import DecisionTreeClassifier

    X, y = clouds(classes=3)
    tree = DecisionTreeClassifier(max_depth=2, random_state=0)
    ours = AdaBoostClassifier(tree, n_estimators=10, learning_rate=0.7).fit(X, y)
    theirs = ensemble.AdaBoostClassifier(tree, n_estimators=10, learning_rate=0.7, random_state=0).fit(X, y)
    np.testing.assert_allclose(2 * ours.estimator_weights_, theirs.estimator_weights_, rtol=1e-6)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    assert not hasattr(tree, "tree_")


def test_it_stands_in_searches_and_pipelines():
    model_selection = pytest.importorskip("sklearn.model_selection")
    from sklearn.base import clone, is_classifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, y = clouds()
    assert is_classifier(AdaBoostClassifier())
    assert clone(AdaBoostClassifier(DecisionStump("error"))).estimator.criterion == "error"
    pipeline = make_pipeline(StandardScaler(), AdaBoostClassifier())
    search = model_selection.GridSearchCV(pipeline, {"adaboostclassifier__n_estimators": [1, 30]}, cv=3).fit(X, y)
    assert search.best_score_ > 0.7
    nested = AdaBoostClassifier(DecisionStump()).set_params(estimator__criterion="error")
    assert nested.get_params()["estimator__criterion"] == "error"


# ---------------------------------------------------------------------------------------------------- stumps


def test_a_threshold_between_neighbouring_floats():
    for dtype in (np.float16, np.float32, np.float64):
        low = dtype(1.5)
        high = np.nextafter(low, dtype(2))
        X = np.array([[low], [high]], dtype)
        stump = DecisionStump().fit(X, [0, 1])
        assert low <= stump.threshold_ < high
        np.testing.assert_array_equal(stump.predict(X), [0, 1])
    huge = np.array([[-1.7e308], [1.7e308]])
    assert DecisionStump().fit(huge, [0, 1]).threshold_ == 0


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float32", "float64", ">f4", "object"])
def test_every_kind_of_number(dtype):
    X = np.array([[0, 1], [0, 0], [1, 1], [1, 0]]).astype(dtype)
    np.testing.assert_array_equal(DecisionStump().fit(X, list("abab")).predict(X), list("abab"))


def test_samples_without_weight_are_as_good_as_absent():
    X, y = clouds(classes=3)
    weight = np.random.default_rng(0).integers(0, 2, len(y))
    for criterion in ("gini", "error"):
        there, absent = (
            DecisionStump(criterion).fit(X, y, weight),
            DecisionStump(criterion).fit(X[weight > 0], y[weight > 0]),
        )
        assert (there.feature_, there.threshold_, there.left_, there.right_) == (
            absent.feature_, absent.threshold_, absent.left_, absent.right_
        )  # fmt: skip


def test_a_weight_counts_as_so_many_samples():
    X, y = clouds(60)
    weight = np.random.default_rng(0).integers(1, 4, len(y))
    one, other = (
        DecisionStump("error").fit(X, y, weight),
        DecisionStump("error").fit(X.repeat(weight, 0), y.repeat(weight)),
    )
    assert (one.feature_, one.threshold_) == (other.feature_, other.threshold_)


def test_nothing_to_ask():
    stump = DecisionStump().fit(np.ones((3, 2)), [4, 4, 2])
    assert stump.predict([[0, 9], [5, 5]]).tolist() == [4, 4]
    assert stump.threshold_ == np.inf


def test_many_values_share_bins():
    X, y = clouds(5000, 2)
    bins = Bins(X, y, 2)
    for feature in range(2):
        column, index = X[bins.order, feature], bins.index[feature]
        counts = np.bincount(index, minlength=256)
        assert len(counts) == 256
        assert 10 <= counts.min() <= counts.max() <= 30
        for bin in range(256):
            assert bins.least[feature][bin] == column[index == bin].min()
            assert bins.most[feature][bin] == column[index == bin].max()
    exact = np.mean(DecisionStump("error").fit(X, y).predict(X) == y)
    best = max(((X[:, [f]] <= X[::7, f]) != y[:, None]).mean(0).max() for f in range(2))
    assert exact >= best - 0.002


def test_bins_of_bytes_are_those_of_numbers():
    draw = np.random.default_rng(0)
    X = np.stack([draw.integers(0, high, 500) for high in (1, 2, 40, 256)], 1).astype(np.uint8)
    labels = draw.integers(0, 3, 500)
    bytes_, numbers = Bins(X, labels, 3), Bins(X.astype(np.float64), labels, 3)
    np.testing.assert_array_equal(bytes_.index, numbers.index)
    for one, other in zip([*bytes_.least, *bytes_.most], [*numbers.least, *numbers.most], strict=True):
        np.testing.assert_array_equal(one, other)


def test_many_values_of_which_one_is_most():
    X = np.concatenate([np.zeros(3000), np.arange(1, 501)])[:, None]
    y = (X[:, 0] > 0).astype(int)
    stump = DecisionStump().fit(X, y)
    assert stump.threshold_ == 0.5
    assert stump.score(X, y) == 1


# ---------------------------------------------------------------------------------------------------- errors


X2 = np.zeros((2, 1))


@pytest.mark.parametrize(
    "options, X, y, weight, error, match",
    [
        ({}, np.zeros(3), [0, 1, 0], None, ShapeError, r"X \(N, F\)"),
        ({}, np.zeros((0, 3)), [], None, ShapeError, "at least 1"),
        ({}, [["a"], ["b"]], [0, 1], None, ShapeError, "numbers"),
        ({}, X2, [0, 1, 1], None, ShapeError, r"y \(2,\)"),
        ({}, X2, [0, 1], [1.0], ShapeError, r"sample_weight \(2,\)"),
        ({}, [[np.nan], [1]], [0, 1], None, DataError, "NaN"),
        ({}, [[np.inf], [1]], [0, 1], None, DataError, "NaN"),
        ({}, X2, [0, 1], [-1, 2], DataError, ">= 0"),
        ({}, X2, [0, 1], [0, 0], DataError, "not all 0"),
        ({}, X2, [0, 1], [np.nan, 1], DataError, "finite"),
        ({}, X2, [0, 0], None, DataError, "two classes"),
        ({}, X2, [0.5, 1], None, DataError, "labels"),
        ({}, X2, [np.nan, 1], None, DataError, "labels"),
        ({}, X2, [np.inf, 1], None, DataError, "labels"),
        ({}, np.array([[1], [{}]], object), [0, 1], None, DataError, "numbers"),
        ({}, X2, [0, 1], None, ArgumentError, "error below 0.5"),
        ({"n_estimators": 0}, X2, [0, 1], None, ArgumentError, "n_estimators"),
        ({"learning_rate": 0.0}, X2, [0, 1], None, ArgumentError, "learning_rate"),
        ({"learning_rate": np.inf}, X2, [0, 1], None, ArgumentError, "learning_rate"),
        ({"criterion": "entropy"}, X2, [0, 1], None, ArgumentError, "criterion"),
        ({"estimator": 3}, X2, [0, 1], None, ArgumentError, "fit and predict"),
    ],
)  # fmt: skip
def test_what_is_refused(options, X, y, weight, error, match):
    with pytest.raises(error, match=match):
        AdaBoostClassifier(**options).fit(X, y, weight)


def test_what_is_refused_later():
    with pytest.raises(ArgumentError, match="fitted"):
        AdaBoostClassifier().predict(X2)
    with pytest.raises(ArgumentError, match="fitted"):
        DecisionStump().predict(X2)
    model = AdaBoostClassifier(n_estimators=3).fit(*clouds(classes=3))
    with pytest.raises(ShapeError, match="5 features, got 1"):
        model.predict(X2)
    with pytest.raises(DataError, match="NaN"):
        model.predict_proba(np.full((1, 5), np.nan))
    with pytest.raises(DataError, match=r"two classes or more, got one class, 'a'$"):
        model.fit(np.eye(5), np.array(["a"] * 5))
    with pytest.raises(ArgumentError, match="two classes, got 3"):
        model.error_bound()
    with pytest.raises(ArgumentError, match="a parameter of estimator, n_estimators"):
        model.set_params(rounds=3)
    assert model.predict(np.zeros((0, 5))).shape == (0,)
    assert model.predict_proba(np.zeros((0, 5))).shape == (0, 3)
