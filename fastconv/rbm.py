"""Restricted Boltzmann machine: binary features learnt without labels, by contrastive divergence.

Energy E(v, h) = -(a'v + b'h + v'Wh) of visible units v and hidden units h, all 0 or 1. Smolensky 1986; Hinton 2002,
https://doi.org/10.1162/089976602760128018; persistent chains: Tieleman 2008, https://doi.org/10.1145/1390156.1390290.
Names of parameters and attributes follow scikit-learn's BernoulliRBM, so that it stands in a Pipeline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import backends
from .arguments import integer, number
from .errors import ArgumentError, DataError, ShapeError, mismatch
from .estimator import Estimator

_LEARNT = "components_"


class BernoulliRBM(Estimator):
    """A Bernoulli-Bernoulli restricted Boltzmann machine.

    Args:
        n_components: hidden units.
        learning_rate: the eps of ``W += eps * (positive - negative)``.
        batch_size: samples an update; an update is their mean.
        n_iter: passes over the data in ``fit``.
        n_gibbs: the k of CD-k: how many times the model's side is sampled before the negative term is taken.
        persistent: let the chains go on from update to update (PCD) instead of starting at the data.
        momentum: share of the last step that is added to the next.
        weight_decay: L2 decay of the weights, not of the biases.
        statistics: ``"probabilities"`` of hidden units in the products of an update, which lowers their noise (Hinton
            2010, section 3), or their ``"samples"``, as the textbook's rule has it.
        dtype: float32 or float64, of parameters and arithmetic.
        random_state: seed; the same seed and data, the same bits.
        say: called with a line after each pass of ``fit``.

    Attributes:
        components_: W, transposed: (n_components, n_features); a row is the picture that a hidden unit looks for.
        intercept_hidden_: b (n_components,).
        intercept_visible_: a (n_features,).
        n_updates_: steps made so far.

    >>> x = np.repeat([[1, 1, 0, 0], [0, 0, 1, 1]], 50, axis=0)
    >>> rbm = BernoulliRBM(n_components=2, learning_rate=0.5, n_iter=40, batch_size=10).fit(x)
    >>> np.round(rbm.reconstruct(x[:1])).tolist()
    [[1.0, 1.0, 0.0, 0.0]]
    """

    _estimator_type = "transformer"

    def __init__(
        self, n_components: int = 256, *, learning_rate: float = 0.01, batch_size: int = 10, n_iter: int = 10,
        n_gibbs: int = 1, persistent: bool = False, momentum: float = 0.0, weight_decay: float = 0.0,
        statistics: str = "probabilities", dtype: Any = "float32", random_state: int = 0,
        say: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        self.n_components, self.learning_rate, self.batch_size, self.n_iter = (
            n_components, learning_rate, batch_size, n_iter,
        )  # fmt: skip
        self.n_gibbs, self.persistent, self.momentum, self.weight_decay = n_gibbs, persistent, momentum, weight_decay
        self.statistics, self.dtype, self.random_state, self.say = statistics, dtype, random_state, say

    # -------------------------------------------------------------------------------- scikit-learn's way

    def fit(self, X: Any, y: Any = None) -> BernoulliRBM:
        """Learn from X (N, n_features), values in [0, 1], anew; ``y`` is ignored.

        Raises:
            ShapeError: X is no matrix, or has no rows.
            DataError: values outside [0, 1], or NaN.
            ArgumentError: a parameter out of range.
        """
        X = self._checked(X, "fit", start=True)
        order = np.random.Generator(np.random.SFC64(self.random_state))
        for i in range(self.n_iter):
            shuffled = order.permutation(len(X))
            for first in range(0, len(X), self.batch_size):
                self._update(X[shuffled[first : first + self.batch_size]])
            if self.say:
                self.say(f"pass {i + 1}/{self.n_iter}  pseudo-likelihood {self.score_samples(X[:1000]).mean():.2f}")
        return self

    def partial_fit(self, X: Any, y: Any = None) -> BernoulliRBM:
        """Make one update with all of X (N, n_features)."""
        X = self._checked(X, "partial_fit", start=not hasattr(self, _LEARNT))
        if not len(X):
            raise ShapeError(mismatch("BernoulliRBM.partial_fit", "X of at least one row", X.shape))
        self._update(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Return ``fit(X).transform(X)``."""
        return self.fit(X).transform(X)

    def transform(self, X: Any) -> np.ndarray:
        """Return the hidden units' probabilities P(h = 1 | v) for X (N, n_features) -> (N, n_components)."""
        return self._hidden(self._checked(X, "transform"))

    def reconstruct(self, X: Any) -> np.ndarray:
        """Return P(v = 1 | h) at the hidden probabilities of X: what the features keep of it, (N, n_features)."""
        return self._visible(self._hidden(self._checked(X, "reconstruct")))

    def dense(self) -> Any:
        """Return an ``nn.Linear`` whose sigmoid gives the hidden probabilities: a first layer to train on from here."""
        from . import nn

        self._require_fitted("dense")
        layer = nn.Linear(*self.components_.shape[::-1], dtype=self.dtype_)
        layer.weight.data[...], layer.bias.data[...] = self.components_, self.intercept_hidden_
        return layer

    def gibbs(self, V: Any, steps: int = 1) -> np.ndarray:
        """Return visible samples, 0 and 1, of the chains that start at V (N, n_features), ``steps`` steps later."""
        v = self._checked(V, "gibbs")
        for _ in range(integer("gibbs", "steps", steps, 1)):
            v = self._sample(self._visible(self._sample(self._hidden(v), self._walk)), self._walk)
        return v

    # --------------------------------------------------------------------------------------- monitoring

    def free_energy(self, X: Any) -> np.ndarray:
        """Return F(v) = -a'v - sum over hidden units of log(1 + exp(b + v'W)), (N,); lower is more likely."""
        return self._free_energy(self._checked(X, "free_energy"))

    def score_samples(self, X: Any) -> np.ndarray:
        """Return the pseudo-likelihood (N,): the log-probability of one random unit given all others, times their
        number; an estimate that can be watched while the machine learns."""
        X = self._checked(X, "score_samples")
        draw = np.random.Generator(np.random.SFC64((self.random_state, 2, self.n_updates_)))  # learning has its own
        places = np.arange(len(X)), draw.integers(0, X.shape[1], len(X))
        flipped = X.copy()
        flipped[places] = 1 - flipped[places]
        difference = self._free_energy(flipped) - self._free_energy(X)
        return -X.shape[1] * np.logaddexp(0, -difference)

    def _free_energy(self, v: np.ndarray) -> np.ndarray:
        backend = backends.for_numpy()
        sums = backend.linear_forward(v, self.components_, self.intercept_hidden_)
        return -(v @ self.intercept_visible_) - np.logaddexp(0, sums).sum(1)

    # ------------------------------------------------------------------------------------------ learning

    def _update(self, v: np.ndarray) -> None:
        """One step: dW = eps (v h' - v1 h1'), db = eps (h - h1), da = eps (v - v1), means over the batch."""
        backend = backends.for_numpy()
        h = self._hidden(v)
        begins = self._chains is None or len(self._chains) < len(v)
        if begins or not self.persistent or self.statistics == "samples":
            sampled = self._sample(h)
        if self.statistics == "samples":
            h = sampled
        if self.persistent:
            if begins:
                self._chains = sampled.copy()
            sampled = self._chains[: len(v)]
        for k in range(self.n_gibbs):
            v1 = self._sample(self._visible(sampled))
            h1 = self._hidden(v1)
            if k + 1 < self.n_gibbs or self.persistent or self.statistics == "samples":
                sampled = self._sample(h1)
        if self.persistent:
            self._chains[: len(v)] = sampled
        if self.statistics == "samples":
            h1 = sampled
        share = self.dtype_.type(1 / len(v))
        # v h' - v1 h1' is one product, of both pairs under each other; the sums of its columns are the biases' steps
        hidden, visible = np.concatenate([h, h1]), np.concatenate([v, v1])
        hidden[: len(v)] *= share
        hidden[len(v) :] *= -share
        steps = (
            backend.linear_backward_weight(hidden, visible),
            backend.bias_backward(hidden),
            (backend.bias_backward(v) - backend.bias_backward(v1)) * share,
        )
        eps = self.dtype_.type(self.learning_rate)
        for i, step in enumerate(steps):
            parameter = self._parameters[i]
            if i == 0 and self.weight_decay:
                step -= self.dtype_.type(self.weight_decay) * parameter
            if self.momentum:
                self._steps[i] *= self.dtype_.type(self.momentum)
                self._steps[i] += step
                step[...] = self._steps[i]
            step *= eps
            parameter += step
        self.n_updates_ += 1

    def _hidden(self, v: np.ndarray) -> np.ndarray:
        backend = backends.for_numpy()
        return backend.sigmoid_forward(backend.linear_forward(v, self.components_, self.intercept_hidden_))

    def _visible(self, h: np.ndarray) -> np.ndarray:
        backend = backends.for_numpy()
        sums = backend.linear_backward_input(h, self.components_)
        sums += self.intercept_visible_
        return backend.sigmoid_forward(sums)

    def _sample(self, probability: np.ndarray, draw: np.random.Generator | None = None) -> np.ndarray:
        drawn = (draw or self._draw).random(probability.shape, self.dtype_)
        return np.less(drawn, probability, out=drawn)

    # -------------------------------------------------------------------------------------------- checks

    def _checked(self, X: Any, op: str, start: bool = False) -> np.ndarray:
        """Return X as the machine computes; begin anew if ``start``."""
        if start:
            self._check_parameters()
        else:
            self._require_fitted(op)
        X = np.asarray(X)
        dtype = np.dtype(self.dtype) if start else self.dtype_
        if X.ndim != 2 or X.dtype.kind not in "biuf" or (start and not X.size):
            raise ShapeError(mismatch(f"BernoulliRBM.{op}", "X (N, n_features) of numbers", f"{X.dtype} {X.shape}"))
        X = np.ascontiguousarray(X, dtype)
        if X.size and not (X.min() >= 0 and X.max() <= 1):
            found = "NaN" if np.isnan(X).any() else f"{X.min()} to {X.max()}"
            raise DataError(mismatch(f"BernoulliRBM.{op}", "X with values from 0 to 1", found))
        if start:
            self._begin(X.shape[1], dtype)
        elif X.shape[1] != self.components_.shape[1]:
            expected = f"X of {self.components_.shape[1]} features"
            raise ShapeError(mismatch(f"BernoulliRBM.{op}", expected, X.shape[1]))
        return X

    def _require_fitted(self, op: str) -> None:
        if not hasattr(self, _LEARNT):
            raise ArgumentError(mismatch(f"BernoulliRBM.{op}", "a machine that was fitted", "one that was not"))

    def _check_parameters(self) -> None:
        for name in ("n_components", "batch_size", "n_iter", "n_gibbs"):
            integer("BernoulliRBM", name, getattr(self, name), 1)
        integer("BernoulliRBM", "random_state", self.random_state, 0)
        for name, high in (("learning_rate", np.inf), ("momentum", 1), ("weight_decay", np.inf)):
            number("BernoulliRBM", name, getattr(self, name), 0, high)
        if self.statistics not in ("probabilities", "samples"):
            raise ArgumentError(mismatch("BernoulliRBM", "statistics 'probabilities' or 'samples'", self.statistics))
        if np.dtype(self.dtype) not in (np.float32, np.float64):
            raise ArgumentError(mismatch("BernoulliRBM", "dtype float32 or float64", self.dtype))

    def _begin(self, features: int, dtype: np.dtype) -> None:
        self._draw = np.random.Generator(np.random.SFC64((self.random_state, 1)))
        self._walk = np.random.Generator(np.random.SFC64((self.random_state, 3)))  # of ``gibbs``
        self.dtype_, self.n_features_in_ = dtype, features
        self.components_ = self._draw.normal(0, 0.01, (self.n_components, features)).astype(dtype)
        self.intercept_hidden_, self.intercept_visible_ = np.zeros(self.n_components, dtype), np.zeros(features, dtype)
        self._parameters = (self.components_, self.intercept_hidden_, self.intercept_visible_)
        self._steps = [np.zeros_like(parameter) for parameter in self._parameters]
        self._chains: np.ndarray | None = None
        self.n_updates_ = 0
