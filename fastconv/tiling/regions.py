"""Regions: the graph of a network over a whole volume, and the graphs of windows of its output, with the same bits.

Every operation keeps the geometry that it has over the whole volume, cut to the window: what lies inside the volume is
read, only what lies outside is padding. So no halo is guessed, odd sizes and strides need no alignment, and where a
kernel works in tiles of its own (Winograd) the window is widened to them.
"""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError, mismatch
from ..graph import Graph, Node, Value
from .layout import Layout, Window, plain, shape_in, tracked, volume, whole
from .rules import RULES, Crop, Layouts, Refused
from .windows import hull

_WHY = {
    "batch_norm_statistics": "statistics of its input (batch norm of a batch, layer norm)",
    "group_norm_forward": "statistics of its input (group or instance norm)",
}


class Regions:
    """Where each value of an outlined network lies in the volume; ``graph(window)`` computes a part of its output."""

    def __init__(self, op: str, graph: Graph) -> None:
        """
        Raises:
            ArgumentError: an operation that sees more than a neighbourhood, by name.
        """
        (self.input,), self.output = graph.inputs, graph.outputs
        self.rank = len(self.input.shape) - 2
        self._op, self._name = op, graph.name
        self.nodes = [part for node in graph.nodes for part in _split(node)]
        self.of: Layouts = {self.input: volume(self.input.shape[1], self.input.shape[2:])}
        self._packed: dict[Node, dict] = {}
        for node in self.nodes:
            self._place(node)
        self._check_output()

    def _place(self, node: Node) -> None:
        for value in node.operands:
            self.of.setdefault(value, plain(value.shape))
        if not any(tracked(factors) for value in node.operands for factors in self.of[value]):
            self.of.update((value, plain(value.shape)) for value in node.results if value is not None)
            return
        try:
            if node.verb not in RULES:
                raise Refused(_WHY.get(node.verb, "an operation without windows"))
            layouts = RULES[node.verb].place(node, self.of)
        except Refused as why:
            raise self._refusal(node, why) from None
        self.of.update((v, layout) for v, layout in zip(node.results, layouts, strict=True) if v is not None)

    def _refusal(self, node: Node, why: object) -> ArgumentError:
        where = f" in module {node.module!r}" if node.module else ""
        expected = (
            "a model whose outputs see a neighbourhood alone with blend='exact' ('gaussian' and 'average' take any)"
        )
        return ArgumentError(mismatch(self._op, expected, f"{node.verb}{where}: {why}"))

    def _check_output(self) -> None:
        layout = self.of.get(self.output, plain(self.output.shape))
        axes = [factors[0][0] if len(factors) == 1 else None for factors in layout]
        if axes[2:] != list(range(self.rank)) or any(tracked(factors) for factors in layout[:2]):
            last = next((node for node in reversed(self.nodes) if self.output in node.results), None)
            expected = f"a model that returns (1, channels, {self.rank} axes of the volume)"
            raise ArgumentError(
                mismatch(self._op, expected, f"{self.output!r} of {last.verb if last else 'the input'}")
            )

    # ------------------------------------------------------------------------------------------ windows

    def windows(self, window: Window) -> tuple[dict[Value, Window], dict[Node, Crop]]:
        """What of each value is computed for a window of the output, and how."""
        made: dict[Value, Window] = {self.output: window}
        crops: dict[Node, Crop] = {}
        for node in reversed(self.nodes):
            wanted = [made[value] for value in node.results if value in made]
            if not wanted:
                continue
            crop = self._crop(node, _union(*wanted))
            crops[node] = crop
            made.update((value, crop.made) for value in node.results if value is not None)
            for name, reads in crop.reads.items():
                values = node.arguments[name]
                for value, read in zip(values, reads, strict=True) if isinstance(values, list) else [(values, reads)]:
                    if value.kind != "constant":
                        made[value] = _union(made[value], read) if value in made else read
        return made, crops

    def _crop(self, node: Node, window: Window) -> Crop:
        if any(tracked(factors) for value in node.operands for factors in self.of[value]):
            return RULES[node.verb].crop(node, self.of, window)
        every = whole((), self.rank)
        lists = {name: [every] * len(v) for name, v in node.arguments.items() if _holds_values(v)}
        return Crop(window, {**{n: every for n, v in node.arguments.items() if isinstance(v, Value)}, **lists}, {})

    def graph(self, window: Window) -> tuple[Graph, Window]:
        """The graph that computes a window of the output, and the window of the input that it takes."""
        made, crops = self.windows(window)
        build = _Builder(self.of, made)
        for node in self.nodes:
            if node in crops:
                build.add(node, crops[node], self._packed.setdefault(node, {}))
        given = build.value(self.input)
        output = build.sliced(self.output, window)
        window_read = made.get(self.input, tuple((0, 1) for _ in window))
        return Graph(self._name, build.nodes, [given], output, 1, "it is a window"), window_read


