"""Every layer against torch's of the same name and arguments: state by name, output, gradients, text."""

import re

import numpy as np
import oracle
import pytest

from fastconv import Tensor, nn
from fastconv.errors import ArgumentError, DTypeError, FastconvError, ShapeError

LAYERS = [
    ("Conv1d", (3, 4, 3), {"stride": 2, "padding": 1}, (2, 3, 9)),
    ("Conv2d", (4, 6, (3, 2)), {"groups": 2, "bias": False, "dilation": (1, 2)}, (2, 4, 7, 6)),
    ("Conv2d", (2, 3, 3), {"padding": "same"}, (2, 2, 5, 5)),
    ("Conv2d", (2, 3, 3), {"padding": 1, "padding_mode": "reflect"}, (2, 2, 5, 5)),
    ("Conv2d", (2, 3, 3), {"padding": "same", "padding_mode": "circular"}, (2, 2, 5, 4)),
    ("Conv3d", (2, 3, 2), {}, (1, 2, 4, 3, 5)),
    ("ConvTranspose1d", (3, 4, 3), {"stride": 2}, (2, 3, 5)),
    ("ConvTranspose2d", (4, 6, 3), {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}, (2, 4, 3, 4)),
    ("ConvTranspose3d", (2, 3, 2), {"bias": False, "dilation": 2}, (1, 2, 3, 2, 3)),
    ("MaxPool1d", (2,), {}, (2, 3, 7)),
    ("MaxPool2d", (3,), {"stride": 2, "padding": 1, "ceil_mode": True}, (2, 3, 7, 6)),
    ("MaxPool3d", (2,), {"dilation": 2}, (1, 2, 4, 5, 4)),
    ("AvgPool1d", (3,), {"stride": 1, "padding": 1}, (2, 3, 7)),
    ("AvgPool2d", (2,), {"ceil_mode": True, "count_include_pad": False, "padding": 1}, (2, 3, 7, 6)),
    ("AvgPool3d", (2,), {"divisor_override": 3}, (1, 2, 4, 5, 4)),
    ("AdaptiveAvgPool1d", (3,), {}, (2, 3, 7)),
    ("AdaptiveAvgPool2d", ((2, None),), {}, (2, 3, 7, 5)),
    ("AdaptiveAvgPool3d", (2,), {}, (1, 2, 4, 5, 4)),
    ("AdaptiveMaxPool1d", (3,), {}, (2, 3, 7)),
    ("AdaptiveMaxPool2d", ((2, None),), {}, (2, 3, 7, 5)),
    ("AdaptiveMaxPool3d", (2,), {}, (1, 2, 4, 5, 4)),
    ("LPPool1d", (2, 2), {}, (2, 3, 8)),
    ("LPPool2d", (2, (2, 3)), {"stride": 1}, (2, 3, 7, 6)),
    ("LPPool3d", (2, 2), {}, (1, 2, 4, 6, 4)),
    ("PReLU", (), {}, (3, 4)),
    ("PReLU", (4,), {"init": 0.1}, (3, 4, 2)),
    ("Threshold", (0.2, -1.0), {}, (3, 4)),
    ("Linear", (5, 3), {}, (4, 5)),
    ("Linear", (5, 3), {"bias": False}, (2, 4, 5)),
    ("BatchNorm1d", (3,), {}, (4, 3)),
    ("BatchNorm1d", (3,), {"momentum": None}, (4, 3, 5)),
    ("BatchNorm2d", (3,), {"affine": False, "eps": 1e-3}, (4, 3, 2, 5)),
    ("BatchNorm3d", (3,), {"track_running_stats": False}, (2, 3, 2, 3, 2)),
    ("ReLU", (), {}, (3, 4)),
    ("LeakyReLU", (0.2,), {}, (3, 4)),
    ("Sigmoid", (), {}, (3, 4)),
    ("Tanh", (), {}, (3, 4)),
    ("Softmax", (), {"dim": 1}, (3, 4)),
    ("LogSoftmax", (-1,), {}, (3, 4)),
    ("Dropout", (0.0,), {}, (3, 4)),
    ("Flatten", (), {}, (2, 3, 4)),
    ("Identity", (), {}, (2, 3)),
]


