"""The restricted Boltzmann machine: its update against a transcription, its quantities against sums over all states."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from fastconv import config, data, manual_seed, nn, training
from fastconv.errors import ArgumentError, DataError, ShapeError
from fastconv.rbm import BernoulliRBM


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def stripes(count: int = 200, seed: int = 0) -> np.ndarray:
    """Bars over 4x4 pixels: each row on or off."""
    rows = np.random.default_rng(seed).integers(0, 2, (count, 4))
    return np.repeat(rows, 4, axis=1).astype(np.float64)


def small(**options: object) -> BernoulliRBM:
    """A machine of 6 visible and 4 hidden units with weights that matter."""
    rbm = BernoulliRBM(4, dtype="float64", **options).partial_fit(np.zeros((1, 6)))
    draw = np.random.default_rng(1)
    for parameter in (rbm.components_, rbm.intercept_hidden_, rbm.intercept_visible_):
        parameter[...] = draw.normal(size=parameter.shape)
    return rbm


@pytest.mark.parametrize("statistics", ["samples", "probabilities"])
@pytest.mark.parametrize("k", [1, 3])
def test_an_update_is_that_of_the_textbook(statistics: str, k: int) -> None:
    rbm = small(statistics=statistics, n_gibbs=k, learning_rate=0.1)
    W, b, a = rbm.components_.T.copy(), rbm.intercept_hidden_.copy(), rbm.intercept_visible_.copy()
    v = np.random.default_rng(2).integers(0, 2, (5, 6)).astype(np.float64)
    draw = np.random.Generator(np.random.SFC64())
    draw.bit_generator.state = rbm._draw.bit_generator.state

    def bernoulli(probability: np.ndarray) -> np.ndarray:
        return (draw.random(probability.shape) < probability).astype(np.float64)

    h = sigmoid(v @ W + b)
    state = bernoulli(h)
    if statistics == "samples":
        h = state
    for step in range(k):
        v1 = bernoulli(sigmoid(state @ W.T + a))
        h1 = sigmoid(v1 @ W + b)
        if statistics == "samples" or step + 1 < k:
            state = bernoulli(h1)
    if statistics == "samples":
        h1 = state
    eps = 0.1 / len(v)
    W += eps * (v.T @ h - v1.T @ h1)
    b += eps * (h - h1).sum(0)
    a += eps * (v - v1).sum(0)
    rbm.partial_fit(v)
    np.testing.assert_allclose(rbm.components_.T, W, atol=1e-12)
    np.testing.assert_allclose(rbm.intercept_hidden_, b, atol=1e-12)
    np.testing.assert_allclose(rbm.intercept_visible_, a, atol=1e-12)


def test_momentum_and_decay() -> None:
    v = np.random.default_rng(2).integers(0, 2, (5, 6)).astype(np.float64)
    plain, moving, decaying = small(), small(momentum=0.5), small(weight_decay=0.1)
    before = plain.components_.copy()
    for rbm in (plain, moving, decaying):
        rbm.partial_fit(v)
    step = plain.components_ - before
    np.testing.assert_allclose(decaying.components_, before + step - 0.01 * 0.1 * before, atol=1e-12)
    np.testing.assert_allclose(decaying.intercept_hidden_, plain.intercept_hidden_, atol=1e-12)
    assert np.abs(moving._steps[0]).max() > 0
    still = [parameter.copy() for parameter in moving._steps]
    moving.learning_rate = 0.0
    moving.partial_fit(v)
    assert not np.allclose(moving._steps[0], still[0])
    np.testing.assert_allclose(moving.components_, before + 0.01 * still[0], atol=1e-12)


def test_persistent_chains_go_on() -> None:
    rbm = small(persistent=True, learning_rate=0.0)
    v = np.ones((5, 6))
    rbm.partial_fit(v)
    first = rbm._chains.copy()
    rbm.partial_fit(v)
    assert first.shape == (5, 4)
    assert (first != rbm._chains).any()
    before = rbm._chains.copy()
    rbm.partial_fit(v[:2])  # a smaller batch moves as many chains, and the others wait
    assert rbm._chains.shape == (5, 4)
    np.testing.assert_array_equal(rbm._chains[2:], before[2:])
    rbm.partial_fit(np.ones((7, 6)))
    assert len(rbm._chains) == 7


def test_free_energy_and_gibbs_are_those_of_the_energy() -> None:
    rbm = small()
    W, b, a = rbm.components_.T, rbm.intercept_hidden_, rbm.intercept_visible_
    visible, hidden = (np.array(list(product((0.0, 1.0), repeat=n))) for n in (6, 4))
    energy = -(visible @ a)[:, None] - hidden @ b - visible @ W @ hidden.T
    np.testing.assert_allclose(rbm.free_energy(visible), -np.log(np.exp(-energy).sum(1)), atol=1e-10)
    posterior = np.exp(-energy) / np.exp(-energy).sum(1, keepdims=True)
    np.testing.assert_allclose(rbm.transform(visible), posterior @ hidden, atol=1e-12)
    likely = np.exp(-rbm.free_energy(visible))
    likely /= likely.sum()
    samples = rbm.gibbs(np.zeros((40_000, 6)), steps=30)
    places = (samples @ 2.0 ** np.arange(5, -1, -1)).astype(int)
    counted = np.bincount(places, minlength=64) / len(samples)
    assert np.abs(counted - likely).sum() / 2 < 0.03  # of the total variation; sampling alone gives about 0.01


def test_learning_raises_the_likelihood_of_the_data() -> None:
    x = stripes()
    rbm = BernoulliRBM(16, learning_rate=0.2, n_iter=100, dtype="float64")
    before = rbm.partial_fit(x).score_samples(x).mean()
    rbm.fit(x)
    assert rbm.score_samples(x).mean() > before + 3
    noise = np.random.default_rng(5).integers(0, 2, x.shape)
    assert rbm.free_energy(x).mean() < rbm.free_energy(noise).mean() - 2
    assert np.abs(rbm.reconstruct(x) - x).mean() < 0.2
    assert rbm.n_updates_ == 100 * 20


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_seed_gives_the_same_bits(dtype: str) -> None:
    machines = [BernoulliRBM(8, n_iter=3, dtype=dtype, random_state=seed).fit(stripes()) for seed in (1, 1, 2)]
    assert machines[0].components_.dtype == dtype
    np.testing.assert_array_equal(machines[0].components_, machines[1].components_)
    assert (machines[0].components_ != machines[2].components_).any()


def test_it_agrees_with_scikit_learn_and_stands_in_a_pipeline() -> None:
    neural_network = pytest.importorskip("sklearn.neural_network")
    from sklearn.base import clone
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    rbm, x = small(), np.random.default_rng(0).random((7, 6))
    theirs = neural_network.BernoulliRBM(4).fit(np.zeros((2, 6)))
    theirs.components_, theirs.intercept_hidden_ = rbm.components_, rbm.intercept_hidden_
    theirs.intercept_visible_ = rbm.intercept_visible_
    np.testing.assert_allclose(rbm.transform(x), theirs.transform(x), atol=1e-12)
    np.testing.assert_allclose(rbm.free_energy(x), theirs._free_energy(x), atol=1e-12)
    copied = clone(BernoulliRBM(12, momentum=0.5))
    assert copied.get_params() == BernoulliRBM(12, momentum=0.5).get_params()
    x = stripes()
    pipeline = make_pipeline(BernoulliRBM(16, learning_rate=0.2, n_iter=20), LogisticRegression(C=100, max_iter=1000))
    assert pipeline.fit(x, x[:, 0]).score(x, x[:, 0]) > 0.95


def test_a_dense_layer_begins_with_the_features() -> None:
    rbm, x = small(), np.random.default_rng(0).random((7, 6))
    net = nn.Sequential(rbm.dense(), nn.Sigmoid())
    np.testing.assert_allclose(training.predict(net, x), rbm.transform(x), atol=1e-12)
    net[0].weight.data[...] = 0
    assert rbm.components_.any()


@pytest.mark.parametrize(
    "options, x, error, match",
    [
        ({}, np.zeros(3), ShapeError, "X"),
        ({}, np.zeros((0, 3)), ShapeError, "X"),
        ({}, np.full((2, 3), 1.5), DataError, "from 0 to 1"),
        ({}, np.full((2, 3), np.nan), DataError, "from 0 to 1"),
        ({}, np.array([["a"]]), ShapeError, "numbers"),
        ({"n_components": 0}, np.zeros((2, 3)), ArgumentError, "n_components"),
        ({"learning_rate": -1.0}, np.zeros((2, 3)), ArgumentError, "learning_rate"),
        ({"momentum": 1.5}, np.zeros((2, 3)), ArgumentError, "momentum"),
        ({"statistics": "both"}, np.zeros((2, 3)), ArgumentError, "statistics"),
        ({"dtype": "float16"}, np.zeros((2, 3)), ArgumentError, "dtype"),
        ({"random_state": -1}, np.zeros((2, 3)), ArgumentError, "random_state"),
    ],
)
def test_what_is_refused(options: dict, x: np.ndarray, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        BernoulliRBM(**options).fit(x)


def test_what_is_refused_later() -> None:
    with pytest.raises(ArgumentError, match="fitted"):
        BernoulliRBM().transform(np.zeros((1, 6)))
    with pytest.raises(ShapeError, match="6 features"):
        small().transform(np.zeros((1, 5)))
    with pytest.raises(ArgumentError, match="units"):
        BernoulliRBM().set_params(units=3)
    assert small().transform(np.zeros((0, 6))).shape == (0, 4)


def test_features_of_mnist_are_enough_for_a_linear_classifier() -> None:
    """10,000 updates at 0.01, then a linear layer on the features, which stay as they are."""
    if config.data_dir() is None:
        pytest.skip("FASTCONV_DATA is not set")
    digits = data.load("mnist")
    x, test = (part.images.reshape(len(part), -1) / np.float32(255) for part in (digits.train, digits.test))
    rbm, draw = BernoulliRBM(256, learning_rate=0.01, statistics="samples"), np.random.default_rng(0)
    for _ in range(10_000):
        rbm.partial_fit(x[draw.integers(0, len(x), 1)])
    manual_seed(0)
    net = nn.Sequential(nn.Linear(256, 10))
    training.fit(net, rbm.transform(x), digits.train.labels, epochs=3, batch_size=100, lr=5e-3)
    accuracy = (training.predict(net, rbm.transform(test), 1000).argmax(1) == digits.test.labels).mean()
    print(f"accuracy {100 * accuracy:.2f} %")
    assert accuracy >= 0.9


def test_watching_changes_nothing() -> None:
    x = (np.random.default_rng(5).random((30, 6)) < 0.4).astype(np.float32)
    watched = BernoulliRBM(4, n_iter=3, say=lambda line: None).fit(x)
    plain = BernoulliRBM(4, n_iter=3).fit(x)
    np.testing.assert_array_equal(watched.components_, plain.components_)
    watched.gibbs(x, 2)
    np.testing.assert_array_equal(watched.partial_fit(x).components_, plain.partial_fit(x).components_)


def test_parameters_that_are_set_after_fitting_wait_for_the_next_fit() -> None:
    x = (np.random.default_rng(5).random((30, 6)) < 0.4).astype(np.float32)
    rbm = BernoulliRBM(4, n_iter=1).fit(x).set_params(n_components=7, dtype="float64")
    assert rbm.dense().weight.shape == (4, 6)
    assert rbm.transform(x).dtype == np.float32
    with pytest.raises(ShapeError, match="at least one row"):
        rbm.partial_fit(x[:0])
