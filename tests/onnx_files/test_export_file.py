"""The file that export writes: names, sizes, the way back, and what is refused."""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np
import oracle
import pytest
from exported import arrays, assert_close, check, onnx, ops, outputs_of, runtime, settled

import fastconv
from fastconv import functional as F
from fastconv import init, models, nn
from fastconv.errors import ArgumentError, DataError, GraphError, OperatorError
from fastconv.geometry import pool_geometry
from fastconv.onnx import export, load
from fastconv.onnx.export_pool import regular

X = np.zeros((2, 3, 8, 8), np.float32)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.5), nn.Flatten(),
        nn.Linear(64, 5),
    )  # fmt: skip


def sizes(values):
    return [[d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in values]


# ------------------------------------------------------------------------------------------------ what is in it


def test_names_sizes_and_version():
    proto = export(network(), X)
    assert ops(proto) == "Conv BatchNormalization Relu MaxPool Flatten Gemm"
    assert [node.name for node in proto.graph.node][:2] == ["0/Conv", "1/BatchNormalization"]
    assert {t.name for t in proto.graph.initializer} == {
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "6.weight", "6.bias",
    }  # fmt: skip
    assert [value.name for value in proto.graph.input] == ["input"]
    assert [value.name for value in proto.graph.output] == ["output"]
    assert sizes(proto.graph.input) == [["batch", 3, 8, 8]]
    assert sizes(proto.graph.output) == [["batch", 5]]
    assert (proto.producer_name, proto.producer_version) == ("fastconv", fastconv.__version__)
    assert proto.opset_import[0].version == 18


def test_a_fixed_batch():
    proto = export(network(), X, dynamic_batch=False)
    assert sizes(proto.graph.input) == [[2, 3, 8, 8]]
    assert sizes(proto.graph.output) == [[2, 5]]


def test_units_of_a_network_are_plain_nodes():
    assert ops(check(models.lenet5().eval(), [(2, 1, 28, 28)])).startswith("Conv Tanh AveragePool Conv")
    unit = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.ReLU())
    assert ops(check(unit, [(2, 3, 8, 8)])) == "Conv Relu MaxPool Relu"


def test_the_model_is_exported_in_inference_mode_and_left_as_it_was():
    model = network().train()
    model[1].eval()
    before = model.state_dict()
    fastconv.manual_seed(3)
    proto = export(model, np.ones_like(X))
    mask = F.dropout(np.ones(50, np.float32))
    fastconv.manual_seed(3)
    oracle.assert_same_bits(F.dropout(np.ones(50, np.float32)), mask)
    assert [module.training for module in model.modules()] == [True, True, False, True, True, True, True, True]
    for name, value in model.state_dict().items():
        oracle.assert_same_bits(value, before[name])
    x = arrays([(3, 3, 8, 8)])
    assert_close(runtime(proto).run(None, {"input": x[0]})[0], outputs_of(model.eval(), x)[0], 1e-5)


class Pair(NamedTuple):
    sum: object
    both: object


def test_several_inputs_and_outputs():
    def function(left, right):
        total = F.add(left, right)
        return Pair(total, {"first": left, "again": [total, None, F.relu(total)]})

    proto = check(function, [(2, 3), (2, 3)])
    assert [value.name for value in proto.graph.input] == ["left", "right"]
    assert [value.name for value in proto.graph.output] == ["sum", "both.first", "both.again0", "both.again2"]
    assert ops(proto) == "Add Relu Identity Identity"
    proto = check(lambda x: {"logits": x * 2.0, "maps": [x, x]}, [(2, 3)])
    assert [value.name for value in proto.graph.output] == ["logits", "maps0", "maps1"]


