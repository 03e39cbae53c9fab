"""``fit``: it learns, gives the same bits for a seed, and takes several inputs, lists, losses and augmentation."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import functional as F
from fastconv import manual_seed, nn, optim, training
from fastconv.errors import ArgumentError, ShapeError


def problem(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(count, 1, 6, 6)).astype(np.float32)
    return x, (x.mean((1, 2, 3)) > 0).astype(np.int64)


def network() -> nn.Sequential:
    manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))


def test_it_learns_and_repeats() -> None:
    x, labels = problem()
    histories, states = [], []
    for _ in range(2):
        net = network()
        histories.append(training.fit(net, x, labels, epochs=30, batch_size=16, lr=1e-2, seed=3))
        states.append(net.state_dict())
    assert (training.predict(net, x, batch_size=7).argmax(1) == labels).mean() > 0.95
    assert histories[0] == histories[1]
    assert len(histories[0]) == 30
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name])
    assert training.fit(network(), x, labels, epochs=2, batch_size=16, seed=4) != histories[0][:2]


def test_probabilities_and_modes() -> None:
    x, labels = problem(5)
    net = network()
    training.fit(net, x, labels, epochs=1)
    assert net.training
    probability = training.probabilities(net, x)
    np.testing.assert_allclose(probability.sum(1), 1, rtol=1e-6)
    assert net.training
    assert training.predict(net, x[:0]).shape == (0, 2)
    net.eval()
    training.fit(net, x, labels, epochs=1)
    assert not net.training


class Two(nn.Module):
    def __init__(self) -> None:
        self.first, self.second = nn.Linear(3, 4), nn.Linear(2, 4)
        self.head = nn.Linear(4, 1)

    def forward(self, a: object, b: object) -> object:
        return self.head(F.tanh(self.first(a) + self.second(b)))


def test_several_inputs_lists_losses_and_an_optimizer() -> None:
    manual_seed(0)
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(40, 3)).astype(np.float32), draw.normal(size=(40, 2)).astype(np.float32)
    goal = [float(value) for value in a[:, 0] - b[:, 1]]
    net = Two()

    def loss(output: object, target: list[float]) -> object:
        assert isinstance(target, list)
        return F.mse_loss(output, np.array(target, np.float32)[:, None])

    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    history = training.fit(net, (a, b), goal, epochs=60, batch_size=10, loss=loss, optimizer=optimizer)
    assert history[-1] < 0.1 * history[0]
    assert optimizer.param_groups[0]["lr"] < 1e-6
    assert training.predict(net, (a, b)).shape == (40, 1)


def test_augment_and_say() -> None:
    x, labels = problem(8)
    seen, lines = [], []

    def augment(draw: np.random.Generator, images: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append((draw.random(), len(images)))
        return images + 1, target

    for _ in range(2):
        training.fit(network(), x, labels, epochs=2, batch_size=5, augment=augment, say=lines.append)
    assert seen[:4] == seen[4:]
    assert len({number for number, _ in seen}) == 4
    assert [count for _, count in seen[:4]] == [5, 3, 5, 3]
    assert lines[1].startswith("epoch 2/2  loss ")


def test_what_is_refused() -> None:
    x, labels = problem(6)
    with pytest.raises(ShapeError, match="6 samples"):
        training.fit(network(), x[:5], labels, epochs=1)
    with pytest.raises(ShapeError, match="0 samples"):
        training.fit(network(), x[:0], labels[:0], epochs=1)
    with pytest.raises(ArgumentError, match="epochs"):
        training.fit(network(), x, labels, epochs=0)
    with pytest.raises(ArgumentError, match="batch_size"):
        training.fit(network(), x, labels, epochs=1, batch_size=0)
    net = network()
    with pytest.raises(ArgumentError, match="finite loss"):
        training.fit(net, x * np.float32(np.nan), labels, epochs=1)
    assert net.training
