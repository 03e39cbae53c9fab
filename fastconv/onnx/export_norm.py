"""Export of normalisation: what the backend does in steps is one node in the file.

Batch norm by running statistics is ``reciprocal_root`` and ``batch_norm_forward``. Norms over trailing axes bring rows
to mean 0 and variance 1 by ``batch_norm_statistics`` of a batch of one, and scale and shift in a second
``batch_norm_forward`` with mean 0 and deviation 1; the two become one node where ONNX has it. Group norm is
InstanceNormalization, in which a group takes a channel's place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Node, Value
from .export_builder import Builder, Stored, product, writes
from .export_elements import axis_of, follow


@writes("batch_norm_statistics")
def _statistics(b: Builder, node: Node) -> None:
    """Mean and variance, for those who use them in another way than the nodes below."""
    x, c = b.exact(node["x"]), node["x"].sizes[1]
    mean = b.reduce("ReduceMean", x, (0, 2), True)
    centred = b.emit("Sub", [x, mean])
    variance = b.reduce("ReduceMean", b.emit("Mul", [centred, centred]), (0, 2), True)
    for value, name in zip(node.results, (mean, variance), strict=True):
        b.put(value, b.reshaped(Stored(name, (1, c, 1)), (c,)))


@writes("reciprocal_root")
def _reciprocal_root(b: Builder, node: Node) -> None:
    moved = b.emit("Add", [b.exact(node["variance"]), b.number(node["eps"], node.result.dtype)])
    b.put(node.result, b.emit("Reciprocal", [b.emit("Sqrt", [moved])]))


@writes("batch_norm_forward")
def _batch_norm(b: Builder, node: Node) -> None:
    _normalised(b, node)
    follow(b, node.result, node)


def _normalised(b: Builder, node: Node) -> None:
    root = b.producers.get(node["rstd"])
    if root is not None and root.verb == "reciprocal_root":
        by = b.producers.get(root["variance"])
        if b.known(root["variance"]) is not None and b.known(node["mean"]) is not None:
            return _by_running_statistics(b, node, root)
        own = by is not None and by.verb == "batch_norm_statistics" and by["x"] is node["x"]
        if own and node["mean"] is by.results[0] and node["x"].sizes[0] == 1 and node["weight"] is None:
            return _standardise(b, node, root["eps"])
    if _is_all(b, node["mean"], 0) and _is_all(b, node["rstd"], 1):
        return _scale_and_shift(b, node)
    x = b.exact(node["x"])
    y = b.emit("Mul", [b.emit("Sub", [x, _column(b, node["mean"])]), _column(b, node["rstd"])])
    b.put(node.result, _affine(b, y, node, lambda value: _column(b, value)))


def _is_all(b: Builder, value: Value, number: float) -> bool:
    array = b.known(value)
    return array is not None and bool((array == number).all())


def _column(b: Builder, value: Value) -> str:
    """A value a channel (C,), beside (N, C, L)."""
    return b.reshaped(b.stored(value), (value.sizes[0], 1))


def _affine(b: Builder, name: str, node: Node, lifted: Any) -> str:
    if node["weight"] is not None:
        name = b.emit("Mul", [name, lifted(node["weight"])])
    return name if node["bias"] is None else b.emit("Add", [name, lifted(node["bias"])])


def _by_running_statistics(b: Builder, node: Node, root: Node) -> None:
    stored, channels = b.stored(node["x"]), node["x"].sizes[1]
    if axis_of(b, node["x"]) != 1:
        stored = Stored(b.exact(node["x"]), node["x"].sizes)
    like = node.result.dtype
    inputs = [stored.name, *_weights(b, node, channels, like), b.exact(node["mean"]), b.exact(root["variance"])]
    b.put(node.result, b.emit("BatchNormalization", inputs, epsilon=float(root["eps"])), stored.sizes)


def _weights(b: Builder, node: Node | None, channels: int, dtype: np.dtype) -> list[str]:
    """Return the names of weight and bias (C,): the node's, or ones and zeros."""
    names = []
    for which, number in (("weight", 1), ("bias", 0)):
        value = None if node is None else node[which]
        names.append(b.constant(np.full(channels, number, dtype), which + "s") if value is None else
                     b.reshaped(b.stored(value), (channels,)))  # fmt: skip
    return names


# --------------------------------------------------------------------------------------- a sample by itself


def _standardise(b: Builder, node: Node, eps: float) -> None:
    """x (1, rows, length): each row to mean 0 and variance 1."""
    x, y = node["x"], node.result
    stored, (_, rows, length) = b.stored(x), x.sizes
    split = next((k for k in range(1, len(stored.sizes)) if _splits(stored.sizes, k, rows, length)), None)
    if split == 2 and len(stored.sizes) > 2 and isinstance(stored.sizes[1], int):
        inputs = [stored.name, *_weights(b, None, stored.sizes[1], x.dtype)]
        name, sizes = b.emit("InstanceNormalization", inputs, epsilon=float(eps)), stored.sizes
    elif split is not None and b.opset >= 17:
        ones = b.constant(np.ones(stored.sizes[split:], x.dtype), "weights")
        attributes = {"axis": split, "epsilon": float(eps)}
        name, sizes = b.emit("LayerNormalization", [stored.name, ones], **attributes), stored.sizes
        b.standardised[name] = b.written(name)
    else:  # each row takes a channel's place
        sizes = _grouped(stored.sizes, rows, length)
        inputs = [b.reshaped(stored, sizes), *_weights(b, None, sizes[1], x.dtype)]
        name = b.emit("InstanceNormalization", inputs, epsilon=float(eps))
    b.put(y, name, sizes)


