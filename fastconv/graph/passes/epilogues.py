"""What follows a convolution becomes part of it: ReLU, the sum of a residual block, a max-pool without overlap."""

from __future__ import annotations

from math import prod

from ...geometry import PoolGeometry
from ..graph import Node, Value
from ..sizes import Resized
from .edit import Editor, defaults

MOST_PLACES = 254  # conv_act_pool_forward counts a window's places in a byte


def as_units(edit: Editor) -> None:
    """Make every convolution a ``conv_act_forward``, without an activation as yet."""
    for node in list(edit.graph.nodes):
        if node.verb == "conv_forward":
            unit = edit.value(node.result.sizes, node.result.dtype)
            given = {name: node[name] for name in ("x", "w", "b", "geometry", "frozen")}
            edit.put(node, "conv_act_forward", _known("conv_act_forward", given), unit)
            edit.substitute(node.result, unit)


def _known(verb: str, given: dict) -> dict:
    return {name: value for name, value in given.items() if name in defaults(verb)}


def sums(edit: Editor) -> None:
    """Let the convolution that makes the later operand of a sum add the other one."""
    order = {node: i for i, node in enumerate(edit.graph.nodes)}
    for node in list(edit.graph.nodes):
        if node.verb != "add":
            continue
        a, b = node.arguments["a"], node.arguments["b"]
        if a is b or not a.sizes == b.sizes == node.result.sizes:
            continue
        pairs = [(edit.maker(mine, "conv_act_forward"), mine, other) for mine, other in ((a, b), (b, a))]
        able = [pair for pair in pairs if pair[0] is not None and edit.has_one_use(pair[1]) and _is_open(pair[0])]
        if able:
            conv, mine, other = max(able, key=lambda pair: order.get(pair[0], -1))
            edit.move(conv, node)
            edit.set(conv, residual=other)
            edit.substitute(node.result, mine)


def _is_open(conv: Node) -> bool:
    """Whether something may still be added to a convolution's result."""
    return conv.arguments["activation"] is None and conv.arguments["residual"] is None


def activations(edit: Editor) -> None:
    """Let convolutions and batch norms apply the ReLU behind them."""
    for node in list(edit.graph.nodes):
        if node.verb != "relu_forward":
            continue
        x = node.arguments["x"]
        maker = edit.maker(x, "conv_act_forward", "batch_norm_forward")
        if maker is not None and edit.has_one_use(x) and maker.arguments.get("activation", "none") is None:
            edit.set(maker, activation="relu")
            edit.substitute(node.result, x)


def pools(edit: Editor) -> None:
    """Let convolutions take the maxima of windows that do not overlap."""
    for node in list(edit.graph.nodes):
        if node.verb != "max_pool_forward" or node.arguments["keep"] != "nothing":
            continue
        x = node.arguments["x"]
        conv = edit.maker(x, "conv_act_forward")
        if conv is None or not edit.has_one_use(x) or not _has_whole_windows(node.arguments["geometry"]):
            continue
        if conv.arguments.get("residual") is None and conv.arguments.get("out") is None:
            pooled, index = edit.value(node.result.sizes, x.dtype), edit.value(node.result.sizes, "uint8")
            given = {name: conv[name] for name in ("x", "w", "b", "geometry", "activation")}
            given |= _known("conv_act_pool_forward", {"frozen": conv.arguments.get("frozen", True)})
            given["pool_geometry"] = node["geometry"]
            edit.put(node, "conv_act_pool_forward", given, [pooled, index])
            edit.substitute(node.result, pooled)


def _has_whole_windows(geometry: PoolGeometry | Resized) -> bool:
    """Whether the windows are of one size, side by side and inside the input: what ``conv_act_pool_forward`` takes."""
    for axis, size, count in zip(geometry.windows, geometry.input, geometry.output, strict=True):
        edge = axis.count[0]
        if axis.step != 1 or set(axis.count) != {edge} or count != size // edge:
            return False
        if axis.start != tuple(range(0, count * edge, edge)):
            return False
    return prod(axis.count[0] for axis in geometry.windows) <= MOST_PLACES


def keep_packed(edit: Editor) -> None:
    """Give every layer of constant weights a place to keep what it makes of them."""
    for node in edit.graph.nodes:
        w = node.arguments.get("w")
        if isinstance(w, Value) and w.kind == "constant" and "frozen" in node.arguments:
            edit.set(node, frozen=edit.kept.setdefault(("packed", id(w.array)), ({}, w))[0])
