"""A network that PyTorch has exported: its outputs, and its gradients while it trains."""

from __future__ import annotations

import io
import logging
import warnings

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is missing: pip install fastconv[onnx]")
import onnx
import oracle

import fastconv.onnx
from fastconv import functional as F


def network(t):
    """Grouped and dilated convolutions, batch norm, a skip, poolings, upsampling, selections, a classifier."""
    nn = t.nn

    class Block(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.conv = nn.Conv2d(channels, channels, 3, padding=2, dilation=2, groups=2, bias=False)
            self.bn = nn.BatchNorm2d(channels)
            self.act = nn.PReLU(channels)

        def forward(self, x):
            return x + self.act(self.bn(self.conv(x)))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
            self.block = Block(8)
            self.up = nn.ConvTranspose2d(8, 4, 3, stride=2, output_padding=1)
            self.head = nn.Linear(4 * 3 * 3, 5)

        def forward(self, x):
            x = self.block(self.stem(x))
            x = t.cat([t.nn.functional.max_pool2d(x, 3, 1, 1), x[:, ::2]], 1)[:, [0, 3, 5, 7, 1, 2, 9, 8]]
            x = t.nn.functional.interpolate(self.up(x), scale_factor=0.5, mode="bilinear")
            x = t.nn.functional.gelu(t.nn.functional.adaptive_avg_pool2d(x[..., :6, :6], 3))
            return self.head(t.where(x > 0, x, x * x).view(x.size(0), -1))

    t.manual_seed(0)
    model = Network()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


def exported(t, model, x):
    """Return the model as PyTorch exports it: nothing folded, its batch open."""
    file = io.BytesIO()
    mode = t.onnx.TrainingMode.TRAINING if model.training else t.onnx.TrainingMode.EVAL
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own, and that it is the older one
            t.onnx.export(
                model, (x,), file, dynamo=False, training=mode, do_constant_folding=False, opset_version=17,
                input_names=["x"], dynamic_axes={"x": {0: "n"}},
            )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)
    return fastconv.onnx.load(onnx.load_from_string(file.getvalue()))


def test_outputs():
    t = oracle.torch()
    model = network(t).eval()
    ours = exported(t, model, t.zeros(2, 3, 17, 19))
    for batch in (1, 5):
        x = np.random.default_rng(batch).standard_normal((batch, 3, 17, 19)).astype(np.float32)
        with t.no_grad():
            oracle.assert_close(ours(x).numpy(), model(t.from_numpy(x)).numpy())


def test_gradients_and_statistics_of_training():
    t = oracle.torch()
    model = network(t).train()
    ours = exported(t, model, t.zeros(2, 3, 17, 19)).double().train()
    model.load_state_dict({name: t.from_numpy(array) for name, array in ours.state_dict().items()}, strict=False)
    x = np.random.default_rng(0).standard_normal((4, 3, 17, 19))
    labels = np.array([0, 4, 2, 2])
    loss, theirs = F.cross_entropy(ours(x), labels), model.double()(t.from_numpy(x))
    loss.backward()
    t.nn.functional.cross_entropy(theirs, t.from_numpy(labels)).backward()
    parameters, named = dict(ours.named_parameters()), dict(model.named_parameters())
    assert len(named.keys() & parameters.keys()) >= len(named) - 1  # the exporter reshapes the slopes of PReLU
    for name in named.keys() & parameters.keys():
        oracle.assert_close(parameters[name].grad, named[name].grad.numpy(), 1e-6, name)  # its eps is a float32
    statistics = {name: array for name, array in model.named_buffers() if name in ours.state_dict()}
    assert len(statistics) == 4
    for name, array in statistics.items():
        oracle.assert_close(ours.state_dict()[name], array.numpy(), 1e-6, name)