@pytest.mark.parametrize(("name", "args", "options", "shape"), LAYERS)
def test_layer_like_torch(name, args, options, shape):
    t = oracle.torch()
    ours, theirs = getattr(nn, name)(*args, **options).double(), getattr(t.nn, name)(*args, **options).double()
    text = repr(theirs)
    assert repr(ours) == (re.sub(r"\((\d),\)", r"\1", text) if name == "AvgPool1d" else text)  # it alone shows tuples
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, tuple(v.shape)) for k, v in theirs.state_dict().items()
    ]
    ours.load_state_dict(theirs.state_dict())
    for seed in (0, 1):  # twice: running statistics move
        x = np.random.default_rng(seed).standard_normal(shape)
        a, b = Tensor(x, requires_grad=True), t.from_numpy(x.copy()).requires_grad_()
        y, expected = ours(a), theirs(b)
        oracle.assert_close(y.numpy(), expected.detach().numpy(), 1e-12)
        dy = np.random.default_rng(9).standard_normal(y.shape)
        y.backward(dy)
        expected.backward(t.from_numpy(dy))
    oracle.assert_close(a.grad, b.grad.numpy(), 1e-12)
    for (key, mine), wanted in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        oracle.assert_close(mine.grad, wanted.grad.numpy(), 1e-12, key)
    for (key, mine), wanted in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        oracle.assert_close(np.asarray(mine, np.float64), wanted.double().numpy(), 1e-12, key)
    inferred, expected = np.asarray(ours.eval()(x)), theirs.eval()(t.from_numpy(x))
    oracle.assert_close(inferred, expected.detach().numpy(), 1e-12)


@pytest.mark.parametrize("batch", [(2,), ()])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transposed_convolutions_take_an_output_size(rank, batch):
    t, options = oracle.torch(), {"stride": 3, "padding": 1, "dilation": 2, "output_padding": 1}
    ours, theirs = (getattr(module, f"ConvTranspose{rank}d")(4, 2, 3, **options).double() for module in (nn, t.nn))
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).standard_normal((*batch, 4, *(4, 3, 2)[:rank]))
    least = tuple(3 * (n - 1) + 3 for n in x.shape[-rank:])
    for extra in range(3):
        sizes = tuple(n + extra for n in least)
        for size in (sizes, [*batch, 2, *sizes]):
            expected = theirs(t.from_numpy(x), output_size=size).detach().numpy()
            oracle.assert_close(np.asarray(ours(x, output_size=size)), expected, 1e-12)
    most = tuple(n + 2 for n in least)
    for wrong in (-1, 3):
        sizes = tuple(n + wrong for n in least)
        wanted = f"output_size from {least} to {most} for input {x.shape}, got {sizes}"
        with pytest.raises(ShapeError, match=f"^{re.escape(f'ConvTranspose{rank}d: expected {wanted}')}$"):
            ours(x, output_size=sizes)
    with pytest.raises(ShapeError, match=rf"output_size of {rank} or {x.ndim} axes for input"):
        ours(x, output_size=[1, *x.shape])
    with pytest.raises(ShapeError, match="output_size to be a sequence of sizes, got 9"):
        ours(x, output_size=9)
    with pytest.raises(ShapeError, match=f"conv_transpose{rank}d: expected input"):
        ours(x[..., 0].ravel()[:0], output_size=least)


LOSSES = [
    ("CrossEntropyLoss", {"label_smoothing": 0.1, "reduction": "sum"}, [0, 2, 1]),
    ("CrossEntropyLoss", {"ignore_index": 2}, [0, 2, 1]),
    ("NLLLoss", {"reduction": "none"}, [0, 2, 1]),
    ("MSELoss", {}, None),
    ("BCEWithLogitsLoss", {"reduction": "sum"}, None),
]


