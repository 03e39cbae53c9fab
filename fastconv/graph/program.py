"""How a graph runs: a list of bound calls over numbered slots, made once for a batch, and the loop over it.

Values are freed after their last use, so that the buffer pool gives their memory to later ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from .. import backends
from ..backends.base import Array, Backend
from ..errors import DTypeError, ShapeError, mismatch
from ..tensor import operand
from .graph import Graph, Node, Value, mapped, values_in
from .sizes import resolved, text


class Call(NamedTuple):
    """One step: slots in, a function, slots out, slots that nobody reads any more."""

    function: Callable
    fetch: Callable[[list], Sequence[Any]]
    result: int  # the slot of a single result, -1 where there are several
    results: tuple[tuple[int, int], ...]  # (slot, position in what is returned)
    dead: tuple[int, ...]


class Program:
    """A graph bound to a backend and a batch."""

    def __init__(self, graph: Graph, backend: Backend, batch: int) -> None:
        self._template: list[Any] = []
        self._slots: dict[Value, int] = {}
        last: dict[Value, int] = {}
        for i, node in enumerate(graph.nodes):
            last.update(dict.fromkeys(node.operands, i))
            last.update((value, i) for value in node.results if value is not None)
        kept = set(values_in(graph.outputs))
        ends: dict[int, list[Value]] = {}
        for value, i in last.items():
            if value.kind != "constant" and value not in kept:
                ends.setdefault(i, []).append(value)
        self._batch = batch
        self._inputs = [self._slot(value) for value in graph.inputs]
        self._calls: list[Call] = []
        for i, node in enumerate(graph.nodes):
            sources = [self._argument(value) for value in node.at(batch).values()]
            slots = [(self._slot(value), k) for k, value in enumerate(node.results) if value is not None]
            single = slots[0][0] if len(node.results) == 1 else -1
            dead = tuple(self._slot(value) for value in ends.get(i, ()))
            several = () if single >= 0 else tuple(slots)
            self._calls.append(Call(_function(backend, node.verb), _fetcher(sources), single, several, dead))
        self._outputs = mapped(graph.outputs, lambda value: None if value is None else self._slot(value))

    def _slot(self, value: Value) -> int:
        slot = self._slots.get(value)
        if slot is None:
            slot = self._slots[value] = len(self._template)
            self._template.append(value.at(self._batch) if value.kind == "constant" else None)
        return slot

    def _argument(self, argument: Any) -> int | list[int]:
        """Return where an argument lies: one slot, or for a list of arrays several."""
        if isinstance(argument, Value):
            return self._slot(argument)
        if isinstance(argument, (tuple, list)) and any(True for _ in values_in(argument)):
            return [self._slot(value) for value in argument]
        self._template.append(argument)
        return len(self._template) - 1

    def __call__(self, arrays: Sequence[Array]) -> Any:
        return self._run(self._calls, arrays)

    def _run(self, calls: Sequence[Call], arrays: Sequence[Array]) -> Any:
        slots = self._template.copy()
        for slot, array in zip(self._inputs, arrays, strict=True):
            slots[slot] = array
        for function, fetch, result, results, dead in calls:
            returned = function(*fetch(slots))
            if result >= 0:
                slots[result] = returned
            else:
                for slot, position in results:
                    slots[slot] = returned[position]
            for slot in dead:
                slots[slot] = None
        return mapped(self._outputs, lambda slot: None if slot is None else slots[slot])

    def timed(self, arrays: Sequence[Array]) -> list[float]:
        """Run, and return the seconds of each call."""
        taken: list[float] = []

        def watched(function: Callable) -> Callable:
            def call(*arguments: Any) -> Any:
                began = perf_counter()
                returned = function(*arguments)
                taken.append(perf_counter() - began)
                return returned

            return call

        self._run([call._replace(function=watched(call.function)) for call in self._calls], arrays)
        return taken


def _fetcher(sources: list[int | list[int]]) -> Callable[[list], Sequence[Any]]:
    """Return a function of the slots that returns the arguments."""
    if all(isinstance(source, int) for source in sources):
        if len(sources) == 1:
            only = sources[0]
            return lambda slots: (slots[only],)
        return itemgetter(*sources)
    return lambda slots: [slots[s] if isinstance(s, int) else [slots[one] for one in s] for s in sources]


def _index(x: Array, key: Any) -> Array:
    return x[key]


def _cast(x: Array, dtype: np.dtype) -> Array:
    return x.astype(dtype)


def _copy(x: Array, out: Array) -> Array:
    out[...] = x
    return out


def _filled(array: Array, parts: Sequence[Array]) -> Array:
    return array


_OWN = {"index": _index, "cast": _cast, "copy": _copy, "filled": _filled}


def _function(backend: Backend, verb: str) -> Callable:
    """Return a verb as a function of its arguments, all of them, in the contract's order."""
    return _OWN[verb] if verb in _OWN else getattr(backend, verb)


def call(backend: Backend, node: Node) -> Any:
    """Run one node whose operands are constants."""
    arguments = mapped(list(node.arguments.values()), lambda leaf: leaf.array if isinstance(leaf, Value) else leaf)
    return _function(backend, node.verb)(*arguments)


def check(op: str, graph: Graph, inputs: Sequence[Any]) -> tuple[list[Array], int]:
    """Return the inputs as arrays, and their batch.

    Raises:
        ShapeError, DTypeError: they do not fit the graph.
    """
    if len(inputs) != len(graph.inputs):
        raise ShapeError(mismatch(op, f"{len(graph.inputs)} inputs", len(inputs)))
    arrays = [operand(op, value.name, given)[1] for value, given in zip(graph.inputs, inputs, strict=True)]
    batch = graph.batch if graph.fixed else (arrays[0].shape[0] if arrays[0].ndim else 0)
    for value, array in zip(graph.inputs, arrays, strict=True):
        if array.dtype != value.dtype:
            raise DTypeError(mismatch(op, f"{value.name} of dtype {value.dtype}", array.dtype))
        if array.shape != resolved(value.sizes, batch):
            why = f" (fixed: {graph.fixed})" if graph.fixed else ""
            raise ShapeError(mismatch(op, f"{value.name} {text(value.sizes)}{why}", f"shape {array.shape}"))
    return arrays, batch


def _program(graph: Graph, inputs: Sequence[Any]) -> tuple[Program, list[Array]]:
    arrays, batch = check(graph.name, graph, inputs)
    backend = backends.of(arrays[0])
    key = backend, batch
    program = graph.programs.get(key)
    if program is None:
        if len(graph.programs) >= 16:
            graph.programs.clear()
        program = graph.programs[key] = Program(graph, backend, batch)
    return program, arrays


def run(graph: Graph, inputs: Sequence[Any]) -> Any:
    """See ``Graph.__call__``."""
    program, arrays = _program(graph, inputs)
    return program(arrays)


def profile(graph: Graph, inputs: Sequence[Any], runs: int) -> list[tuple[Node, float]]:
    """See ``Graph.profile``."""
    program, arrays = _program(graph, inputs)
    program(arrays)
    taken = zip(*(program.timed(arrays) for _ in range(runs)), strict=True)
    return [(node, median(seconds)) for node, seconds in zip(graph.nodes, taken, strict=True)]
