"""The table of operators, and Node: a node of a graph with its attributes decoded.

A file of a theme (conv_pool.py, shapes.py, ...) registers a function for each operator. It is called once for each node
while a model is loaded, looks at the attributes, and returns what runs: a function of the node's input values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from ..errors import DataError, OperatorError, mismatch

Run = Callable[..., Any]  # values -> value, or a tuple of them where the node has several outputs

_THEMES = ("conv_pool", "normalisation", "activations", "arithmetic", "reductions", "shapes", "indexing", "resize",
           "losses")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operator:
    """How to make what runs for a node, the versions of the operator that are known, and about its inputs.

    ``first``, ``last``: the ``since_version`` of the operator's oldest and newest definition whose meaning this is.
    ``options``: inputs that are read as plain numbers: initializers there are no parameters.
    ``state``: inputs that training moves: initializers there are buffers.
    ``modal``: what runs takes ``training``: True, False, or None (as the file says).
    """

    make: Callable[[Node], Run]
    last: int
    first: int = 1
    options: tuple[int, ...] = ()
    state: tuple[int, ...] = ()
    modal: bool = False


_table: dict[str, Operator] = {}


def operator(*names: str, last: int, **about: Any) -> Callable:
    """Register a function of a Node for the operators ``names``; see Operator for the rest."""

    def register(make: Callable[[Node], Run]) -> Callable[[Node], Run]:
        for name in names:
            _table[name] = Operator(make, last, **about)
        return make

    return register


def table() -> dict[str, Operator]:
    """Return all operators by name."""
    for theme in _THEMES:
        import_module(f"fastconv.onnx.{theme}")
    return _table


def operators() -> dict[str, int]:
    """Return the operators of ONNX that ``load`` knows, each with the last version of its definition that it follows.

    >>> operators()["Conv"]
    22
    """
    return {name: entry.last for name, entry in sorted(table().items())}


@dataclass(slots=True)
class Node:
    """A node while a model is loaded.

    Attributes:
        op: the operator's name. since: the version of its definition that holds here.
        inputs, outputs: names; "" is an optional one that is left out.
        where: how messages name the node.
        initial: the names of the graph's initializers.
    """

    op: str
    since: int
    inputs: Sequence[str]
    outputs: Sequence[str]
    where: str
    initial: Collection[str] = ()
    attributes: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute: an int, a float, a str, an array, or a list of those."""
        return self.attributes.get(name, default)

    def choice(self, name: str, default: str, *known: str) -> str:
        """Return an attribute that must be one of ``known``."""
        value = self.get(name, default)
        if value not in known:
            raise OperatorError(mismatch(self.where, f"{name} to be one of {', '.join(known)}", repr(value)))
        return value

    def refuse(self, name: str, *allowed: Any) -> None:
        """Raise if an attribute is given and is none of ``allowed``."""
        if name in self.attributes and self.attributes[name] not in allowed:
            expected = f"{name} to be {' or '.join(map(repr, allowed)) or 'absent'}"
            raise OperatorError(mismatch(self.where, expected, repr(self.attributes[name])))

    def has_output(self, index: int) -> bool:
        """Whether something may ask for an output."""
        return index < len(self.outputs) and bool(self.outputs[index])


def make_node(proto: Any, since: int, where: str, initial: Collection[str]) -> Node:
    """Return a node of a graph, its attributes decoded."""
    node = Node(proto.op_type, since, list(proto.input), list(proto.output), where, initial)
    for attribute in proto.attribute:
        node.attributes[attribute.name] = _decoded(attribute, where)
    return node


def _decoded(attribute: Any, where: str) -> Any:
    import onnx

    kinds = onnx.AttributeProto
    if attribute.type == kinds.TENSOR:
        return tensor_values(attribute.t, f"{where}, attribute {attribute.name}")
    if attribute.type not in (kinds.INT, kinds.FLOAT, kinds.STRING, kinds.INTS, kinds.FLOATS, kinds.STRINGS):
        kind = kinds.AttributeType.Name(attribute.type)
        raise OperatorError(mismatch(where, f"attribute {attribute.name} of numbers or text", kind))
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, int | float | bytes):
        return _text(value)
    return [_text(v) for v in value]


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def tensor_values(proto: Any, where: str) -> np.ndarray:
    """Return the values of a TensorProto, checked to be as many as its shape says."""
    from onnx import numpy_helper

    try:
        return np.asarray(numpy_helper.to_array(proto))
    except Exception as error:  # the package raises whatever its parts do
        raise DataError(mismatch(where, "the values of a tensor", f"{type(error).__name__}: {error}")) from error
