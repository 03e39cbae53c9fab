"""AdaBoost: many weak classifiers, each trained on what the ones before it got wrong, and their weighted vote.

Freund and Schapire 1997, https://doi.org/10.1006/jcss.1997.1504; several classes: SAMME, Zhu et al. 2009,
https://doi.org/10.4310/SII.2009.v2.n3.a8. Names follow scikit-learn's AdaBoostClassifier; a learner's weight is
alpha = 1/2 (ln((1 - e) / e) + ln(K - 1)), which for K = 2 classes is the textbook's 1/2 ln((1 - e) / e).
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np

from . import backends
from .arguments import integer, number
from .errors import ArgumentError, DataError, ShapeError, mismatch
from .estimator import Estimator

_BINS = 256
_BYTES = np.arange(256, dtype=np.uint8)


class Bins:
    """The features of a training set, each cut into at most 256 bins between neighbouring values.

    A feature of at most 256 values keeps them all apart; of others the bins hold about equally many samples.
    ``index`` is uint8 (F, N), samples of a class side by side; ``order`` says which sample stands where.
    """

    def __init__(self, X: np.ndarray, labels: np.ndarray, classes: int) -> None:
        self.order = np.argsort(labels, kind="stable")
        self.start = np.searchsorted(labels[self.order], np.arange(classes + 1))
        self.index = np.empty((X.shape[1], X.shape[0]), np.uint8)
        self.least: list[np.ndarray] = []  # of each feature: the smallest value of each bin
        self.most: list[np.ndarray] = []  # and the largest
        for feature, column in enumerate(X.T):
            column = column[self.order]
            values, counts = _counted(column)
            last = np.arange(len(values))
            if len(values) > _BINS:
                goal = np.arange(1, _BINS) * (len(column) / _BINS)
                ends = np.unique(np.searchsorted(np.cumsum(counts), goal).clip(0, len(values) - 2))
                last = np.append(ends, len(values) - 1)
            self.least.append(values[np.append(0, last[:-1] + 1)])
            self.most.append(values[last])
            if column.dtype == np.uint8:
                self.index[feature] = np.searchsorted(values[last], _BYTES).astype(np.uint8)[column]
            else:
                self.index[feature] = np.searchsorted(values[last], column)

    def threshold(self, feature: int, bin: int, filled: np.ndarray) -> float:
        """Return a number between the values of a bin, which it may equal, and those of the next in ``filled``."""
        after = self.index[feature][filled]
        low, high = float(self.most[feature][bin]), float(self.least[feature][after[after > bin].min()])
        middle = low / 2 + high / 2
        return middle if low <= middle < high else low


def _counted(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of a column in order and how often each is there; those of pixels without sorting."""
    if column.dtype != np.uint8:
        return np.unique(column, return_counts=True)
    counts = np.bincount(column, minlength=_BINS)
    return _BYTES[counts > 0], counts[counts > 0]


