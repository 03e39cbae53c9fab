"""Graph: a network as the list of what it asked its backend for. What is in a node, and how a graph is read.

How a graph comes about is in tracing.py, how it runs in program.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..backends.base import Array
from ..geometry import ConvGeometry, PoolGeometry
from .sizes import Resized, Times, resolved, text

Sizes = tuple[int | Times, ...]


class Value:
    """An array of the network: an input, a constant, or the result of a node.

    Attributes:
        kind: 'input', 'constant' or 'result'.
        name: unique in its graph; a parameter's or buffer's dotted name where the model has one.
        shape: for the batch that was traced.
        sizes: the shape, with ``Times`` where a size goes with the batch.
        dtype: NumPy's.
        array: a constant's values, else None. A constant some of whose ``sizes`` go with the batch holds one number
            over and over.
    """

    __slots__ = ("array", "dtype", "kind", "name", "shape", "sizes")

    def __init__(self, kind: str, name: str, shape: Sequence[int], dtype: Any, array: Array | None = None) -> None:
        self.kind, self.name, self.dtype, self.array = kind, name, np.dtype(dtype), array
        self.shape = tuple(shape)
        self.sizes: Sizes = self.shape

    def __str__(self) -> str:
        return self.name if self.kind == "constant" else f"%{self.name}"

    def __repr__(self) -> str:
        return f"{self} {self.dtype} {text(self.sizes)}"

    def at(self, batch: int) -> Array:
        """Return a constant's array for a batch."""
        if self.sizes == self.shape:
            return self.array
        return np.full(resolved(self.sizes, batch), self.array.flat[0], self.dtype)


