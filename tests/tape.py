"""Run a functional on Tensors and compare its result and every gradient with PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import oracle

import fastconv


def arrays(dtype: str, *shapes: Sequence[int], seed: int = 0) -> list[np.ndarray]:
    """Return normal random arrays."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def run(f: Callable[..., fastconv.Tensor], inputs: Sequence[np.ndarray | None], dy: np.ndarray | None = None):
    """Return ``f(*Tensors)`` as an array, the gradients of the inputs, and the dy that was used."""
    tensors = [None if a is None else fastconv.Tensor(a, requires_grad=a.dtype.kind == "f") for a in inputs]
    y = f(*tensors)
    if dy is None:
        dy = np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype)
    y.backward(dy)
    return y.numpy(), [None if t is None else t.grad for t in tensors], dy


def assert_like_torch(name: str, inputs: Sequence[np.ndarray | None], *options: Any, **named: Any) -> None:
    """Compare ``functional.<name>`` with torch's: y and all gradients, within the bound of the inputs' dtype."""
    ours = getattr(fastconv.functional, name)
    y, gradients, dy = run(lambda *a: ours(*a, *options, **named), inputs)

    def theirs(t, *a):
        return (getattr(t.nn.functional, name, None) or getattr(t, name))(*a, *options, **named)

    expected, expected_gradients = oracle.run(theirs, inputs, dy)
    bound = oracle.BOUNDS[str(inputs[0].dtype)]
    oracle.assert_close(y, expected, bound, name)
    for i, (gradient, wanted) in enumerate(zip(gradients, expected_gradients, strict=True)):
        assert (gradient is None) == (wanted is None), f"{name} gradient {i}"
        if wanted is not None:
            oracle.assert_close(gradient, wanted, bound, f"{name} gradient {i}")


def assert_same(ours: Callable, theirs: Callable, inputs: Sequence[np.ndarray]) -> None:
    """Compare two functions, the second of torch and its tensors: y and all gradients, within the dtype's bound."""
    y, gradients, dy = run(ours, inputs)
    expected, wanted = oracle.run(theirs, inputs, dy)
    bound = oracle.BOUNDS[str(inputs[0].dtype)]
    oracle.assert_close(y, expected, bound)
    for gradient, want in zip(gradients, wanted, strict=True):
        oracle.assert_close(gradient, want, bound)
