"""Initialisers and random streams: distributions against torch's formulas, repeatability, states."""

import json
from math import sqrt

import numpy as np
import oracle
import pytest

import fastconv
from fastconv import Tensor, init, random
from fastconv.errors import ArgumentError, ShapeError

SHAPE = (64, 32, 3, 3)


def drawn(function, *args, shape=SHAPE, **options):
    fastconv.manual_seed(0)
    return function(Tensor(np.zeros(shape)), *args, **options).data


@pytest.mark.parametrize("nonlinearity", ["linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"])
def test_gains_like_torch(nonlinearity):
    assert init.calculate_gain(nonlinearity) == oracle.torch().nn.init.calculate_gain(nonlinearity)


def test_fans_like_torch():
    t = oracle.torch()
    for shape in [(3, 4), (3, 4, 5), SHAPE]:
        assert init.fans(np.zeros(shape)) == t.nn.init._calculate_fan_in_and_fan_out(t.zeros(shape))


@pytest.mark.parametrize(
    ("values", "bound", "uniform"),
    [
        (lambda: drawn(init.kaiming_uniform_, a=sqrt(5)), 1 / sqrt(288), True),
        (lambda: drawn(init.kaiming_uniform_, nonlinearity="relu", mode="fan_out"), sqrt(6 / 576), True),
        (lambda: drawn(init.xavier_uniform_, gain=2), 2 * sqrt(6 / (288 + 576)), True),
        (lambda: drawn(init.uniform_, -0.5, 0.5), 0.5, True),
        (lambda: drawn(init.kaiming_normal_, nonlinearity="relu"), sqrt(2 / 288), False),
        (lambda: drawn(init.xavier_normal_), sqrt(2 / (288 + 576)), False),
        (lambda: drawn(init.normal_, 0.0, 3.0), 3.0, False),
    ],
)
def test_distributions(values, bound, uniform):
    values = values()
    std = bound / sqrt(3) if uniform else bound
    assert abs(values.mean()) < 4 * std / sqrt(values.size)
    assert values.std() == pytest.approx(std, rel=0.02)
    if uniform:
        assert 0.99 * bound < np.abs(values).max() <= bound


def test_constants_and_arrays_in_place():
    a = np.empty((2, 2), np.float32)
    assert init.constant_(a, 3.0) is a
    assert (a == 3).all()
    assert not init.zeros_(a).any()
    assert init.ones_(a).all()


def test_one_seed_gives_float32_and_float64_networks_alike():
    fastconv.manual_seed(5)
    wide = fastconv.nn.Conv2d(2, 3, 3, dtype="float64")
    fastconv.manual_seed(5)
    narrow = fastconv.nn.Conv2d(2, 3, 3)
    oracle.assert_same_bits(wide.weight.data.astype(np.float32), narrow.weight.data)


def test_messages():
    with pytest.raises(ShapeError, match=r"^init: expected a weight of at least two axes, none empty, got shape \(3,"):
        init.xavier_uniform_(np.zeros(3))
    with pytest.raises(ArgumentError, match=r"^calculate_gain: expected one of conv1d, .*, got 'swish'$"):
        init.calculate_gain("swish")
    with pytest.raises(ArgumentError, match=r"^kaiming: expected mode to be 'fan_in' or 'fan_out', got 'both'$"):
        init.kaiming_normal_(np.zeros((2, 2)), mode="both")


# ------------------------------------------------------------------------------------------------ streams


def test_streams_restart_with_the_seed():
    fastconv.manual_seed(7)
    first = random.generator().random(5), random.dropout_key(), random.dropout_key()
    fastconv.manual_seed(7)
    again = random.generator().random(5), random.dropout_key(), random.dropout_key()
    np.testing.assert_array_equal(first[0], again[0])
    assert first[1:] == again[1:] == ((7, 1), (7, 2))
    fastconv.manual_seed(8)
    assert (random.generator().random(5) != first[0]).all()
    assert random.initial_seed() == 8


def test_a_state_survives_json():
    fastconv.manual_seed(9)
    random.generator().random(3)
    random.dropout_key()
    state = json.loads(json.dumps(random.get_state()))
    expected = random.generator().random(4), random.dropout_key()
    fastconv.manual_seed(1)
    random.set_state(state)
    np.testing.assert_array_equal(random.generator().random(4), expected[0])
    assert random.dropout_key() == expected[1] == (9, 2)


def test_random_messages():
    with pytest.raises(ArgumentError, match=r"^manual_seed: expected an integer seed in \[0, 2\*\*64\), got -1$"):
        fastconv.manual_seed(-1)
    with pytest.raises(
        ArgumentError, match=r"^manual_seed: expected an integer seed in \[0, 2\*\*64\), got 18446744073709551616$"
    ):
        fastconv.manual_seed(2**64)
    with pytest.raises(ArgumentError, match=r"got 1\.5$"):
        fastconv.manual_seed(1.5)
    with pytest.raises(ArgumentError, match=r"^set_state: expected a state from get_state, got KeyError\('seed'\)$"):
        random.set_state({})
