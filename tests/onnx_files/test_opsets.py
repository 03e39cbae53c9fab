"""Operators as files of several opsets write them: the same as onnxruntime's, where ONNX's own cases are too new."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is missing: pip install fastconv[onnx]")
import graphs
import oracle
from layouts import distinct, normal

import fastconv.onnx

X = distinct("x", (2, 4, 6, 5), "float32")
ROW = normal("row", (5,), "float32")
C = np.abs(normal("c", (4,), "float32")) + np.float32(0.5)
W = normal("w", (6, 4, 3, 2), "float32")


def i8(*values):
    return np.array(values, np.int64)


def f4(*values):
    return np.array(values, np.float32)


# operator, opset, inputs, how many of them are initializers, attributes
CASES = [
    ("Softmax", 7, [X], 0, {"axis": 2}), ("Softmax", 11, [X], 0, {}), ("LogSoftmax", 12, [X], 0, {"axis": -1}),
    ("Softmax", 13, [X], 0, {"axis": 1}), ("Hardmax", 11, [X], 0, {"axis": 3}), ("Hardmax", 13, [X], 0, {"axis": 2}),
    ("Clip", 7, [X], 0, {"min": -0.5, "max": 0.75}), ("Clip", 7, [X], 0, {"max": 0.5}),
    ("Clip", 11, [X, f4(-0.5).reshape(())], 1, {}), ("Clip", 12, [X, None, f4(0.5).reshape(())], 1, {}),
    ("Slice", 9, [X], 0, {"starts": [1, -3], "ends": [3, 100], "axes": [1, 2]}),
    ("Slice", 7, [X], 0, {"starts": [0, 1], "ends": [1, -1]}),
    ("Slice", 10, [X, i8(-1, 4), i8(-100, 0), i8(3, 2), i8(-2, -1)], 4, {}),
    ("Slice", 13, [X, i8(1), i8(2**63 - 1)], 2, {}), ("Squeeze", 7, [X[:1, :, :1]], 0, {"axes": [0, 2]}),
    ("Squeeze", 11, [X[:1]], 0, {}), ("Squeeze", 13, [X[:, :1], i8(-3)], 1, {}),
    ("Unsqueeze", 7, [ROW], 0, {"axes": [0, 2]}), ("Unsqueeze", 11, [X], 0, {"axes": [-1, 0]}),
    ("Unsqueeze", 13, [X, i8(1, -2)], 1, {}), ("Split", 7, [X], 0, {"axis": 1}),
    ("Split", 11, [X], 0, {"axis": -1, "split": [2, 3]}), ("Split", 13, [X, i8(1, 3)], 1, {"axis": 1}),
    ("Split", 18, [X], 0, {"axis": 3, "num_outputs": 2}),
    ("Pad", 7, [X], 0, {"pads": [0, 0, 1, 2, 0, 1, 0, 3], "value": 1.5}),
    ("Pad", 10, [X], 0, {"pads": [0, 0, 1, 2, 0, 0, 3, 1], "mode": "reflect"}),
    ("Pad", 11, [X, i8(0, 0, 2, 0, 0, 1, 0, 4)], 1, {"mode": "edge"}),
    ("Pad", 13, [X, i8(0, 0, -1, 0, 0, 1, 0, -2), f4(2).reshape(())], 2, {}),
    ("Pad", 18, [X, i8(1, 2, 0, 1), None, i8(3, -2)], 2, {}),
    ("Pad", 19, [X, i8(0, 0, 1, 2, 0, 0, 3, 4)], 1, {"mode": "wrap"}),
    ("ReduceSum", 7, [X], 0, {"axes": [1, -1], "keepdims": 0}), ("ReduceSum", 13, [X, i8(1, 3)], 1, {}),
    ("ReduceMean", 11, [X], 0, {"axes": [2, 3]}), ("ReduceMean", 18, [X, i8(2, 3)], 1, {"keepdims": 0}),
    ("ReduceMax", 12, [X], 0, {"axes": [-2]}), ("ReduceMin", 18, [X, i8(0)], 1, {}),
    ("ReduceProd", 13, [X], 0, {"axes": [1]}), ("ReduceL1", 11, [X], 0, {}),
    ("ReduceL2", 13, [X], 0, {"axes": [0, 1], "keepdims": 0}), ("ReduceLogSumExp", 13, [X], 0, {"axes": [1]}),
    ("ReduceSumSquare", 18, [X], 0, {"noop_with_empty_axes": 1}), ("ArgMax", 11, [X], 0, {"axis": 1, "keepdims": 0}),
    ("ArgMin", 12, [np.round(X)], 0, {"axis": -1, "select_last_index": 1}),
    ("Upsample", 7, [X], 0, {"scales": [1.0, 1.0, 2.0, 3.0], "mode": "nearest"}),
    ("Upsample", 9, [X, f4(1, 1, 2, 1.5)], 1, {"mode": "linear"}),
    ("Upsample", 7, [X], 0, {"scales": [1.0, 1.0, 1.0, 1.4], "mode": "linear"}),  # 1.4 in float32 is less than 1.4:
    ("Resize", 13, [X, None, f4(1, 1, 1.5, 1.4)], 1, {"mode": "linear"}),  # 7 columns all the same
    ("Resize", 10, [X, f4(1, 1, 2, 3)], 1, {"mode": "nearest"}),
    ("Resize", 10, [X, f4(1, 1, 1.5, 2)], 1, {"mode": "linear"}),
    ("Resize", 11, [X, f4(), f4(1, 1, 0.6, 1.7)], 2, {"mode": "cubic", "cubic_coeff_a": -0.5}),
    ("Resize", 11, [X, f4(), f4(), i8(2, 4, 9, 3)], 3,
      {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
    ("Resize", 13, [X, None, f4(1, 1, 2.5, 0.7)], 1,
      {"mode": "nearest", "nearest_mode": "ceil", "coordinate_transformation_mode": "asymmetric"}),
    ("Resize", 11, [X, f4(), f4(1, 1, 2.5, 0.7)], 2,
      {"mode": "nearest", "coordinate_transformation_mode": "tf_half_pixel_for_nn"}),
    ("BatchNormalization", 7, [X, C, C - 1, C / 2, C], 4, {"epsilon": 1e-3}),
    ("BatchNormalization", 9, [X, C, C - 1, C / 2, C], 4, {}),
    ("BatchNormalization", 15, [X, C, C - 1, C / 2, C], 4, {}), ("InstanceNormalization", 7, [X, C, C - 1], 2, {}),
    ("LayerNormalization", 17, [X, normal("s", (6, 5), "float32"), normal("t", (6, 5), "float32")], 2, {"axis": 2}),
    ("LayerNormalization", 17, [X, ROW], 1, {"epsilon": 1e-3}), ("LpNormalization", 7, [X], 0, {"axis": 1, "p": 1}),
    ("LpNormalization", 11, [X], 0, {}), ("MeanVarianceNormalization", 9, [X], 0, {}),
    ("MeanVarianceNormalization", 13, [X], 0, {"axes": [0, 1]}),
    ("LRN", 7, [X], 0, {"size": 3, "alpha": 0.5, "beta": 0.6, "bias": 2.0}), ("LRN", 13, [X], 0, {"size": 5}),
    ("Dropout", 7, [X], 0, {"ratio": 0.9}), ("Dropout", 10, [X], 0, {}),
    ("Dropout", 12, [X, f4(0.7).reshape(())], 1, {}),
    ("Conv", 7, [X, W], 1, {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    ("Conv", 11, [X, W, C.repeat(2)[:6]], 2, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", 11, [X, W], 1, {"auto_pad": "SAME_LOWER", "strides": [1, 2]}),
    ("Conv", 11, [X, W], 1, {"auto_pad": "VALID", "strides": [1, 3]}),
    ("Conv", 7, [X, normal("g", (4, 1, 3, 3), "float32")], 1, {"group": 4, "pads": [1, 1, 1, 1]}),
    ("ConvTranspose", 7, [X, normal("t", (4, 3, 3, 2), "float32"), C[:3]], 2,
      {"strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 0]}),
    ("ConvTranspose", 11, [X, normal("t", (4, 3, 3, 2), "float32")], 1, {"strides": [2, 3], "output_shape": [12, 14]}),
    ("ConvTranspose", 11, [X, normal("t", (4, 2, 3, 3), "float32"), C], 2,
      {"strides": [2, 2], "auto_pad": "SAME_UPPER", "group": 2}),
    ("MaxPool", 7, [X], 0, {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [0, 1, 2, 0]}),
    ("MaxPool", 8, [X], 0, {"kernel_shape": [2, 2]}),
    ("MaxPool", 10, [X], 0, {"kernel_shape": [2, 2], "dilations": [2, 1], "ceil_mode": 1, "strides": [2, 3]}),
    ("MaxPool", 11, [X], 0, {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("AveragePool", 7, [X], 0, {"kernel_shape": [3, 3], "pads": [1, 0, 1, 2], "count_include_pad": 1}),
    ("AveragePool", 7, [X], 0, {"kernel_shape": [3, 2], "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("AveragePool", 10, [X], 0, {"kernel_shape": [2, 2], "strides": [4, 3], "ceil_mode": 1}),
    ("AveragePool", 19, [X], 0, {"kernel_shape": [2, 2], "dilations": [2, 2], "pads": [1, 1, 1, 1]}),
    ("LpPool", 2, [X], 0, {"kernel_shape": [2, 3], "pads": [1, 0, 0, 1], "p": 3}),
    ("GlobalLpPool", 7, [X], 0, {"p": 2}), ("GlobalAveragePool", 7, [X], 0, {}),
    ("GlobalMaxPool", 7, [X[:, :, 0]], 0, {}),
    ("Gemm", 7, [X[0, 0], normal("b", (7, 5), "float32"), f4(1, 2, 3, 4, 5, 6, 7)], 2, {"transB": 1}),
    ("Gemm", 9, [X[0, 0], normal("b", (6, 3), "float32"), f4(0.5)], 2, {"transA": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", 13, [X[0, 0], normal("b", (5, 3), "float32")], 1, {"alpha": 3.0}),
    ("MatMul", 7, [X, normal("m", (4, 5, 2), "float32")], 0, {}),
    ("MatMul", 9, [X, normal("m", (5, 2), "float32")], 1, {}),
    ("MatMul", 13, [ROW, normal("m", (5, 2), "float32")], 1, {}), ("MatMul", 13, [X, ROW], 1, {}),
    ("MatMul", 13, [normal("m", (3, 6), "float32"), X], 0, {}),
    ("MatMul", 13, [X[0, 0, 0], X.transpose(0, 1, 3, 2)], 0, {}), ("PRelu", 7, [X, C.reshape(4, 1, 1)], 1, {}),
    ("PRelu", 9, [X, ROW], 1, {}), ("Selu", 7, [X], 0, {"gamma": 2.0}), ("Elu", 7, [X], 0, {"alpha": 0.5}),
    ("Gelu", 20, [X], 0, {"approximate": "tanh"}), ("HardSigmoid", 7, [X], 0, {"alpha": 0.3}),
    ("ThresholdedRelu", 10, [X], 0, {"alpha": 0.5}), ("Shrink", 9, [X], 0, {"lambd": 0.75, "bias": 0.25}),
    ("Celu", 12, [X], 0, {"alpha": 2.0}), ("Mish", 18, [X], 0, {}), ("Add", 7, [X, C.reshape(4, 1, 1)], 1, {}),
    ("Pow", 7, [np.abs(X), f4(2.5)], 1, {}), ("Pow", 12, [X, i8(3)], 1, {}),
    ("Div", 7, [i8(-7, 7, 8), i8(2, -2, 3)], 0, {}), ("Mod", 10, [i8(-7, 7, 8), i8(2, -2, 3)], 0, {}),
    ("Sum", 8, [X, ROW, X], 0, {}), ("Mean", 8, [X, ROW], 0, {}), ("Max", 8, [X, ROW], 0, {}),
    ("Min", 12, [i8(1, 5), i8(3, 2)], 0, {}), ("Gather", 7, [X, i8(2, 0, 1).reshape(3, 1)], 1, {"axis": 1}),
    ("Gather", 11, [X, i8(-1).reshape(())], 1, {"axis": 2}),
    ("GatherElements", 11, [X, i8(0, 3, 1, -1, 2, 2).reshape(1, 1, 1, 6)[..., :5] % 4], 1, {"axis": 3}),
    ("Where", 9, [X > 0, X, ROW], 0, {}), ("Expand", 8, [ROW, i8(2, 1, 5)], 1, {}),
    ("Tile", 7, [X, i8(1, 2, 1, 2)], 1, {}), ("Reshape", 7, [X, i8(0, -1, 5)], 1, {}),
    ("Reshape", 14, [X[:0], i8(3, 0)], 1, {"allowzero": 1}), ("Flatten", 7, [X], 0, {"axis": 2}),
    ("Flatten", 11, [X], 0, {"axis": -1}), ("Transpose", 7, [X], 0, {}),
    ("Transpose", 13, [X], 0, {"perm": [2, 0, 3, 1]}), ("Concat", 7, [X, X[:, :1]], 0, {"axis": 1}),
    ("DepthToSpace", 7, [X], 0, {"blocksize": 2}), ("DepthToSpace", 11, [X], 0, {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", 7, [X[..., :4]], 0, {"blocksize": 2}), ("Cast", 9, [X], 0, {"to": 7}),
    ("Cast", 13, [i8(0, 3)], 0, {"to": 1}), ("Cast", 13, [X], 0, {"to": 11}),
    ("ConstantOfShape", 9, [i8(2, 3)], 0, {}), ("Shape", 15, [X], 0, {"start": 1, "end": -1}),
    ("Size", 7, [X], 0, {}), ("Range", 11, [*(np.array(v, np.float32) for v in (1, 4, 0.75))], 0, {}),
    ("NonZero", 9, [np.round(X[0, 0])], 0, {}),
    ("OneHot", 11, [i8(1, -1, 7), i8(4).reshape(()), f4(-1, 2)], 0, {"axis": 0}),
    ("NegativeLogLikelihoodLoss", 12, [X, np.arange(60).reshape(2, 6, 5) % 4, C], 0, {"ignore_index": 2}),
    ("SoftmaxCrossEntropyLoss", 12, [X, np.arange(60).reshape(2, 6, 5) % 4], 0, {"reduction": "sum"}),
]  # fmt: skip


def label(case) -> str:
    op, opset, _, _, attributes = case
    return f"{op}-{opset}-{'-'.join(map(str, attributes.values()))}"


@pytest.mark.parametrize("case", CASES, ids=label)
def test_like_onnxruntime(case):
    op, opset, inputs, constant, attributes = case
    proto, free = graphs.node(op, inputs, opset, 2 if op == "Split" else 1, constant, **attributes)
    model = fastconv.onnx.load(proto)
    results = model(**free)
    expected = graphs.runtime(proto, free)
    for ours, theirs in zip(results if isinstance(results, tuple) else [results], expected, strict=True):
        ours = fastconv.Tensor(ours).numpy()
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        if theirs.dtype.kind == "f":
            oracle.assert_close(ours, theirs, 2e-6)
        else:
            assert (ours == theirs).all()
