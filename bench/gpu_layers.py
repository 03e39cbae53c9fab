"""What bench.gpu measures, without PyTorch: layers and their geometry, LeNet and its step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastconv
from fastconv import backends, nn, optim
from fastconv.geometry import ConvGeometry, conv_geometry

SHAPES = Path(__file__).parent / "shapes"
LENET_BATCHES = (64, 512, 4096)
LENET = (32, 256, 28)  # maps of the first layer, units of the last but one, edge of a picture
SMALL_LENET = (2, 4, 16)


def listed(file: str) -> list[dict[str, Any]]:
    """Return what a file of bench/shapes lists."""
    return json.loads((SHAPES / file).read_text(encoding="utf-8"))


def convolution(layer: dict[str, Any], work: float, compute: str) -> ConvGeometry | None:
    """Return a layer's convolution, of as many samples as make so much work; None where one is far too much."""
    rank, (ic, oc), groups = len(layer["input"]), layer["channels"], layer["groups"]
    options = {name: layer[name] for name in ("stride", "padding", "groups")}
    w_shape = oc, ic // groups, *layer["kernel"]
    one = conv_geometry("conv", rank, (1, ic, *layer["input"]), w_shape, **options)
    if one.flops > 8 * work:
        return None
    n = max(1, round(work / one.flops))
    return conv_geometry("conv", rank, (n, ic, *layer["input"]), w_shape, **options, compute=compute)


def lenet_layers(maps: int, units: int, edge: int) -> tuple[tuple, ...]:
    """Return LeNet's layers, as names of nn and arguments: what PyTorch makes of them too."""
    flat = 2 * maps * ((edge - 4) // 2 - 4) // 2 * (((edge - 4) // 2 - 4) // 2)
    return (("Conv2d", 1, maps, 5), ("ReLU",), ("MaxPool2d", 2), ("Conv2d", maps, 2 * maps, 5), ("ReLU",),
            ("MaxPool2d", 2), ("Flatten",), ("Linear", flat, units), ("ReLU",), ("Linear", units, 10))  # fmt: skip


def lenet(maps: int, units: int, edge: int) -> nn.Sequential:
    return nn.Sequential(*(getattr(nn, kind)(*rest) for kind, *rest in lenet_layers(maps, units, edge)))


def replayed(backend: backends.Backend, model: Any, x: Any, labels: Any) -> Callable[[], Any]:
    """Return our step as the trainer makes it: labels from the host, the rest replayed."""
    stepper, rows = optim.SGD(model.parameters(), lr=0.0), labels.reshape(-1, 1)

    def step() -> Any:
        loss = fastconv.functional.cross_entropy(model(fastconv.Tensor(x)), labels)
        stepper.zero_grad()
        loss.backward()
        stepper.step()
        return loss.data

    for _ in range(2):  # kernels are compiled, tables made
        step()
    graph = backend.captured(step, [rows])
    if graph is None:
        raise RuntimeError("the training step of LeNet was not captured")
    return lambda: graph([rows], [], stepper.step)
