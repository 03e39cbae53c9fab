"""Reshapes out of the way: what works on each element by itself works in the shape in which its operand was made.

Layers of one and two axes are lifted to five and lowered again around every convolution; afterwards a chain of layers
hands on its five axes, and the patterns of the other passes are neighbours.
"""

from __future__ import annotations

from ..graph import Node, Sizes, Value, mapped, values_in
from .edit import Editor

UNARY = {"relu_forward", "leaky_relu_forward", "sigmoid_forward", "tanh_forward", "pointwise_forward", "scale"}
LIFTED = 5  # axes of convolution and pooling
BINARY = {"add", "subtract", "multiply", "divide", "maximum", "power"}


def lower_late(edit: Editor) -> None:
    """Move reshapes behind elementwise nodes and concatenations, and make one of several in a row."""
    for node in list(edit.graph.nodes):
        if node.verb == "reshape":
            _merge(edit, node)
        elif node.verb in UNARY:
            _swap(edit, node, node.operands)
        elif node.verb in BINARY:
            operands = node.operands
            if len(operands) == 2 and all(value.sizes == node.result.sizes for value in operands):
                _swap(edit, node, operands)
        elif node.verb == "cat" and node.arguments["axis"] == 1:
            _swap_cat(edit, node)


def _merge(edit: Editor, node: Node) -> None:
    source = node.arguments["a"]
    before = edit.maker(source, "reshape")
    if before is not None:
        source = before.arguments["a"]
        edit.set(node, a=source)
        edit.sweep(before)
    if source.sizes == node.result.sizes:
        edit.substitute(node.result, source)


def _made_as(edit: Editor, value: Value) -> Sizes | None:
    """Return the sizes under which a value was made that was then reshaped."""
    made = edit.maker(value, "reshape")
    return None if made is None else made.arguments["a"].sizes


def _swap(edit: Editor, node: Node, operands: list[Value]) -> None:
    """f(reshape(a), b) -> reshape(f(a, reshape(b))): for the five axes of layers, or where all were made otherwise."""
    made = [_made_as(edit, value) for value in operands]
    lifted = [sizes for sizes in made if sizes is not None and len(sizes) == LIFTED]
    if len(node.result.sizes) < LIFTED and (lifted or None not in made):
        sizes = (lifted or made)[0]
        for value in dict.fromkeys(operands):
            _take_as(edit, node, value, sizes)
        _give_as(edit, node, sizes)


def _swap_cat(edit: Editor, node: Node) -> None:
    """The same for a concatenation of channels, where batch and channels are axes of their own before and after."""
    operands, result = node.arguments["arrays"], node.result
    for value in operands:
        sizes = _made_as(edit, value)
        if sizes is not None and len(result.sizes) < len(sizes) == LIFTED and sizes[:2] == value.sizes[:2]:
            for operand in dict.fromkeys(operands):
                _take_as(edit, node, operand, (*operand.sizes[:2], *sizes[2:]))
            _give_as(edit, node, (*result.sizes[:2], *sizes[2:]))
            return


def _take_as(edit: Editor, node: Node, value: Value, sizes: Sizes) -> None:
    """Let ``node`` take ``value`` under other sizes: those it was made in, where they are."""
    made = edit.maker(value, "reshape")
    same = made is not None and made.arguments["a"].sizes == sizes
    new = made.arguments["a"] if same else edit.reshaped(value, sizes, node)
    edit.set(node, **{name: mapped(a, lambda leaf: new if leaf is value else leaf)
                      for name, a in node.arguments.items() if value in values_in(a)})  # fmt: skip
    edit.sweep(made)


def _give_as(edit: Editor, node: Node, sizes: Sizes) -> None:
    """Let ``node`` give its result under other sizes, and everybody take that, reshaped."""
    old = node.result
    new, lowered = edit.value(sizes, old.dtype), edit.value(old.sizes, old.dtype)
    edit.give(node, new)
    edit.put_behind(node, "reshape", {"a": new, "shape": old.sizes}, lowered)
    edit.substitute(old, lowered)
