"""Batch norm with statistics that are known: into the convolution or linear layer before it, else simplified."""

from __future__ import annotations

import numpy as np

from ... import backends
from ...backends.base import Array
from ...tensor import copy_aligned
from ..graph import Node, Value
from .edit import Editor

LAYERS = ("conv_act_forward", "linear_forward")
_OPTIONAL = ("weight", "bias")


def fold(edit: Editor) -> None:
    """Scale the weights of the layer before each batch norm and shift its bias (Jacob et al. 2018,
    https://arxiv.org/abs/1712.05877, section 3.2); where there is none, bring its five arrays to three."""
    for node in list(edit.graph.nodes):
        if node.verb != "batch_norm_forward":
            continue
        constants = [node.arguments[name] for name in ("mean", "rstd", *_OPTIONAL)]
        if all(value is None or value.kind == "constant" for value in constants):
            layer = _layer_before(edit, node)
            if layer is not None:
                _into(edit, layer, node, constants)
            elif node.arguments["weight"] is not None:
                scale = _scale(edit, constants)
                edit.set(node, rstd=scale, weight=None)


def _layer_before(edit: Editor, node: Node) -> Node | None:
    """Return the layer whose output channels ``node`` normalises, if nobody else sees its output."""
    value = node.arguments["x"]
    view = edit.maker(value, "reshape")
    while view is not None and edit.has_one_use(value) and view.arguments["a"].sizes[:2] == value.sizes[:2]:
        value = view.arguments["a"]
        view = edit.maker(value, "reshape")
    layer = edit.maker(value, *LAYERS)
    if layer is None or not edit.has_one_use(value):
        return None
    w, b = layer.arguments["w"], layer.arguments["b"]
    plain = layer.verb == "linear_forward" or (
        layer.arguments["activation"] is None and layer.arguments["residual"] is None
    )
    known = w.kind == "constant" and (b is None or b.kind == "constant")
    return layer if plain and known else None


def _scale(edit: Editor, constants: list[Value | None]) -> Value:
    _, rstd, weight, _ = constants
    return edit.constant("scale", [rstd, weight], lambda: _array(edit, rstd, _wide(rstd) * _wide(weight)))


def _into(edit: Editor, layer: Node, norm: Node, constants: list[Value | None]) -> None:
    mean, rstd, weight, bias = constants
    scale = rstd if weight is None else _scale(edit, constants)
    w, b = layer.arguments["w"], layer.arguments["b"]
    shifts = [value for value in (scale, mean, b, bias) if value is not None]
    what = b is not None, bias is not None

    def shifted() -> Array:
        moved = ((0 if b is None else _wide(b)) - _wide(mean)) * _wide(scale)
        return _array(edit, mean, moved + (0 if bias is None else _wide(bias)))

    def scaled() -> Array:
        wide = _wide(w)
        return _array(edit, w, wide * _wide(scale).reshape(-1, *[1] * (wide.ndim - 1)))

    edit.set(layer, w=edit.constant("scaled", [w, scale], scaled), b=edit.constant(("shifted", what), shifts, shifted))
    edit.substitute(norm.result, edit.reshaped(_with_epilogue(edit, layer, norm), norm.result.sizes, norm))


def _with_epilogue(edit: Editor, layer: Node, norm: Node) -> Value:
    """Return the layer's result with the residual and the activation of the batch norm."""
    residual, activation = norm.arguments["residual"], norm.arguments["activation"]
    result = layer.result
    if residual is not None:
        residual = edit.reshaped(residual, result.sizes, norm)
    if layer.verb == "conv_act_forward":
        if residual is not None:  # which may be made behind the convolution
            edit.move(layer, norm)
        edit.set(layer, residual=residual, activation=activation)
        return result
    if residual is not None:
        result = _put(edit, norm, "add", {"a": result, "b": residual})
    return result if activation is None else _put(edit, norm, "relu_forward", {"x": result})


def _put(edit: Editor, before: Node, verb: str, operands: dict[str, Value]) -> Value:
    like = next(iter(operands.values()))
    return edit.put(before, verb, operands, edit.value(like.sizes, like.dtype)).result


def _wide(value: Value) -> np.ndarray:
    return np.asarray(backends.of(value.array).to_numpy(value.array), np.float64)


def _array(edit: Editor, like: Value, wide: np.ndarray) -> Array:
    """Return what was computed in float64 as the device's array of the dtype of ``like``."""
    return edit.backend.from_numpy(copy_aligned(wide, like.dtype))
