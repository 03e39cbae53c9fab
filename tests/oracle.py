"""The oracle that is not ours: PyTorch on the CPU, and finite differences. Comparisons with a bound live here too.

PyTorch computes in float64 whatever the dtype under test, so a bound measures the error of our result alone.
A test that calls PyTorch skips, with the reason, where the ``peers`` extra is not installed.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pytest

BOUNDS = {"float32": 1e-5, "float64": 1e-12}  # relative norm error allowed against PyTorch


def torch():
    """Return the module, or skip the test that asked."""
    module = pytest.importorskip("torch", reason="PyTorch is missing: pip install fastconv[peers]")
    module.set_num_threads(1)
    return module


_declared: list = []  # a library's declarations live as long as it does


def torchvision():
    """Return the module, or skip the test that asked.

    Its networks are plain Python. Where its compiled operators do not load (a build for another PyTorch), declarations
    stand in for those that its import refers to.
    """
    t = torch()
    try:
        return pytest.importorskip("torchvision", reason="torchvision is missing: pip install fastconv[peers]")
    except RuntimeError:
        _declared.append(t.library.Library("torchvision", "DEF"))
        for name in ("nms", "qnms"):
            _declared[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return importlib.import_module("torchvision")


# ---------------------------------------------------------------------------------------------- comparison


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return norm(actual - expected) / norm(expected); 0 where both are equal or empty."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    difference = float(np.linalg.norm(actual - expected))
    return 0.0 if difference == 0.0 else difference / max(float(np.linalg.norm(expected)), np.finfo(np.float64).tiny)


def assert_close(actual: np.ndarray, expected: np.ndarray, bound: float | None = None, what: str = "") -> None:
    """Assert equal shapes and a relative error within ``bound`` (by default the bound of ``actual``'s dtype)."""
    bound = BOUNDS[str(actual.dtype)] if bound is None else bound
    assert actual.shape == expected.shape, f"{what} shape {actual.shape}, expected {expected.shape}"
    error = relative_error(actual, expected)
    assert error <= bound, f"{what} relative error {error:.3g} > {bound:.3g}"


def assert_same_bits(actual: np.ndarray, expected: np.ndarray, what: str = "") -> None:
    """Assert the same dtype, shape and bits."""
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), what
    assert np.ascontiguousarray(actual).tobytes() == np.ascontiguousarray(expected).tobytes(), f"{what} bits differ"


# ------------------------------------------------------------------------------------------------- torch


def run(f: Callable, inputs: Sequence[np.ndarray | None], dy: np.ndarray | None = None, count: int | None = None):
    """Return ``f(torch, *inputs)``, and for ``dy`` the gradients of the first ``count`` inputs (None: of all).

    Integers and absent inputs have the gradient None.
    """
    t = torch()
    tensors = [None if a is None else t.from_numpy(np.array(a)) for a in inputs]
    tensors = [a.double() if a is not None and a.is_floating_point() else a for a in tensors]
    for a in tensors[:count]:
        if a is not None and a.is_floating_point():
            a.requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # 'same' with even kernels
        y = f(t, *tensors)
        if dy is None:
            return y.detach().numpy()
        y.backward(t.from_numpy(np.array(dy, dtype=np.float64)))
    return y.detach().numpy(), tuple(None if a is None or a.grad is None else a.grad.numpy() for a in tensors)


def torch_conv(rank: int, transposed: bool, x, w, b, dy=None, **arguments):
    """``conv{rank}d`` or ``conv_transpose{rank}d`` -> y, or with ``dy`` -> y, (dx, dw, db)."""
    name = f"conv_transpose{rank}d" if transposed else f"conv{rank}d"
    return run(lambda t, *a: getattr(t.nn.functional, name)(*a, **arguments), (x, w, b), dy)


def torch_pool(rank: int, kind: str, x, dy=None, **arguments):
    """``{kind}_pool{rank}d`` -> y, or with ``dy`` -> y, (dx,). ``kind``: max, avg, adaptive_max, adaptive_avg."""
    return run(lambda t, a: getattr(t.nn.functional, f"{kind}_pool{rank}d")(a, **arguments), (x,), dy)


def torch_pool_indices(rank: int, kind: str, x, **arguments) -> np.ndarray:
    """The indices that torch's max pooling returns."""
    function = f"{kind}_pool{rank}d"
    return run(lambda t, a: getattr(t.nn.functional, function)(a, return_indices=True, **arguments)[1], (x,))


def torch_functional(name: str, inputs: Sequence[np.ndarray | None], dy=None, **arguments):
    """Any function of ``torch.nn.functional`` (or of ``torch``): activations, norms, losses, linear, pad."""

    def call(t, *operands):
        return (getattr(t.nn.functional, name, None) or getattr(t, name))(*operands, **arguments)

    return run(call, inputs, dy)


# -------------------------------------------------------------------------------------- finite differences


def gradcheck(
    forward: Callable[..., np.ndarray], backward: Callable[..., Sequence[np.ndarray | None]],
    inputs: Sequence[np.ndarray], bound: float = 1e-6, step: float = 1e-5, seed: int = 0,
) -> None:  # fmt: skip
    """Compare ``backward(dy, *inputs)`` with central differences of ``sum(dy * forward(*inputs))`` in float64.

    Every input is checked along a random direction; inputs of at most 200 elements element by element too.
    A gradient of None is not checked.
    """
    rng = np.random.default_rng(seed)
    dy = rng.standard_normal(forward(*inputs).shape)

    def slope(k: int, direction: np.ndarray) -> float:
        """The derivative along ``direction`` of input k."""
        ends = []
        for sign in (1.0, -1.0):
            moved = list(inputs)
            moved[k] = inputs[k] + sign * step * direction
            ends.append(float(np.sum(dy * forward(*moved))))
        return (ends[0] - ends[1]) / (2 * step)

    for k, gradient in enumerate(backward(dy, *inputs)):
        if gradient is None:
            continue
        assert gradient.shape == inputs[k].shape
        direction = rng.standard_normal(gradient.shape)
        along = float(np.sum(gradient * direction))
        error = relative_error(np.array(slope(k, direction)), np.array(along))
        assert error <= bound, f"input {k}: directional derivative off by {error:.3g}"
        if gradient.size <= 200:
            numeric = np.empty(gradient.shape)
            for position in np.ndindex(gradient.shape):
                unit = np.zeros(gradient.shape)
                unit[position] = 1.0
                numeric[position] = slope(k, unit)
            error = relative_error(gradient, numeric)
            assert error <= bound, f"input {k}: gradient off by {error:.3g}"
