"""Wrong arguments, one at a time: each is an error of fastconv.errors that names the function and the argument."""

import numpy as np
import pytest

from fastconv import functional as F
from fastconv.errors import DTypeError, FastconvError

f4 = np.float32
X, A = np.ones((2, 4, 9, 9), f4), np.ones((3, 4), f4)
Y, INDICES = F.max_pool2d(X, 2, return_indices=True)
LABELS = np.array([0, 1, 2])

GOOD = {
    "conv2d": {"input": X, "weight": np.ones((4, 4, 3, 3), f4), "bias": np.ones(4, f4), "stride": 1, "padding": 1,
               "dilation": 1, "groups": 1},
    "conv2d_backward": {"dy": X, "x": X, "weight": np.ones((4, 4, 3, 3), f4), "padding": 1, "needs": (True,) * 3},
    "conv_transpose2d": {"input": X, "weight": np.ones((4, 4, 2, 2), f4), "stride": 2, "output_padding": 1},
    "max_pool2d": {"input": X, "kernel_size": 2, "stride": 2, "padding": 1, "dilation": 1, "ceil_mode": False,
                   "return_indices": True},
    "max_pool2d_backward": {"dy": Y, "indices": INDICES, "input_shape": X.shape, "kernel_size": 2},
    "avg_pool2d": {"input": X, "kernel_size": 2, "ceil_mode": False, "count_include_pad": True, "divisor_override": 3},
    "adaptive_avg_pool2d": {"input": X, "output_size": 2},
    "adaptive_avg_pool2d_backward": {"dy": Y, "input_shape": X.shape},
    "linear": {"input": A, "weight": np.ones((5, 4), f4), "bias": np.ones(5, f4)},
    "leaky_relu": {"input": A, "negative_slope": 0.1},
    "softmax": {"input": A, "dim": 1},
    "dropout": {"input": A, "p": 0.5, "training": True},
    "dropout_backward": {"dy": A, "mask": A > 0, "p": 0.5},
    "batch_norm": {"input": A, "running_mean": np.ones(4, f4), "running_var": np.ones(4, f4), "weight": np.ones(4, f4),
                   "training": True, "momentum": 0.1, "eps": 1e-5},
    "cross_entropy": {"input": A, "target": LABELS, "weight": np.ones(4, f4), "ignore_index": -100,
                      "reduction": "mean", "label_smoothing": 0.1},
    "mse_loss_backward": {"dloss": np.array(1, f4), "input": A, "target": A, "reduction": "mean"},
    "pad": {"input": X, "pad": (1, 1), "mode": "constant", "value": 0.0},
    "cat": {"tensors": [A, A], "dim": 0},
    "add_backward": {"dy": A, "shape": (3, 4), "other_shape": (4,), "needs": (True, True)},
    "reshape": {"input": A, "shape": (12,)},
}  # fmt: skip
RAGGED, NONES = [[1.0], [1.0, 2.0]], np.array([None, None])
WRONG = [
    float("nan"), "swallow", 1j, b"x", RAGGED, {}, object(), -(2**70), 2**70, np.ones((7, 7, 7), complex), NONES,
    np.array(["a"]),
]  # fmt: skip
NUMBERS = {"negative_slope", "value", "momentum", "eps"}  # large ones are in order
LEGAL = {("cat", "tensors"): RAGGED, ("add_backward", "needs"): RAGGED, ("adaptive_avg_pool2d", "output_size"): NONES}


def may_be(name, argument, wrong):
    """Whether an entry of WRONG is not wrong for this argument."""
    if isinstance(wrong, float):  # an array of one element
        return name in ("leaky_relu", "dropout", "mse_loss_backward") and argument in ("input", "dloss")
    return (argument in NUMBERS and isinstance(wrong, int)) or LEGAL.get((name, argument)) is wrong


@pytest.mark.parametrize("name", GOOD)
def test_every_argument_wrong_in_turn(name):
    function, good = getattr(F, name), GOOD[name]
    function(**good)
    for argument in good:
        for wrong in WRONG:
            if not may_be(name, argument, wrong):
                with pytest.raises(FastconvError) as caught:
                    function(**{**good, argument: wrong})
                assert str(caught.value).startswith(f"{name}: expected "), (argument, wrong)


@pytest.mark.parametrize("wrong", [True, 2.0, (2.0, 2.0), (True, 1), np.array([2.0, 2.0])])
def test_sizes_are_integers_whether_or_not_the_geometry_is_known(wrong):
    F.max_pool2d(X, (2, 2), (2, 1))  # equal keys of another type must not find these
    for _ in range(2):
        with pytest.raises(FastconvError, match=r"^max_pool2d: expected kernel_size to be an integer, got"):
            F.max_pool2d(X, wrong)


@pytest.mark.parametrize("name", ["conv2d", "linear", "relu", "max_pool2d", "cross_entropy"])
def test_a_required_array_is_not_none(name):
    good = GOOD.get(name, {"input": A})
    for argument in {"input", "weight"} & set(good) - ({"weight"} if name == "cross_entropy" else set()):
        with pytest.raises(FastconvError, match=f"^{name}: expected {argument} to be float32 or float64, got None$"):
            getattr(F, name)(**{**good, argument: None})


def test_options_that_were_remembered_are_told_from_equal_ones():
    x, w = np.ones((1, 1, 6, 6), np.float32), np.ones((1, 1, 3, 3), np.float32)
    for _ in range(2):
        assert F.conv2d(x, w, stride=(2, 2)).shape == F.conv2d(x, w, stride=2).shape == (1, 1, 2, 2)
        assert F.max_pool2d(x, (2, 2)).shape == (1, 1, 3, 3)
        for wrong in ((2.0, 2.0), 2.0, True, (True, True)):
            with pytest.raises(FastconvError):
                F.conv2d(x, w, stride=wrong)
            with pytest.raises(FastconvError):
                F.max_pool2d(x, wrong)
    changing = [1, 1]
    assert F.conv2d(x, w, stride=changing).shape == (1, 1, 4, 4)
    changing[:] = 3, 3
    assert F.conv2d(x, w, stride=changing).shape == (1, 1, 2, 2)


@pytest.mark.parametrize("missing", ["dy", "x"])
def test_a_missing_operand_is_named_though_others_may_be_missing(missing):
    x, per_channel = np.ones((2, 3, 4, 4), np.float32), np.ones(3, np.float32)
    given = {"dy": x, "x": x, missing: None}
    with pytest.raises(DTypeError, match=f"batch_norm_backward: expected {missing} to be"):
        F.batch_norm_backward(**given, running_mean=per_channel, running_var=per_channel)
