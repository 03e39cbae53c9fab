"""Micro-benchmarks of what memory limits: activations, arithmetic, normalisation, losses, optimisers. As
test_primitives.py.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastconv
from fastconv import backends, optim
from fastconv import functional as F
from fastconv.functional import arithmetic

from .test_primitives import channels_last, normal

SHAPE = (64, 32, 24, 24)  # LeNet's first activations
ACTIVATIONS = {"relu": "y", "leaky_relu": "x", "sigmoid": "y", "tanh": "y"}  # and what their gradient is taken from
WEIGHTS = [(32, 1, 5, 5), (64, 32, 5, 5), (256, 1024), (10, 256)]  # the tutorial network's
OPTIMIZERS = {
    "sgd": lambda parameters: optim.SGD(parameters, lr=1e-6),
    "momentum": lambda parameters: optim.SGD(parameters, lr=1e-6, momentum=0.9),
    "nesterov": lambda parameters: optim.SGD(parameters, lr=1e-6, momentum=0.9, nesterov=True, weight_decay=5e-4),
    "adam": optim.Adam,
    "adamw": optim.AdamW,
}


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(benchmark, name, direction):
    x = channels_last(normal(*SHAPE))
    y = getattr(F, name)(x)
    if direction == "forward":
        benchmark(getattr(F, name), x)
    else:
        benchmark(getattr(F, f"{name}_backward"), x, y if ACTIVATIONS[name] == "y" else x)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
@pytest.mark.parametrize("other", ["same", "channel"])
def test_arithmetic(benchmark, name, other):
    x = channels_last(normal(*SHAPE))
    benchmark(getattr(arithmetic, name), x, x if other == "same" else normal(1, SHAPE[1], 1, 1))


@pytest.mark.parametrize("dim", [None, (0, 2, 3), 1])
def test_sum(benchmark, dim):
    benchmark(arithmetic.sum, channels_last(normal(*SHAPE)), dim)


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape", [(64, 10), (16, 1000), (4, 21, 32, 32)], ids=str)
def test_softmax(benchmark, name, shape, direction):
    x = normal(*shape)
    if direction == "forward":
        benchmark(getattr(F, name), x, 1)
    else:
        benchmark(getattr(F, f"{name}_backward"), x, getattr(F, name)(x, 1), 1)


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(benchmark, training, direction):
    x, weight, bias = channels_last(normal(16, 64, 28, 28)), normal(64), normal(64)
    running = np.zeros(64, np.float32), np.ones(64, np.float32)
    if direction == "forward":
        benchmark(F.batch_norm, x, *running, weight, bias, training)
    else:
        benchmark(F.batch_norm_backward, x, x, *running, weight, training)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_dropout(benchmark, direction):
    x = normal(64, 4096)
    if direction == "forward":
        benchmark(F.dropout, x)
    else:
        benchmark(F.dropout_backward, x, backends.get("cpu").dropout_mask(x.shape, 0.5, (1, 2)))


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss", "mse_loss", "binary_cross_entropy_with_logits"])
@pytest.mark.parametrize("shape", [(64, 10), (16, 1000)], ids=str)
def test_loss(benchmark, name, shape, direction):
    x = F.log_softmax(normal(*shape), 1)
    labels = name in ("cross_entropy", "nll_loss")
    target = np.arange(shape[0]) % shape[1] if labels else np.random.default_rng(1).random(shape, dtype=np.float32)
    if direction == "forward":
        benchmark(getattr(F, name), x, target)
    else:
        benchmark(getattr(F, f"{name}_backward"), np.float32(1), x, target)


def test_cross_entropy_step(benchmark):
    x, labels = fastconv.tensor(normal(64, 10), requires_grad=True), np.arange(64) % 10
    benchmark(lambda: F.cross_entropy(x, labels).backward())


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("name", ["pad", "cat"])
def test_copies(benchmark, name, direction):
    x = channels_last(normal(16, 32, 28, 28))
    calls = {
        ("pad", "forward"): lambda: F.pad(x, (1, 1, 1, 1)),
        ("pad", "backward"): lambda: F.pad_backward(x, (16, 32, 26, 26), (1, 1, 1, 1)),
        ("cat", "forward"): lambda: F.cat([x, x], 1),
        ("cat", "backward"): lambda: F.cat_backward(x, (16, 16), 1),
    }
    benchmark(calls[name, direction])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_step(benchmark, name):
    parameters = [fastconv.Parameter(normal(*shape)) for shape in WEIGHTS]
    for parameter in parameters:
        parameter.grad = normal(*parameter.shape)
    benchmark(OPTIMIZERS[name](parameters).step)
