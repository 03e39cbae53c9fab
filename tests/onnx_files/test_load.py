"""Models that were loaded: their parameters and modes, training, gradients, shapes that the file leaves open."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is missing: pip install fastconv[onnx]")
import graphs
import oracle
from layouts import normal
from onnx import helper

import fastconv
import fastconv.onnx
from fastconv import functional as F
from fastconv import nn, optim
from fastconv.errors import ArgumentError, ShapeError

make = helper.make_node


def f4(name, *shape):
    return normal(name, shape, "float32")


def network():
    """Convolution, batch norm, clipped ReLU, pooling, dropout, a classifier; its batch is open."""
    nodes = [
        make("Conv", ["x", "conv.weight", "conv.bias"], ["a"], pads=[1, 1, 1, 1]),
        make("BatchNormalization", ["a", "bn.weight", "bn.bias", "bn.mean", "bn.var"], ["b"]),
        make("Clip", ["b", "low", "high"], ["c"]),
        make("MaxPool", ["c"], ["d"], kernel_shape=[2, 2], strides=[2, 2]),
        make("Dropout", ["d", "ratio"], ["e"]),
        make("Shape", ["e"], ["shape"]),
        make("Gather", ["shape", "first"], ["n"], axis=0),
        make("Concat", ["n", "rest"], ["target"], axis=0),
        make("Reshape", ["e", "target"], ["f"]),
        make("Gemm", ["f", "fc.weight", "fc.bias"], ["y"], transB=1),
    ]
    initial = {
        "conv.weight": f4("w", 6, 1, 3, 3) / 3, "conv.bias": f4("b", 6), "bn.weight": np.ones(6, np.float32),
        "bn.bias": np.zeros(6, np.float32), "bn.mean": f4("m", 6), "bn.var": np.abs(f4("v", 6)) + np.float32(1),
        "low": np.float32(0), "high": np.float32(6), "ratio": np.float32(0.25), "first": np.array([0]),
        "rest": np.array([-1]), "fc.weight": f4("fc", 4, 96) / 8, "fc.bias": np.zeros(4, np.float32),
        "unused": np.zeros(3, np.float32),
    }  # fmt: skip
    return graphs.model(nodes, {"x": ["n", 1, 8, 8]}, ["y"], initial)


PARAMETERS = ["conv.weight", "conv.bias", "bn.weight", "bn.bias", "fc.weight", "fc.bias"]


def test_parameters_buffers_and_constants():
    model = fastconv.onnx.load(network())
    assert isinstance(model, nn.Module)
    assert (model.input_names, model.output_names, model.opset) == (["x"], ["y"], 17)
    assert [name for name, _ in model.named_parameters()] == PARAMETERS
    assert {name: array.shape for name, array in model.state_dict().items()} == {
        "conv.weight": (6, 1, 3, 3), "conv.bias": (6,), "bn.weight": (6,), "bn.bias": (6,), "fc.weight": (4, 96),
        "fc.bias": (4,), "bn.mean": (6,), "bn.var": (6,),
    }  # fmt: skip
    assert repr(model) == "OnnxModel(['x'] -> ['y'], 10 steps, opset 17)"


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_any_batch_arrays_and_tensors_by_place_and_by_name(batch):
    proto, x = network(), f4("x", batch, 1, 8, 8)
    model = fastconv.onnx.load(proto)
    y = model(x)
    assert isinstance(y, fastconv.Tensor)
    oracle.assert_same_bits(model(x=fastconv.tensor(x)).numpy(), y.numpy())
    model.requires_grad_(False)
    oracle.assert_same_bits(model(x).numpy(), y.numpy())
    if batch:
        (expected,) = graphs.runtime(proto, {"x": x})
        oracle.assert_close(y.numpy(), expected, 2e-6)


def test_float64():
    model, x = fastconv.onnx.load(network()), normal("x", (3, 1, 8, 8))
    y = model(x.astype(np.float32)).numpy()
    assert model.double()(x).numpy().dtype == np.float64
    oracle.assert_close(y, model(x.astype(np.float32).astype(np.float64)).numpy(), 1e-5)


def test_modes_of_batch_norm_and_dropout():
    """As the file says at first, which is inference here."""
    model, x = fastconv.onnx.load(network()), f4("x", 16, 1, 8, 8)
    by_file, state = model(x).numpy(), model.state_dict()
    assert model.training is None
    oracle.assert_same_bits(model.eval()(x).numpy(), by_file)
    for name, array in model.state_dict().items():
        oracle.assert_same_bits(array, state[name])
    first, second = model.train()(x).numpy(), model(x).numpy()
    assert not np.array_equal(first, second)  # other masks
    moved = model.state_dict()
    assert [name for name in moved if not np.array_equal(moved[name], state[name])] == ["bn.mean", "bn.var"]
    a = F.conv2d(x, state["conv.weight"], state["conv.bias"], padding=1)
    mean, var = state["bn.mean"].copy(), state["bn.var"].copy()
    for _ in range(2):
        F.batch_norm(a, mean, var, training=True)
    oracle.assert_close(moved["bn.mean"], mean)
    oracle.assert_close(moved["bn.var"], var)


def test_a_file_that_trains_does_so_until_it_is_told_otherwise():
    nodes = [
        make("BatchNormalization", ["x", "s", "b", "m", "v"], ["y", "mean", "var"], training_mode=1, momentum=0.5),
        make("Dropout", ["y", "ratio", "mode"], ["z", "mask"]),
    ]
    initial = {"s": np.ones(3, np.float32), "b": np.zeros(3, np.float32), "m": f4("m", 3), "v": np.abs(f4("v", 3)),
               "ratio": np.float32(0.5), "mode": np.bool_(True)}  # fmt: skip
    proto = graphs.model(nodes, {"x": ["n", 3, 4]}, ["y", "mean", "var", "z", "mask"], initial, types={"mask": bool})
    model, x = fastconv.onnx.load(proto), f4("x", 8, 3, 4)
    y, mean, var, z, mask = (fastconv.Tensor(value).numpy() for value in model(x))
    oracle.assert_close(y, F.batch_norm(x, None, None, training=True))
    oracle.assert_close(mean, (initial["m"] + x.mean(axis=(0, 2))) / 2)
    oracle.assert_close(var, (initial["v"] + x.var(axis=(0, 2))) / 2)
    oracle.assert_same_bits(z, np.where(mask, 2 * y, 0 * y))
    assert 0.2 < mask.mean() < 0.8
    oracle.assert_same_bits(model.state_dict()["m"], initial["m"])
    y, _, _, z, mask = (fastconv.Tensor(value).numpy() for value in model.eval()(x))
    oracle.assert_close(y, F.batch_norm(x, initial["m"], initial["v"]))
    assert mask.all()
    oracle.assert_same_bits(z, y)


def test_it_learns_and_its_state_goes_round():
    fastconv.manual_seed(0)
    model = fastconv.onnx.load(network()).train()
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((32, 1, 8, 8)).astype(np.float32), rng.integers(0, 4, 32)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(30):
        loss = F.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    other = fastconv.onnx.load(network())
    other.load_state_dict(model.state_dict())
    oracle.assert_same_bits(other.eval()(x).numpy(), model.eval()(x).numpy())


def test_frozen_parts_have_no_gradient_and_a_model_is_a_part_of_another():
    body = fastconv.onnx.load(network()).requires_grad_(False)
    head = nn.Linear(4, 2)
    model = nn.Sequential(body, nn.ReLU(), head)
    model(f4("x", 2, 1, 8, 8)).sum().backward()
    assert all(parameter.grad is None for parameter in body.parameters())
    assert head.weight.grad is not None
    assert "0.conv.weight" in model.state_dict()


def test_names_that_module_has_itself_are_told_apart():
    initial = {"training": f4("t", 3), "forward": f4("f", 3)}
    proto = graphs.model(
        [make("Add", ["x", "training"], ["a"]), make("Mul", ["a", "forward"], ["y"])], {"x": [3]}, ["y"], initial
    )
    model, x = fastconv.onnx.load(proto), f4("x", 3)
    assert list(model.state_dict()) == ["training_", "forward_"]
    oracle.assert_close(model(x).numpy(), (x + initial["training"]) * initial["forward"])


def test_gradients_by_finite_differences():
    """Through operators that are compositions: views, selections, reductions, interpolation."""
    nodes = [
        make("Conv", ["x", "w"], ["a"], auto_pad="SAME_UPPER", strides=[2, 2]),
        make("PRelu", ["a", "slope"], ["b"]),
        make("Resize", ["b", "", "scales"], ["c"], mode="cubic"),
        make("Slice", ["c", "starts", "ends", "axes", "steps"], ["d"]),
        make("Gather", ["d", "picked"], ["e"], axis=1),
        make("Greater", ["e", "zero"], ["mask"]),
        make("Mul", ["e", "e"], ["squares"]),
        make("Where", ["mask", "squares", "e"], ["f"]),
        make("GlobalLpPool", ["f"], ["g"], p=3),
        make("ReduceLogSumExp", ["f"], ["h"], axes=[2, 3]),
        make("Concat", ["g", "h"], ["i"], axis=1),
        make("LayerNormalization", ["i", "scale"], ["j"], axis=1),
        make("ReduceProd", ["j"], ["y"], axes=[1], keepdims=0),
    ]
    initial = {
        "w": normal("w", (3, 2, 3, 3)), "slope": normal("s", (3, 1, 1)), "scales": np.float32([1, 1, 1.5, 2]),
        "starts": np.array([-1]), "ends": np.array([0]), "axes": np.array([3]), "steps": np.array([-2]),
        "picked": np.array([2, 0]), "zero": np.float64(0), "scale": np.ones((4, 1, 1)),
    }  # fmt: skip
    proto = graphs.model(nodes, {"x": [2, 2, 5, 6]}, ["y"], initial, 13, dict.fromkeys("xy", np.float64))
    proto.opset_import[0].version = 17
    model = fastconv.onnx.load(proto)

    def forward(x, w, slope):
        model.w.data, model.slope.data = w, slope
        return fastconv.Tensor(model(x)).numpy()

    def backward(dy, x, w, slope):
        model.zero_grad()
        model.w.data, model.slope.data = w, slope
        x = fastconv.Tensor(x, requires_grad=True)
        model(x).backward(dy)
        return x.grad, model.w.grad, model.slope.grad

    oracle.gradcheck(forward, backward, [normal("x", (2, 2, 5, 6)), initial["w"], initial["slope"]], bound=1e-5)


def test_what_depends_on_constants_alone_is_computed_once():
    nodes = [
        make("ConstantOfShape", ["size"], ["ones"], value=helper.make_tensor("v", 1, [1], [1.0])),
        make("Unsqueeze", ["ones", "axis"], ["column"]),
        make("Cast", ["size"], ["factor"], to=1),
        make("Mul", ["column", "factor"], ["product"]),
        make("Add", ["x", "product"], ["y"]),
    ]
    initial = {"size": np.array([3]), "axis": np.array([1])}
    model = fastconv.onnx.load(graphs.model(nodes, {"x": [3, 2]}, ["y"], initial))
    assert "1 steps" in repr(model)
    assert not model.state_dict()
    assert [name for name, _ in model.named_buffers()] == ["product"]
    assert model(np.zeros((3, 2), np.float32)).tolist() == [[3, 3]] * 3
    assert model.double()(np.zeros((3, 2))).dtype == np.float64


def test_what_no_output_needs_is_left_out():
    nodes = [
        make("Relu", ["x"], ["a"]),
        make("MaxPool", ["a"], ["y", "indices"], kernel_shape=[2]),
        make("Mul", ["a", "w"], ["b"]),
        make("Dropout", ["b"], ["c", "mask"]),
    ]
    model = fastconv.onnx.load(graphs.model(nodes, {"x": [1, 2, 6]}, ["y"], {"w": f4("w", 6)}))
    assert "2 steps" in repr(model)
    assert not model.state_dict()
    assert fastconv.graph.trace(model, f4("x", 1, 2, 6)).nodes  # nothing but verbs of the backend


def test_numbers_and_options_are_no_parameters():
    nodes = [
        make("Pow", ["x", "exponents"], ["a"]),
        make("Mul", ["a", "factor"], ["b"]),
        make("Add", ["b", "bias"], ["y"]),
    ]
    initial = {"exponents": np.float32([1, 2, 3]), "factor": np.float32(0.5), "bias": np.float32([1])}
    model = fastconv.onnx.load(graphs.model(nodes, {"x": [3]}, ["y"], initial))
    assert list(model.state_dict()) == ["bias"]
    y = model(np.float32([2, 2, 2]))
    assert y.numpy().tolist() == [2, 3, 5]
    y.sum().backward()
    assert model.bias.grad.tolist() == [3]


def test_inputs_that_do_not_fit():
    model, x = fastconv.onnx.load(network()), f4("x", 1, 1, 8, 8)
    expected = r"OnnxModel: expected inputs \['x'\], each once, got"
    for arguments, named in [((), {}), ((x, x), {}), ((x,), {"x": x}), ((), {"z": x}), ((x,), {"z": x})]:
        with pytest.raises(ArgumentError, match=expected):
            model(*arguments, **named)
    with pytest.raises(ShapeError, match=r"OnnxModel: expected input 'x' of 4 axes, got shape \(1, 8, 8\)"):
        model(x[0])


def test_an_error_names_the_node_in_a_note():
    with pytest.raises(ShapeError, match="conv2d: expected weight") as caught:
        fastconv.onnx.load(network())(f4("x", 1, 2, 8, 8))
    assert caught.value.__notes__ == ["in Conv node 'a'"]


def test_a_loaded_model_is_planned_ahead():
    model, x = fastconv.onnx.load(network()).eval(), f4("x", 3, 1, 8, 8)
    expected = model(x).numpy()
    frozen = fastconv.freeze(model, x)
    oracle.assert_close(fastconv.Tensor(frozen(x)).numpy(), expected, 1e-5)
    nodes = [make("Reshape", ["x", "shape"], ["a"]), make("Relu", ["a"], ["y"])]
    one = fastconv.onnx.load(graphs.model(nodes, {"x": [1, 4, 2]}, ["y"], {"shape": np.array([1, 8])})).eval()
    y = fastconv.freeze(one, x[:1, 0, :4, :2])(x[:1, 0, :4, :2])  # the file takes no other batch
    oracle.assert_same_bits(fastconv.Tensor(y).numpy(), np.maximum(x[:1, 0, :4, :2], 0).reshape(1, 8))
    oracle.assert_close(fastconv.Tensor(frozen(x[:2])).numpy(), expected[:2], 1e-5)


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_weights_of_another_kernel_than_the_node_says_are_refused(op):
    proto = graphs.model([make(op, ["x", "w"], ["y"], "it", kernel_shape=[2, 3])], {"x": [1, 2, 8, 8]}, ["y"],
                         {"w": f4("w", 2, 2, 3, 3)})  # fmt: skip
    message = r"onnx: expected weight with the kernel_shape \(2, 3\) of its node, got \(3, 3\)"
    with pytest.raises(ShapeError, match=message) as caught:
        fastconv.onnx.load(proto)(f4("x", 1, 2, 8, 8))
    assert caught.value.__notes__ == [f"in {op} node 'it'"]
