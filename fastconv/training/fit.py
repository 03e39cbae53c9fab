"""Training any network on arrays: the loop without files, for those who bring their own data and loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import functional as F
from .. import nn, optim
from ..errors import ArgumentError, ShapeError, mismatch
from ..nn.modes import in_mode
from ..tensor import Tensor, no_grad, tensor


def fit(
    model: nn.Module, inputs: Any, target: Any, *, epochs: int, batch_size: int = 32, lr: float = 1e-3,
    optimizer: Any = None, loss: Callable[[Any, Any], Tensor] = F.cross_entropy,
    augment: Callable[..., Any] | None = None, seed: int = 0, say: Callable[[str], None] = lambda line: None,
) -> list[float]:  # fmt: skip
    """Train ``model`` in place and return the mean loss of each epoch.

    Args:
        inputs: the model's input (N, ...), or a tuple of them where it takes several.
        target: what the loss compares with, an array (N, ...) or a list of N things.
        lr: learning rate at the start; it falls to nothing in a cosine over all steps. Of Adam, or, where
            ``optimizer`` is given, what that has.
        loss: of a batch's output and target; its mean over the batch.
        augment: called with a ``numpy.random.Generator``, the batch's inputs and its target before each step; returns
            ``(inputs, target)``. The generator depends on seed, epoch and batch alone.
        seed: of the order of the samples, and of ``augment``; the same seed, the same bits.
        say: is told each epoch's loss.

    Raises:
        ShapeError: inputs and target of different lengths, or none.
        ArgumentError: a number out of range, or a loss that is not finite.

    >>> x, labels = np.eye(4, dtype=np.float32), np.array([0, 1, 1, 0])
    >>> history = fit(nn.Sequential(nn.Linear(4, 2)), x, labels, epochs=50, lr=0.1)
    >>> history[-1] < 0.1 < history[0]
    True
    """
    arrays = inputs if isinstance(inputs, tuple) else (inputs,)
    count = len(target)
    if not count or any(len(array) != count for array in arrays):
        raise ShapeError(mismatch("fit", f"inputs of {count} samples, as target has", [len(a) for a in arrays]))
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value < 1:
            raise ArgumentError(mismatch("fit", f"{name} >= 1", value))
    optimizer = optimizer or optim.Adam(model.parameters(), lr=lr)
    steps = -(-count // batch_size)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * steps)
    history: list[float] = []
    with in_mode(model, True):
        for epoch in range(epochs):
            order = np.random.default_rng((seed, epoch)).permutation(count)
            total = 0.0
            for step in range(steps):
                chosen = order[step * batch_size : (step + 1) * batch_size]
                batch, goal = tuple(array[chosen] for array in arrays), _chosen(target, chosen)
                if augment:
                    batch, goal = augment(np.random.default_rng((seed, epoch, step)), *batch, goal)
                    batch = batch if isinstance(batch, tuple) else (batch,)
                error = loss(model(*map(tensor, batch)), goal)
                optimizer.zero_grad()
                error.backward()
                optimizer.step()
                schedule.step()
                value = error.item()
                if not np.isfinite(value):
                    where = f"{value} in epoch {epoch + 1}, batch {step + 1}"
                    raise ArgumentError(mismatch("fit", "a finite loss (a smaller lr?)", where))
                total += value * len(chosen)
            history.append(total / count)
            say(f"epoch {epoch + 1}/{epochs}  loss {history[-1]:.4f}")
    return history


def _chosen(target: Any, indices: np.ndarray) -> Any:
    return [target[i] for i in indices] if isinstance(target, list) else target[indices]


def predict(model: nn.Module, inputs: Any, batch_size: int = 64) -> np.ndarray:
    """Return the model's outputs for all ``inputs`` (an array, or a tuple of them), in inference mode, not recorded.

    >>> predict(nn.Sequential(nn.Linear(4, 2)), np.zeros((5, 4), np.float32)).shape
    (5, 2)
    """
    arrays: Sequence[Any] = inputs if isinstance(inputs, tuple) else (inputs,)
    parts = range(0, max(len(arrays[0]), 1), batch_size)
    with in_mode(model, False), no_grad():
        return np.concatenate([np.asarray(model(*(a[i : i + batch_size] for a in arrays))) for i in parts])


def probabilities(model: nn.Module, inputs: Any, batch_size: int = 64) -> np.ndarray:
    """Return the softmax over the classes (axis 1) of ``predict``."""
    return F.softmax(predict(model, inputs, batch_size), 1)
