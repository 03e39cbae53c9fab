"""Concatenated channels are written where they will lie: each layer into its part of one array, nothing is copied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..graph import Node, Value
from .edit import Editor


def in_place(edit: Editor) -> None:
    """Give the layers that make the operands of a concatenation parts of its result to write to.

    A concatenation that is itself an operand of a later one (DenseNet) is a part of that one's array. What is not made
    by a verb that takes ``out``, or lies in another array already, is copied.
    """
    if not edit.strided:
        return
    for node in reversed([node for node in edit.graph.nodes if node.verb == "cat"]):
        if node in edit.graph.nodes and node.arguments["axis"] == 1:
            _place(edit, node)


def _place(edit: Editor, outer: Node) -> None:
    parts = list(_parts(edit, outer, 0, set()))
    writers: dict[Value, int] = {}  # a value and its first channel
    for part in parts:
        maker = edit.maker(part.value)
        able = edit.maker(part.value, "cat") is None and maker is not None and maker.result is part.value
        able = able and maker.arguments.get("out", maker) is None
        if able and part.inner is None:
            writers.setdefault(part.value, part.first)
    if not writers:
        return
    sizes, dtype = outer.result.sizes, outer.result.dtype
    makers = {edit.maker(value) for value in writers}
    start = next(node for node in edit.graph.nodes if node in makers)
    whole = edit.value(sizes, dtype)
    edit.put(start, "empty", {"shape": sizes, "dtype": dtype}, whole)
    places = {outer: whole}
    written: dict[Node, list[Value]] = {}
    for part in parts:
        value, here = part.value, edit.value(part.value.sizes, dtype)
        key = slice(None), slice(part.first, part.first + value.sizes[1])
        edit.put(start, "index", {"x": whole, "key": key}, here)
        if part.inner is not None:
            places[part.inner] = here
        elif writers.get(value) == part.first:
            edit.set(edit.maker(value), out=here)
        else:
            value = edit.value(value.sizes, dtype)
            edit.put(part.stands_in, "copy", {"x": part.value, "out": here}, value)
        written.setdefault(part.stands_in, []).append(value)
    for cat, place in places.items():
        full = edit.value(cat.result.sizes, dtype)
        edit.put(cat, "filled", {"array": place, "parts": written[cat]}, full)
        edit.substitute(cat.result, full)


class Part(NamedTuple):
    """An operand of a concatenation, and where it will lie."""

    first: int  # channel
    value: Value
    stands_in: Node
    inner: Node | None  # the concatenation that it is itself


def _parts(edit: Editor, cat: Node, first: int, seen: set[Node]) -> Iterator[Part]:
    """Yield the operands of a concatenation, and of those inside it."""
    for value in cat.arguments["arrays"]:
        inner = edit.maker(value, "cat")
        if inner is not None and (inner.arguments["axis"] != 1 or inner in seen):
            inner = None
        yield Part(first, value, cat, inner)
        if inner is not None:
            seen.add(inner)
            yield from _parts(edit, inner, first, seen)
        first += value.sizes[1]
