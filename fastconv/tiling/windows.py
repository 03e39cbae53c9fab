"""What each axis of an operation reads for an interval of its output: convolutions, pools, resampling, padding."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..geometry import AxisWindows, ConvGeometry, PoolGeometry
from ..resampling import AxisTaps
from .layout import Layout, Window, windowed

Interval = tuple[int, int]
Edges = Callable[[int], Sequence[int]]


def hull(a: Interval, b: Interval) -> Interval:
    """The smallest interval that holds both."""
    return min(a[0], b[0]), max(a[1], b[1])


def widened(interval: Interval, edges: Sequence[int]) -> Interval:
    """The interval with its ends moved outward to ``edges``, ascending from 0 to the size of the axis.

    >>> widened((5, 9), [0, 4, 8, 12, 16]), widened((5, 9), [0, 4, 7, 10]), widened((4, 8), range(11))
    ((4, 12), (4, 10), (4, 8))
    """
    return edges[bisect_right(edges, interval[0]) - 1], edges[bisect_left(edges, interval[1])]


def conv_axis(g: ConvGeometry, i: int, out: Interval) -> tuple[Interval, Interval, int, int]:
    """Axis ``i`` of a convolution: the outputs that are computed for those wanted, the inputs that they see, and how
    many zeros lie before and after these."""
    stride, padding, reach, size = g.stride[i], g.padding[i], g.dilation[i] * (g.kernel[i] - 1), g.input[i]
    first, last = out
    last = max(last, 1 - (reach - padding) // stride)  # outputs that see nothing but zeros ...
    first = min(first, (size - 1 + padding) // stride)  # ... are computed beside one that sees more
    last = min(last, g.output[i])
    low, high = first * stride - padding, (last - 1) * stride - padding + reach + 1
    return (first, last), (max(low, 0), min(high, size)), max(-low, 0), max(high - size, 0)


def transpose_axis(g: ConvGeometry, i: int, out: Interval, edges: Sequence[int]) -> tuple[Interval, int, int]:
    """Axis ``i`` of a transposed convolution: the inputs that reach the outputs, from edge to edge, and the paddings of
    the convolution that it is the adjoint of, between both."""
    stride, padding, reach, size = g.stride[i], g.padding[i], g.dilation[i] * (g.kernel[i] - 1), g.output[i]
    first = min(max(0, -((reach - out[0] - padding) // stride)), (out[0] + padding) // stride, size - 1)
    last = max(min((out[1] - 1 + padding) // stride + 1, size), first + 1)
    if out[1] == g.input[i]:  # a kernel's last tile may look beyond the last output
        last = size
    first, last = widened((first, last), edges)
    before = out[0] + padding - first * stride
    return (first, last), before, (last - first - 1) * stride + reach + 1 - (out[1] - out[0]) - before


def pool_axis(axis: AxisWindows, out: Interval) -> tuple[Interval, AxisWindows]:
    """One axis of a pooling: the inputs that a run of outputs sees, and its windows among those."""
    part = slice(*out)
    start, count = axis.start[part], axis.count[part]
    low = min(start)
    high = max(s + axis.step * (c - 1) + 1 for s, c in zip(start, count, strict=True))
    return (low, high), AxisWindows(tuple(s - low for s in start), count, axis.step, axis.divisor[part])


def taps_axis(axis: AxisTaps, out: Interval) -> tuple[Interval, AxisTaps]:
    """One axis of a resampling, likewise."""
    index, weight = axis.index[slice(*out)], axis.weight[slice(*out)]
    low = int(index.min())
    return (low, int(index.max()) + 1), AxisTaps(index - low, weight.copy())


def pad_axis(size: int, before: int, after: int, mode: str, out: Interval) -> tuple[Interval, Interval, Interval]:
    """One axis of a padding: the outputs that are computed, the inputs that they see, and the widths between them.

    What is computed holds an element that is no padding, and of a reflection what it shows.
    """
    first, last = out
    mirror = mode == "reflect"
    left, right = max(before - first, 0), max(last - before - size, 0)
    last = max(last, before + 1 + mirror * left)
    first = min(first, before + size - 1 - mirror * right)
    if mirror and first < before and last > before + size:
        first, last = 0, size + before + after
    first, last = max(first, 0), min(last, size + before + after)
    low, high = max(first - before, 0), min(last - before, size)
    return (first, last), (low, high), (max(before - first, 0), max(last - before - size, 0))


def conv_window(g: ConvGeometry, factors: Layout, window: Window, edges: Edges) -> tuple[Window, Window, ConvGeometry]:
    """A convolution over a window of its output, of layout ``factors``: the window that is computed, the one that is
    read, and the geometry between them. ``edges``: of an axis' size, where what is computed may start and end."""
    made, read = list(window), list(window)
    ends = [list(g.input), list(g.output), list(g.padding), list(g.padding_end)]
    for i, axis in _axes(factors):
        ends_at = _edges(edges, i, g.output[i])
        wanted = widened(window[axis], ends_at)
        computed = widened(conv_axis(g, i, wanted)[0], ends_at)
        made[axis], read[axis], before, after = conv_axis(g, i, computed)
        for entry, value in zip(ends, (_length(read[axis]), _length(made[axis]), before, after), strict=True):
            entry[i] = value
    return tuple(made), tuple(read), _part(g, windowed(factors[0], window), *ends)


