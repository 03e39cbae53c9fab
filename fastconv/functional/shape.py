"""Padding and concatenation, forward and backward. (``reshape``, ``flatten`` and ``add`` stand in arithmetic.py.)"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..arguments import integer, number
from ..backends.base import Array
from ..errors import ArgumentError, ShapeError, mismatch
from ..tensor import operand, operands, record
from ._common import axis, check_gradient, shape_of

_MODES = ("constant", "reflect", "replicate", "circular")


def _widths(op: str, shape: Sequence[int], pad: Any, mode: str) -> list[tuple[int, int]]:
    """Return torch's flat widths, last axis first, as (before, after) for every axis."""
    if not isinstance(mode, str) or mode not in _MODES:
        raise ArgumentError(mismatch(op, f"mode to be one of {', '.join(_MODES)}", repr(mode)))
    if not isinstance(pad, Sequence) or isinstance(pad, str) or len(pad) % 2 or len(pad) > 2 * len(shape):
        raise ArgumentError(mismatch(op, f"pad of up to {len(shape)} (before, after) pairs, flat", repr(pad)))
    flat = [integer(op, "pad", width, -(2**62)) for width in pad]
    pairs = list(zip(flat[::2], flat[1::2], strict=True))[::-1]
    widths = [(0, 0)] * (len(shape) - len(pairs)) + pairs
    for size, (before, after) in zip(shape, widths, strict=True):
        cropped = size + min(before, 0) + min(after, 0)
        limit = {"reflect": size - 1, "circular": cropped}.get(mode, 2**62 if size or mode == "constant" else 0)
        if max(before, after) > max(limit, 0):
            raise ShapeError(mismatch(op, f"pad of at most {max(limit, 0)} for mode {mode!r} and size {size}",
                                      (before, after)))  # fmt: skip
        if size + before + after < 0 or -min(before, after, 0) > size:
            raise ShapeError(mismatch(op, f"pad that crops at most the size {size}", (before, after)))
    return widths


def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    """Return ``input`` with elements put before and after it, axis by axis; negative widths crop.

    Args:
        pad: widths, the last axis first: ``(left, right, top, bottom, front, back)``.
        mode: 'constant' (``value``, 0 where None), 'reflect' (without the edge), 'replicate' (the edge), 'circular'.

    >>> import numpy as np
    >>> pad(np.array([1.0, 2.0, 3.0]), (1, 2), mode="reflect")
    array([2., 1., 2., 3., 2., 1.])
    """
    backend, x = operand("pad", "input", input)
    widths = _widths("pad", x.shape, pad, mode)
    shape = x.shape
    y = backend.pad_forward(x, widths, mode, 0.0 if value is None else number("pad", "value", value))
    return record(y, (input,), lambda dy, needs: (backend.pad_backward(dy, shape, widths, mode),))


def pad_backward(dy: Any, input_shape: Sequence[int], pad: Sequence[int], mode: str = "constant") -> Any:
    """Return dx of ``pad``: each gradient added to the element that was copied there."""
    op = "pad_backward"
    backend, dy = operands(op, dy=dy)
    shape = shape_of(op, "input_shape", input_shape)
    widths = _widths(op, shape, pad, mode)
    check_gradient(op, [s + b + a for s, (b, a) in zip(shape, widths, strict=True)], dy)
    return backend.pad_backward(dy, shape, widths, mode)


def cat(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Return arrays that agree in every size but that of ``dim``, one behind the other along ``dim``.

    >>> import numpy as np
    >>> cat([np.zeros((1, 2)), np.zeros((3, 2))]).shape
    (4, 2)
    """
    try:
        tensors = tuple(tensors)
    except TypeError:
        tensors = ()
    if not tensors:
        raise ArgumentError(mismatch("cat", "tensors to be a sequence of at least one array", "none"))
    backend, *arrays = operands("cat", **{f"tensors[{i}]": value for i, value in enumerate(tensors)})
    dim = axis("cat", "dim", dim, arrays[0].ndim)
    for i, array in enumerate(arrays):
        if _without(array.shape, dim) != _without(arrays[0].shape, dim):
            expected = f"tensors[{i}] to agree with tensors[0] {arrays[0].shape} but for axis {dim}"
            raise ShapeError(mismatch("cat", expected, f"shape {array.shape}"))
    sizes = [array.shape[dim] for array in arrays]
    return record(backend.cat(arrays, dim), tensors, lambda dy, needs: _split(dy, sizes, dim))


def cat_backward(dy: Any, sizes: Sequence[int], dim: int = 0) -> tuple:
    """Return the gradients of ``cat`` for arrays with the ``sizes`` along ``dim``: the parts of dy, as views."""
    _, dy = operands("cat_backward", dy=dy)
    sizes = shape_of("cat_backward", "sizes", sizes)
    dim = axis("cat_backward", "dim", dim, dy.ndim)
    if sum(sizes) != dy.shape[dim]:
        raise ShapeError(mismatch("cat_backward", f"sizes that add up to {dy.shape[dim]}", tuple(sizes)))
    return _split(dy, sizes, dim)


def _without(shape: Sequence[int], dim: int) -> tuple[int, ...]:
    return (*shape[:dim], *shape[dim + 1 :])


def _split(dy: Array, sizes: Sequence[int], dim: int) -> tuple:
    parts, start = [], 0
    for size in sizes:
        parts.append(dy[(slice(None),) * dim + (slice(start, start + size),)])
        start += size
    return tuple(parts)
