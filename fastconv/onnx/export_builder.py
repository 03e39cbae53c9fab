"""What export knows while it writes: where the values of a graph lie in the file, and the nodes so far.

A backend sees arrays of five axes, or of three; users and files do not. So a value that the graph reshaped is not
reshaped in the file until a node asks for its sizes: ``stored`` says what lies in the file, ``exact`` reshapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .. import backends
from ..errors import OperatorError, mismatch
from ..graph import Graph, Node, Resized, Times, Value
from ..graph.graph import Sizes, values_in

OP = "onnx.export"  # as messages name what is done here
Writer = Callable[["Builder", Node], None]

_table: dict[str, Writer] = {}


def writes(*verbs: str) -> Callable[[Writer], Writer]:
    """Register a function that writes the nodes of ONNX for a verb of the backend."""

    def register(writer: Writer) -> Writer:
        _table.update(dict.fromkeys(verbs, writer))
        return writer

    return register


class Stored(NamedTuple):
    """What lies in the file: a tensor's name, and its sizes there."""

    name: str
    sizes: Sizes


@dataclass(slots=True)
class Written:
    """A node of the file."""

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    module: str


def product(sizes: Sequence[Any]) -> Any:
    """Return the product of sizes, of which at most one goes with the batch.

    >>> product((2, Times(3), 5))
    Times(count=30)
    """
    times = [size for size in sizes if isinstance(size, Times)]
    if len(times) > 1:
        raise OperatorError(mismatch(OP, "one axis that goes with the batch", sizes))
    rest = prod(size for size in sizes if not isinstance(size, Times))
    return Times(times[0].count * rest) if times else rest


