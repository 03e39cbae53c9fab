"""``outline``: the graph of a network for inputs that need not exist: sizes are worked out, nothing is computed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from .. import backends
from ..backends.base import Backend
from ..errors import GraphError, mismatch
from .capture import once, unchanged
from .graph import Graph
from .passes import Editor, constants
from .tracing import VERBS


def outline(model: Callable, *shapes: Sequence[int], dtype: Any = np.float32) -> Graph:
    """Return the graph of ``model`` for inputs of these shapes, as ``trace`` does, without its work and its memory.

    What depends on the inputs has sizes and no values; what depends on constants alone is computed. The graph runs as
    any other, and is ``fixed`` to the batch of the shapes.

    Args:
        model: a Module, or a function of Tensors. It runs in the mode that it is in.
        shapes: of the inputs.
        dtype: of the inputs.

    Raises:
        GraphError: as ``trace``, or an operation that no forward pass has. Otherwise as the model.

    >>> from fastconv import nn
    >>> net = nn.Sequential(nn.Conv3d(1, 8, 3), nn.ReLU())
    >>> outline(net, (1, 1, 4096, 4096, 4096)).outputs.shape
    (1, 8, 4094, 4094, 4094)
    """
    with unchanged(model):
        graph = once(model, [_hollow(shape, dtype) for shape in shapes], _device(type(backends.for_numpy()))())
    graph.fixed = "it is an outline"
    constants.fold(Editor(graph, backends.for_numpy()))
    return graph


class _Hollow(np.ndarray):
    """An array without memory: one element, seen everywhere."""

    def astype(self, dtype: Any, *args: Any, **options: Any) -> _Hollow:
        return _hollow(self.shape, dtype)


def _hollow(shape: Sequence[int], dtype: Any) -> _Hollow:
    one = np.zeros((), dtype).view(_Hollow)
    return np.lib.stride_tricks.as_strided(one, tuple(map(int, shape)), (0,) * len(shape), subok=True, writeable=False)


@cache
def _device(real: type[Backend]) -> type[Backend]:
    """Return the backend ``real`` with every verb of a forward pass that meets hollow arrays replaced by its sizes."""

    def usable(self: Backend, operands: Sequence[object]) -> bool:
        return real.usable([np.empty(0, x.dtype) if isinstance(x, _Hollow) else x for x in operands])

    hollow = {verb: _sized(verb, _SHAPES.get(verb)) for verb in VERBS}
    return type(f"Outline{real.__name__}", (real,), {**hollow, "usable": usable})


def _sized(verb: str, rule: Callable[[Mapping[str, Any]], Any] | None) -> Callable:
    signature = inspect.signature(getattr(Backend, verb))

    def method(self: Backend, *args: Any, **options: Any) -> Any:
        bound = signature.bind(self, *args, **options)
        given = bound.arguments.values()
        operands = [x for entry in given for x in (entry if isinstance(entry, (list, tuple)) else (entry,))]
        first = next((x for x in operands if isinstance(x, _Hollow)), None)
        if first is None:
            return getattr(super(type(self), self), verb)(*args, **options)
        if rule is None:
            raise GraphError(mismatch("outline", "a forward pass without losses and gradients", verb))
        bound.apply_defaults()
        found = rule(bound.arguments)
        if not isinstance(found, list):
            return _hollow(found, first.dtype)
        return tuple(None if one is None else _hollow(one, first.dtype) for one in found)

    return method


# ------------------------------------------------------------------------------- the shape of every result


def _same(name: str) -> Callable:
    return lambda a: a[name].shape


def _broadcast(a: Mapping[str, Any]) -> tuple[int, ...]:
    return np.broadcast_shapes(a["a"].shape, a["b"].shape)


def _product(a: Mapping[str, Any]) -> tuple[int, ...]:
    x, y = a["a"].shape, a["b"].shape
    return (*np.broadcast_shapes(x[:-2], y[:-2]), x[-2], y[-1])


def _reduced(a: Mapping[str, Any]) -> tuple[int, ...]:
    shape = a["a"].shape
    axes = range(len(shape)) if a["axis"] is None else np.atleast_1d(a["axis"]) % len(shape)
    kept = [1 if i in axes else size for i, size in enumerate(shape)]
    return tuple(size for i, size in enumerate(kept) if a["keepdims"] or i not in axes)


def _joined(a: Mapping[str, Any]) -> tuple[int, ...]:
    shape = list(a["arrays"][0].shape)
    shape[a["axis"]] = sum(array.shape[a["axis"]] for array in a["arrays"])
    return tuple(shape)


def _resampled(a: Mapping[str, Any]) -> tuple[int, ...]:
    sizes = zip(a["x"].shape[2:], a["axes"], strict=True)
    return (*a["x"].shape[:2], *(size if taps is None else len(taps.index) for size, taps in sizes))


def _indices(a: Mapping[str, Any]) -> tuple[int, ...] | None:
    return a["geometry"].output_shape if a["keep"] == "indices" else None


_SHAPES: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    **{f"{name}_forward": _same("x") for name in (
        "relu", "leaky_relu", "sigmoid", "tanh", "pointwise", "softmax", "log_softmax", "batch_norm",
    )},
    "dropout_apply": _same("x"),
    "relu_backward": _same("dy"),
    "matches": _same("a"),
    "scale": _same("a"),
    "reciprocal_root": _same("variance"),
    "local_response_norm_forward": lambda a: [a["x"].shape] * 2,
    "batch_norm_statistics": lambda a: [a["x"].shape[1:2]] * 2,
    "group_norm_forward": lambda a: [a["x"].shape, *[(len(a["x"]), a["groups"])] * 2],
    **dict.fromkeys(
        ("add", "subtract", "multiply", "divide", "maximum", "power", "power_slope", "power_exponent_slope"), _broadcast
    ),
    "sum": _reduced,
    "extremes": lambda a: _reduced({**a, "keepdims": True}),
    "broadcast_to": lambda a: a["shape"],
    "reshape": lambda a: a["shape"],
    "permute": lambda a: tuple(a["a"].shape[i] for i in a["axes"]),
    "cat": _joined,
    "pad_forward": lambda a: tuple(
        size + before + after for size, (before, after) in zip(a["x"].shape, a["widths"], strict=True)
    ),
    "conv_forward": lambda a: a["geometry"].output_shape,
    "conv_act_forward": lambda a: a["geometry"].output_shape,
    "conv_act_pool_forward": lambda a: [a["pool_geometry"].output_shape] * 2,
    "conv_backward_input": lambda a: a["geometry"].input_shape,
    "max_pool_forward": lambda a: [a["geometry"].output_shape, _indices(a)],
    "avg_pool_forward": lambda a: a["geometry"].output_shape,
    "resample_forward": _resampled,
    "linear_forward": lambda a: (len(a["x"]), len(a["w"])),
    "matmul": _product,
}  # fmt: skip
