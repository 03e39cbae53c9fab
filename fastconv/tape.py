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

Backward = Callable[..., Sequence[Array | None]]
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

    __slots__ = ("backward", "completes", "gate", "needs", "order", "sources")

    def __init__(
        self, sources: Sequence[Node | Leaf | None], needs: Sequence[bool], backward: Backward,
        gate: Array | None = None, completes: bool = False,
    ) -> None:  # fmt: skip
        self.order = _next_order()  # an operation is younger than its inputs: ascending order is topological
        self.sources = sources  # an operation, a leaf, or None: no gradient wanted
        self.needs = needs
        self.backward: Backward | None = backward
        self.gate = gate  # the result, where a ReLU ends the operation: ``backward`` gets what is behind that
        self.completes = completes  # ``backward`` adds what else has come to inputs[0], and applies that one's gate


def walk(root: Node | Leaf, dy: Array, retain_graph: bool) -> dict[Leaf, Array]:
    """Carry ``dy`` back from ``root``, youngest operation first; return the leaves' gradients."""
    pending: dict[Any, Array] = {root: dy}
    ours = set()  # those whose pending gradient no one else holds: it may be added to in place
    gated = set()  # those whose pending gradient has gone through their gate
    heap = [(root.order, root)] if isinstance(root, Node) else []
    host = backends.for_numpy()
    while heap:
        node = heappop(heap)[1]
        gradient = pending.pop(node)
        if node.backward is None:
            raise GraphError(mismatch("backward", "a graph that is still there (or retain_graph=True)", "a freed one"))
        passes = node.gate is not None and node not in gated
        if passes:
            gradient = backends.of(gradient).relu_backward(gradient, node.gate)
        first = node.sources[0] if node.completes else None
        if first is None:
            gradients = node.backward(gradient, node.needs)
        else:  # what is on its way to memory takes the rest along
            waiting, gates = pending.pop(first, None), type(first) is Node and first.gate is not None
            gradients = node.backward(gradient, node.needs, waiting, gates)
            pending[first] = gradients[0]
            ours.add(first)
            if gates:
                gated.add(first)
            if waiting is None and type(first) is Node:
                heappush(heap, (first.order, first))
        for i, source in enumerate(node.sources):
            if source is None or (i == 0 and first is not None):
                continue
            dx = gradients[i]
            if source in pending:
                gated.discard(source)
                backend = backends.of(dx)
                if source in ours:
                    backend.accumulate(pending[source], dx)
                else:
                    pending[source] = backend.add(pending[source], dx)
                    ours.add(source)
                continue
            if type(source) is Node:
                heappush(heap, (source.order, source))
            else:  # a leaf's gradient belongs to its user alone
                backend = host if type(dx) is np.ndarray else backends.of(dx)
                alone = passes and len(node.sources) == 1  # what came through the gate is no one else's
                if not alone and type(dx) is type(gradient) and backend.may_share_memory(dx, gradient):
                    dx = backend.scale(dx, 1.0)
            pending[source] = dx
        if not retain_graph:
            node.sources, node.backward, node.gate = (), None, None
    return pending