class Node:
    """One call of the backend.

    Attributes:
        verb: the backend's method (``backends.base`` says what it does); besides those there are 'index' (``x[key]``),
            'cast' (``x`` as another ``dtype``) and, in plans, 'copy' (``x`` into ``out``) and 'filled' (``array``, once
            its ``parts`` were written).
        arguments: by name, every one that the verb has. An array is a ``Value``; so are those in a list of arrays.
            What depends on the batch is for the batch that was traced.
        varying: those of the arguments that depend on the batch, with ``Times`` (in a geometry's place: ``Resized``).
        results: what it returns; None in place of what is no array.
        module: the dotted name of the module in whose ``forward`` it stands, '' for the model itself.
    """

    __slots__ = ("arguments", "module", "results", "varying", "verb")

    def __init__(
        self, verb: str, arguments: dict[str, Any], results: Sequence[Value | None], module: str = "",
        varying: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.verb, self.arguments, self.results, self.module = verb, arguments, tuple(results), module
        self.varying = varying or {}

    def __getitem__(self, name: str) -> Any:
        """Return an argument, with ``Times`` where it depends on the batch."""
        return self.varying[name] if name in self.varying else self.arguments[name]

    @property
    def result(self) -> Value:
        """The first result."""
        return self.results[0]

    @property
    def operands(self) -> list[Value]:
        """The arrays among the arguments, in order."""
        return list(values_in(list(self.arguments.values())))

    def at(self, batch: int) -> dict[str, Any]:
        """Return the arguments for a batch."""
        return {**self.arguments, **{name: resolved(value, batch) for name, value in self.varying.items()}}

    def replace(self, old: Value, new: Value) -> None:
        """Take ``new`` where the arguments have ``old``."""
        self.arguments = {name: _replaced(value, old, new) for name, value in self.arguments.items()}

    def __str__(self) -> str:
        results = ", ".join(str(value) if value else "_" for value in self.results)
        given = ", ".join(f"{name}={_short(self[name])}" for name in self.arguments if self.arguments[name] is not None)
        return f"{results} = {self.verb}({given}) -> {self.result.dtype} {text(self.result.sizes)}"


def values_in(tree: Any) -> Iterator[Value]:
    """Yield the values in a Value, or in a tuple, list or dict of such trees."""
    if isinstance(tree, Value):
        yield tree
    elif isinstance(tree, (tuple, list)):
        for entry in tree:
            yield from values_in(entry)
    elif isinstance(tree, dict):
        yield from values_in(list(tree.values()))


def mapped(tree: Any, function: Callable[[Any], Any]) -> Any:
    """Return ``tree`` with ``function`` applied to what is no tuple, list or dict in it; a named tuple stays one."""
    if isinstance(tree, dict):
        return {key: mapped(entry, function) for key, entry in tree.items()}
    if isinstance(tree, (tuple, list)):
        entries = [mapped(entry, function) for entry in tree]
        return type(tree)(*entries) if hasattr(tree, "_fields") else type(tree)(entries)
    return function(tree)


def _replaced(tree: Any, old: Value, new: Value) -> Any:
    if tree is old:
        return new
    if isinstance(tree, (tuple, list)) and any(value is old for value in values_in(tree)):
        return type(tree)([_replaced(entry, old, new) for entry in tree])
    return tree


def _short(value: Any) -> str:
    """An argument as it is printed."""
    if isinstance(value, Value):
        return str(value)
    if isinstance(value, Resized):
        value = value.geometry
    if isinstance(value, ConvGeometry):
        parts = [f"kernel {_by(value.kernel)}"]
        parts += [f"{name} {_by(axes)}" for name, axes, usual in (
            ("stride", value.stride, (1, 1, 1)), ("padding", value.padding, (0, 0, 0)),
            ("dilation", value.dilation, (1, 1, 1)),
        ) if axes != usual]  # fmt: skip
        return f"<{' '.join([*parts, *([f'groups {value.groups}'] if value.groups > 1 else [])])}>"
    if isinstance(value, PoolGeometry):
        return f"<{_by(value.input)} to {_by(value.output)}>"
    if isinstance(value, (tuple, list)):
        inside = ", ".join(map(_short, value))
        return f"({inside}{',' if len(value) == 1 else ''})" if isinstance(value, tuple) else f"[{inside}]"
    if isinstance(value, Times):
        return str(value)
    if isinstance(value, slice):
        ends = ["" if end is None else str(end) for end in (value.start, value.stop, value.step)]
        return ":".join(ends if ends[2] else ends[:2])
    if isinstance(value, np.dtype):
        return value.name
    if value is ...:
        return "..."
    return repr(value) if isinstance(value, (int, float, str, type(None))) else type(value).__name__


def _by(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


class Graph:
    """The calls of a network in their order, from its inputs to its outputs. Call it as the network, with arrays.

    Attributes:
        nodes: in the order of the calls: a node stands behind those whose results it takes.
        inputs: a Value for each input.
        outputs: a Value, or the tuples, lists and dicts of Values that the network returns.
        batch: the batch that was traced.
        fixed: why other batches would need another trace; None where they do not.
        name: the model's class or the function's name.
    """

    def __init__(
        self, name: str, nodes: list[Node], inputs: list[Value], outputs: Any, batch: int, fixed: str | None
    ) -> None:
        self.name, self.nodes, self.inputs, self.outputs = name, nodes, inputs, outputs
        self.batch, self.fixed = batch, fixed
        self.programs: dict[Any, Any] = {}  # by backend and batch

    def __call__(self, *inputs: Any) -> Any:
        """Run the network on arrays: the bits that it gave itself.

        Args:
            inputs: arrays or Tensors of the shapes and dtypes traced, of any batch unless the graph is ``fixed``.

        Returns:
            What the network returns, with arrays for Tensors.

        Raises:
            ShapeError, DTypeError: inputs that do not fit.
        """
        from .program import run  # a graph is made of nodes, a program of calls

        return run(self, inputs)

    def profile(self, *inputs: Any, runs: int = 10) -> list[tuple[Node, float]]:
        """Return each node with the median seconds that it took in ``runs`` runs.

        >>> import numpy as np
        >>> from fastconv import nn, trace
        >>> x = np.zeros((1, 8), np.float32)
        >>> [(node.verb, seconds > 0) for node, seconds in trace(nn.Linear(8, 2), x).profile(x)]
        [('linear_forward', True)]
        """
        from .program import profile

        return profile(self, inputs, runs)

    @property
    def constants(self) -> list[Value]:
        """The constants that nodes or outputs take, in the order in which they do."""
        seen = dict.fromkeys(value for node in self.nodes for value in node.operands)
        seen.update(dict.fromkeys(values_in(self.outputs)))
        return [value for value in seen if value.kind == "constant"]

    def changed(self) -> None:
        """Forget the programs of a graph that was edited."""
        self.programs.clear()

    def __str__(self) -> str:
        given = ", ".join(map(repr, self.inputs))
        width = max((len(str(node)) for node in self.nodes), default=0)
        lines = [f"  {str(node).ljust(min(width, 110))}  # {node.module}".rstrip(" #") for node in self.nodes]
        back = str(mapped(self.outputs, str)).replace("'", "")
        return "\n".join([f"{self.name}({given}):", *lines, f"  return {back}"])
