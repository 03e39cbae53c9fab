"""Export of what moves elements about: views, slices, concatenation, padding."""

from __future__ import annotations

from typing import Any

from ..graph import Node, Times
from .export_builder import Builder, writes

_END = 2**63 - 1  # "to the end" of an axis, for Slice


@writes("reshape")
def _reshape(b: Builder, node: Node) -> None:
    """Nothing yet: the value lies where it lay."""
    b.put(node.result, *b.stored(node["a"]))


@writes("permute")
def _permute(b: Builder, node: Node) -> None:
    axes = list(node["axes"])
    name = b.exact(node["a"])
    b.put(node.result, name if axes == sorted(axes) else b.emit("Transpose", [name], perm=axes))


@writes("broadcast_to")
def _broadcast_to(b: Builder, node: Node) -> None:
    a, sizes = node["a"], node.result.sizes
    if a.sizes == sizes:
        b.put(node.result, b.exact(a))
        return
    old = (1,) * (len(sizes) - len(a.sizes)) + a.sizes
    wanted = [1 if before == after else after for before, after in zip(old, sizes, strict=True)]  # 1 keeps a size
    b.put(node.result, b.emit("Expand", [b.exact(a), b.shape(wanted)]))


@writes("cat")
def _cat(b: Builder, node: Node) -> None:
    names = [b.exact(value) for value in node["arrays"]]
    b.put(node.result, names[0] if len(names) == 1 else b.emit("Concat", names, axis=node["axis"]))


# ------------------------------------------------------------------------------------------------------ slices


@writes("index")
def _index(b: Builder, node: Node) -> None:
    """Slice; the axes that a number takes away and those that None adds are a matter of sizes."""
    x, result = node["x"], list(node.result.sizes)
    key = node["key"] if isinstance(node["key"], tuple) else (node["key"],)
    rest = len(x.sizes) - sum(entry is not None and entry is not ... for entry in key)
    parts: list[tuple[int, int, int, int]] = []  # axis, start, end, step
    sizes: list[Any] = []  # behind Slice
    for entry in key if ... in key else (*key, ...):
        if entry is None:
            result.pop(0)
        elif entry is ...:
            sizes += [result.pop(0) for _ in range(rest)]
        else:
            start, end, step = _bounds(b, node, entry, x.sizes[len(sizes)])
            if (start, end, step) != (0, _END, 1):
                parts.append((len(sizes), start, end, step))
            sizes.append(result.pop(0) if isinstance(entry, slice) else 1)
    name = b.exact(x)
    if parts:
        axes, starts, ends, steps = (b.integers(column) for column in zip(*parts, strict=True))
        name = b.emit("Slice", [name, starts, ends, axes, *([] if all(p[3] == 1 for p in parts) else [steps])])
    b.put(node.result, name, sizes)


def _bounds(b: Builder, node: Node, entry: Any, size: Any) -> tuple[int, int, int]:
    """Return start, end and step as Slice takes them."""
    if not isinstance(entry, slice):
        return int(entry), _END if entry == -1 else int(entry) + 1, 1
    if any(isinstance(end, Times) for end in (entry.start, entry.stop, entry.step)):
        raise b.refused(node, "bounds that do not go with the batch (else dynamic_batch=False)", entry)
    if isinstance(size, Times):
        step = 1 if entry.step is None else int(entry.step)
        first, last = (0, _END) if step > 0 else (_END, -_END)
        return (
            first if entry.start is None else int(entry.start),
            last if entry.stop is None else int(entry.stop),
            step,
        )
    start, stop, step = entry.indices(size)
    if (start, stop, step) == (0, size, 1):
        return 0, _END, 1
    return start, stop if stop >= 0 else -_END, step


# ----------------------------------------------------------------------------------------------------- padding


@writes("pad_forward")
def _pad(b: Builder, node: Node) -> None:
    """Pad, and Slice where a width is negative: behind the padding beside it, but before a circular one."""
    x, widths, mode = node["x"], node["widths"], node["mode"]
    name = b.exact(x)
    grown = [(max(before, 0), max(after, 0)) for before, after in widths]
    cropped = [(min(before, 0), min(after, 0)) for before, after in widths]
    if mode == "circular":
        sizes = [size if before == after == 0 else size + before + after
                 for size, (before, after) in zip(x.sizes, cropped, strict=True)]  # fmt: skip
        name = _around(b, _crop(b, name, cropped), grown, sizes)
    else:
        if any(before or after for before, after in grown):
            pads = b.integers([*(before for before, _ in grown), *(after for _, after in grown)])
            value = [b.number(node["value"], x.dtype)] if mode == "constant" else []
            name = b.emit("Pad", [name, pads, *value], mode="edge" if mode == "replicate" else mode)
        name = _crop(b, name, cropped)
    b.put(node.result, name)


def _crop(b: Builder, name: str, widths: list[tuple[int, int]]) -> str:
    parts = [(i, -before, after or _END) for i, (before, after) in enumerate(widths) if before or after]
    if not parts:
        return name
    axes, starts, ends = (b.integers(column) for column in zip(*parts, strict=True))
    return b.emit("Slice", [name, starts, ends, axes])


def _around(b: Builder, name: str, widths: list[tuple[int, int]], sizes: list[Any]) -> str:
    """Put the end of each axis before it, and its beginning behind it."""
    for axis, (before, after) in enumerate(widths):
        parts = []
        if before:
            parts.append(b.emit("Slice", [name, *(b.integers([n]) for n in (sizes[axis] - before, _END, axis))]))
        parts.append(name)
        if after:
            parts.append(b.emit("Slice", [name, *(b.integers([n]) for n in (0, after, axis))]))
        name = b.emit("Concat", parts, axis=axis) if len(parts) > 1 else name
    return name
