"""Editing a graph: who makes a value, who takes it, and changes that keep both known. No rewriting rule lives here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from inspect import signature
from typing import Any

import numpy as np

from ...backends.base import Array, Backend
from ..graph import Graph, Node, Sizes, Value, mapped, values_in
from ..sizes import Resized, Times, resolved


class Editor:
    """A graph being rewritten, and the backend that it is planned for.

    Attributes:
        kept: constants made while planning, by what they were made of: plans for other shapes find them here.
    """

    def __init__(self, graph: Graph, backend: Backend, kept: dict[tuple, Any] | None = None) -> None:
        self.graph, self.backend, self.kept = graph, backend, {} if kept is None else kept
        self._maker = {value: node for node in graph.nodes for value in node.results if value is not None}
        self._users: dict[Value, list[Node]] = {}
        for node in graph.nodes:
            self._take(node)
        self._outputs = set(values_in(graph.outputs))
        self.strided = backend.owns(np.empty(0, np.float32))  # whether a part of an array can be written to

    def _take(self, node: Node) -> None:
        for value in dict.fromkeys(node.operands):
            self._users.setdefault(value, []).append(node)

    def _leave(self, node: Node) -> None:
        for value in dict.fromkeys(node.operands):
            self._users[value].remove(node)

    # ------------------------------------------------------------------------------------ questions

    def maker(self, value: Any, *verbs: str) -> Node | None:
        """Return the node that makes ``value``, if it has one of ``verbs`` (any, where none are given)."""
        node = self._maker.get(value) if isinstance(value, Value) else None
        return node if node is not None and (not verbs or node.verb in verbs) else None

    def users(self, value: Value) -> list[Node]:
        """Return the nodes that take ``value``."""
        return self._users.get(value, [])

    def is_output(self, value: Value) -> bool:
        return value in self._outputs

    def has_one_use(self, value: Value) -> bool:
        """Whether one node takes ``value``, once, and nobody else sees it."""
        users = self.users(value)
        return len(users) == 1 and not self.is_output(value) and users[0].operands.count(value) == 1

    # -------------------------------------------------------------------------------------- changes

    def value(self, sizes: Sizes, dtype: Any) -> Value:
        """Return a new result of a node that is yet to be put."""
        value = Value("result", "", resolved(sizes, self.graph.batch), dtype)
        value.sizes = tuple(sizes)
        return value

    def put(self, before: Node, verb: str, arguments: dict[str, Any], result: Value | Sequence[Value | None]) -> Node:
        """Add a node in front of another. Arguments may have ``Times`` in place of sizes; left-out ones are those that
        the verb has by default."""
        return self._insert(self.graph.nodes.index(before), verb, arguments, result, before.module)

    def put_behind(self, node: Node, verb: str, arguments: dict[str, Any], result: Value) -> Node:
        """Add a node right behind another."""
        return self._insert(self.graph.nodes.index(node) + 1, verb, arguments, result, node.module)

    def _insert(self, at: int, verb: str, arguments: dict[str, Any], result: Any, module: str) -> Node:
        arguments = {**defaults(verb), **arguments}
        varying = {name: value for name, value in arguments.items() if has_times(value)}
        arguments.update((name, resolved(value, self.graph.batch)) for name, value in varying.items())
        node = Node(verb, arguments, [result] if isinstance(result, Value) else result, module, varying)
        self.graph.nodes.insert(at, node)
        self._maker.update((value, node) for value in node.results if value is not None)
        self._take(node)
        return node

    def give(self, node: Node, result: Value) -> None:
        """Let a node make another value in place of its first result."""
        self._maker.pop(node.result, None)
        node.results = (result, *node.results[1:])
        self._maker[result] = node

    def set(self, node: Node, **arguments: Any) -> None:
        """Change arguments of a node."""
        self._leave(node)
        for name, value in arguments.items():
            node.varying.pop(name, None)
            node.arguments[name] = value
        self._take(node)

    def move(self, node: Node, before: Node) -> None:
        """Let a node run later: in front of another."""
        self.graph.nodes.remove(node)
        self.graph.nodes.insert(self.graph.nodes.index(before), node)

    def substitute(self, old: Value, new: Value) -> None:
        """Let everybody take ``new`` where they took ``old``; what then makes values for nobody goes."""
        for node in list(self.users(old)):
            self._leave(node)
            node.replace(old, new)
            self._take(node)
        if old in self._outputs:
            self.graph.outputs = mapped(self.graph.outputs, lambda value: new if value is old else value)
            self._outputs = set(values_in(self.graph.outputs))
        self.sweep(self.maker(old))

    def sweep(self, node: Node | None) -> None:
        """Remove a node whose results nobody takes, and those before it that worked for it alone."""
        waiting = [node]
        while waiting:
            node = waiting.pop()
            results = [value for value in node.results if value is not None] if node is not None else []
            if not any(self.maker(value) is node for value in results):  # gone already
                continue
            if any(self.users(value) or self.is_output(value) for value in results):
                continue
            self.graph.nodes.remove(node)
            self._leave(node)
            operands = node.operands
            for value in results:
                self._maker.pop(value)
            waiting += [made for value in dict.fromkeys(operands) if (made := self.maker(value)) is not None]

    def reshaped(self, value: Value, sizes: Sizes, before: Node) -> Value:
        """Return ``value`` under other sizes: a reshape in front of ``before``, if it takes one."""
        if value.sizes == tuple(sizes):
            return value
        result = self.value(sizes, value.dtype)
        self.put(before, "reshape", {"a": value, "shape": tuple(sizes)}, result)
        return result

    def constant(self, what: Any, sources: Sequence[Value], make: Callable[[], Array]) -> Value:
        """Return the constant ``make()``, or what an earlier plan made of the same ``sources`` for the same reason."""
        key = what, *(id(value.array) for value in sources)
        if key not in self.kept:
            array = make()
            name = sources[0].name.rstrip("'") + "'"
            self.kept[key] = Value("constant", name, array.shape, array.dtype, array), tuple(sources)
        return self.kept[key][0]


@cache
def defaults(verb: str) -> dict[str, Any]:
    """Return the arguments of a verb in their order: None, or the default where there is one."""
    if not hasattr(Backend, verb):
        return {}
    parameters = list(signature(getattr(Backend, verb)).parameters.values())[1:]
    return {p.name: None if p.default is p.empty else p.default for p in parameters}


def has_times(value: Any) -> bool:
    """Whether an argument goes with the batch."""
    if isinstance(value, (tuple, list)):
        return any(map(has_times, value))
    if isinstance(value, slice):
        return has_times((value.start, value.stop, value.step))
    return isinstance(value, (Times, Resized))