class DecisionStump(Estimator):
    """One question, ``X[:, feature] <= threshold``, with the answers of both sides.

    Args:
        criterion: how the question is chosen: ``"gini"`` (impurity, as scikit-learn's trees) or ``"error"`` (weighted
            mistakes). Of equals the first feature, and there the smallest threshold, is taken.

    Attributes:
        feature_, threshold_: the question; the threshold lies halfway between two neighbouring values, of float32
            features too, and is infinite where there is nothing to ask.
        left_, right_: the class where the answer is yes, and where it is no.
        classes_: the labels.
        n_features_in_: F.

    >>> stump = DecisionStump().fit([[0.0], [1.0], [2.0], [3.0]], [5, 5, 7, 7])
    >>> stump.threshold_, stump.predict([[1.4], [1.6]]).tolist()
    (1.5, [5, 7])
    """

    def __init__(self, criterion: str = "gini") -> None:
        self.criterion = criterion

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> DecisionStump:
        """Choose the best question for X (N, F) and labels y (N,), each sample counted ``sample_weight`` times.

        Raises:
            ShapeError: X is no matrix, or y or sample_weight do not belong to its rows.
            DataError: NaN or infinity in X, a negative weight, or none above 0.
            ArgumentError: an unknown criterion.
        """
        X, classes, labels = _training_set("DecisionStump.fit", X, y)
        weight = _sample_weight("DecisionStump.fit", sample_weight, len(X))
        return self._fit_bins(Bins(X, labels, len(classes)), classes, weight)

    def _fit_bins(self, bins: Bins, classes: np.ndarray, weight: np.ndarray) -> DecisionStump:
        if self.criterion not in ("gini", "error"):
            raise ArgumentError(mismatch("DecisionStump", "criterion 'gini' or 'error'", repr(self.criterion)))
        self.classes_, self.n_features_in_ = classes, len(bins.index)
        ordered = weight[bins.order]
        score, place = backends.for_numpy().best_splits(bins.index, ordered, bins.start, self.criterion)
        self.feature_ = int(np.where(place < 0, -np.inf, score).argmax())
        at = int(place[self.feature_])
        yes = bins.index[self.feature_] <= (at if at >= 0 else _BINS)
        self.threshold_ = bins.threshold(self.feature_, at, ordered > 0) if at >= 0 else np.inf
        parts = [slice(a, b) for a, b in pairwise(bins.start)]
        left = [ordered[part][yes[part]].sum() for part in parts]
        right = [ordered[part][~yes[part]].sum() for part in parts]
        self.left_, self.right_ = classes[np.argmax(left)], classes[np.argmax(right)]
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return a label (N,) for each row of X (N, F)."""
        return self._answers(_rows("DecisionStump.predict", X, self))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy."""
        return float(np.average(self.predict(X) == np.asarray(y), weights=sample_weight))

    def _answers(self, X: np.ndarray) -> np.ndarray:
        column = X[:, self.feature_].astype(np.float64)  # a float32 column would round the threshold
        return np.where(column <= self.threshold_, self.left_, self.right_)


