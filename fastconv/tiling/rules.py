"""Rules: for each verb of a forward pass, where the volume's axes lie in its result, and what a window of it reads.

A rule refuses what does not see a neighbourhood alone. What is said here of a verb is all that tiling knows of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, NamedTuple

from ..backends.cpu import plan, winograd_rule
from ..graph import Node, Value
from .layout import Layout, Window, plain, reshaped, shape_in, tracked, whole
from .windows import Edges, anywhere, conv_window, cut, every, pad_axis, pool_window, transpose_window

Layouts = dict[Value, Layout]


class Refused(Exception):
    """Why an operation has no windows."""


class Crop(NamedTuple):
    """A node over a window: what is computed, what is read of each operand, and the arguments that change."""

    made: Window
    reads: dict[str, Any]  # argument -> Window, or a list of them
    arguments: dict[str, Any]


class Rule(NamedTuple):
    """``place`` returns the layout of each result; ``crop`` what a window of them takes."""

    place: Callable[[Node, Layouts], list[Layout]]
    crop: Callable[[Node, Layouts, Window], Crop]


def _same(node: Node, of: Layouts, window: Window) -> Crop:
    """The same window of every operand."""
    reads = {name: window_of(value, of, window) for name, value in node.arguments.items() if isinstance(value, Value)}
    return Crop(window, reads, {})


def window_of(value: Value, of: Layouts, window: Window) -> Window:
    """The part of an operand that broadcasts to a window of the result: an axis of size 1 is read whole."""
    all_of_it = whole(of[value], len(window))
    held = {axis for factors in of[value] for axis, _ in factors}
    return tuple(
        part if axis in held and full != (0, 1) else full
        for axis, (part, full) in enumerate(zip(window, all_of_it, strict=True))
    )


def _take(value: Value, of: Layouts, layout: Layout) -> None:
    """See an operand beside one of ``layout``, to which it broadcasts: a constant of its size lies as it does."""
    own = of[value]
    if len(own) > len(layout):
        raise Refused("operands that do not lie side by side")
    for factors, other in zip(own, layout[len(layout) - len(own) :], strict=True):
        if prod(size for _, size in factors) > 1 and tracked(factors) != tracked(other):
            if value.kind != "constant" or any(tracked(entry) for entry in own):
                raise Refused("operands that do not lie side by side")
            behind = layout[len(layout) - len(own) :]
            of[value] = tuple(b if size > 1 else () for b, size in zip(behind, value.shape, strict=True))
            return


def _beside(*names: str) -> Callable:
    """The results lie as the widest of the operands does, axis by axis."""

    def place(node: Node, of: Layouts) -> list[Layout]:
        values = [node.arguments[name] for name in names if node.arguments[name] is not None]
        rank = max(len(value.shape) for value in values)
        columns = zip(*((((),) * (rank - len(of[v])) + of[v]) for v in values), strict=True)
        layout = tuple(max(column, key=lambda f: (prod(s for _, s in f), bool(tracked(f)))) for column in columns)
        for value in values:
            _take(value, of, layout)
        return [layout] * len(node.results)

    return place


def _over_channels(node: Node, of: Layouts) -> list[Layout]:
    layout = of[node.arguments["x"]]
    _no_channels_of_volume(layout)
    for name, value in node.arguments.items():
        if name == "residual" and value is not None:
            _take(value, of, layout)
        elif name != "x" and isinstance(value, Value):
            _constant(value, of)
    return [layout] * len(node.results)


def _no_channels_of_volume(layout: Layout) -> None:
    if tracked(layout[1]):
        raise Refused("an axis of the volume among its channels")


def _constant(value: Value, of: Layouts) -> None:
    if any(tracked(factors) for factors in of[value]):
        raise Refused("parameters that are made of the volume")


# ------------------------------------------------------------------------------ what moves elements about


def _place_reshape(node: Node, of: Layouts) -> list[Layout]:
    layout = reshaped(of[node.arguments["a"]], node.result.shape)
    if layout is None:
        raise Refused("a new shape that splits an axis of the volume")
    return [layout]


def _crop_reshape(node: Node, of: Layouts, window: Window) -> Crop:
    return Crop(window, {"a": window}, {"shape": shape_in(of[node.result], window)})


def _place_permute(node: Node, of: Layouts) -> list[Layout]:
    return [tuple(of[node.arguments["a"]][axis] for axis in node.arguments["axes"])]


def _place_broadcast(node: Node, of: Layouts) -> list[Layout]:
    own, shape = of[node.arguments["a"]], node.result.shape
    own = ((),) * (len(shape) - len(own)) + own
    return [
        tuple(f if prod(s for _, s in f) == size else p for f, p, size in zip(own, plain(shape), shape, strict=True))
    ]


def _place_cat(node: Node, of: Layouts) -> list[Layout]:
    arrays, axis = node.arguments["arrays"], node.arguments["axis"]
    if any(tracked(of[value][axis]) for value in arrays):
        raise Refused("parts of the volume, joined")
    first = next((of[v] for v in arrays if any(map(tracked, of[v]))), of[arrays[0]])
    for value in arrays:
        _take(value, of, (*first[:axis], of[value][axis], *first[axis + 1 :]))
    return [(*first[:axis], plain(node.result.shape)[axis], *first[axis + 1 :])]


def _crop_cat(node: Node, of: Layouts, window: Window) -> Crop:
    return Crop(window, {"arrays": [window_of(value, of, window) for value in node.arguments["arrays"]]}, {})


def _place_reduction(node: Node, of: Layouts) -> list[Layout]:
    layout, axes = of[node.arguments["a"]], node.arguments["axis"]
    axes = range(len(layout)) if axes is None else (axes,) if isinstance(axes, int) else axes
    axes = {axis % len(layout) for axis in axes}
    if any(tracked(layout[axis]) for axis in axes):
        raise Refused("a reduction over space")
    keeps = node.arguments.get("keepdims", True)
    reduced = tuple(() if i in axes else f for i, f in enumerate(layout) if keeps or i not in axes)
    return [reduced]


def _keys(node: Node) -> list[tuple[int, Any]]:
    """The index, an entry an axis of the result or a number: (axis of x, key), -1 for a new axis."""
    key, rank = node.arguments["key"], len(node.arguments["x"].shape)
    key = list(key) if isinstance(key, tuple) else [key]
    missing = rank - sum(entry is not None and entry is not ... for entry in key)
    at = next((i for i, entry in enumerate(key) if entry is ...), len(key))
    key[at : at + 1] = [slice(None)] * missing
    axes = iter(range(rank))
    return [(-1 if entry is None else next(axes), entry) for entry in key]


def _place_index(node: Node, of: Layouts) -> list[Layout]:
    own, shape, found = of[node.arguments["x"]], node.arguments["x"].shape, []
    for axis, key in _keys(node):
        if key is None:
            found.append(())
        elif not isinstance(key, slice):
            if tracked(own[axis]):
                raise Refused("a single slice of the volume")
        elif key.indices(shape[axis]) == (0, shape[axis], 1) or not tracked(own[axis]):
            size = len(range(*key.indices(shape[axis])))
            found.append(own[axis] if tracked(own[axis]) else plain((size,))[0])
        else:
            start, stop, step = key.indices(shape[axis])
            if len(own[axis]) > 1 or step < 1 or stop <= start:
                raise Refused("a part of the volume that is not a run of its axis")
            found.append(((own[axis][0][0], len(range(start, stop, step))),))
    return [tuple(found)]


def _crop_index(node: Node, of: Layouts, window: Window) -> Crop:
    x = node.arguments["x"]
    read, keys = list(window), []
    for axis, key in _keys(node):
        if isinstance(key, slice) and tracked(of[x][axis]):
            start, _, step = key.indices(x.shape[axis])
            if len(of[x][axis]) == 1:
                ((where, _),) = of[x][axis]
                first, last = window[where]
                read[where] = start + first * step, start + (last - 1) * step + 1
            key = slice(None, None, step)
        keys.append(key)
    return Crop(window, {"x": tuple(read)}, {"key": tuple(keys)})


def _place_pad(node: Node, of: Layouts) -> list[Layout]:
    found = []
    for factors, widths in zip(of[node.arguments["x"]], node.arguments["widths"], strict=True):
        if tracked(factors) and any(widths):
            if node.arguments["mode"] == "circular" or len(factors) > 1:
                raise Refused("a padding that shows the other end of the volume")
            factors = ((factors[0][0], factors[0][1] + sum(widths)),)
        elif any(widths):
            factors = plain((prod(size for _, size in factors) + sum(widths),))[0]
        found.append(factors)
    return [tuple(found)]


def _crop_pad(node: Node, of: Layouts, window: Window) -> Crop:
    made, read, widths = list(window), list(window), list(map(tuple, node.arguments["widths"]))
    for i, factors in enumerate(of[node.arguments["x"]]):
        if tracked(factors) and any(widths[i]):
            axis, size = factors[0]
            made[axis], read[axis], widths[i] = pad_axis(size, *widths[i], node.arguments["mode"], window[axis])
    return Crop(tuple(made), {"x": tuple(read)}, {"widths": widths})


# ------------------------------------------------------------------------------ what sees a neighbourhood


def _spatial(name: str) -> Callable:
    """Of five axes: channels apart from the volume, and at most one axis of the volume in each of the last three."""

    def place(node: Node, of: Layouts) -> list[Layout]:
        layout = of[node.arguments[name]]
        _no_channels_of_volume(layout)
        if any(tracked(factors) and len(factors) > 1 for factors in layout[2:]):
            raise Refused("several axes of the volume in one")
        for other, value in node.arguments.items():
            if other not in (name, "residual") and isinstance(value, Value):
                _constant(value, of)
        shape = node.result.shape
        sizes = zip(layout[2:], plain(shape)[2:], shape[2:], strict=True)
        space = tuple(((f[0][0], size),) if tracked(f) else p for f, p, size in sizes)
        found = (layout[0], plain(shape)[1], *space)
        if node.arguments.get("residual") is not None:
            _take(node.arguments["residual"], of, found)
        return [found] * len(node.results)

    return place


def _edges(verb: str, node: Node) -> Edges:
    """Where the kernel that runs a convolution lets what it computes start and end."""
    g = node.arguments["geometry"]
    chosen = plan.chosen(verb, g, node.result.dtype.itemsize).name
    if chosen == "lines":
        return every(winograd_rule.ROW_OUTPUTS)
    if chosen != "winograd":
        return anywhere
    return every(winograd_rule.form_of(g).m) if winograd_rule.in_squares(g) else winograd_rule.form_of(g).edges


def _crop_conv(node: Node, of: Layouts, window: Window) -> Crop:
    g = node.arguments["geometry"]
    made, read, geometry = conv_window(g, of[node.result], window, _edges("conv_forward", node))
    crop = _same(node, of, made)
    return crop._replace(reads={**crop.reads, "x": read}, arguments={"geometry": geometry})


def _crop_transposed(node: Node, of: Layouts, window: Window) -> Crop:
    g = node.arguments["geometry"]
    made_at, read_at = [_edges("conv_backward_input", node)] * 3, anywhere
    if made_at[0] is not anywhere and winograd_rule.form_of(g).stride > 1:
        made_at = [partial(winograd_rule.turned_edges, padding=padding) for padding in g.padding]
    elif made_at[0] is not anywhere and winograd_rule.adjoint(g):
        made_at, read_at = [anywhere] * 3, every(winograd_rule.form_of(g).m)
    elif made_at[0] is not anywhere and winograd_rule.adjoint_by_planes(g):
        made_at, read_at = [anywhere] * 3, winograd_rule.form_of(g).edges
    made, read, geometry = transpose_window(g, of[node.result], window, (made_at, read_at))
    crop = _same(node, of, made)
    return crop._replace(reads={**crop.reads, "dy": read}, arguments={"geometry": geometry})


def _crop_pool(node: Node, of: Layouts, window: Window) -> Crop:
    read, geometry = pool_window(node.arguments["geometry"], of[node.result], window)
    return Crop(window, {"x": read}, {"geometry": geometry})


def _crop_resample(node: Node, of: Layouts, window: Window) -> Crop:
    read, axes = list(window), list(node.arguments["axes"])
    for i, factors in enumerate(of[node.result][2:]):
        if tracked(factors):
            axis = factors[0][0]
            read[axis], axes[i] = cut(axes[i], window[axis])
    return Crop(window, {"x": tuple(read)}, {"axes": axes})


def _place_linear(node: Node, of: Layouts) -> list[Layout]:
    layout = of[node.arguments["x"]]
    if tracked(layout[1]):
        raise Refused("a linear layer over space")
    for name in ("w", "b"):
        if node.arguments[name] is not None:
            _constant(node.arguments[name], of)
    return [(layout[0], plain(node.result.shape)[1])]


_UNARY = (
    "relu_forward", "leaky_relu_forward", "sigmoid_forward", "tanh_forward", "pointwise_forward",
    "dropout_apply", "cast",
)  # fmt: skip
RULES: dict[str, Rule] = {
    **dict.fromkeys(_UNARY, Rule(_beside("x"), _same)),
    "scale": Rule(_beside("a"), _same),
    "relu_backward": Rule(_beside("dy", "y"), _same),
    "matches": Rule(_beside("a", "best"), _same),
    **dict.fromkeys(("add", "subtract", "multiply", "divide", "maximum", "power"), Rule(_beside("a", "b"), _same)),
    **dict.fromkeys(
        ("softmax_forward", "log_softmax_forward", "batch_norm_forward", "local_response_norm_forward"),
        Rule(_over_channels, _same),
    ),
    "reshape": Rule(_place_reshape, _crop_reshape),
    "broadcast_to": Rule(_place_broadcast, lambda node, of, window: Crop(
        window, {"a": window_of(node.arguments["a"], of, window)}, {"shape": shape_in(of[node.result], window)}
    )),
    "permute": Rule(_place_permute, _same),
    "index": Rule(_place_index, _crop_index),
    "cat": Rule(_place_cat, _crop_cat),
    "pad_forward": Rule(_place_pad, _crop_pad),
    "sum": Rule(_place_reduction, _same),
    "extremes": Rule(_place_reduction, _same),
    "conv_forward": Rule(_spatial("x"), _crop_conv),
    "conv_act_forward": Rule(_spatial("x"), _crop_conv),
    "conv_backward_input": Rule(_spatial("dy"), _crop_transposed),
    "max_pool_forward": Rule(_spatial("x"), _crop_pool),
    "avg_pool_forward": Rule(_spatial("x"), _crop_pool),
    "resample_forward": Rule(_spatial("x"), _crop_resample),
    "linear_forward": Rule(_place_linear, _same),
}  # fmt: skip
