"""What does not depend on the inputs is computed while planning; what nobody takes is not computed at all."""

from __future__ import annotations

from ..program import call
from .edit import Editor


def drop_dead(edit: Editor) -> None:
    """Remove nodes whose results nobody takes."""
    for node in reversed(list(edit.graph.nodes)):
        if node in edit.graph.nodes:
            edit.sweep(node)


def fold(edit: Editor) -> None:
    """Let constants take the place of what is made of constants alone."""
    for node in list(edit.graph.nodes):
        operands = node.operands
        constant = operands and all(v.kind == "constant" and v.sizes == v.shape for v in operands)
        if not constant or node.varying or len(node.results) != 1:
            continue
        what = node.verb, repr([value for value in node.arguments.values() if value not in operands])
        new = edit.constant(what, operands, lambda node=node: call(edit.backend, node))
        edit.substitute(node.result, new)