class AdaBoostClassifier(Estimator):
    """A weighted vote of weak classifiers.

    Args:
        estimator: the weak learner, anything with ``fit(X, y, sample_weight=...)`` and ``predict(X)``, copied for each
            round; None: a ``DecisionStump``.
        n_estimators: rounds at most; a perfect learner, or one no better than chance, ends them.
        learning_rate: multiplies every alpha.
        criterion: of the stump.

    Attributes:
        classes_: the labels.
        n_features_in_: F.
        estimators_: the weak learners.
        estimator_weights_: their alphas, half of scikit-learn's. A perfect learner, whose alpha is infinite by the
            formula, gets 1 more than all before it together, so it outvotes them.
        estimator_errors_: their weighted training errors e.
        sample_weight_: the distribution D that a next learner would be trained with.

    >>> X = [[0], [1], [2], [3], [4], [5]]
    >>> model = AdaBoostClassifier(n_estimators=3, criterion="error").fit(X, [1, 1, -1, -1, 1, 1])
    >>> model.predict(X).tolist()
    [1, 1, -1, -1, 1, 1]
    """

    def __init__(
        self, estimator: Any = None, *, n_estimators: int = 50, learning_rate: float = 1.0, criterion: str = "gini"
    ) -> None:
        self.estimator, self.n_estimators = estimator, n_estimators
        self.learning_rate, self.criterion = learning_rate, criterion

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> AdaBoostClassifier:
        """Learn from X (N, F) and labels y (N,) of two classes or more.

        Raises:
            ShapeError: X is no matrix, or y or sample_weight do not belong to its rows.
            DataError: NaN or infinity in X, a negative weight or none above 0, or a single class.
            ArgumentError: an option out of range, or a weak learner no better than chance in the first round.
        """
        op = "AdaBoostClassifier.fit"
        rounds, rate = self._checked()
        X, classes, labels = _training_set(op, X, y)
        K = len(classes)
        if K < 2:
            raise DataError(mismatch(op, "y of two classes or more", f"one class, {classes[:1].tolist()[0]!r}"))
        weight = _sample_weight(op, sample_weight, len(X))
        weight = weight / weight.sum()
        bins = Bins(X, labels, K) if self.estimator is None else None
        learners: list[Any] = []
        alphas: list[float] = []
        errors: list[float] = []
        for _ in range(rounds):
            if bins:
                learner = DecisionStump(self.criterion)._fit_bins(bins, classes, weight)
            else:
                learner = deepcopy(self.estimator).fit(X, classes[labels], sample_weight=weight)
            wrong = _answers(learner, X) != classes[labels]
            error = float(weight[wrong].sum())
            if error >= 1 - 1 / K:
                if not learners:
                    raise ArgumentError(mismatch(op, f"a weak learner with an error below {1 - 1 / K:g}", error))
                break
            alpha = sum(alphas) + 1
            if error > 0:
                alpha = rate * 0.5 * float(np.log1p(-error) - np.log(error) + np.log(K - 1))
            learners.append(learner)
            alphas.append(alpha)
            errors.append(error)
            if error <= 0:
                break
            weight = weight * np.exp(np.where(wrong, alpha, -alpha))
            weight = weight / weight.sum()
        self.classes_, self.n_features_in_, self.estimators_ = classes, X.shape[1], learners
        self.estimator_weights_, self.estimator_errors_ = np.array(alphas), np.array(errors)
        self.sample_weight_ = weight
        return self

    def _checked(self) -> tuple[int, float]:
        """Return how many rounds, and the learning rate."""
        name = "AdaBoostClassifier"
        rate = number(name, "learning_rate", self.learning_rate, 0)
        if not 0 < rate < np.inf:
            raise ArgumentError(mismatch(name, "learning_rate > 0 and finite", rate))
        if self.estimator is not None and not all(hasattr(self.estimator, verb) for verb in ("fit", "predict")):
            raise ArgumentError(mismatch(name, "estimator with fit and predict", repr(self.estimator)))
        return integer(name, "n_estimators", self.n_estimators, 1), rate

    # --------------------------------------------------------------------------------------- answering

    def staged_decision_function(self, X: Any) -> Iterator[np.ndarray]:
        """Yield, after each learner, the votes (N, K): alpha for the class that a learner names and -alpha / (K - 1)
        for the others, summed, over the sum of alphas. Of two classes (N,): sum of alpha h over sum of alpha, where h
        is 1 for the second class and -1 for the first."""
        X = _rows("AdaBoostClassifier", X, self)
        K = len(self.classes_)
        votes, total = np.zeros((len(X), K)), 0.0
        for learner, alpha in zip(self.estimators_, self.estimator_weights_, strict=True):
            votes += np.where(_answers(learner, X)[:, None] == self.classes_, alpha, -alpha / (K - 1))
            total += alpha
            share = votes / total
            yield share[:, 1].copy() if K == 2 else share

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the last of ``staged_decision_function``."""
        *_, votes = self.staged_decision_function(X)
        return votes

    def staged_predict(self, X: Any) -> Iterator[np.ndarray]:
        """Yield the labels (N,) after each learner."""
        return map(self._named, self.staged_decision_function(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return a label (N,) for each row of X: sign(sum of alpha h), or the class of most votes."""
        return self._named(self.decision_function(X))

    def staged_predict_proba(self, X: Any) -> Iterator[np.ndarray]:
        """Yield the probabilities (N, K) after each learner: the softmax of votes / (K - 1), section 2.3 of SAMME."""
        for votes in self.staged_decision_function(X):
            votes = np.stack([-votes, votes], 1) if votes.ndim == 1 else votes / (len(self.classes_) - 1)
            powers = np.exp(votes - votes.max(1, keepdims=True))
            yield powers / powers.sum(1, keepdims=True)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the last of ``staged_predict_proba``."""
        *_, shares = self.staged_predict_proba(X)
        return shares

    def staged_score(self, X: Any, y: Any, sample_weight: Any = None) -> Iterator[float]:
        """Yield the accuracy after each learner."""
        for labels in self.staged_predict(X):
            yield float(np.average(labels == np.asarray(y), weights=sample_weight))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy."""
        return float(np.average(self.predict(X) == np.asarray(y), weights=sample_weight))

    def error_bound(self) -> np.ndarray:
        """Return, after each learner, the product of Z = (1 - e) exp(-alpha) + e exp(alpha), which is 2 sqrt(e (1 - e))
        with a learning rate of 1. The weighted training error of two classes is never above it."""
        _require_fitted("AdaBoostClassifier.error_bound", self)
        if len(self.classes_) != 2:
            raise ArgumentError(mismatch("AdaBoostClassifier.error_bound", "two classes", len(self.classes_)))
        e, alpha = self.estimator_errors_, self.estimator_weights_
        return np.cumprod(np.where(e > 0, (1 - e) * np.exp(-alpha) + e * np.exp(alpha), 0.0))

    def _named(self, votes: np.ndarray) -> np.ndarray:
        return self.classes_[(votes > 0).astype(int) if votes.ndim == 1 else votes.argmax(1)]