def test_names_that_are_asked_for():
    proto = export(network(), X, input_names=["image"], output_names=["scores"])
    assert (proto.graph.input[0].name, proto.graph.output[0].name) == ("image", "scores")
    assert runtime(proto).run(["scores"], {"image": X})[0].shape == (2, 5)
    for option in ("input_names", "output_names"):
        for wrong in (["a", "b"], "a", [""], [3]):
            with pytest.raises(ArgumentError, match=f"onnx.export: expected {option} of 1 different names, got"):
                export(network(), X, **{option: wrong})


def test_parameters_win_names():
    class Odd(nn.Module):
        def __init__(self):
            self.input, self.output = nn.Parameter(np.ones(3, np.float32)), nn.Parameter(np.ones(3, np.float32))

        def forward(self, input):
            return (input + self.input) * self.output

    proto = check(Odd(), [(2, 3)])
    assert {t.name for t in proto.graph.initializer} == {"input", "output"}
    assert {proto.graph.input[0].name, proto.graph.output[0].name} == {"input_1", "output_1"}


def test_unbatched_images_and_a_batch_of_two_sizes():
    check(lambda x: F.conv2d(F.reshape(x, (-1, 3, 4, 4)), np.ones((2, 3, 3, 3), np.float32)), [(2, 2, 3, 4, 4)])
    image = network()[0]
    proto = export(image, X[0], dynamic_batch=False)
    assert ops(proto) == "Reshape Conv Reshape"
    assert_close(runtime(proto).run(None, {"input": X[0]})[0], outputs_of(image, [X[0]])[0], 1e-5)


def test_what_depends_on_the_batch_is_computed_in_the_file():
    ones = np.ones((1, 3), np.float32)
    for function in (
        lambda x: F.cat([x, F.multiply(F.reshape(ones, (1, 3)), 2.0) + x * 0.0], 0),
        lambda x: F.matmul(F.reshape(x, (-1, 3)), F.reshape(ones, (3, 1))),
        lambda x: F.sum(x, 0),
        lambda x: F.reshape(x, (3, -1)),
        lambda x: F.reshape(x, (-1,)),
    ):
        check(function, [(2, 3)], batches=(1, 5))


def test_float64():
    from onnx.reference import ReferenceEvaluator  # onnxruntime has no such kernels

    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.CELU(0.5), nn.AvgPool2d(2, ceil_mode=True), nn.Flatten(),
        nn.Linear(36, 3), nn.Softmax(1),
    ).double().eval()  # fmt: skip
    proto = export(net, X.astype("f8"))
    onnx.checker.check_model(proto, full_check=True)
    x = arrays([(3, 3, 8, 8)], "float64")
    assert_close(ReferenceEvaluator(proto).run(None, {"input": x[0]})[0], outputs_of(net, x)[0], 1e-12)


# --------------------------------------------------------------------------------------------------- the way back


