"""Functions of one variable: against torch, forward and backward, and by finite differences."""

import math
import re

import numpy as np
import oracle
import pytest
import tape
from layouts import DTYPES, distinct, normal

import fastconv
from fastconv import functional as F
from fastconv import nn
from fastconv.errors import ArgumentError

# name -> (options of ours, the interval of x; None: all numbers)
FUNCTIONS = {
    "elu": ([0.75], None), "celu": ([0.5], None), "selu": ([], None), "gelu": ([], None), "silu": ([], None),
    "mish": ([], None), "hardswish": ([], None), "hardsigmoid": ([], None), "hardtanh": ([-0.5, 0.8], None),
    "relu6": ([], None), "softplus": ([1.3], None), "softsign": ([], None), "exp": ([], None), "abs": ([], None),
    "erf": ([], None), "log": ([], (0.1, 5)), "sqrt": ([], (0.1, 5)), "reciprocal": ([], (0.3, 5)),
    "floor": ([], None), "ceil": ([], None), "round": ([], None), "sign": ([], None), "sin": ([], None),
    "cos": ([], None), "pow": ([2.5], (0.1, 3)), "clip": ([-1.0, 0.5], None),
}  # fmt: skip
by_name = pytest.mark.parametrize("name", FUNCTIONS)


def values(name, shape, dtype):
    low_high = FUNCTIONS[name][1]
    x = 3 * distinct((name, shape), shape, dtype)
    return x if low_high is None else (np.abs(x) / 6 * (low_high[1] - low_high[0]) + low_high[0]).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 4, 5), (0, 3)], ids=str)
@by_name
def test_like_torch(name, shape, dtype):
    if (name, dtype) == ("hardsigmoid", "float64"):
        pytest.skip("torch's gradient multiplies by 1 / 6 in float32; finite differences are the oracle below")
    tape.assert_like_torch(name, [values(name, shape, dtype)], *FUNCTIONS[name][0])


def test_gelu_by_tanh_like_torch():
    tape.assert_like_torch("gelu", [values("gelu", (50,), "float64")], approximate="tanh")
    with pytest.raises(ArgumentError, match=re.escape("gelu: expected approximate 'none' or 'tanh', got 'fast'")):
        F.gelu(np.zeros(2), "fast")


@by_name
def test_gradients_by_finite_differences_and_in_public(name):
    x, options = values(name, (11,), "float64"), FUNCTIONS[name][0]
    function, backward = getattr(F, name), getattr(F, f"{name}_backward")
    oracle.gradcheck(lambda x: function(x, *options), lambda dy, x: [backward(dy, x, *options)], [x])
    _, (dx,), dy = tape.run(lambda x: function(x, *options), [x])
    oracle.assert_same_bits(backward(dy, x, *options), dx)


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_values(dtype):
    x = np.array([-np.inf, -1e4, -80, -0.0, 0.0, 80, np.inf, np.nan], dtype)
    for name in ("elu", "softplus", "hardswish", "hardsigmoid", "hardtanh", "abs", "exp", "clip", "softsign"):
        options = FUNCTIONS[name][0]
        wanted = oracle.torch_functional("clamp" if name == "clip" else name, (x,)) if not options else None
        with np.errstate(all="ignore"):
            y = getattr(F, name)(x, *options)
        if wanted is not None and name not in ("hardswish", "softsign"):  # torch has inf * 0 there
            np.testing.assert_allclose(y, wanted, rtol=oracle.BOUNDS[dtype], atol=np.finfo(dtype).tiny)
        assert np.isnan(y[-1]), name
    assert F.gelu(np.array([-40.0, 40.0], dtype)).tolist() == [0, 40]


def test_clip_has_bounds_on_either_side_or_none():
    x = np.array([-2.0, 0.5, 3.0])
    assert F.clip(x, min=0).tolist() == [0, 0.5, 3]
    assert F.clip(x, max=1).tolist() == [-2, 0.5, 1]
    with pytest.raises(ArgumentError, match="clip: expected max"):
        F.clip(x, 2, 1)


LAYERS = {
    "ELU": (0.5,), "CELU": (0.5,), "SELU": (), "GELU": ("tanh",), "SiLU": (), "Mish": (), "Hardswish": (),
    "Hardsigmoid": (), "Hardtanh": (-0.5, 0.5), "ReLU6": (), "Softplus": (2.0,), "Softsign": (),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers_like_torch(name):
    t = oracle.torch()
    x = normal(name, (3, 4))
    layer, theirs = getattr(nn, name)(*LAYERS[name]), getattr(t.nn, name)(*LAYERS[name])
    oracle.assert_close(layer(x), theirs(t.from_numpy(x)).numpy())
    assert repr(layer).startswith(name)


def test_erf_is_the_error_function():
    x = np.linspace(-4, 4, 41)
    np.testing.assert_allclose(F.erf(x), [math.erf(v) for v in x], rtol=1e-14)
    assert fastconv.functional.exp(np.float32([0.0])).dtype == np.float32
