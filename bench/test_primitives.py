"""Micro-benchmarks of the primitives, each direction alone, at the sizes of a LeNet step and of a larger layer.

    pytest bench --benchmark-enable --benchmark-only

Times of one engine on one machine, to see what a change does (``--benchmark-autosave``, ``--benchmark-compare``).
Claims against other engines come from the paired scripts beside this file.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastconv
from fastconv import functional as F
from fastconv import optim

# name: x, weight, options
CONVOLUTIONS = {
    "lenet_c1": ((64, 1, 28, 28), (32, 1, 5, 5), {}),
    "lenet_c3": ((64, 32, 12, 12), (64, 32, 5, 5), {}),
    "3x3": ((8, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
    "3x3_stride2": ((8, 64, 56, 56), (128, 64, 3, 3), {"padding": 1, "stride": 2}),
    "1x1": ((8, 256, 28, 28), (64, 256, 1, 1), {}),
    "depthwise": ((8, 64, 56, 56), (64, 1, 3, 3), {"padding": 1, "groups": 64}),
    "volume_3x3x3": ((2, 16, 16, 32, 32), (32, 16, 3, 3, 3), {"padding": 1}),
}
POOLINGS = {"lenet_p2": (64, 32, 24, 24), "large": (8, 64, 112, 112)}


def normal(*shape: int) -> np.ndarray:
    """A fixed array of this shape, float32."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def channels_last(array: np.ndarray) -> np.ndarray:
    """The same values with channels fastest in memory: how activations travel between layers."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)


@pytest.mark.parametrize("direction", ["forward", "backward_input", "backward_weight"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_conv(benchmark, name, direction):
    x_shape, w_shape, options = CONVOLUTIONS[name]
    rank = len(x_shape) - 2
    x, w = channels_last(normal(*x_shape)), normal(*w_shape)
    forward, backward = getattr(F, f"conv{rank}d"), getattr(F, f"conv{rank}d_backward")
    y = forward(x, w, **options)
    products = y.size * np.prod(w_shape[1:])
    if direction == "forward":
        benchmark(forward, x, w, **options)
    else:
        needs = (direction == "backward_input", direction == "backward_weight", False)
        benchmark(backward, channels_last(y), x, w, needs=needs, **options)
    benchmark.extra_info["flops"] = 2 * int(products)


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("name", POOLINGS)
def test_pool2d(benchmark, name, kind, direction):
    x = channels_last(normal(*POOLINGS[name]))
    if kind == "max":
        y, indices = F.max_pool2d(x, 2, return_indices=True)
        forward, backward = (F.max_pool2d, x, 2), (F.max_pool2d_backward, y, indices, x.shape, 2)
    else:
        y = F.avg_pool2d(x, 2)
        forward, backward = (F.avg_pool2d, x, 2), (F.avg_pool2d_backward, y, x.shape, 2)
    benchmark(*(forward if direction == "forward" else backward))


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("outputs", [256, 10])
def test_linear(benchmark, outputs, direction):
    x, w, b = normal(64, 1024), normal(outputs, 1024), normal(outputs)
    if direction == "forward":
        benchmark(F.linear, x, w, b)
    else:
        benchmark(F.linear_backward, F.linear(x, w, b), x, w)


def test_batch_norm_step(benchmark):
    x, weight, bias = channels_last(normal(16, 64, 28, 28)), normal(64), normal(64)
    parameters = [fastconv.tensor(a, requires_grad=True) for a in (x, weight, bias)]
    means, variances = np.zeros(64, np.float32), np.ones(64, np.float32)

    def step():
        F.batch_norm(parameters[0], means, variances, *parameters[1:], training=True).backward(x)

    benchmark(step)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_relu(benchmark, direction):
    x = channels_last(normal(64, 32, 24, 24))
    if direction == "forward":
        benchmark(F.relu, x)
    else:
        benchmark(F.relu_backward, x, F.relu(x))


def test_cross_entropy_step(benchmark):
    x, labels = fastconv.tensor(normal(64, 10), requires_grad=True), np.arange(64) % 10
    benchmark(lambda: F.cross_entropy(x, labels).backward())


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_optimizer_step(benchmark, kind):
    shapes = [(32, 1, 5, 5), (64, 32, 5, 5), (256, 1024), (10, 256)]  # the tutorial network's weights
    parameters = [fastconv.Parameter(normal(*shape)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = normal(*parameter.shape)
    optimizers = {"sgd": lambda: optim.SGD(parameters, lr=1e-6, momentum=0.9), "adam": lambda: optim.Adam(parameters)}
    benchmark(optimizers[kind]().step)