@pytest.mark.parametrize(("name", "options", "labels"), LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_like_torch(name, options, labels, weighted):
    t = oracle.torch()
    x, target = np.random.default_rng(0).standard_normal((2, 3, 4))
    target = np.array(labels) if labels else np.abs(target)
    weights = {"weight": [1.0, 0.5, 2.0, 0.25]} if weighted and name != "MSELoss" else {}
    ours = getattr(nn, name)(**options, **weights).double()
    theirs = getattr(t.nn, name)(**options, **{k: t.tensor(v, dtype=t.float64) for k, v in weights.items()})
    assert ours.state_dict() == {}
    oracle.assert_close(ours(x, target), theirs(t.from_numpy(x.copy()), t.from_numpy(target)).numpy(), 1e-12)


@pytest.mark.parametrize(("name", "args"), [("Conv2d", (4, 8, 3)), ("ConvTranspose2d", (4, 8, 3)), ("Linear", (36, 8))])
def test_default_initialisation_has_torchs_bounds(name, args):
    theirs = getattr(oracle.torch().nn, name)(*args)
    ours = getattr(nn, name)(*args)
    for key, value in ours.state_dict().items():
        bound = 1 / np.sqrt({"Conv2d": 36, "ConvTranspose2d": 72, "Linear": 36}[name])
        assert np.abs(value).max() <= bound
        assert value.dtype == np.float32
        assert float(theirs.state_dict()[key].abs().max()) <= bound
    assert np.abs(ours.weight.data).max() > 0.9 * bound


def test_dropout_drops_only_in_training():
    layer, x = nn.Dropout(0.5), np.ones(200, np.float32)
    assert 0 < (layer(x) == 0).sum() < 200
    np.testing.assert_array_equal(layer.eval()(x), x)


def test_relu_inplace_leaves_its_input():
    x = np.array([-1.0, 1.0])
    nn.ReLU(inplace=True)(x)
    np.testing.assert_array_equal(x, [-1.0, 1.0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ArgumentError,
         "Conv2d: expected in_channels to be a positive multiple of groups 2, got 3"),
        (lambda: nn.Conv2d(0, 4, 3), ArgumentError,
         "Conv2d: expected in_channels >= 1, got 0"),
        (lambda: nn.Conv2d(1, 4, (3, 3, 3)), ArgumentError,
         "Conv2d: expected kernel_size to be an int or 2 ints, got 3: (3, 3, 3)"),
        (lambda: nn.Conv2d(1, 1, 3, padding_mode="wrap"), ArgumentError,
         "Conv2d: expected padding_mode to be one of zeros, reflect, replicate, circular, got 'wrap'"),
        (lambda: nn.ConvTranspose2d(1, 1, 3, padding_mode="reflect"), ArgumentError,
         "ConvTranspose2d: expected padding_mode to be 'zeros', got 'reflect'"),
        (lambda: nn.Conv2d(1, 1, 3, dtype="int32"), DTypeError,
         "Conv2d: expected dtype float32 or float64, got int32"),
        (lambda: nn.Linear(0, 1), ArgumentError, "Linear: expected in_features >= 1, got 0"),
        (lambda: nn.Dropout(2), ArgumentError, "Dropout: expected p in [0, 1], got 2"),
        (lambda: nn.BatchNorm2d(3)(np.ones((2, 3), "f4")), ShapeError,
         "BatchNorm2d: expected input of 4 axes, got shape (2, 3)"),
        (lambda: nn.BatchNorm1d(3)(np.ones((2, 4), "f4")), ShapeError,
         "batch_norm: expected running_mean (4,) to match the channels, got shape (3,)"),
    ],
)  # fmt: skip
def test_messages(call, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: nn.Conv2d(1, 1, 0), "Conv2d: expected kernel_size >= 1, got 0"),
        (lambda: nn.Conv2d(1, 1, "3"), "Conv2d: expected kernel_size to be an integer, got '3'"),
        (lambda: nn.Conv2d(1, 1, 3, padding="all"), "Conv2d: expected padding to be an integer, got 'all'"),
        (lambda: nn.Conv2d(1, 1, 3, groups=1.0), "Conv2d: expected groups to be an integer, got 1.0"),
        (lambda: nn.Linear(2.0, 1), "Linear: expected in_features to be an integer, got 2.0"),
        (lambda: nn.Linear(2, 1, dtype="swallow"), "Linear: expected dtype float32 or float64, got 'swallow'"),
        (lambda: nn.BatchNorm1d(-1), "BatchNorm1d: expected num_features >= 1, got -1"),
        (lambda: nn.Dropout("half"), "Dropout: expected p to be a number, got 'half'"),
    ],
)
def test_options_are_checked_when_the_layer_is_made(call, message):
    with pytest.raises(FastconvError, match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize("dtype", [">f4", "packed", "f4"])
def test_running_statistics_move_where_they_lie(dtype):
    x = np.random.default_rng(0).standard_normal((8, 3)).astype("f4")
    plain, other = (np.zeros(3, "f4"), np.ones(3, "f4")), []
    for values in plain:
        if dtype == "packed":
            records = np.zeros(3, [("tag", "u1"), ("value", "f4")])
            records["value"] = values
            other.append(records["value"])
        else:
            other.append(values.astype(dtype))
    nn.functional.batch_norm(x, *plain, training=True)
    nn.functional.batch_norm(x, *other, training=True)
    for a, b in zip(plain, other, strict=True):
        assert np.abs(a).max() > 0
        np.testing.assert_array_equal(a, b)


def test_running_statistics_that_cannot_move():
    frozen = np.ones(3, "f4")
    frozen.flags.writeable = False
    with pytest.raises(FastconvError, match=r"^batch_norm: expected running_var to be an array that can be written to"):
        nn.functional.batch_norm(np.ones((4, 3), "f4"), np.zeros(3, "f4"), frozen, training=True)
    np.testing.assert_array_equal(frozen, 1)
