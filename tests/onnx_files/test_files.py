"""Files: where data lie, what is wrong with them, operators that are missing; and the backend interface."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is missing: pip install fastconv[onnx]")
import graphs
import onnx
import oracle
from layouts import normal
from onnx import helper

import fastconv.onnx
from fastconv.errors import ArgumentError, DataError, DeviceError, OperatorError

make = helper.make_node
X = normal("x", (2, 3), "float32")


def linear():
    return graphs.model(
        [make("MatMul", ["x", "w"], ["y"])], {"x": ["n", 3]}, ["y"], {"w": normal("w", (3, 400), "float32")}
    )


def test_a_path_and_a_model_are_the_same(tmp_path):
    onnx.save(linear(), tmp_path / "model.onnx")
    y = fastconv.onnx.load(linear())(X).numpy()
    oracle.assert_same_bits(fastconv.onnx.load(tmp_path / "model.onnx")(X).numpy(), y)
    oracle.assert_same_bits(fastconv.onnx.load(str(tmp_path / "model.onnx"))(X).numpy(), y)
    oracle.assert_close(y, X @ normal("w", (3, 400), "float32"))


def test_external_data_missing_and_cut_off(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(linear(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").stat().st_size >= 4800
    oracle.assert_close(fastconv.onnx.load(path)(X).numpy(), X @ normal("w", (3, 400), "float32"))
    (tmp_path / "weights.bin").write_bytes(bytes(100))
    with pytest.raises(DataError, match=re.escape(str(path))):
        fastconv.onnx.load(path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(DataError, match=rf"onnx\.load: expected the external data of {re.escape(str(path))}"):
        fastconv.onnx.load(path)


def test_external_data_stay_in_their_folder(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(4800))
    (tmp_path / "folder").mkdir()
    proto = linear()
    onnx.external_data_helper.set_external_data(proto.graph.initializer[0], "../secret", 0, 4800)
    proto.graph.initializer[0].ClearField("raw_data")
    proto.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    (tmp_path / "folder" / "model.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(DataError, match="external data"):
        fastconv.onnx.load(tmp_path / "folder" / "model.onnx")


def test_files_that_are_no_models(tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(
        DataError, match=r"onnx\.load: expected a file that can be read, got .*model\.onnx: No such file"
    ):
        fastconv.onnx.load(path)
    onnx.save(linear(), path)
    whole = path.read_bytes()
    for data in (whole[:3000], whole[:40], b"PK\x03\x04 a zip", b"", bytes(50)):
        path.write_bytes(data)
        with pytest.raises(DataError, match=rf"onnx\.load: expected .*{re.escape(str(path))}"):
            fastconv.onnx.load(path)
    with pytest.raises(ArgumentError, match=r"onnx\.load: expected a path or a ModelProto, got int"):
        fastconv.onnx.load(3)


def test_tensors_shorter_than_they_say():
    proto = linear()
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]
    with pytest.raises(DataError, match=r"onnx\.load: .*(a valid model|the values of a tensor)"):
        fastconv.onnx.load(proto)


def test_models_that_are_not_valid():
    unsorted = graphs.model([make("Relu", ["a"], ["y"]), make("Relu", ["x"], ["a"])], {"x": [3]}, ["y"])
    unknown = graphs.model([make("Relu", ["x"], ["y"], slope=3.0)], {"x": [3]}, ["y"])
    for proto in (unsorted, unknown):
        with pytest.raises(DataError, match=r"onnx\.load: expected the model to be a valid model"):
            fastconv.onnx.load(proto)
    newest = onnx.defs.onnx_opset_version()
    for opset in (0, newest + 1):
        with pytest.raises(DataError, match=f"of opset 1 to {newest} .*, got {opset}"):
            fastconv.onnx.load(graphs.model([make("Relu", ["x"], ["y"])], {"x": [3]}, ["y"], opset=opset))


def test_every_missing_operator_is_named_at_once():
    nodes = [
        make("Relu", ["x"], ["a"], name="good"),
        make("Det", ["a"], ["b"], name="first"),
        make("Fancy", ["b"], ["c"], domain="com.example", name="second"),
        make("Nonsense", ["c"], ["d"], name="third"),
        make("Tile", ["d", "d", "d"], ["y"]),
    ]
    with pytest.raises(OperatorError) as caught:
        fastconv.onnx.load(graphs.model(nodes, {"x": [3, 3]}, ["y"], opset=5))
    assert str(caught.value).splitlines() == [
        "onnx.load: expected operators that fastconv has, got ",
        "  Det of domain ai.onnx, opset 5, in node 'first'",
        "  Fancy of domain com.example, opset 5, in node 'second'",
        "  Nonsense of domain ai.onnx, opset 5, in node 'third'",
        "  Tile of domain ai.onnx, opset 5 (as defined in 1; known: 6 to 13), in node 'y'",
    ]


def test_uses_that_are_not_there_are_named_at_once():
    nodes = [
        make("BatchNormalization", ["x", "s", "s", "s", "s"], ["a"], name="one", spatial=0),
        make("Cast", ["a"], ["b"], name="two", to=onnx.TensorProto.BFLOAT16),
        make("Relu", ["b"], ["y"]),
    ]
    proto = graphs.model(nodes, {"x": [1, 3, 2]}, ["y"], {"s": np.ones((3, 2), np.float32)}, opset=7)
    proto.opset_import[0].version = 7
    with pytest.raises(OperatorError) as caught:
        fastconv.onnx.model.OnnxModel(proto, checked=True)
    lines = str(caught.value).splitlines()
    assert lines[0] == "BatchNormalization node 'one': expected spatial to be 1, got 0"
    assert lines[1].startswith("Cast node 'two': expected a type to cast to among FLOAT, DOUBLE,")
    assert lines[1].endswith(", got BFLOAT16")


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx.inliner", None)
    with pytest.raises(ImportError, match=r"onnx: expected the package onnx \(pip install 'fastconv\[onnx\]'\), got"):
        fastconv.onnx.load("model.onnx")


def test_functions_of_the_model_are_opened():
    twice = helper.make_function(
        "local", "Twice", ["a"], ["b"], [make("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    proto = graphs.model([make("Twice", ["x"], ["y"], domain="local")], {"x": ["n", 3]}, ["y"], functions=[twice])
    proto.opset_import.append(helper.make_opsetid("local", 1))
    oracle.assert_same_bits(fastconv.onnx.load(proto)(X), X + X)


# -------------------------------------------------------------------------------------- the backend interface


def test_backend():
    backend = fastconv.onnx.Backend
    assert backend is fastconv.onnx.Backend
    assert issubclass(backend, onnx.backend.base.Backend)
    assert [backend.supports_device(name) for name in ("CPU", "CUDA", "CUDA:1")] == [True, False, False]
    expected = X @ normal("w", (3, 400), "float32")
    prepared = backend.prepare(linear())
    for inputs in ([X], {"x": X}, X):
        (y,) = prepared.run(inputs)
        assert isinstance(y, np.ndarray)
        oracle.assert_close(y, expected)
    (y,) = backend.run_model(linear(), [X])
    oracle.assert_close(y, expected)
    with pytest.raises(DeviceError, match=r"onnx\.Backend: expected device CPU, got CUDA"):
        backend.prepare(linear(), "CUDA")


def test_backend_runs_a_node():
    backend = fastconv.onnx.Backend
    assert (
        backend.run_node(make("LeakyRelu", ["x"], ["y"], alpha=0.5), [-X])[0].tolist()
        == np.where(X < 0, -X, -X / 2).tolist()
    )
    y, indices = backend.run_node(
        make("MaxPool", ["x"], ["y", "i"], kernel_shape=[2]), [X.reshape(1, 2, 3)], opset_version=11
    )
    assert (y == X.reshape(-1)[indices]).all()
    (y,) = backend.run_node(make("Clip", ["x", "", "high"], ["y"]), [X, np.float32(0)])
    oracle.assert_same_bits(y, np.minimum(X, np.float32(0)))


def test_backend_says_which_models_it_can_run():
    assert fastconv.onnx.Backend.is_compatible(linear())
    assert not fastconv.onnx.Backend.is_compatible(graphs.model([make("Det", ["x"], ["y"])], {"x": [3, 3]}, ["y"]))
