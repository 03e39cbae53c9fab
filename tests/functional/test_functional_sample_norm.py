"""Group, instance, layer and local response normalisation: against torch, and a sample alone or in a batch."""

import re

import numpy as np
import oracle
import pytest
import tape
from layouts import normal

import fastconv
from fastconv import functional as F
from fastconv import nn
from fastconv.errors import ArgumentError, ShapeError

SHAPES = [(2, 6, 5), (3, 6, 4, 5), (1, 6, 2, 3, 4), (4, 6)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("affine", [True, False])
def test_group_norm_like_torch(shape, affine, dtype):
    x, w, b = tape.arrays(dtype, shape, (6,), (6,))
    t = oracle.torch()
    w, b = (w, b) if affine else (None, None)
    y, gradients, dy = tape.run(lambda x, w, b: F.group_norm(x, 2, w, b, 1e-3), [x, w, b])
    expected = oracle.run(lambda _, x, w, b: t.nn.functional.group_norm(x, 2, w, b, 1e-3), [x, w, b], dy)
    oracle.assert_close(y, expected[0])
    for public, ours, wanted in zip(F.group_norm_backward(dy, x, 2, w, b, 1e-3), gradients, expected[1], strict=True):
        assert (ours is None) == (wanted is None)
        if wanted is not None:
            oracle.assert_close(ours, wanted)
            oracle.assert_same_bits(public, ours)


@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_instance_norm_like_torch(shape):
    x, w, b = tape.arrays("float64", shape, (6,), (6,))
    t = oracle.torch()
    y, gradients, dy = tape.run(lambda x, w, b: F.instance_norm(x, weight=w, bias=b), [x, w, b])
    expected = oracle.run(lambda _, x, w, b: t.nn.functional.instance_norm(x, weight=w, bias=b), [x, w, b], dy)
    oracle.assert_close(y, expected[0])
    for public, ours, wanted in zip(F.instance_norm_backward(dy, x, w, b), gradients, expected[1], strict=True):
        oracle.assert_close(ours, wanted)
        oracle.assert_same_bits(public, ours)
    mean, var = np.arange(6.0), np.arange(1.0, 7.0)
    oracle.assert_same_bits(
        F.instance_norm(x, mean, var, w, b, use_input_stats=False), F.batch_norm(x, mean, var, w, b)
    )


@pytest.mark.parametrize("shape, last", [((4, 6), (6,)), ((2, 3, 4, 5), (4, 5)), ((2, 0, 5), (5,)), ((3,), (3,))])
def test_layer_norm_like_torch(shape, last):
    x, w, b = tape.arrays("float64", shape, last, last)
    t = oracle.torch()
    y, gradients, dy = tape.run(lambda x, w, b: F.layer_norm(x, last, w, b), [x, w, b])
    expected = oracle.run(lambda _, x, w, b: t.nn.functional.layer_norm(x, last, w, b), [x, w, b], dy)
    oracle.assert_close(y, expected[0])
    for public, ours, wanted in zip(F.layer_norm_backward(dy, x, last, w, b), gradients, expected[1], strict=True):
        oracle.assert_close(ours, wanted)
        oracle.assert_same_bits(public, ours)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 2, 5, 12])
@pytest.mark.parametrize("shape", [(2, 7, 5), (1, 6, 3, 4), (3, 4, 2, 2, 2), (0, 3, 4)], ids=str)
def test_local_response_norm_like_torch(shape, size, dtype):
    (x,) = tape.arrays(dtype, shape)
    options = {"alpha": 0.7, "beta": 0.6, "k": 1.5}
    y, (dx,), dy = tape.run(lambda x: F.local_response_norm(x, size, **options), [x])
    if not x.size:  # which torch refuses
        assert y.shape == dx.shape == shape
        return
    t = oracle.torch()
    expected, (wanted,) = oracle.run(lambda _, x: t.nn.functional.local_response_norm(x, size, **options), [x], dy)
    oracle.assert_close(y, expected)
    oracle.assert_close(dx, wanted)
    oracle.assert_close(F.local_response_norm_backward(dy, x, size, **options), wanted)


def test_local_response_norm_by_finite_differences():
    x = normal("lrn", (2, 5, 3))
    oracle.gradcheck(
        lambda x: F.local_response_norm(x, 3, 0.5, 0.75, 2.0),
        lambda dy, x: [F.local_response_norm_backward(dy, x, 3, 0.5, 0.75, 2.0)],
        [x],
    )


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.group_norm(x, 3),
        F.instance_norm,
        lambda x: F.layer_norm(x, x.shape[1:]),
        lambda x: F.local_response_norm(x, 5),
    ],
)
@pytest.mark.parametrize("shape", [(6, 10, 10), (6, 1, 1000), (12, 40, 50)])
def test_a_sample_alone_has_the_bits_it_has_in_a_batch(function, shape):
    x = normal(shape, (9, *shape), "float32")
    together = function(x)
    for i in (0, 4, 8):
        oracle.assert_same_bits(np.ascontiguousarray(together[i]), np.ascontiguousarray(function(x[i : i + 1])[0]))


LAYERS = {
    "GroupNorm": ((3, 6), (2, 6, 4, 4)), "LayerNorm": (((6, 4),), (2, 6, 4)), "InstanceNorm1d": ((6,), (2, 6, 4)),
    "InstanceNorm2d": ((6,), (2, 6, 4, 4)), "InstanceNorm3d": ((6,), (2, 6, 2, 4, 4)),
    "LocalResponseNorm": ((3,), (2, 6, 4, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers_like_torch(name):
    t = oracle.torch()
    arguments, shape = LAYERS[name]
    options = {"affine": True} if name.startswith("Instance") else {}
    ours = getattr(nn, name)(*arguments, **options, **({} if name == "LocalResponseNorm" else {"dtype": "float64"}))
    theirs = getattr(t.nn, name)(*arguments, **options).double()
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()
    }
    x = normal(name, shape)
    oracle.assert_close(fastconv.Tensor(ours(x)).numpy(), theirs(t.from_numpy(x)).detach().numpy())
    assert repr(ours).startswith(name)


def test_what_does_not_fit():
    x = np.zeros((2, 6, 4))
    with pytest.raises(
        ArgumentError, match=re.escape("group_norm: expected num_groups to divide the 6 channels, got 4")
    ):
        F.group_norm(x, 4)
    with pytest.raises(ShapeError, match=re.escape("layer_norm: expected input (*, 5), got shape (2, 6, 4)")):
        F.layer_norm(x, 5)
    with pytest.raises(ShapeError, match="layer_norm: expected weight"):
        F.layer_norm(x, 4, np.zeros(3))
    with pytest.raises(ShapeError, match="more than one value per channel"):
        F.instance_norm(x[:, :, :1])
    with pytest.raises(ShapeError, match=re.escape("InstanceNorm2d: expected input (N, 6, *) of 4 axes, got shape")):
        nn.InstanceNorm2d(6)(x)