def _answers(learner: Any, X: np.ndarray) -> np.ndarray:
    """The learner's labels for rows that were checked."""
    return learner._answers(X) if isinstance(learner, DecisionStump) else np.asarray(learner.predict(X))


def _matrix(op: str, X: Any) -> np.ndarray:
    """Return X (N, F), finite, in a dtype whose numbers float64 holds exactly."""
    X = np.asarray(X)
    if X.dtype.kind == "O" and X.ndim == 2:
        try:
            X = X.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(mismatch(op, "X of numbers", error)) from None
    if X.ndim != 2 or X.dtype.kind not in "biuf":
        raise ShapeError(mismatch(op, "X (N, F) of numbers", f"{X.dtype} {X.shape}"))
    if X.dtype.kind == "f" and not np.isfinite(X).all():
        raise DataError(mismatch(op, "X of finite numbers", "NaN or infinity"))
    return X if X.dtype.itemsize < 8 else X.astype(np.float64, copy=False)


def _rows(op: str, X: Any, fitted: Any) -> np.ndarray:
    _require_fitted(op, fitted)
    X = _matrix(op, X)
    if X.shape[1] != fitted.n_features_in_:
        raise ShapeError(mismatch(op, f"X of {fitted.n_features_in_} features", X.shape[1]))
    return X


def _require_fitted(op: str, estimator: Any) -> None:
    if not hasattr(estimator, "classes_"):
        raise ArgumentError(mismatch(op, "a classifier that was fitted", "one that was not"))


def _training_set(op: str, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return X, the classes, and each sample's place among them."""
    X, y = _matrix(op, X), np.asarray(y)
    if not X.size:
        raise ShapeError(mismatch(op, "X (N, F) with N and F at least 1", X.shape))
    if y.shape != X.shape[:1]:
        raise ShapeError(mismatch(op, f"y ({len(X)},)", y.shape))
    if y.dtype.kind == "f" and not (np.isfinite(y) & (y == np.round(y))).all():
        raise DataError(mismatch(op, "y of class labels", "numbers that are not whole"))
    return X, *np.unique(y, return_inverse=True)


def _sample_weight(op: str, weight: Any, count: int) -> np.ndarray:
    weight = np.ones(count) if weight is None else np.asarray(weight, np.float64)
    if weight.shape != (count,):
        raise ShapeError(mismatch(op, f"sample_weight ({count},)", weight.shape))
    if not (np.isfinite(weight).all() and (weight >= 0).all() and weight.any()):
        raise DataError(mismatch(op, "sample_weight of finite numbers >= 0, not all 0", "others"))
    return weight
