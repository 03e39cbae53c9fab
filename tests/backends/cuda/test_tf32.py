"""The compute mode tf32: which numbers a GPU multiplies, and what runs as float32 all the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import oracle
import pytest
from layouts import normal

import fastconv
from fastconv import backends, explain
from fastconv import functional as F
from fastconv.backends.cuda import launch, operands, plan, tiles
from fastconv.geometry import conv_geometry

VERBS = ("conv_forward", "conv_backward_input", "conv_backward_weight")
GEOMETRIES = [
    conv_geometry("conv2d", 2, (2, 9, 5, 4), (10, 9, 3, 3), padding=1, stride=(2, 1), compute="tf32"),
    conv_geometry("conv2d", 2, (1, 18, 4, 4), (18, 9, 1, 1), groups=2, compute="tf32"),
]


def rounded(a: np.ndarray) -> np.ndarray:
    """To 11 bits of precision, halves away from zero."""
    mantissa, exponent = np.frexp(a.astype(np.float64))
    return np.ldexp(np.copysign(np.floor(np.abs(mantissa) * 2048 + 0.5), mantissa) / 2048, exponent)


def test_numbers_are_rounded_to_tf32():
    values = np.concatenate(
        [normal("tf32", 200, "float32"), np.float32([0, -0.0, 1 + 2**-11, -1 - 2**-11, 2 - 2**-23])]
    )
    found = np.array([operands.to_tf32(value) for value in values])
    np.testing.assert_array_equal(found, rounded(values))
    infinite = [operands.to_tf32(np.float32(value)) for value in (np.inf, -np.inf, np.nan)]
    np.testing.assert_array_equal(infinite, [np.inf, -np.inf, np.nan])


def results(backend, geometry, x, w, dy):
    return {
        "conv_forward": backend.conv_forward(x, w, None, geometry),
        "conv_backward_input": backend.conv_backward_input(dy, w, None, geometry),
        "conv_backward_weight": backend.conv_backward_weight(dy, x, geometry),
    }


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: f"{g.input_shape}-{g.weight_shape}")
def test_convolutions_multiply_rounded_operands(cuda, geometry):
    shapes = geometry.input_shape, geometry.weight_shape, geometry.output_shape
    arrays = [normal((str(geometry), i), shape, "float32") for i, shape in enumerate(shapes)]
    reference = backends.get("reference")
    wanted = results(reference, replace(geometry, compute="float32"), *map(rounded, arrays))
    plain = results(reference, replace(geometry, compute="float32"), *arrays)
    found = results(cuda, geometry, *map(cuda.from_numpy, arrays))
    for verb in VERBS:
        assert cuda.explain(verb, geometry, "float32").startswith(f"{verb}: tf32")
        oracle.assert_close(found[verb].numpy(), wanted[verb], 1e-6, verb)
        assert np.abs(found[verb].numpy() - plain[verb]).max() > 1e-5


def test_linear_layers_multiply_rounded_operands(cuda):
    x, w, dy = (normal(shape, shape, "float32") for shape in ((5, 9), (7, 9), (5, 7)))
    there = {name: cuda.from_numpy(a) for name, a in (("x", x), ("w", w), ("dy", dy))}
    x, w, dy = map(rounded, (x, w, dy))
    for found, wanted in (
        (cuda.linear_forward(there["x"], there["w"], None, False, "tf32"), x @ w.T),
        (cuda.linear_backward_input(there["dy"], there["w"], "tf32"), dy @ w),
        (cuda.linear_backward_weight(there["dy"], there["x"], "tf32"), dy.T @ x),
    ):
        oracle.assert_close(found.numpy(), wanted, 1e-6)


def test_the_mode_reaches_the_device_from_the_functionals(cuda):
    x, w = normal("x", (1, 9, 4, 4), "float32"), normal("w", (9, 9, 3, 3), "float32")
    plain = F.conv2d(fastconv.tensor(x, device="cuda"), fastconv.tensor(w, device="cuda")).numpy()
    with fastconv.compute("tf32"):
        y = F.conv2d(fastconv.tensor(x, device="cuda"), fastconv.tensor(w, device="cuda")).numpy()
    oracle.assert_close(y, F.conv2d(rounded(x), rounded(w)), 1e-6)
    assert np.abs(y - plain).max() > 1e-5


def test_float64_keeps_its_precision(cuda):
    x, w = normal("x", (3, 9), "float64"), normal("w", (4, 9), "float64")
    found = cuda.linear_forward(cuda.from_numpy(x), cuda.from_numpy(w), None, False, "tf32").numpy()
    oracle.assert_close(found, x @ w.T, 1e-14)


class _Old:
    simulated, capability, processors = False, (7, 5), 40


def test_devices_without_tensor_cores_for_it_multiply_float32(monkeypatch):
    monkeypatch.setattr(launch, "machine", _Old)
    line = plan.explain("conv_forward", GEOMETRIES[0], "float32")
    assert line.startswith("conv_forward: tiles")
    assert "not tf32: no tensor cores, which compute capability 8.0 has" in line
    assert (tiles.taken_up("tf32", 4), tiles.taken_up("bf16", 4)) == ("float32", "bf16")


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_the_cpu_multiplies_float32(name, monkeypatch):
    if name == "cpu":
        pytest.importorskip("fastconv.backends.cpu.dispatch")
    x, w = normal("x", (2, 8, 6, 6), "float32"), normal("w", (20, 8, 3, 3), "float32")
    with backends.use(name):
        plain = F.conv2d(x, w), F.linear(x.reshape(2, -1), w.reshape(5, -1))
        with fastconv.compute("tf32"):
            rounded = F.conv2d(x, w), F.linear(x.reshape(2, -1), w.reshape(5, -1))
            said = explain("conv2d", x.shape, w.shape)
    for ours, wanted in zip(rounded, plain, strict=True):
        oracle.assert_same_bits(ours, wanted)
    if name == "cpu":
        assert said.count("not tf32: a number of GPUs") == 3