class _Builder:
    """Nodes over windows, with views where an operation reads less of a value than there is."""

    def __init__(self, of: Layouts, made: dict[Value, Window]) -> None:
        self._of, self._made = of, made
        self.nodes: list[Node] = []
        self._values: dict[Value, Value] = {}
        self._parts: dict[tuple[Value, Window], Value] = {}

    def value(self, value: Value) -> Value:
        """The value as far as it is computed."""
        if value.kind == "constant":
            return value
        found = self._values.get(value)
        if found is None:
            every = tuple((0, 1) for _ in next(iter(self._made.values())))
            shape = shape_in(self._of[value], self._made.get(value, every))
            found = self._values[value] = Value(value.kind, value.name, shape, value.dtype)
        return found

    def sliced(self, value: Value, window: Window) -> Value:
        """A window of the value."""
        layout = self._of[value]
        held = {axis for factors in layout for axis, _ in tracked(factors)}
        there = whole(layout, len(window)) if value.kind == "constant" else self._made[value]
        if all(window[axis] == there[axis] for axis in held):
            return self.value(value)
        key = value, tuple(window[axis] for axis in sorted(held))
        found = self._parts.get(key)
        if found is None:
            found = self._parts[key] = self._view(self.value(value), layout, there, window)
        return found

    def _view(self, value: Value, layout: Layout, there: Window, window: Window) -> Value:
        apart: Layout = tuple((factor,) for factors in layout for factor in factors) or ((),)
        merged = any(len(factors) > 1 for factors in layout)
        if merged:
            value = self._node("reshape", {"a": value, "shape": shape_in(apart, there)}, shape_in(apart, there))
        lies = apart if merged else layout
        key = tuple(
            slice(window[f[0][0]][0] - there[f[0][0]][0], window[f[0][0]][1] - there[f[0][0]][0]) if tracked(f)
            else slice(None) for f in lies
        )  # fmt: skip
        value = self._node("index", {"x": value, "key": key}, shape_in(lies, window))
        shape = shape_in(layout, window)
        return self._node("reshape", {"a": value, "shape": shape}, shape) if merged else value

    def _node(self, verb: str, arguments: dict[str, Any], shape: tuple[int, ...]) -> Value:
        source = next(iter(arguments.values()))
        result = Value("result", f"{source.name}.{len(self.nodes)}", shape, source.dtype)
        self.nodes.append(Node(verb, arguments, [result]))
        return result

    def add(self, node: Node, crop: Crop, packed: dict) -> None:
        """Add a node over its window. ``packed``: where its packed weights are kept from one window to the next."""
        arguments = {**node.arguments, **crop.arguments}
        for name, reads in crop.reads.items():
            values = node.arguments[name]
            if isinstance(values, Value):
                arguments[name] = self.sliced(values, reads)
            else:
                arguments[name] = [self.sliced(v, read) for v, read in zip(values, reads, strict=True)]
        if arguments.get("frozen") is True and node.arguments["w"].kind == "constant":
            arguments["frozen"] = packed
        results = [None if value is None else self.value(value) for value in node.results]
        self.nodes.append(Node(node.verb, arguments, results, node.module))


def _union(*windows: Window) -> Window:
    result = windows[0]
    for other in windows[1:]:
        result = tuple(hull(a, b) for a, b in zip(result, other, strict=True))
    return result


def _holds_values(argument: Any) -> bool:
    return isinstance(argument, (list, tuple)) and any(isinstance(entry, Value) for entry in argument)


def _split(node: Node) -> list[Node]:
    """A unit as the two verbs that it stands for: they have the same bits, and windows of their own."""
    if node.verb != "conv_act_pool_forward":
        return [node]
    a = node.arguments
    y = Value("result", f"{node.result.name}.conv", a["geometry"].output_shape, node.result.dtype)
    conv = {name: a[name] for name in ("x", "w", "b", "geometry", "activation")}
    conv |= {"residual": None, "frozen": a["frozen"], "out": None}
    pool = {"x": y, "geometry": a["pool_geometry"], "keep": "nothing", "out": None}
    return [
        Node("conv_act_forward", conv, [y], node.module),
        Node("max_pool_forward", pool, [node.result, None], node.module),
    ]
