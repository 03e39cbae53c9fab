"""The tests' own way to a device: arrays of a pretended one, which NumPy cannot read, go there and come back."""

from __future__ import annotations

import numpy as np
import pytest
from on_numpy import OnNumpy

from fastconv import backends


class Elsewhere:
    """An array of the pretended device."""

    __array__ = None

    def __init__(self, values: np.ndarray) -> None:
        self.values = values


class Device:
    """Two methods of the reference, on arrays of its own alone."""

    name = "elsewhere"

    def owns(self, value):
        return isinstance(value, Elsewhere)

    def from_numpy(self, array):
        return Elsewhere(array.copy())

    def to_numpy(self, array):
        return array.values.copy()

    def batch_norm_statistics(self, x):
        return tuple(map(Elsewhere, backends.get("reference").batch_norm_statistics(x.values)))

    def sgd_step(self, params, grads, buffers, *, lr):
        for p, g, b in zip(params, grads, buffers, strict=True):
            p.values -= lr * g.values
            if b is not None:
                b.values += 1

    def extremes(self, a, axis, largest):
        assert type(axis) is tuple
        return Elsewhere(a.values.max(axis)), {"opaque": largest}


def test_arrays_travel_there_and_back():
    backend, x = OnNumpy(Device()), np.arange(12.0).reshape(2, 3, 2)
    for actual, wanted in zip(backend.batch_norm_statistics(x), (x.mean((0, 2)), x.var((0, 2))), strict=True):
        np.testing.assert_array_equal(actual, wanted)
    best, opaque = backend.extremes(x, (1,), largest=True)
    np.testing.assert_array_equal(best, x.max(1))
    assert opaque == {"opaque": True}
    assert backend.name == "elsewhere"
    with pytest.raises(AttributeError):
        backend.relu_forward(x)


def test_what_is_written_there_is_written_here():
    p, buffer, g = np.ones(3), np.zeros(2), np.full(3, 2.0)
    OnNumpy(Device()).sgd_step([p, np.ones(2)], [g, np.zeros(2)], [None, buffer], lr=0.5)
    np.testing.assert_array_equal(p, np.zeros(3))
    np.testing.assert_array_equal(buffer, np.ones(2))
    np.testing.assert_array_equal(g, np.full(3, 2.0))