class Builder:
    """The file that is being written, from a graph."""

    def __init__(self, graph: Graph, opset: int) -> None:
        self.graph, self.opset = graph, opset
        self.nodes: list[Written] = []
        self.initializers: dict[str, np.ndarray] = {}
        self.producers = {value: node for node in graph.nodes for value in node.results if value is not None}
        self.used = set(values_in([node.operands for node in graph.nodes])) | set(values_in(graph.outputs))
        self.standardised: dict[str, Written] = {}  # by the names of their results: see export_norm.py
        self.indices: dict[str, str] = {}  # of maxima: int32, as some backends have them -> int64
        self._stored: dict[Value, Stored] = {}
        self._known: dict[Value, np.ndarray] = {}
        self._numbers: dict[tuple, str] = {}
        self._reshaped: dict[tuple, str] = {}
        self._names: set[str] = set()
        self._module = ""
        for value in graph.constants:
            self._names.add(value.name)
        for value in graph.inputs:
            self._stored[value] = Stored(self.unique(value.name), value.sizes)

    # -------------------------------------------------------------------------------------- the graph

    def write_all(self) -> None:
        """Write every node of the graph.

        Raises:
            OperatorError: verbs that have no counterpart, all of them with their modules.
        """
        missing = [n for n in self.graph.nodes if n.verb not in _table and not self._is_constant(n)]
        if missing:
            found = dict.fromkeys(f"{n.verb} in module {n.module!r}" for n in missing)
            raise OperatorError(mismatch(OP, "operations that ONNX has", ", ".join(found)))
        for node in self.graph.nodes:
            self._module = self._module_of(node)
            if self._is_constant(node) and node.verb not in ("reshape", "scale"):
                self._fold(node)
            else:
                _table[node.verb](self, node)

    def _module_of(self, node: Node) -> str:
        """Return the module whose parameters a node takes, wherever it ran; else the one that was at work."""
        for value in node.operands:
            while value in self.producers and self.producers[value].verb == "reshape":
                value = self.producers[value]["a"]
            if value.kind == "constant" and "." in value.name:
                return value.name.rpartition(".")[0]
        return node.module

    def refused(self, node: Node, expected: str, actual: Any) -> OperatorError:
        """Return the error for a node that cannot be expressed."""
        return OperatorError(mismatch(f"{OP}: {node.verb} in module {node.module!r}", expected, actual))

    def known(self, value: Value | None) -> np.ndarray | None:
        """Return the values of a constant, or of what was made of constants alone; else None."""
        if value is None:
            return None
        if value.kind == "constant" and value.sizes == value.shape:
            return backends.of(value.array).to_numpy(value.array)
        node = self.producers.get(value)
        if value not in self._known and node is not None and self._is_constant(node):
            self._fold(node)
        return self._known.get(value)

    def _is_constant(self, node: Node) -> bool:
        """Whether constants alone go into a node, and sizes that do not go with the batch."""
        if not node.operands or node.varying:
            return False
        return all(
            self._is_constant(self.producers[value]) if value in self.producers
            else value.kind == "constant" and value.sizes == value.shape
            for value in node.operands
        )  # fmt: skip

    def _fold(self, node: Node) -> None:
        arguments = {name: self._plain(argument) for name, argument in node.arguments.items()}
        if node.verb == "index":
            results = arguments["x"][arguments["key"]]
        elif node.verb == "cast":
            results = arguments["x"].astype(arguments["dtype"])
        else:
            results = getattr(backends.get("reference"), node.verb)(**arguments)
        for value, array in zip(node.results, results if isinstance(results, tuple) else (results,), strict=True):
            if value is not None:
                self._known[value] = array

    def _plain(self, argument: Any) -> Any:
        if isinstance(argument, Value):
            return self.known(argument)
        if isinstance(argument, (tuple, list)) and any(True for _ in values_in(argument)):
            return [self.known(value) for value in argument]
        return argument

    # ------------------------------------------------------------------------------------ where values lie

    def put(self, value: Value | None, name: str, sizes: Sizes | None = None) -> None:
        """Say that a value lies in the file under ``name``, with its own sizes or others of the same elements."""
        if value is not None:
            self._stored[value] = Stored(name, value.sizes if sizes is None else tuple(sizes))

    def stored(self, value: Value) -> Stored:
        """Return where a value lies."""
        found = self._stored.get(value)
        if found is None:
            found = self._stored[value] = self._initializer(value)
        return found

    def _initializer(self, value: Value) -> Stored:
        array = self.known(value)
        if array is None:  # one number, as often as the batch asks for
            number = self.number(value.array.flat[0], value.dtype)
            return Stored(self.emit("Expand", [number, self.shape(value.sizes)]), value.sizes)
        name = value.name if value.kind == "constant" else self.unique("constant")
        self.initializers[name] = array
        return Stored(name, value.sizes)

    def exact(self, value: Value) -> str:
        """Return the name of a tensor with a value's own sizes."""
        return self.reshaped(self.stored(value), value.sizes)

    def reshaped(self, stored: Stored, sizes: Sequence[Any]) -> str:
        """Return the name of a tensor of other sizes with the same elements, in their order."""
        sizes = tuple(sizes)
        if stored.sizes == sizes:
            return stored.name
        key = stored.name, sizes
        if key not in self._reshaped:
            if len(sizes) == 2 and len(stored.sizes) > 1 and stored.sizes[0] == sizes[0]:
                self._reshaped[key] = self.emit("Flatten", [stored.name], axis=1)
            else:
                shape = self._reshape_to(stored.sizes, sizes)
                self._reshaped[key] = self.emit("Reshape", [stored.name, shape])
        return self._reshaped[key]

    def _reshape_to(self, old: Sizes, new: Sizes) -> str:
        """Return Reshape's second input: 0 copies the size in its place, -1 stands for what is left."""
        plain = [0 if isinstance(s, Times) and old[i : i + 1] == (s,) else s for i, s in enumerate(new)]
        varying = [i for i, size in enumerate(plain) if isinstance(size, Times)]
        if len(varying) > 1:
            return self.shape(new)
        return self.integers([-1 if i in varying else size for i, size in enumerate(plain)])

    def shape(self, sizes: Sequence[Any]) -> str:
        """Return a tensor of sizes, worked out from the batch where they go with it."""
        if not any(isinstance(size, Times) for size in sizes):
            return self.integers(sizes)
        shape = self.emit("Shape", [self._stored[self.graph.inputs[0]].name])
        batch = self.emit("Slice", [shape, self.integers([0]), self.integers([1])])
        parts = []
        for size in sizes:
            if not isinstance(size, Times):
                parts.append(self.integers([size]))
            else:
                parts.append(batch if size.count == 1 else self.emit("Mul", [batch, self.integers([size.count])]))
        return self.emit("Concat", parts, axis=0)

    # ------------------------------------------------------------------------------------------- the file

    def unique(self, wanted: str) -> str:
        """Return ``wanted``, with a number behind it if it is taken."""
        name, count = wanted, 0
        while name in self._names:
            count += 1
            name = f"{wanted}_{count}"
        self._names.add(name)
        return name

    def emit(self, op: str, inputs: Sequence[str], count: int = 1, **attributes: Any) -> Any:
        """Write a node; return the name of its result, or a list of ``count`` names. None is no attribute."""
        outputs = [f"${len(self.nodes)}.{i}" for i in range(count)]  # names of their own come last
        given = list(inputs)
        while given and not given[-1]:
            given.pop()
        attributes = {name: value for name, value in attributes.items() if value is not None}
        self.nodes.append(Written(op, given, outputs, attributes, self._module))
        return outputs[0] if count == 1 else outputs

    def written(self, name: str) -> Written | None:
        """Return the node that a tensor comes from."""
        return self.nodes[int(name[1:].split(".")[0])] if name.startswith("$") else None

    def constant(self, array: np.ndarray, wanted: str = "constant") -> str:
        """Return the name of an initializer with these values; equal ones are stored once."""
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._numbers:
            self._numbers[key] = self.unique(wanted)
            self.initializers[self._numbers[key]] = array
        return self._numbers[key]

    def integers(self, values: Sequence[int]) -> str:
        """Return the name of an initializer of int64 numbers (1-D)."""
        return self.constant(np.array(values, np.int64), "sizes")

    def number(self, value: float, dtype: Any) -> str:
        """Return the name of an initializer of one number (0-d)."""
        return self.constant(np.array(value, dtype), "number")

    def cast(self, name: str, dtype: Any) -> str:
        """Write a tensor as another ``dtype``."""
        from onnx.helper import np_dtype_to_tensor_dtype

        return self.emit("Cast", [name], to=np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def reduce(self, op: str, name: str, axes: Sequence[int], keepdims: bool = False) -> str:
        """Write a reduction over ``axes``, which are an input or, in older opsets, an attribute."""
        if op == "ReduceSum" or self.opset >= 18:
            return self.emit(op, [name, self.integers(axes)], keepdims=int(keepdims))
        return self.emit(op, [name], axes=list(axes), keepdims=int(keepdims))


# ------------------------------------------------------------------------------------------------ spatial axes


def lowered(b: Builder, x: Value, least: int = 1) -> tuple[str, int]:
    """Return the name of ``x`` (N, C, D, H, W) with as few spatial axes as it lies in the file with, and how many.

    Where it does not lie so, it is reshaped to as few as its leading sizes of 1 allow, but not to less than ``least``.
    """
    stored = b.stored(x)
    spare = 0
    while spare < 2 and x.sizes[2 + spare] == 1:
        spare += 1
    for left_out in range(spare + 1):
        if stored.sizes == (*x.sizes[:2], *x.sizes[2 + left_out :]):
            return stored.name, 3 - left_out
    rank = max(3 - spare, least)
    return b.reshaped(stored, (*x.sizes[:2], *x.sizes[5 - rank :])), rank


def put_lowered(b: Builder, y: Value | None, name: str, rank: int) -> None:
    """Say that ``y`` (N, C, D, H, W) lies in the file with ``rank`` spatial axes."""
    if y is not None:
        b.put(y, name, (*y.sizes[:2], *y.sizes[5 - rank :]))


def geometry_of(node: Node, name: str = "geometry") -> Any:
    """Return a node's geometry, for any batch: its ``n`` does not count."""
    found = node[name]
    return found.geometry if isinstance(found, Resized) else found


# -------------------------------------------------------------------------------------------------- all writers


def load_writers() -> Mapping[str, Writer]:
    """Return all writers by verb."""
    from . import export_elements, export_layers, export_norm, export_pool, export_shapes  # noqa: F401  they register

    return _table
