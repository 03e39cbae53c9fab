"""Memory: what a graph takes while it runs, played through with sizes alone; and budgets as people write them.

The buffer pool keeps what was freed, by size class (csrc/runtime/buffer_pool.cpp), so what counts is not what lives at
once but what the pool has ever held. It is played through here, call by call.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from math import prod
from typing import Any

from ..arguments import integer
from ..backends.cpu import plan, runtime, winograd_rule
from ..errors import ArgumentError, mismatch
from ..geometry import ConvGeometry
from ..graph import Graph, Node, Value

WORKSPACE = 4 << 20  # bytes of scratch a thread, docs/architecture.md
MARGIN = 12 << 20  # bytes: lists, plans, what an allocator rounds up
_VIEWS = {"reshape", "permute", "index", "broadcast_to"}
_ALWAYS_KEPT = 256 << 20  # bytes: the pool's own bound
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def budget(op: str, value: object) -> int:
    """Return a number of bytes, given as a number or as text with a unit of 1024.

    Raises:
        ArgumentError: it is neither.

    >>> budget("predict_volume", "1.5GB"), budget("predict_volume", "512 MB"), budget("predict_volume", 1000)
    (1610612736, 536870912, 1000)
    """
    if not isinstance(value, str):
        return integer(op, "max_memory", value, 1)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", value.lower())
    if match is None or not float(match[1]):
        raise ArgumentError(mismatch(op, "max_memory in bytes, or as '512MB' or '1.5GB'", repr(value)))
    return int(float(match[1]) * _UNITS[match[2]])


def readable(count: int) -> str:
    """Bytes as text, rounded up.

    >>> readable(3 << 20), readable((3 << 20) + 1)
    ('3MB', '4MB')
    """
    return f"{-(-count // (1 << 20))}MB"


def peak(graph: Graph) -> int:
    """Bytes that a run of the graph takes at most, its input's and its packed weights' among them."""
    return _played(graph) + _kept_weights(graph) + runtime.get_num_threads() * WORKSPACE


def keep_packed(graph: Graph) -> None:
    """Give each layer of a graph whose weights stay a place for them as its kernel wants them."""
    for node in graph.nodes:
        if node.arguments.get("frozen") is True and node.arguments["w"].kind == "constant":
            node.arguments["frozen"] = {}


def size_class(count: int) -> int:
    """The bytes of the pool's block for ``count`` bytes: one of eight steps between powers of two.

    >>> size_class(4097), size_class(5000), size_class(65536)
    (4608, 5120, 65536)
    """
    if count <= 512:
        return max(64, -(-count // 64) * 64)
    step = 1 << ((count - 1).bit_length() - 4)
    return -(-count // step) * step


class _Pool:
    """The buffer pool's books."""

    def __init__(self) -> None:
        self.lent = self.kept = self.most = self.most_lent = 0
        self._shelves: Counter[int] = Counter()
        self._used: dict[int, int] = {}
        self._clock = 0

    def take(self, size: int) -> None:
        self._touch(size)
        self.lent += size
        if self._shelves[size]:
            self._shelves[size] -= 1
            self.kept -= size
        else:
            most = max(self.most_lent, self.lent)
            bound = max(_ALWAYS_KEPT, most + most // 4)
            for oldest in sorted((s for s in self._shelves if self._shelves[s]), key=self._used.__getitem__):
                while self._shelves[oldest] and self.lent + self.kept > bound:
                    self._shelves[oldest] -= 1
                    self.kept -= oldest
        self.most_lent = max(self.most_lent, self.lent)
        self.most = max(self.most, self.lent + self.kept)

    def give(self, size: int) -> None:
        self._touch(size)
        self.lent -= size
        self.kept += size
        self._shelves[size] += 1

    def _touch(self, size: int) -> None:
        self._clock += 1
        self._used[size] = self._clock


def _played(graph: Graph) -> int:
    """What the pool holds at most."""
    pool = _Pool()
    owner: dict[Value, Value] = {value: value for value in graph.inputs}
    for value in graph.inputs:
        pool.take(_block(value))
    last = dict.fromkeys(graph.inputs, -1)
    parted: set[Value] = set()
    for i, node in enumerate(graph.nodes):
        view = _is_view(node, parted)
        for value in node.results:
            if value is not None:
                owner[value] = owner.get(node.operands[0], value) if view else value
                last[owner[value]] = i
        last.update((owner[value], i) for value in node.operands if value in owner)
    kept = {owner.get(graph.outputs), *graph.inputs}
    ends: dict[int, list[Value]] = {}
    for value, i in last.items():
        if value not in kept:
            ends.setdefault(i, []).append(value)
    for i, node in enumerate(graph.nodes):
        scratch = [size_class(size) for size in _scratch(node)]
        for size in scratch:
            pool.take(size)
        for value in node.results:
            if value is not None and owner[value] is value:
                pool.take(_block(value))
        for size in scratch:
            pool.give(size)
        for value in ends.get(i, ()):
            pool.give(_block(value))
    return pool.most


def _block(value: Value) -> int:
    return size_class(prod(value.shape) * value.dtype.itemsize)


def _is_view(node: Node, parted: set[Value]) -> bool:
    """Whether a node moves nothing: reshapes copy where they put axes together that a window has ``parted``."""
    if node.verb not in _VIEWS:
        return False
    source, result = node.operands[0], node.result
    merges = len([s for s in result.shape if s > 1]) < len([s for s in source.shape if s > 1])
    if node.verb == "reshape" and merges and source in parted:
        return False
    if node.verb == "index" or source in parted:
        parted.add(result)
    return True


def _scratch(node: Node) -> Iterator[int]:
    """Blocks that a convolution takes for the time of its call: its weights as the kernel wants them."""
    if isinstance(node.arguments.get("frozen"), dict):
        return
    if node.verb in ("conv_forward", "conv_act_forward", "conv_backward_input", "conv_act_pool_forward"):
        yield _packed(node)
    elif node.verb == "linear_forward":
        yield prod(node.arguments["w"].shape) * node.result.dtype.itemsize


def _kept_weights(graph: Graph) -> int:
    """Bytes of packed weights that stay from one window to the next."""
    sizes = {id(node.arguments["frozen"]): _packed(node) for node in graph.nodes
             if isinstance(node.arguments.get("frozen"), dict)}  # fmt: skip
    return sum(sizes.values())


def _packed(node: Node) -> int:
    geometry: Any = node.arguments.get("geometry")
    itemsize, weights = node.result.dtype.itemsize, prod(node.arguments["w"].shape)
    if not isinstance(geometry, ConvGeometry):
        return weights * itemsize
    verb = "conv_backward_input" if node.verb == "conv_backward_input" else "conv_forward"
    columns = (geometry.ic if verb == "conv_backward_input" else geometry.oc) // geometry.groups
    weights = weights // columns * (-(-columns // 64) * 64)  # whole panels
    if plan.chosen(verb, geometry, itemsize).name == "winograd":
        form = winograd_rule.form_of(geometry)
        return 2 * weights * itemsize * form.weights // form.kernel**2
    return weights * itemsize
