"""CNNClassifier among scikit-learn's tools, and the checks that scikit-learn has for estimators."""

from __future__ import annotations

import pickle
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_classifier
from sklearn.ensemble import AdaBoostClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

import fastconv
from fastconv import boost, data, models, nn, optim, random
from fastconv.errors import ArgumentError, ShapeError
from fastconv.sklearn import CNNClassifier


def digits(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, 1, 28, 28) of the embedded digits, and words for labels."""
    part = data.load("digits").train.first(count)
    words = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    return part.images.reshape(-1, 1, 28, 28).astype(np.float32) / 255, words[part.labels]


def small(num_classes: int) -> nn.Module:
    """A network for pictures that trains in a moment."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(288, num_classes)
    )


def cnn(**options: object) -> CNNClassifier:
    return CNNClassifier(small, **({"epochs": 6, "lr": 0.01} | options))


def clouds(samples: int = 90, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(samples) % classes
    return np.random.default_rng(0).normal(size=(samples, 4)) + 3 * np.eye(4)[labels], labels


# ----------------------------------------------------------------------------------------------- what it learns


def test_pictures_and_words():
    x, y = digits()
    model = cnn().fit(x[:300], y[:300])
    assert model.score(x[300:], y[300:]) > 0.8
    assert model.classes_.tolist() == sorted(set(y))
    shares = model.predict_proba(x[300:])
    assert shares.shape == (100, 10)
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(model.classes_[shares.argmax(1)], model.predict(x[300:]))
    assert len(model.loss_curve_) == 6
    assert model.input_shape_ == (1, 28, 28)


def test_rows_are_reshaped():
    x, y = digits(200)
    rows, pictures = cnn(input_shape=(1, 28, 28), epochs=2), cnn(epochs=2).fit(x, y)
    rows.fit(x.reshape(200, -1), y)
    np.testing.assert_array_equal(rows.predict_proba(x.reshape(200, -1)), pictures.predict_proba(x))
    assert rows.n_features_in_ == 784
    with pytest.raises(ShapeError, match=r"\(N, 784\) or \(N, 1, 28, 28\), as input_shape says, got \(200, 700\)"):
        rows.fit(x.reshape(200, -1)[:, :700], y)


def test_volumes_by_name():
    x = np.random.default_rng(0).normal(size=(12, 2, 8, 8, 8)) + np.arange(12).reshape(-1, 1, 1, 1, 1) % 2
    model = CNNClassifier(
        "volume_classifier", options={"modalities": 2, "width": 4, "dropout": 0.0}, epochs=25, lr=0.01
    )
    assert model.fit(x, np.arange(12) % 2).score(x, np.arange(12) % 2) > 0.9


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_seed_gives_the_same_bits_and_leaves_the_streams_alone(dtype):
    x, y = clouds()
    fastconv.manual_seed(5)
    before = random.get_state()
    first, same, other = (
        CNNClassifier(epochs=2, dtype=dtype, random_state=seed).fit(x, y).predict_proba(x) for seed in (1, 1, 2)
    )
    assert random.get_state() == before
    assert first.dtype == dtype
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_a_network_is_copied_with_its_weights():
    x, y = clouds()
    net = models.logistic_regression(4, 3)
    before = net.state_dict()["1.weight"].copy()
    model = CNNClassifier(net, lr=1e-9, epochs=1).fit(x, y)
    np.testing.assert_array_equal(net.state_dict()["1.weight"], before)
    np.testing.assert_allclose(model.module_.state_dict()["1.weight"], before, atol=1e-6)


def test_warm_start_goes_on():
    x, y = clouds()
    model = CNNClassifier("logistic_regression", epochs=3, warm_start=True, lr=0.01).fit(x, y)
    module, loss = model.module_, model.loss_curve_[-1]
    assert model.fit(x, y).module_ is module
    assert model.loss_curve_[-1] < loss
    with pytest.raises(ArgumentError, match="classes"):
        model.fit(x, y + 1)
    assert model.set_params(warm_start=False).fit(x, y).module_ is not module


def test_optimisers_and_augmentation():
    x, y = clouds()
    seen = []

    def shifted(rng, inputs, target):
        seen.append(len(inputs))
        return inputs + rng.normal(0, 0.1, inputs.shape).astype(inputs.dtype), target

    sgd = partial(optim.SGD, momentum=0.9)
    model = CNNClassifier("logistic_regression", epochs=10, lr=0.1, optimizer=sgd, augment=shifted)
    assert model.fit(x, y).score(x, y) > 0.9
    assert seen == [32, 32, 26] * 10


def test_weights_count_as_samples_do():
    """A step on all samples at once is that of the samples repeated."""
    x, y = clouds(30)
    weight = np.random.default_rng(0).integers(0, 4, 30)
    options = {"epochs": 1, "batch_size": 1000, "dtype": "float64", "optimizer": optim.SGD, "lr": 0.1}
    one = CNNClassifier("logistic_regression", **options).fit(x, y, weight)
    other = CNNClassifier("logistic_regression", **options).fit(x.repeat(weight, 0), y.repeat(weight))
    np.testing.assert_allclose(one.predict_proba(x), other.predict_proba(x), atol=1e-12)
    assert one.loss_curve_ == pytest.approx(other.loss_curve_)


def test_logistic_regression_is_scikit_learns():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    y = (x @ rng.normal(size=(3, 3)) + rng.gumbel(size=(200, 3))).argmax(1)
    ours = CNNClassifier("logistic_regression", epochs=300, batch_size=50, lr=0.05, dtype="float64").fit(x, y)
    theirs = LogisticRegression(C=np.inf, tol=1e-8).fit(x, y)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=0.005)