NETWORKS = {
    "resnet18": (2, 3, 32, 32), "densenet121": (2, 3, 32, 32), "googlenet": (2, 3, 32, 32), "unet2d": (1, 1, 16, 16),
    "nin_cifar": (2, 3, 16, 16), "unet3d": (1, 3, 4, 8, 8),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_come_back(name, tmp_path):
    options = {"unet2d": {"width": 4}, "unet3d": {"width": 4, "depth": 2}, "nin_cifar": {}}.get(
        name, {"num_classes": 5}
    )
    with init.skip():
        net = models.create(name, **options)
    x = arrays([NETWORKS[name]])[0]
    export(settled(net), x, tmp_path / "net.onnx")
    twin = load(tmp_path / "net.onnx")
    state, old = twin.state_dict(), net.eval().state_dict()
    assert set(state) <= set(old)
    for key, value in state.items():
        oracle.assert_same_bits(value, old[key], key)
    larger = np.concatenate([x, x[::-1]])
    for a, b in zip(outputs_of(twin.eval(), [larger]), outputs_of(net, [larger]), strict=True):
        assert_close(a, b, 1e-6)


def test_a_network_that_came_back_trains_as_before(tmp_path):
    net = network()
    net[4].p = 0.0
    export(net, X, tmp_path / "net.onnx")
    twin = load(tmp_path / "net.onnx")
    x = arrays([(4, 3, 8, 8)])[0]
    for model in (net.train(), twin.train()):
        loss = F.cross_entropy(model(fastconv.tensor(x)), [0, 1, 2, 3])
        loss.backward()
    gradients = {key: p.grad for key, p in net.named_parameters()}
    for key, parameter in twin.named_parameters():
        oracle.assert_close(parameter.grad, gradients[key], 1e-5)


# -------------------------------------------------------------------------------------------------- what is refused


def test_operations_without_a_counterpart_are_all_named():
    class Loss(nn.Module):
        def forward(self, x):
            return F.cross_entropy(x, [0, 1])

    class Both(nn.Module):
        def __init__(self):
            self.loss, self.dropped = Loss(), Dropped()

        def forward(self, x):
            return self.loss(x) + F.sum(self.dropped(x))

    class Dropped(nn.Module):
        def forward(self, x):
            return F.dropout(x, 0.5, True)

    with pytest.raises(OperatorError, match="operations that ONNX has, got ") as caught:
        export(Both(), np.zeros((2, 3), np.float32), dynamic_batch=False)
    assert "cross_entropy_forward in module 'loss'" in str(caught.value)
    assert "dropout_mask in module 'dropped'" in str(caught.value)


def test_uses_without_a_counterpart_are_named():
    with pytest.raises(OperatorError, match=r"max_pool_forward in module '': expected regular windows where indices"):
        export(lambda x: F.adaptive_max_pool2d(x, 5, return_indices=True), np.zeros((1, 1, 7, 7), np.float32))


def test_models_that_go_with_one_batch_only():
    def each(x):
        return F.cat([x[i : i + 1] * float(i) for i in range(len(x))], 0)

    with pytest.raises(GraphError, match=r"takes any batch \(else dynamic_batch=False\), got .*operations for a batch"):
        export(each, X)
    assert ops(check(each, [X.shape], dynamic_batch=False)).startswith("Slice")
    with pytest.raises(GraphError, match="NumPy"):
        export(lambda x: x * float(x.numpy().max()), X)


def test_options_that_are_none():
    for opset in (12, 23, 8.5):
        with pytest.raises(ArgumentError, match=r"onnx\.export: expected opset"):
            export(network(), X, opset=opset)
    with pytest.raises(ArgumentError, match="dynamic_batch"):
        export(network(), X, dynamic_batch="yes")


def test_files_are_written_whole_or_not_at_all(tmp_path):
    proto = export(network(), X, tmp_path / "net.onnx")
    assert onnx.load(tmp_path / "net.onnx") == proto
    with pytest.raises(DataError, match=r"onnx.export: expected .*missing/net.onnx to be writable, got No such file"):
        export(network(), X, tmp_path / "missing" / "net.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"the package onnx \(pip install 'fastconv\[onnx\]'\)"):
        export(network(), X)


# ----------------------------------------------------------------------------------------------- regular windows


def test_kernels_strides_and_paddings_are_found_again():
    for size in range(1, 10):
        for kernel, stride, dilation in np.ndindex(5, 4, 3):
            k, s, d = kernel + 1, stride + 1, dilation + 1
            for padding in range((d * (k - 1) + 1) // 2 + 1):
                for ceil_mode in (False, True):
                    try:
                        g = pool_geometry("pool", 1, (1, 1, size), k, s, padding, d, ceil_mode)
                    except ValueError:
                        continue
                    found = regular(g.windows[2], size)
                    if found is None:
                        assert d > 1
                        continue
                    ends = (found.begin, found.end)
                    assert max(ends) < found.kernel
                    shape = (1, 1, size)
                    again = pool_geometry("pool", 1, shape, found.kernel, found.stride, ends, found.dilation)
                    assert [(w.start, w.count) for w in again.windows] == [(w.start, w.count) for w in g.windows]
