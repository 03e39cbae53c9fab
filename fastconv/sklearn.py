"""Networks as scikit-learn estimators, for pipelines, searches and cross-validation.

scikit-learn is imported when ``CNNClassifier`` is first asked for: its class then derives from ``ClassifierMixin`` and
``BaseEstimator``. ``pip install 'fastconv[sklearn]'`` brings it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from inspect import signature
from math import prod
from typing import Any

import numpy as np

from . import functional as F
from . import init, models, random, training
from .arguments import integer
from .errors import ArgumentError, ShapeError, mismatch
from .nn import Module


class _Classifier:
    """A classifier of images, volumes or plain features, around any network of fastconv.

    ::

        search = GridSearchCV(CNNClassifier("lenet5", input_shape=(1, 28, 28)), {"lr": [1e-3, 1e-2]})
        search.fit(X, y).best_params_

    Args:
        model: a name of ``fastconv.models``; a function that returns a network, called with ``num_classes`` and, where
            it takes that, ``features`` (how many numbers a sample has); or a network, which is copied with its weights.
        options: further arguments of the name's or the given function.
        input_shape: of a sample, (C, H, W) for instance: rows of X (N, F) are reshaped to it. None: X is taken as it
            is, (N, F), (N, C, H, W) or (N, C, D, H, W).
        epochs, batch_size, lr, augment: as of ``fastconv.training.fit``.
        optimizer: called with the parameters and ``lr=``, ``fastconv.optim.SGD`` for instance; None: Adam.
        warm_start: a further ``fit`` goes on with the weights of the one before.
        dtype: float32 or float64, of weights and arithmetic.
        random_state: seed of the initial weights, the order of samples and dropout; the same seed, the same bits.

    Attributes:
        classes_: the labels, of any kind.
        module_: the network.
        loss_curve_: the mean loss of each epoch.
        input_shape_: of a sample, as the network sees it.
        n_features_in_: X.shape[1].

    A pickle holds the settings and the weights as arrays; the network is made anew from both.
    """

    def __init__(
        self, model: Any = "deep_network", *, options: Mapping[str, Any] | None = None,
        input_shape: Sequence[int] | None = None, epochs: int = 10, batch_size: int = 32, lr: float = 1e-3,
        optimizer: Callable[..., Any] | None = None, augment: Callable[..., Any] | None = None,
        warm_start: bool = False, dtype: str = "float32", random_state: int = 0,
    ) -> None:  # fmt: skip
        self.model, self.options, self.input_shape = model, options, input_shape
        self.epochs, self.batch_size, self.lr = epochs, batch_size, lr
        self.optimizer, self.augment, self.warm_start = optimizer, augment, warm_start
        self.dtype, self.random_state = dtype, random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> _Classifier:
        """Train on X (N, F) or (N, C, ...) and labels y (N,); each sample's loss counts ``sample_weight`` times.

        Raises:
            ShapeError: X does not fit ``input_shape``, or the network's outputs are not one for each class.
            ArgumentError: an option out of range.
            ValueError: what scikit-learn refuses: NaN, lengths that differ, labels that are no classes.
        """
        from sklearn.utils.multiclass import check_classification_targets
        from sklearn.utils.validation import _check_sample_weight, validate_data

        for name in ("epochs", "batch_size"):
            integer("CNNClassifier", name, getattr(self, name), 1)
        seed = integer("CNNClassifier", "random_state", self.random_state, 0)
        self._check_kinds()
        dtype = self._dtype()
        known = self.warm_start and hasattr(self, "module_")
        X, y = validate_data(self, X, y, dtype=dtype, allow_nd=True, reset=not known)
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        if known and not np.array_equal(classes, self.classes_):
            raise ArgumentError(mismatch("CNNClassifier", f"the classes {self.classes_} to go on with", classes))
        X = self._reshaped(X)
        target: Any = labels
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
            target = np.stack([labels, weight / weight.mean()], 1)
        state = random.get_state()  # the caller's streams go on as if nothing had happened
        random.manual_seed(seed)
        try:
            module = self.module_ if known else self._built(len(classes), X.shape[1:])
            optimizer = self.optimizer and self.optimizer(module.parameters(), lr=self.lr)
            self.loss_curve_ = training.fit(
                module, X, target, epochs=self.epochs, batch_size=self.batch_size, lr=self.lr, optimizer=optimizer,
                loss=_Loss(len(classes)), augment=self.augment, seed=seed,
            )  # fmt: skip
        finally:
            random.set_state(state)
        self.classes_, self.module_, self.input_shape_ = classes, module, X.shape[1:]
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the softmax of the network's outputs for X, (N, K) in the order of ``classes_``."""
        from sklearn.utils.validation import check_is_fitted, validate_data

        check_is_fitted(self)
        X = self._reshaped(validate_data(self, X, dtype=self._dtype(), allow_nd=True, reset=False))
        if X.shape[1:] != self.input_shape_:
            raise ShapeError(mismatch("CNNClassifier", f"samples of shape {self.input_shape_}", X.shape[1:]))
        return training.probabilities(self.module_, X)

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label (N,) of each sample."""
        most = self.predict_proba(X).argmax(1)  # raises first where nothing was fitted
        return self.classes_[most]

    # -------------------------------------------------------------------------------------------- inside

    def _check_kinds(self) -> None:
        if self.optimizer is not None and not callable(self.optimizer):
            expected = "optimizer to be a function of parameters and lr=, as fastconv.optim.SGD, or None"
            raise ArgumentError(mismatch("CNNClassifier", expected, repr(self.optimizer)))
        if self.options is not None and not isinstance(self.options, Mapping):
            raise ArgumentError(mismatch("CNNClassifier", "options to be a mapping, or None", repr(self.options)))
        shape = self.input_shape
        if shape is not None and not (np.iterable(shape) and all(isinstance(size, int | np.integer) for size in shape)):
            raise ArgumentError(mismatch("CNNClassifier", "input_shape of integers, or None", repr(shape)))

    def _dtype(self) -> np.dtype:
        if self.dtype not in ("float32", "float64", np.float32, np.float64):
            raise ArgumentError(mismatch("CNNClassifier", "dtype float32 or float64", repr(self.dtype)))
        return np.dtype(self.dtype)

    def _reshaped(self, X: np.ndarray) -> np.ndarray:
        if self.input_shape is None or X.shape[1:] == tuple(self.input_shape):
            return X
        if X.ndim != 2 or X.shape[1] != prod(self.input_shape):
            shape = tuple(self.input_shape)
            expected = f"X (N, {prod(shape)}) or (N, {', '.join(map(str, shape))}), as input_shape says"
            raise ShapeError(mismatch("CNNClassifier", expected, X.shape))
        return X.reshape(len(X), *self.input_shape)

    def _built(self, classes: int, shape: tuple[int, ...]) -> Module:
        """A new network, or a copy of the given one."""
        options = dict(self.options or {})
        if isinstance(self.model, Module):
            if options:
                raise ArgumentError(mismatch("CNNClassifier", "no options where model is a network", options))
            return deepcopy(self.model).to(self._dtype())
        make = models.factory(self.model) if isinstance(self.model, str) else self.model
        if not callable(make):
            expected = "model to be a name, a function that returns a network, or a network"
            raise ArgumentError(mismatch("CNNClassifier", expected, repr(make)))
        if "features" in signature(make).parameters:
            options = {"features": prod(shape)} | options
        module = make(**{"num_classes": classes} | options)
        if not isinstance(module, Module):
            raise ArgumentError(mismatch("CNNClassifier", "model to return a network", repr(module)))
        return module.to(self._dtype())

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()  # type: ignore[misc]
        if "module_" in state:
            state = state | {"module_": state["module_"].state_dict()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        if "module_" in state:
            with init.skip():
                module = self._built(len(self.classes_), self.input_shape_)
            module.load_state_dict(state["module_"])
            self.module_ = module


class _Loss:
    """Cross-entropy of outputs and labels (N,), or of labels and weights (N, 2)."""

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def __call__(self, output: Any, target: np.ndarray) -> Any:
        shape = getattr(output, "shape", type(output).__name__)
        if shape != (len(target), self.classes):
            expected = f"a network with outputs (N, {self.classes}), one for each class"
            raise ShapeError(mismatch("CNNClassifier", expected, shape))
        if target.ndim == 1:
            return F.cross_entropy(output, target)
        losses = F.cross_entropy(output, target[:, 0].astype(np.int64), reduction="none")
        return F.mean(losses * target[:, 1].astype(output.dtype))


def __getattr__(name: str) -> Any:
    if name != "CNNClassifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from sklearn.base import BaseEstimator, ClassifierMixin
    except ModuleNotFoundError as error:
        expected = "scikit-learn 1.6 or newer (pip install 'fastconv[sklearn]')"
        raise ModuleNotFoundError(mismatch(name, expected, "none")) from error
    body = {"__doc__": _Classifier.__doc__, "__module__": __name__}
    globals()[name] = type(name, (_Classifier, ClassifierMixin, BaseEstimator), body)
    return globals()[name]
