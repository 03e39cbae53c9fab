"""Single operations as ONNX: what they become, and that onnxruntime computes the same."""

from __future__ import annotations

import numpy as np
import pytest
from exported import check, ops

from fastconv import functional as F
from fastconv import nn, resampling

RNG = np.random.default_rng(5)


def weight(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def conv(rank, w, b=None, **options):
    return lambda x: getattr(F, f"conv{rank}d")(x, w, b, **options)


def up(rank, w, b=None, **options):
    return lambda x: getattr(F, f"conv_transpose{rank}d")(x, w, b, **options)


def f(name, *args, **options):
    return lambda x: getattr(F, name)(x, *args, **options)


MAPS = (2, 6, 9, 11)
TABLE = resampling.interpolating_taps(np.array([0.3, 2.5, 1.0]), 4, resampling.triangle, 1)
CASES = {
    # convolution
    "conv1d": (conv(1, weight(4, 6, 3), weight(4)), [(2, 6, 9)], "Conv"),
    "conv1d same": (conv(1, weight(4, 6, 4), padding="same"), [(2, 6, 9)], "Conv"),
    "conv1d groups": (conv(1, weight(6, 2, 3), groups=3, stride=2, padding=1), [(2, 6, 9)], "Conv"),
    "conv2d": (conv(2, weight(4, 6, 3, 2), weight(4), stride=(2, 1), padding=(1, 0)), [MAPS], "Conv"),
    "conv2d dilated": (conv(2, weight(4, 6, 3, 3), dilation=(2, 3), padding=2), [MAPS], "Conv"),
    "conv2d depthwise": (conv(2, weight(6, 1, 3, 3), groups=6, padding=1), [MAPS], "Conv"),
    "conv2d uneven": (conv(2, weight(4, 6, 3, 3), padding=(1, 0, 2, 1)), [MAPS], "Conv"),
    "conv2d rows": (conv(2, weight(4, 6, 1, 3)), [(2, 6, 1, 9)], "Conv"),
    "conv3d": (conv(3, weight(4, 3, 2, 3, 3), weight(4), groups=2, padding=1), [(2, 6, 4, 5, 6)], "Conv"),
    "conv3d flat": (conv(3, weight(4, 6, 1, 3, 3)), [(2, 6, 1, 5, 6)], "Conv"),
    "conv_transpose1d": (up(1, weight(6, 4, 3), weight(4), stride=2), [(2, 6, 5)], "ConvTranspose"),
    "conv_transpose2d": (
        up(2, weight(6, 2, 3, 3), weight(4), stride=2, padding=1, output_padding=1, groups=2), [MAPS], "ConvTranspose",
    ),
    "conv_transpose2d dilated": (up(2, weight(6, 4, 3, 3), dilation=2, padding=1), [MAPS], "ConvTranspose"),
    "conv_transpose2d uneven": (up(2, weight(6, 4, 3, 3), stride=2, padding=(1, 0, 0, 1)), [MAPS], "ConvTranspose"),
    "conv_transpose3d": (up(3, weight(6, 4, 2, 2, 2), stride=2), [(2, 6, 3, 4, 2)], "ConvTranspose"),
    "unit": (f("conv_unit", weight(4, 6, 3, 3), weight(4), pool=2), [MAPS], "Conv Relu MaxPool"),
    "unit without pool": (f("conv_unit", weight(4, 6, 3)), [(2, 6, 9)], "Conv Relu"),
    "unit without activation": (
        f("conv_unit", weight(4, 6, 2, 3, 3), activation=None, pool=2), [(2, 6, 5, 6, 7)], "Conv MaxPool",
    ),
    "computed weight": (
        lambda x: F.conv2d(x[:, :1], F.multiply(x[:1, :4, :3, :3], 2.0).reshape(4, 1, 3, 3)), [(2, 6, 9, 9)],
        "Slice Slice Mul Reshape Conv",
    ),
    # pooling
    "max_pool1d": (f("max_pool1d", 3, 2, 1), [(2, 3, 10)], "MaxPool"),
    "max_pool2d": (f("max_pool2d", (3, 2), (2, 1), (1, 0)), [MAPS], "MaxPool"),
    "max_pool2d ceil": (f("max_pool2d", 3, 2, 1, ceil_mode=True), [(2, 3, 10, 8)], "MaxPool"),
    "max_pool2d dilated": (f("max_pool2d", 3, 1, 1, 2), [MAPS], "MaxPool"),
    "max_pool2d dilated, much padding": (
        f("max_pool2d", 3, 3, 2, 3, ceil_mode=True), [(2, 3, 12, 11)], "Gather ReduceMax Gather ReduceMax",
    ),
    "max_pool2d one window": (f("max_pool2d", (4, 5)), [(2, 3, 5, 6)], "MaxPool"),
    "max_pool3d": (f("max_pool3d", 2, ceil_mode=True), [(2, 3, 5, 4, 7)], "MaxPool"),
    "max_pool3d flat": (f("max_pool3d", (1, 2, 2)), [(2, 3, 1, 4, 7)], "MaxPool"),
    "max_pool of padded maps": (lambda x: F.max_pool2d(F.pad(x - 9.0, (2, 1, 0, 3)), 2), [MAPS], "Sub Pad MaxPool"),
    "avg_pool of padded maps": (lambda x: F.avg_pool2d(F.pad(x, (2, 1, 0, 3)), 2), [MAPS], "Pad MatMul MatMul"),
    "avg_pool of maps padded a bit": (lambda x: F.avg_pool2d(F.pad(x, (1, 0)), 2), [MAPS], "Pad AveragePool"),
    "max_pool indices": (f("max_pool2d", 3, 2, 1, return_indices=True), [MAPS], "MaxPool Mod"),
    "avg_pool1d": (f("avg_pool1d", 3, 2, 1), [(2, 3, 10)], "AveragePool"),
    "avg_pool2d": (f("avg_pool2d", (3, 2), (2, 1), (1, 0)), [MAPS], "AveragePool"),
    "avg_pool2d without padding": (f("avg_pool2d", 3, 2, 1, count_include_pad=False), [MAPS], "AveragePool"),
    "avg_pool2d ceil": (f("avg_pool2d", 3, 2, 1, ceil_mode=True), [(2, 3, 10, 8)], "AveragePool Mul"),
    "avg_pool2d ceil without padding": (
        f("avg_pool2d", 3, 2, 1, ceil_mode=True, count_include_pad=False), [(2, 3, 10, 8)], "AveragePool",
    ),
    "avg_pool2d divisor": (f("avg_pool2d", 3, 2, divisor_override=5), [MAPS], "AveragePool Mul"),
    "avg_pool2d subsamples": (f("avg_pool2d", 1, 2), [MAPS], "AveragePool"),
    "avg_pool2d dilated": (f("avg_pool2d", 3, 2, 1, dilation=(1, 2)), [MAPS], "MatMul MatMul"),
    "avg_pool2d uneven": (f("avg_pool2d", 3, 2, (1, 0, 0, 1)), [MAPS], "AveragePool"),
    "avg_pool2d uneven ceil": (f("avg_pool2d", 3, 2, (1, 0, 0, 1), ceil_mode=True), [MAPS], None),
    "max_pool2d uneven": (f("max_pool2d", 3, 2, (1, 0, 0, 2)), [MAPS], "MaxPool"),
    "lp_pool2d": (f("lp_pool2d", 2.0, 3), [MAPS], None),
    "avg_pool3d": (f("avg_pool3d", 2, padding=1), [(2, 3, 5, 4, 6)], "AveragePool"),
    "adaptive_avg_pool2d global": (f("adaptive_avg_pool2d", 1), [MAPS], "GlobalAveragePool"),
    "adaptive_avg_pool2d regular": (f("adaptive_avg_pool2d", (3, 5)), [(2, 3, 6, 9)], "AveragePool"),
    "adaptive_avg_pool2d irregular": (f("adaptive_avg_pool2d", (7, None)), [MAPS], "MatMul"),
    "adaptive_avg_pool3d irregular": (f("adaptive_avg_pool3d", (2, 3, 4)), [(2, 3, 5, 7, 9)], None),
    "adaptive_avg_pool1d larger": (f("adaptive_avg_pool1d", 7), [(2, 3, 4)], "MatMul"),
    "adaptive_max_pool1d": (f("adaptive_max_pool1d", 7), [(2, 3, 9)], "Gather ReduceMax"),
    "adaptive_max_pool2d": (f("adaptive_max_pool2d", (7, 4)), [MAPS], "Gather ReduceMax Gather ReduceMax"),
    "adaptive_max_pool2d global": (f("adaptive_max_pool2d", 1), [MAPS], "GlobalMaxPool"),
    # normalisation
    "batch_norm": (
        f("batch_norm", weight(6), 1 + weight(6) ** 2, weight(6), weight(6)), [MAPS], "BatchNormalization",
    ),
    "batch_norm plain": (
        f("batch_norm", weight(6), 1 + weight(6) ** 2, eps=1e-3), [(2, 6, 5)], "BatchNormalization",
    ),
    "batch_norm of vectors": (f("batch_norm", weight(6), 1 + weight(6) ** 2), [(2, 6)], "BatchNormalization"),
    "batch_norm of the batch": (f("batch_norm", None, None, weight(6), training=True), [MAPS], None),
    "instance_norm": (f("instance_norm", None, None, weight(6), weight(6)), [MAPS], "InstanceNormalization"),
    "instance_norm plain": (f("instance_norm", eps=1e-2), [(2, 6, 7)], "InstanceNormalization"),
    "instance_norm 3-D": (f("instance_norm", None, None, weight(6)), [(2, 6, 3, 4, 5)], "InstanceNormalization"),
    "group_norm": (
        f("group_norm", 3, weight(6), weight(6)), [MAPS],
        "Reshape InstanceNormalization Reshape Reshape Mul Reshape Add",
    ),
    "group_norm of one group": (f("group_norm", 1), [MAPS], "Reshape InstanceNormalization Reshape"),
    "layer_norm": (f("layer_norm", 11, weight(11), weight(11)), [MAPS], "LayerNormalization"),
    "layer_norm of maps": (f("layer_norm", (9, 11), weight(9, 11)), [MAPS], None),
    "layer_norm of samples": (f("layer_norm", (6, 9, 11), weight(6, 9, 11)), [MAPS], "LayerNormalization"),
    "local_response_norm": (f("local_response_norm", 5, 0.5), [MAPS], "LRN"),
    "local_response_norm 1-D": (f("local_response_norm", 3, 0.5, 0.5, 2.0), [(2, 6, 7)], "Reshape LRN Reshape"),
    "local_response_norm even": (f("local_response_norm", 4, 0.5), [MAPS], None),
    # dense layers and products
    "linear": (f("linear", weight(4, 6), weight(4)), [(2, 6)], "Gemm"),
    "linear without bias": (f("linear", weight(4, 6)), [(2, 6)], "Gemm"),
    "linear of sequences": (f("linear", weight(4, 6), weight(4)), [(2, 5, 6)], "Reshape Gemm Reshape"),
    "matmul": (f("matmul", weight(6, 4)), [(2, 6)], None),
    "matmul of two": (lambda x, y: F.matmul(x, F.transpose(y, 2, 3)), [MAPS, MAPS], "Transpose MatMul"),
    "matmul broadcast": (f("matmul", weight(6, 11, 3)), [MAPS], "MatMul"),
    "power of arrays": (f("pow", np.arange(6, dtype=np.float32).reshape(6, 1, 1)), [MAPS], "Pow"),
    "prelu": (f("prelu", weight(6)), [MAPS], None),
    "threshold": (f("threshold", 0.3, -2.0), [MAPS], None),
    "prod": (f("prod", dim=2), [(2, 3, 5)], None),
    "softmax": (f("softmax", 1), [MAPS], "Softmax"),
    "softmax last": (f("softmax", -1), [MAPS], "Softmax"),
    "log_softmax": (f("log_softmax", 2), [MAPS], "LogSoftmax"),
    # arithmetic
    "add a number": (lambda x: F.add(x, 2.0), [MAPS], "Add"),
    "sum of two": (lambda x, y: F.add(x, y), [MAPS, MAPS], "Add"),
    "subtract broadcast": (f("subtract", weight(6, 1, 1)), [MAPS], "Sub"),
    "multiply": (lambda x: F.multiply(x, x), [MAPS], "Mul"),
    "scale": (lambda x: F.multiply(x, 0.3), [MAPS], "Mul"),
    "negative": (lambda x: -x, [MAPS], "Neg"),
    "divide": (lambda x: F.divide(1.0, F.add(F.multiply(x, x), 1.0)), [MAPS], "Mul Add Div"),
    "maximum": (lambda x: F.maximum(x, 0.5), [MAPS], "Max"),
    "minimum": (lambda x: F.minimum(x, 0.5), [MAPS], None),
    "sum": (f("sum", dim=(1, 3)), [MAPS], "ReduceSum"),
    "sum kept": (f("sum", dim=-1, keepdim=True), [MAPS], "ReduceSum"),
    "sum of all": (f("sum"), [MAPS], "ReduceSum"),
    "mean": (f("mean", dim=(2, 3)), [MAPS], "ReduceMean"),
    "variance": (f("variance", dim=(2, 3)), [MAPS], "ReduceMean Sub Mul ReduceMean"),
    "amax": (f("amax", dim=1), [MAPS], "ReduceMax Reshape"),
    "amin kept": (f("amin", dim=(1, 2), keepdim=True), [MAPS], "ReduceMin"),
    # shapes
    "reshape": (lambda x: F.reshape(x, (x.shape[0], 3, -1)), [MAPS], "Reshape"),
    "reshape through": (lambda x: F.reshape(F.reshape(x, (-1,)), (-1, *MAPS[1:])), [MAPS], "Identity"),
    "reshape batch behind": (lambda x: F.reshape(x, (6, -1)), [MAPS], "Reshape"),
    "flatten": (f("flatten", 1), [MAPS], "Flatten"),
    "flatten inside": (f("flatten", 2), [MAPS], "Reshape"),
    "permute": (f("permute", (0, 2, 3, 1)), [MAPS], "Transpose"),
    "transpose": (f("transpose", 1, 3), [MAPS], "Transpose"),
    "cat": (lambda x: F.cat([x, F.relu(x), x], 1), [MAPS], "Relu Concat"),
    "split": (f("split", [1, 3, 2], 1), [MAPS], "Slice Slice Slice"),
    "chunk": (f("chunk", 4, 3), [MAPS], "Slice Slice Slice Slice"),
    "index": (lambda x: x[:, 2], [MAPS], "Slice Reshape"),
    "index from behind": (lambda x: x[:, -1, ..., -3:], [MAPS], "Slice Reshape"),
    "index with steps": (lambda x: x[..., ::-2, 8:1:-3], [MAPS], "Slice"),
    "index with new axes": (lambda x: x[:, None, 1, ..., None], [MAPS], "Slice Reshape"),
    "index the batch": (lambda x: x[:1], [MAPS], "Slice"),
    "index everything": (lambda x: x[:], [MAPS], "Identity"),
    "pad": (f("pad", (1, 2, 0, 3), value=0.5), [MAPS], "Pad"),
    "pad channels": (f("pad", (0, 0, 0, 0, 1, 2)), [MAPS], "Pad"),
    "pad reflect": (f("pad", (1, 2, 3, 0), "reflect"), [MAPS], "Pad"),
    "pad replicate": (f("pad", (1, 2, 3, 0), "replicate"), [MAPS], "Pad"),
    "pad circular": (f("pad", (1, 2, 3, 0), "circular"), [MAPS], "Slice Concat Slice Slice Concat"),
    "crop": (f("pad", (-1, -2, 0, -3)), [MAPS], "Slice"),
    "pad and crop": (f("pad", (-1, 2, 1, -3), "reflect"), [MAPS], "Pad Slice"),
    "circular crop": (f("pad", (-1, 2, 1, -3), "circular"), [MAPS], None),
    "pixel_shuffle": (f("pixel_shuffle", 2), [(2, 8, 3, 5)], "Reshape Transpose Reshape"),
    "pixel_unshuffle": (f("pixel_unshuffle", 2), [(2, 3, 4, 6)], "Reshape Transpose Reshape"),
    # resampling
    "nearest": (f("interpolate", scale_factor=2), [MAPS], "Resize"),
    "nearest 1-D": (f("interpolate", scale_factor=3), [(2, 3, 5)], "Resize"),
    "nearest 3-D": (f("interpolate", scale_factor=2), [(2, 3, 2, 3, 4)], "Resize"),
    "nearest to a size": (f("interpolate", size=(5, 13)), [MAPS], "Gather Gather"),
    "nearest-exact": (f("interpolate", size=(5, 13), mode="nearest-exact"), [MAPS], "Gather Gather"),
    "bilinear": (f("interpolate", scale_factor=2, mode="bilinear"), [MAPS], "Resize"),
    "bilinear corners": (f("interpolate", size=(5, 13), mode="bilinear", align_corners=True), [MAPS], "Resize"),
    "bilinear by factor": (f("interpolate", scale_factor=1.3, mode="bilinear"), [MAPS], "MatMul MatMul"),
    "bilinear antialias": (f("interpolate", size=5, mode="bilinear", antialias=True), [MAPS], "MatMul MatMul"),
    "bilinear one axis": (f("interpolate", size=(9, 20), mode="bilinear"), [MAPS], "Resize"),
    "interpolate linear": (f("interpolate", size=13, mode="linear"), [(2, 3, 5)], "MatMul"),
    "trilinear": (f("interpolate", size=(3, 7, 4), mode="trilinear"), [(2, 3, 2, 5, 6)], "Resize"),
    "trilinear by factor": (f("interpolate", scale_factor=1.7, mode="trilinear"), [(2, 3, 2, 5, 6)], None),
    "bicubic": (f("interpolate", size=(14, 7), mode="bicubic"), [MAPS], "Resize"),
    "bicubic corners": (f("interpolate", size=(14, 7), mode="bicubic", align_corners=True), [MAPS], "Resize"),
    "bicubic antialias": (f("interpolate", size=(5, 7), mode="bicubic", antialias=True), [MAPS], "MatMul MatMul"),
    "resample": (lambda x: F.resample(x, [None, TABLE, None, TABLE]), [(2, 4, 3, 4)], None),
    "area": (f("interpolate", size=(7, 4), mode="area"), [MAPS], "MatMul MatMul"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_operations(name):
    function, shapes, expected = CASES[name]
    proto = check(function, shapes)
    assert expected is None or ops(proto) == expected


ACTIVATIONS = {
    "relu": "Relu", "leaky_relu": "LeakyRelu", "sigmoid": "Sigmoid", "tanh": "Tanh", "relu6": "Clip",
    "elu": "Elu", "celu": "Elu", "hardtanh": "Clip", "selu": "Elu Mul", "silu": "Sigmoid Mul", "hardswish": "HardSwish",
    "hardsigmoid": "HardSigmoid", "softplus": "Softplus", "softsign": "Softsign", "exp": "Exp", "abs": "Abs",
    "reciprocal": "Reciprocal", "erf": "Erf", "floor": "Floor", "ceil": "Ceil",
    "round": "Round", "sign": "Sign", "sin": "Sin", "cos": "Cos",
    "mish": "Softplus Tanh Mul", "gelu": None, "log": "Log", "sqrt": "Sqrt",
}  # fmt: skip


@pytest.mark.parametrize("opset", [13, 18, 22])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, opset):
    expected = ACTIVATIONS[name]
    if name in ("log", "sqrt"):
        proto = check(lambda x: getattr(F, name)(F.add(F.abs(x), 0.1)), [(2, 3, 5)], opset=opset)
        expected = f"Abs Add {expected}"
    else:
        proto = check(f(name), [(2, 3, 5)], opset=opset)
    if (name, opset) != ("hardswish", 13):
        assert expected is None or ops(proto) == expected
    if name == "gelu":
        assert (ops(proto) == "Gelu") == (opset >= 20)


OPTIONS = {
    "celu": {"alpha": 0.5}, "elu": {"alpha": 0.7}, "leaky_relu": {"negative_slope": 0.3}, "softplus": {"beta": 2.0},
    "gelu": {"approximate": "tanh"}, "hardtanh": {"min_val": -0.3, "max_val": 0.8}, "pow": {"exponent": 3.0},
    "clip": {"min": None, "max": 0.5},
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_activations_with_options(name):
    check(f(name, **OPTIONS[name]), [(2, 3, 5)])


@pytest.mark.parametrize("opset", range(13, 23))
def test_every_opset(opset):
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.GELU(), nn.MaxPool2d(2, ceil_mode=True), nn.InstanceNorm2d(4),
        nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="bilinear"), nn.BatchNorm2d(4),
        nn.AvgPool2d(3, 2, 1),
    )  # fmt: skip
    for function in (net, f("layer_norm", 9), f("mean", dim=(2, 3)), f("amax", dim=1), f("pad", (1, 2), "circular")):
        proto = check(function, [(2, 3, 9, 9)], opset=opset)
        assert proto.opset_import[0].version == opset
