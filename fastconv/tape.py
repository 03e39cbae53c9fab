"""The tape: whether operations are recorded, what one is, and the walk back from the youngest to the leaves.

Tensors and what puts operations on the tape are in tensor.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar, Token
from functools import wraps
from heapq import heappop, heappush
from itertools import count
from typing import Any

import numpy as np

from . import backends
from .backends.base import Array
from .errors import GraphError, mismatch

Backward = Callable[[Array, Sequence[bool]], Sequence[Array | None]]
Leaf = Any  # a Tensor that no operation made

grad_enabled: ContextVar[bool] = ContextVar("fastconv_grad_enabled", default=True)
_next_order = count(0, -1).__next__


def is_grad_enabled() -> bool:
    """Return whether operations are being recorded."""
    return grad_enabled.get()


class no_grad:
    """Record nothing within a ``with`` block, or within a decorated function.

    >>> from fastconv import tensor
    >>> x = tensor([1.0], requires_grad=True)
    >>> with no_grad():
    ...     (x * 2.0).requires_grad
    False
    """

    def __init__(self) -> None:
        self._tokens: list[Token[bool]] = []  # one an open block

    def __enter__(self) -> None:
        self._tokens.append(grad_enabled.set(False))

    def __exit__(self, *exception: object) -> None:
        grad_enabled.reset(self._tokens.pop())

    def __call__(self, function: Callable) -> Callable:
        @wraps(function)
        def without_grad(*args, **kwargs):
            with no_grad():
                return function(*args, **kwargs)

        return without_grad


class Node:
    """One recorded operation. It holds what its gradient needs, never the Tensor it made: activations that no
    gradient needs are freed as soon as the caller drops them."""

    __slots__ = ("backward", "needs", "order", "sources")

    def __init__(self, sources: Sequence[Node | Leaf | None], needs: Sequence[bool], backward: Backward) -> None:
        self.order = _next_order()  # an operation is younger than its inputs: ascending order is topological
        self.sources = sources  # an operation, a leaf, or None: no gradient wanted
        self.needs = needs
        self.backward: Backward | None = backward


def walk(root: Node | Leaf, dy: Array, retain_graph: bool) -> dict[Leaf, Array]:
    """Carry ``dy`` back from ``root``, youngest operation first; return the leaves' gradients."""
    pending: dict[Any, Array] = {root: dy}
    summed = set()  # those whose pending gradient is a sum made here, which may be added to in place
    heap = [(root.order, root)] if isinstance(root, Node) else []
    host = backends.for_numpy()
    while heap:
        node = heappop(heap)[1]
        gradient = pending.pop(node)
        if node.backward is None:
            raise GraphError(mismatch("backward", "a graph that is still there (or retain_graph=True)", "a freed one"))
        gradients = node.backward(gradient, node.needs)
        for i, source in enumerate(node.sources):
            if source is None:
                continue
            dx = gradients[i]
            if source in pending:
                backend = backends.of(dx)
                if source in summed:
                    backend.accumulate(pending[source], dx)
                else:
                    pending[source] = backend.add(pending[source], dx)
                    summed.add(source)
                continue
            if type(source) is Node:
                heappush(heap, (source.order, source))
            else:  # a leaf's gradient belongs to its user alone
                backend = host if type(dx) is np.ndarray else backends.of(dx)
                if type(dx) is type(gradient) and backend.may_share_memory(dx, gradient):
                    dx = backend.scale(dx, 1.0)
            pending[source] = dx
        if not retain_graph:
            node.sources, node.backward = (), None
    return pending