def test_the_deep_network_is_layers_of_sigmoids():
    net = models.deep_network(4, 3, hidden=(5, 6), dtype="float64")
    x = np.random.default_rng(0).normal(size=(7, 2, 2))
    a = x.reshape(7, 4)
    weights = list(net.state_dict().values())
    for W, b in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        a = 1 / (1 + np.exp(-(a @ W.T + b)))
    np.testing.assert_allclose(net(x).numpy(), a @ weights[-2].T + weights[-1], atol=1e-12)
    assert isinstance(models.deep_network(4, 3, hidden=()), nn.Sequential)


# ---------------------------------------------------------------------------------------- scikit-learn's tools


def test_pipeline_search_and_cross_validation():
    x, y = clouds()
    assert issubclass(CNNClassifier, ClassifierMixin)
    assert issubclass(CNNClassifier, BaseEstimator)
    assert is_classifier(CNNClassifier())
    pipeline = make_pipeline(MinMaxScaler(), CNNClassifier("logistic_regression", epochs=20))
    search = GridSearchCV(pipeline, {"cnnclassifier__lr": [1e-5, 0.1]}, cv=3).fit(x, y)
    assert search.best_params_ == {"cnnclassifier__lr": 0.1}
    assert search.best_score_ > 0.9
    network = CNNClassifier(models.logistic_regression(4, 3), lr=0.1)
    assert cross_val_score(network, x, y, cv=3, scoring="roc_auc_ovr").mean() > 0.95


def test_clone_copies_settings_alone():
    x, y = clouds()
    model = CNNClassifier("logistic_regression", epochs=3).fit(x, y)
    twin = clone(model)
    assert twin.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        twin.predict(x)


@pytest.mark.parametrize("model", ["deep_network", small, models.lenet5(), models.tutorial_net])
def test_a_pickle_holds_settings_and_weights(model):
    x, y = digits(40)
    fitted = CNNClassifier(model, epochs=1).fit(x, y)
    random.manual_seed(1)
    before = random.get_state()
    copied = pickle.loads(pickle.dumps(fitted))
    assert random.get_state() == before
    np.testing.assert_array_equal(copied.predict_proba(x), fitted.predict_proba(x))
    assert {k: v for k, v in copied.get_params().items() if k != "model"} == {
        k: v for k, v in fitted.get_params().items() if k != "model"
    }
    state = fitted.__getstate__()["module_"]
    assert all(isinstance(value, np.ndarray) for value in state.values())
    assert isinstance(fitted.module_, nn.Module)
    assert not hasattr(pickle.loads(pickle.dumps(CNNClassifier(model))), "module_")


@pytest.mark.parametrize("kind", [boost.AdaBoostClassifier, AdaBoostClassifier])
def test_networks_are_weak_learners_of_a_vote(kind):
    x, y = clouds(60)
    x[::7] = 0
    model = kind(CNNClassifier("logistic_regression", epochs=10, lr=0.1), n_estimators=4).fit(x, y)
    assert model.score(x, y) > 0.8


# ---------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "options, error, match",
    [
        ({"model": "lenet6"}, ArgumentError, "a model of"),
        ({"model": 3}, ArgumentError, "a function that returns a network"),
        ({"model": nn.Sequential(nn.Linear(4, 3)), "options": {"width": 1}}, ArgumentError, "no options"),
        ({"model": nn.Sequential(nn.Linear(4, 2))}, ShapeError, r"outputs \(N, 3\).*got \(32, 2\)"),
        ({"epochs": 0}, ArgumentError, "epochs"),
        ({"batch_size": 0}, ArgumentError, "batch_size"),
        ({"random_state": -1}, ArgumentError, "random_state"),
        ({"dtype": "float16"}, ArgumentError, "dtype"),
        ({"input_shape": (3, 2)}, ShapeError, "input_shape"),
        ({"input_shape": 4}, ArgumentError, "input_shape of integers, or None, got 4"),
        ({"optimizer": "sgd"}, ArgumentError, "optimizer to be a function of parameters and lr=.*got 'sgd'"),
        ({"options": 3}, ArgumentError, "options to be a mapping, or None, got 3"),
        ({"model": lambda num_classes: num_classes}, ArgumentError, "model to return a network, got 3"),
    ],
)
def test_what_is_refused(options, error, match):
    x, y = clouds()
    before = random.get_state()
    with pytest.raises(error, match=match):
        CNNClassifier(**options).fit(x, y)
    assert random.get_state() == before


def test_what_is_refused_later():
    x, y = digits(40)
    model = cnn(epochs=1).fit(x, y)
    with pytest.raises(ShapeError, match=r"samples of shape \(1, 28, 28\), got \(1, 28, 27\)"):
        model.predict(x[..., 1:])
    with pytest.raises(ValueError, match="non-zero"):
        cnn().fit(x, y, np.zeros(40))
    with pytest.raises(ArgumentError, match="finite loss"):
        cnn(lr=1e38, epochs=9).fit(x, y)
    with pytest.raises(ValueError, match="Negative"):
        cnn().fit(x, y, -np.ones(40))
    with pytest.raises(ValueError, match="Unknown label type"):
        cnn().fit(x, np.linspace(0, 1, 40))
    with pytest.raises(AttributeError, match="nothing"):
        _ = fastconv.sklearn.nothing


def test_scikit_learn_is_loaded_late_and_named_where_it_is_missing():
    script = (
        "import sys; from fastconv import boost, rbm, sklearn; assert 'sklearn' not in sys.modules\n"
        "sys.modules['sklearn'] = None\n"
        "try:\n    sklearn.CNNClassifier\nexcept ModuleNotFoundError as error:\n    print(error)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'fastconv[sklearn]'" in run.stdout
