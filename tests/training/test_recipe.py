"""The tutorial's recipe equals the lecture: its formulas, written out here in float64 NumPy, give the same weights.

Network: C1 (32 maps, 5x5) - P2 - C3 (64 maps, 5x5) - P4 - F5 (256) - F6 (10), ReLU on every layer, the output too;
E = 1/2 sum ||o - t||^2; W <- W - eta dE/dW.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import data
from fastconv.data import Dataset, Split
from fastconv.training import config
from fastconv.training.loop import Run

ETA, BATCH, STEPS = 0.01, 3, 4


def convolve(x, w, b):
    """o[n, k, i, j] = b[k] + sum_{c, u, v} x[n, c, i + u, j + v] w[k, c, u, v]"""
    height, width = x.shape[2] - 4, x.shape[3] - 4
    z = np.zeros((len(x), len(w), height, width)) + b[:, None, None]
    for u in range(5):
        for v in range(5):
            z += np.einsum("ncij,kc->nkij", x[:, :, u : u + height, v : v + width], w[:, :, u, v])
    return z


def convolve_gradients(dz, x, w):
    """dE/dw[k, c, u, v] = sum_{n, i, j} dz[n, k, i, j] x[n, c, i + u, j + v]; dE/db, dE/dx likewise."""
    height, width = dz.shape[2:]
    dw, dx = np.zeros_like(w), np.zeros_like(x)
    for u in range(5):
        for v in range(5):
            window = np.s_[:, :, u : u + height, v : v + width]
            dw[:, :, u, v] = np.einsum("nkij,ncij->kc", dz, x[window])
            dx[window] += np.einsum("nkij,kc->ncij", dz, w[:, :, u, v])
    return dw, dz.sum((0, 2, 3)), dx


def pool(a):
    """The maximum of each 2x2 block, and where it was: a one-hot mask (the first, if several are)."""
    n, c, height, width = a.shape
    blocks = a.reshape(n, c, height // 2, 2, width // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(-1, 4)
    first = blocks.argmax(1)
    mask = np.eye(4)[first].reshape(n, c, height // 2, width // 2, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(a.shape)
    return blocks[np.arange(len(blocks)), first].reshape(n, c, height // 2, width // 2), mask


def unpool(dp, mask):
    """The gradient goes to the arg-max alone."""
    return dp.repeat(2, axis=2).repeat(2, axis=3) * mask


def relu(z):
    return np.maximum(z, 0)


def lecture_step(p: dict[str, np.ndarray], x: np.ndarray, t: np.ndarray) -> float:
    """One step of the lecture on the parameters ``p``, in place; return E before it."""
    z1 = convolve(x, p["c1.weight"], p["c1.bias"])
    p2, mask2 = pool(relu(z1))
    z3 = convolve(p2, p["c3.weight"], p["c3.bias"])
    p4, mask4 = pool(relu(z3))
    f4 = p4.reshape(len(x), -1)
    z5 = f4 @ p["f5.weight"].T + p["f5.bias"]
    f5 = relu(z5)
    z6 = f5 @ p["f6.weight"].T + p["f6.bias"]
    o = relu(z6)
    error = 0.5 * ((o - t) ** 2).sum()

    d6 = (o - t) * (z6 > 0)  # F6
    d5 = (d6 @ p["f6.weight"]) * (z5 > 0)  # F5
    d4 = (d5 @ p["f5.weight"]).reshape(p4.shape)  # P4
    d3 = unpool(d4, mask4) * (z3 > 0)  # C3
    dw3, db3, d2 = convolve_gradients(d3, p2, p["c3.weight"])  # P2
    d1 = unpool(d2, mask2) * (z1 > 0)  # C1
    dw1, db1, _ = convolve_gradients(d1, x, p["c1.weight"])
    gradients = {
        "c1.weight": dw1, "c1.bias": db1, "c3.weight": dw3, "c3.bias": db3,
        "f5.weight": d5.T @ f4, "f5.bias": d5.sum(0), "f6.weight": d6.T @ f5, "f6.bias": d6.sum(0),
    }  # fmt: skip
    for name, gradient in gradients.items():
        p[name] -= ETA * gradient
    return float(error)


@pytest.fixture(scope="module")
def few() -> Dataset:
    digits = data.load("digits")
    return Dataset("digits", digits.train.first(BATCH * STEPS), digits.test.first(2), digits.classes, 0.1, 0.3)


def test_the_recipe_is_the_lectures(few: Dataset) -> None:
    options = {"dtype": "float64", "batch_size": BATCH, "lr": ETA, "limit": None, "epochs": 1}
    run = Run(config.make(options, "tutorial"), few)
    assert run.model.num_parameters() == 317_066
    ours = {name: array.copy() for name, array in run.model.state_dict().items()}
    for x, labels in run.batches.epoch(0):
        assert x.min() == 0  # pixels 0..1, as they are
        assert 0.9 < x.max() <= 1
        wanted = lecture_step(ours, x, np.eye(10)[labels])
        loss, _ = run.step(x, labels)
        assert loss == pytest.approx(wanted, rel=1e-10)
    moved = 0.0
    for name, array in run.model.state_dict().items():
        scale = np.abs(ours[name]).max()
        assert np.abs(array - ours[name]).max() <= 1e-10 * scale, name
        moved += np.abs(array).sum()
    assert moved > 0


def test_the_transcription_is_the_gradient_of_its_own_error(few: Dataset) -> None:
    """Central differences of E along one direction: the formulas above are not merely ours twice."""
    run = Run(config.make({"dtype": "float64", "limit": None}, "tutorial"), few)
    start = run.model.state_dict()
    x, t = few.train.images[:3, None] / 255, np.eye(10)[few.train.labels[:3]]
    rng = np.random.default_rng(0)
    direction = {name: rng.standard_normal(array.shape) * np.abs(array).mean() for name, array in start.items()}

    def error(step: float) -> float:
        return lecture_step({name: array + step * direction[name] for name, array in start.items()}, x, t)

    after = {name: array.copy() for name, array in start.items()}
    lecture_step(after, x, t)
    slope = sum(((start[name] - after[name]) / ETA * direction[name]).sum() for name in start)
    assert slope == pytest.approx((error(1e-6) - error(-1e-6)) / 2e-6, rel=1e-6)


def test_the_recipe_takes_two_thousand_samples() -> None:
    made = config.make({}, "tutorial")
    assert (made.limit, made.optimizer, made.momentum, made.weight_decay, made.warmup) == (2000, "sgd", 0.0, 0.0, 0.0)
    digits = data.load("digits")
    many = Split(np.repeat(digits.train.images, 2, 0), np.repeat(digits.train.labels, 2))
    run = Run(made, Dataset("digits", many, digits.test, digits.classes, 0.1, 0.3))
    assert len(run.batches.split) == 2000
