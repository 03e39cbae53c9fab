"""Every primitive's gradient against central differences in float64, on every backend: the oracle needs no one."""

from __future__ import annotations

import numpy as np
import pytest
from cases import CONV_CASES, POOL_CASES, TRANSPOSED_CASES, lift
from layouts import distinct, generator, normal
from oracle import gradcheck

SMALL_CONVS = [case for case in CONV_CASES if 0 < np.prod(case.x_shape) <= 400]
SMALL_TRANSPOSED = [case for case in TRANSPOSED_CASES if 0 < np.prod(case.x_shape) <= 300]
SMALL_POOLS = [case for case in POOL_CASES if 0 < np.prod(case.x_shape) <= 400]


@pytest.mark.parametrize("case", SMALL_CONVS, ids=lambda case: case.id)
def test_conv(backend, case):
    g = case.geometry
    shapes = g.input_shape, g.weight_shape, (g.oc,)
    gradcheck(
        lambda x, w, b: backend.conv_forward(x, w, b, g),
        lambda dy, x, w, b: (
            backend.conv_backward_input(dy, w, None, g),
            backend.conv_backward_weight(dy, x, g),
            backend.bias_backward(dy),
        ),
        [normal((case.id, i), shape) for i, shape in enumerate(shapes)],
    )


@pytest.mark.parametrize("case", SMALL_TRANSPOSED, ids=lambda case: case.id)
def test_conv_transpose(backend, case):
    g = case.geometry
    shapes = g.output_shape, g.weight_shape, (g.ic,)
    gradcheck(
        lambda x, w, b: backend.conv_backward_input(x, w, b, g),
        lambda dy, x, w, b: (
            backend.conv_forward(dy, w, None, g),
            backend.conv_backward_weight(x, dy, g),
            backend.bias_backward(dy),
        ),
        [normal((case.id, i), shape) for i, shape in enumerate(shapes)],
    )


@pytest.mark.parametrize("case", SMALL_POOLS, ids=lambda case: case.id)
def test_pool(backend, case):
    g = case.geometry
    x = distinct(case.id, lift(case.x_shape))
    if case.maximum:
        gradcheck(
            lambda x: backend.max_pool_forward(x, g)[0],
            lambda dy, x: [backend.max_pool_backward(dy, backend.max_pool_forward(x, g)[1], g)],
            [x],
        )
    else:
        gradcheck(
            lambda x: backend.avg_pool_forward(x, g), lambda dy, x: [backend.avg_pool_backward(dy, g)], [x]
        )  # fmt: skip


def test_linear(backend):
    gradcheck(
        backend.linear_forward,
        lambda dy, x, w, b: (
            backend.linear_backward_input(dy, w),
            backend.linear_backward_weight(dy, x),
            backend.bias_backward(dy),
        ),
        [normal(shape, shape) for shape in ((3, 5), (4, 5), (4,))],
    )


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(backend, training):
    fixed = normal("mean", (3,)), np.abs(normal("rstd", (3,))) + 0.5

    def statistics(x):
        if not training:
            return fixed
        mean, variance = backend.batch_norm_statistics(x)
        return mean, 1 / np.sqrt(variance + 1e-5)

    gradcheck(
        lambda x, w, b: backend.batch_norm_forward(x, *statistics(x), w, b),
        lambda dy, x, w, b: backend.batch_norm_backward(dy, x, *statistics(x), w, training),
        [normal(shape, shape) for shape in ((4, 3, 5), (3,), (3,))],
    )


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_norm(backend, groups):
    gradcheck(
        lambda x, w, b: backend.group_norm_forward(x, groups, w, b, 1e-5)[0],
        lambda dy, x, w, b: backend.group_norm_backward(
            dy, x, *backend.group_norm_forward(x, groups, w, b, 1e-5)[1:], w
        ),
        [normal(shape, shape) for shape in ((3, 4, 5), (4,), (4,))],
    )


@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh", "softmax", "log_softmax"])
def test_activation(backend, name):
    forward, backward = getattr(backend, f"{name}_forward"), getattr(backend, f"{name}_backward")
    gradcheck(forward, lambda dy, x: [backward(dy, forward(x))], [distinct(name, (3, 5, 4))])


def test_leaky_relu(backend):
    gradcheck(
        lambda x: backend.leaky_relu_forward(x, 0.1),
        lambda dy, x: [backend.leaky_relu_backward(dy, x, 0.1)],
        [distinct("x", (3, 5, 4))],
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_and_nll(backend, weighted, smoothing):
    target = generator("target").integers(0, 5, (3, 4))
    target[0, 1] = -100
    options = target, np.linspace(0.5, 2, 5) if weighted else None, -100, smoothing

    def backward(dloss, x):
        return [backend.cross_entropy_backward(dloss, backend.cross_entropy_forward(x, *options)[2], *options)]

    x = normal("x", (3, 5, 4))
    gradcheck(lambda x: backend.cross_entropy_forward(x, *options)[0], backward, [x])
    gradcheck(
        lambda x: backend.nll_forward(x, *options)[0],
        lambda dloss, x: [backend.nll_backward(dloss, target, 5, *options[1:])],
        [x],
    )


def test_mse(backend):
    def backward(dloss, x, target):
        dx = backend.mse_backward(dloss, x, target)
        return dx, -dx

    gradcheck(backend.mse_forward, backward, [normal("x", (3, 7)), normal("t", (3, 7))])


@pytest.mark.parametrize("weighted", [False, True])
def test_bce_with_logits(backend, weighted):
    rng = generator("bce")
    target, weight, pos_weight = rng.random((3, 3, 7)) + 0.1
    options = (target, weight, pos_weight) if weighted else (target, None, None)
    gradcheck(
        lambda x: backend.bce_with_logits_forward(x, *options),
        lambda dloss, x: [backend.bce_with_logits_backward(dloss, x, *options)],
        [normal("x", (3, 7))],
    )


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pad(backend, mode):
    widths = [(0, 0), (0, 0), (2, 1), (-1, 3)]
    gradcheck(
        lambda x: backend.pad_forward(x, widths, mode, 0.0),
        lambda dy, x: [backend.pad_backward(dy, x.shape, widths, mode)],
        [normal("x", (2, 3, 4, 5))],
    )


def test_dropout(backend):
    mask = backend.dropout_mask((3, 7), 0.4, (1, 2))
    gradcheck(
        lambda x: backend.dropout_apply(x, mask, 1 / 0.6),
        lambda dy, x: [backend.dropout_apply(dy, mask, 1 / 0.6)],
        [normal("x", (3, 7))],
    )
