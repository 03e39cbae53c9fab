"""explain: which kernel would run a convolution, and why. Nothing is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import backends
from ..errors import ArgumentError, ShapeError, mismatch
from ..geometry import conv_geometry, conv_transpose_geometry, pool_geometry
from ..precision import check_mode, compute_mode
from ._common import shape_of
from .conv import resolve_exact

_VERBS = ("conv_forward", "conv_backward_input", "conv_backward_weight")
# A transposed convolution runs on the convolution whose adjoint it is: its forward pass is that one's input gradient.
_TRANSPOSED_VERBS = ("conv_backward_input", "conv_forward", "conv_backward_weight")


def explain(op: str, input: Sequence[int], weight: Sequence[int], *, dtype: str = "float32", **options: Any) -> str:
    """Say, a line a direction (forward, input gradient, weight gradient), which kernel would run and why.

    Args:
        op: ``'conv1d'`` to ``'conv3d'``, ``'conv_transpose1d'`` to ``'conv_transpose3d'``, or ``'conv_unit'``.
        input, weight: the shapes, as for the function of that name.
        dtype: 'float32' or 'float64'.
        options: stride, padding, exact and so on, as for the function of that name; compute, 'float32', 'bf16' or
            'tf32', instead of the mode that holds now.

    Raises:
        ArgumentError: an operation that is not a convolution. ShapeError: shapes that do not fit.

    >>> print(explain("conv2d", (64, 1, 28, 28), (32, 1, 5, 5)))  # doctest: +ELLIPSIS
    conv_forward: ...
    conv_backward_input: ...
    conv_backward_weight: ...
    """
    if op == "conv_unit":
        return _explain_unit(input, weight, dtype, **options)
    geometries = {"conv": (conv_geometry, _VERBS), "conv_transpose": (conv_transpose_geometry, _TRANSPOSED_VERBS)}
    if not isinstance(op, str) or op[:-2] not in geometries or op[-2:] not in ("1d", "2d", "3d"):
        raise ArgumentError(mismatch("explain", "op to be a convolution such as 'conv2d'", repr(op)))
    _check_dtype(dtype)
    make, verbs = geometries[op[:-2]]
    _resolve(op, options)
    geometry = make(op, int(op[-2]), shape_of(op, "input", input), shape_of(op, "weight", weight), **options)
    return "\n".join(backends.for_numpy().explain(verb, geometry, dtype) for verb in verbs)


def _explain_unit(
    input: Sequence[int], weight: Sequence[int], dtype: str, *, pool: Any = None, activation: str | None = "relu",
    **options: Any,
) -> str:  # fmt: skip
    rank = len(shape_of("explain", "weight", weight)) - 2
    if rank not in (1, 2, 3):
        raise ShapeError(mismatch("explain", "weight of 3, 4 or 5 axes", f"shape {tuple(weight)}"))
    if pool is None:
        return explain(f"conv{rank}d", input, weight, dtype=dtype, **options)
    _check_dtype(dtype)
    _resolve("conv_unit", options)
    conv = conv_geometry(f"conv{rank}d", rank, shape_of("explain", "input", input),
                         shape_of("explain", "weight", weight), **options)  # fmt: skip
    pooling = pool_geometry(f"max_pool{rank}d", rank, (conv.n, conv.oc, *conv.output[3 - rank :]), pool)
    return backends.for_numpy().explain_unit(conv, pooling, dtype)


def _resolve(op: str, options: dict[str, Any]) -> None:
    """Put in what holds where the options do not say."""
    options["exact"] = resolve_exact(op, options.get("exact"))
    options["compute"] = check_mode(op, options.get("compute") or compute_mode())


def _check_dtype(dtype: str) -> None:
    if dtype not in ("float32", "float64"):
        raise ArgumentError(mismatch("explain", "dtype 'float32' or 'float64'", repr(dtype)))
