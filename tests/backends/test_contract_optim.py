"""Optimiser steps and accumulation, in place: every backend against PyTorch's optimisers over several steps."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from layouts import DTYPES, LAYOUTS, normal

SHAPES = [(3, 17), (5,), (2, 3, 3, 3), ()]
STEPS = 6
# Rounding of several float32 steps in a row, relative to the parameters.
BOUNDS = {"float32": 1e-6, "float64": 1e-13}
SGD = [
    {},
    {"weight_decay": 0.1},
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
]
ADAM = [{}, {"weight_decay": 0.1}, {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.01}]
by_dtype = pytest.mark.parametrize("dtype", DTYPES)


def parameters(dtype: str) -> list[np.ndarray]:
    return [np.asarray(normal((shape, "p"), shape), dtype) for shape in SHAPES]


def gradients(dtype: str, step: int) -> list[np.ndarray]:
    return [np.asarray(normal((shape, "g", step), shape), dtype) for shape in SHAPES]


def torch_steps(name: str, dtype: str, **arguments) -> list[np.ndarray]:
    """Parameters after STEPS steps of ``torch.optim.<name>``."""
    t = oracle.torch()
    params = [t.from_numpy(p.astype(np.float64)).requires_grad_() for p in parameters(dtype)]
    optimiser = getattr(t.optim, name)(params, lr=0.05, **arguments)
    for step in range(STEPS):
        for p, g in zip(params, gradients(dtype, step), strict=True):
            p.grad = t.from_numpy(g.astype(np.float64))
        optimiser.step()
    return [p.detach().numpy() for p in params]


def check(params: list[np.ndarray], wanted: list[np.ndarray], dtype: str) -> None:
    for p, w in zip(params, wanted, strict=True):
        assert p.dtype == dtype
        oracle.assert_close(p, w, BOUNDS[dtype])


@by_dtype
@pytest.mark.parametrize("arguments", SGD, ids=str)
def test_sgd_equals_torch(backend, arguments, dtype):
    params = parameters(dtype)
    options = {"momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False} | arguments
    buffers = [np.zeros_like(p) if options["momentum"] else None for p in params]
    for step in range(STEPS):
        backend.sgd_step(params, gradients(dtype, step), buffers, lr=0.05, first=step == 0, **options)
    check(params, torch_steps("SGD", dtype, **arguments), dtype)


def adam_steps(backend, params, dtype, name, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, change=lambda a: a):
    means, squares = ([np.zeros_like(p) for p in params] for _ in range(2))
    for step in range(STEPS):
        backend.adam_step(
            params, [change(g) for g in gradients(dtype, step)], means, squares, step=step + 1, lr=0.05,
            beta1=betas[0], beta2=betas[1], eps=eps, weight_decay=weight_decay, decoupled=name == "AdamW",
        )  # fmt: skip


@by_dtype
@pytest.mark.parametrize("name", ["Adam", "AdamW"])
@pytest.mark.parametrize("arguments", ADAM, ids=str)
def test_adam_equals_torch(backend, arguments, name, dtype):
    params = parameters(dtype)
    adam_steps(backend, params, dtype, name, **{"weight_decay": 0.0} | arguments)
    check(params, torch_steps(name, dtype, **{"weight_decay": 0.0} | arguments), dtype)


@by_dtype
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "read_only"])
def test_steps_take_any_memory_order(backend, layout, dtype):
    change = LAYOUTS[layout]
    plain, strided = parameters(dtype)[:3], [change(p) for p in parameters(dtype)[:3]]
    for params, order in ((plain, np.asarray), (strided, change)):
        buffers = [order(np.ones_like(p)) for p in plain]
        grads = [order(g) for g in gradients(dtype, 0)[:3]]
        backend.sgd_step(
            params, grads, buffers, lr=0.1, momentum=0.9, dampening=0.0, weight_decay=0.1, nesterov=True, first=False
        )
        backend.adam_step(
            params, grads, buffers, [order(np.ones_like(p)) for p in plain], step=2, lr=0.1, beta1=0.9, beta2=0.99,
            eps=1e-8, weight_decay=0.1, decoupled=True,
        )  # fmt: skip
    for p, q in zip(plain, strided, strict=True):
        oracle.assert_close(q, p, BOUNDS[dtype])


def test_gradients_are_not_written(backend):
    params, grads = parameters("float32"), gradients("float32", 0)
    before = [g.copy() for g in grads]
    buffers = [np.zeros_like(p) for p in params]
    common = {"lr": 0.1, "weight_decay": 0.1}
    backend.sgd_step(params, grads, buffers, momentum=0.9, dampening=0.0, nesterov=True, first=True, **common)
    backend.sgd_step(params, grads, [None] * 4, momentum=0.0, dampening=0.0, nesterov=False, first=True, **common)
    adam_steps(backend, params, "float32", "Adam", weight_decay=0.1)
    for g, copy in zip(grads, before, strict=True):
        oracle.assert_same_bits(g, copy)


def test_the_first_buffer_is_a_copy_of_the_gradient(backend):
    param, grad, buffer = np.ones(5, "float32"), np.ones(5, "float32"), np.full(5, np.nan, "float32")
    backend.sgd_step(
        [param], [grad], [buffer], lr=1.0, momentum=0.5, dampening=0.5, weight_decay=0.0, nesterov=False, first=True
    )
    np.testing.assert_array_equal(buffer, grad)
    np.testing.assert_array_equal(param, np.zeros(5))
    assert not np.shares_memory(buffer, grad)


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_accumulate(backend, layout, dtype):
    into, value = normal("into", (3, 17, 6), dtype), normal("value", (3, 17, 6), dtype)
    wanted = into + value
    assert backend.accumulate(into, LAYOUTS[layout](value)) is None
    oracle.assert_same_bits(into, wanted)


@by_dtype
def test_many_arrays_in_one_call_give_the_bits_of_one_call_each(backend, dtype):
    shapes = [(1,), (63,), (0, 3), (64,), (65,), (40_000,), (5,), (16_384,), (2, 100_003)]
    together, alone = ([np.asarray(normal((i, "p"), s), dtype) for i, s in enumerate(shapes)] for _ in range(2))
    grads = [np.asarray(normal((i, "g"), s), dtype) for i, s in enumerate(shapes)]
    options = {"lr": 0.1, "momentum": 0.9, "dampening": 0.0, "weight_decay": 0.1, "nesterov": True, "first": False}
    buffers = [[np.ones_like(p) for p in together] for _ in range(2)]
    backend.sgd_step(together, grads, buffers[0], **options)
    for p, g, buffer in zip(alone, grads, buffers[1], strict=True):
        backend.sgd_step([p], [g], [buffer], **options)
    for one, other in zip([*together, *buffers[0]], [*alone, *buffers[1]], strict=True):
        oracle.assert_same_bits(one, other)