def transpose_window(
    g: ConvGeometry, factors: Layout, window: Window, edges: tuple[Sequence[Edges], Edges]
) -> tuple[Window, Window, ConvGeometry]:
    """A transposed convolution likewise; ``edges`` of its output, axis by axis, and of its input."""
    made, read = list(window), list(window)
    ends = [list(g.input), list(g.output), list(g.padding), list(g.padding_end)]
    for i, axis in _axes(factors):
        made[axis] = widened(window[axis], _edges(edges[0][i], i, g.input[i]))
        read[axis], before, after = transpose_axis(g, i, made[axis], _edges(edges[1], i, g.output[i]))
        for entry, value in zip(ends, (_length(made[axis]), _length(read[axis]), before, after), strict=True):
            entry[i] = value
    return tuple(made), tuple(read), _part(g, windowed(factors[0], window), *ends)


def pool_window(g: PoolGeometry, factors: Layout, window: Window) -> tuple[Window, PoolGeometry]:
    """A pooling over a window of its output: the window that is read, and the geometry."""
    read, inputs, outputs, windows = list(window), list(g.input), list(g.output), list(g.windows)
    for i, axis in _axes(factors):
        read[axis], windows[i] = pool_axis(g.windows[i], window[axis])
        inputs[i], outputs[i] = _length(read[axis]), _length(window[axis])
    n = windowed(factors[0], window)
    return tuple(read), PoolGeometry(n, g.c, tuple(inputs), tuple(outputs), tuple(windows), g.divisor_override)


def _axes(factors: Layout) -> list[tuple[int, int]]:
    """Of the last three axes those that are cut: which one, and which axis of the volume it is."""
    return [(i, entry[0][0]) for i, entry in enumerate(factors[2:]) if entry and entry[0][0] is not None]


def _part(g: ConvGeometry, n: int, inputs: list, outputs: list, before: list, after: list) -> ConvGeometry:
    sizes = {"input": inputs, "output": outputs, "padding": before, "padding_end": after}
    return replace(g, n=n, whole=g, **{name: tuple(values) for name, values in sizes.items()})


def anywhere(size: int) -> Sequence[int]:
    """Edges of an axis that is not computed in tiles."""
    return range(size + 1)


def every(step: int) -> Edges:
    """Edges ``step`` apart, and the end of the axis."""
    return lambda size: [*range(0, size, step), size]


def _edges(edges: Edges, i: int, size: int) -> Sequence[int]:
    return edges(size) if i else anywhere(size)  # Winograd's tiles are rows by columns


def _length(interval: Interval) -> int:
    return interval[1] - interval[0]


def cut(taps: AxisTaps | None, out: Interval) -> tuple[Interval, AxisTaps | None]:
    """As taps_axis, where an axis may be left alone."""
    return (out, None) if taps is None else taps_axis(taps, out)
