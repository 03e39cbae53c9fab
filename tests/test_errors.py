"""The exceptions: one message format, and the built-in class that a Python user would catch."""

from __future__ import annotations

import pytest

from fastconv import backends, errors
from fastconv.backends.base import Backend


@pytest.mark.parametrize(
    "name, builtin",
    [
        ("ShapeError", ValueError),
        ("DTypeError", TypeError),
        ("ArgumentError", ValueError),
        ("DeviceError", RuntimeError),
        ("DataError", ValueError),
        ("OperatorError", NotImplementedError),
        ("CheckpointError", RuntimeError),
    ],
)
def test_each_class_is_ours_and_a_builtin(name, builtin):
    error = getattr(errors, name)
    assert issubclass(error, builtin)
    assert issubclass(error, errors.FastconvError)


def test_the_format():
    assert errors.mismatch("conv2d", "stride >= 1", 0) == "conv2d: expected stride >= 1, got 0"


def test_the_registry_names_what_it_knows():
    with pytest.raises(errors.DeviceError, match=r"^backend: expected one of \['cpu', .*'reference'\], got 'tpu'$"):
        backends.get("tpu")


def test_the_registry_refuses_what_is_no_array():
    with pytest.raises(
        errors.DeviceError, match=r"^array: expected a NumPy array or an array of a loaded device, got str$"
    ):
        backends.of("not an array")


def test_a_method_that_a_device_lacks_is_named():
    with pytest.raises(errors.DeviceError, match=r"^relu_forward: expected a backend that implements it, got 'base'$"):
        Backend().relu_forward(None)