def _splits(sizes: tuple, k: int, rows: Any, length: Any) -> bool:
    return product(sizes[:k]) == rows and product(sizes[k:]) == length


def _grouped(sizes: tuple, rows: Any, length: Any) -> tuple:
    """Return (N, G, length) with N * G rows, N the first of ``sizes`` if it divides them; else (rows, 1, length)."""
    first = getattr(sizes[0], "count", sizes[0]), getattr(rows, "count", rows)
    if type(sizes[0]) is type(rows) and first[0] and first[1] % first[0] == 0:
        return sizes[0], first[1] // first[0], length
    return rows, 1, length


def _scale_and_shift(b: Builder, node: Node) -> None:
    """x (N, C, L) * weight + bias: part of the layer norm before, if that can take it; else Mul and Add in the sizes in
    which x lies, if its channels are an axis there."""
    x, channels = node["x"], node["x"].sizes[1]
    stored = b.stored(x)
    before = b.standardised.get(stored.name)
    if before is not None and x.sizes[2] == 1:
        last = stored.sizes[before.attributes["axis"] :]
        if product(last) == channels:
            given = [None if node[which] is None else b.reshaped(b.stored(node[which]), last)
                     for which in ("weight", "bias")]  # fmt: skip
            inputs = [before.inputs[0], given[0] or before.inputs[1], given[1] or ""]
            b.put(node.result, b.emit(before.op, inputs, **before.attributes), stored.sizes)
            return
    axis = axis_of(b, x)
    if axis is None:
        b.put(node.result, _affine(b, b.exact(x), node, lambda value: _column(b, value)))
        return
    lifted = (x.sizes[1], *(1,) * (len(stored.sizes) - axis - 1))
    b.put(node.result, _affine(b, stored.name, node, lambda v: b.reshaped(b.stored(v), lifted)), stored.sizes)


@writes("group_norm_forward")
def _group_norm(b: Builder, node: Node) -> None:
    x, groups, options = node["x"], node["groups"], {"epsilon": float(node["eps"])}
    n, c, length = x.sizes
    stored = b.stored(x) if axis_of(b, x) == 1 else Stored(b.exact(x), x.sizes)
    if len(stored.sizes) < 3:
        stored = Stored(b.exact(x), x.sizes)
    y = node.results[0]  # nothing but gradients uses the others
    if groups == c:
        inputs = [stored.name, *_weights(b, node, c, x.dtype)]
        b.put(y, b.emit("InstanceNormalization", inputs, **options), stored.sizes)
        return
    sizes = n, groups, c // groups * length
    inputs = [b.reshaped(stored, sizes), *_weights(b, None, groups, x.dtype)]
    name = b.emit("InstanceNormalization", inputs, **options)
    name = b.reshaped(Stored(name, sizes), stored.sizes)
    lifted = (c, *(1,) * (len(stored.sizes) - 2))
    b.put(y, _affine(b, name, node, lambda value: b.reshaped(b.stored(value), lifted)), stored.sizes)


# --------------------------------------------------------------------------------------- over neighbouring channels


@writes("local_response_norm_forward")
def _local_response_norm(b: Builder, node: Node) -> None:
    """LRN takes images; where the channels around one are not as many on both sides, the formula is spelled out."""
    x, size = node["x"], node["size"]
    n, c, length = x.sizes
    stored = b.stored(x)
    options = float(node["alpha"]), float(node["beta"]), float(node["k"])
    if size % 2:
        sizes = stored.sizes if axis_of(b, x) == 1 and len(stored.sizes) == 4 else (n, c, 1, length)
        alpha, beta, k = options
        name = b.emit("LRN", [b.reshaped(stored, sizes)], size=size, alpha=alpha, beta=beta, bias=k)
        b.put(node.result, name, sizes)
        return
    alpha, beta, k = (b.number(option, x.dtype) for option in options)
    name = b.exact(x)
    squares = b.reshaped(Stored(b.emit("Mul", [name, name]), x.sizes), (n, 1, c, length))
    mean = b.emit("AveragePool", [squares], kernel_shape=[size, 1], strides=[1, 1],
                  pads=[size // 2, 0, size - 1 - size // 2, 0], count_include_pad=1)  # fmt: skip
    mean = b.reshaped(Stored(mean, (n, 1, c, length)), x.sizes)
    scale = b.emit("Add", [b.emit("Mul", [mean, alpha]), k])
    b.put(node.result, b.emit("Div", [name, b.emit("Pow", [scale, beta])]))
