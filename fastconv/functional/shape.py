"""Padding and concatenation, forward and backward. (``reshape``, ``flatten`` and ``add`` stand in arithmetic.py.)"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from ..arguments import integer, number
from ..backends.base import Array, Backend
from ..deferred import Deferred
from ..errors import ArgumentError, DeviceError, ShapeError, mismatch
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


def cat(tensors: Sequence[Any], dim: int = 0, *, out: Array | None = None) -> Any:
    """Return arrays that agree in every size but that of ``dim``, one behind the other along ``dim``.

    Args:
        out: an array to write to, which the result is then; it has the result's shape and dtype, and memory apart from
            the tensors', but that a tensor may lie in its own place already, and is not copied. Where gradients are
            taken, it must not be written to before them.

    Raises:
        ArgumentError: no tensors, or ``out`` that cannot be written to, or shares memory in another way.
        ShapeError: sizes that differ; ``out`` of another shape or dtype.
        DeviceError: ``out`` on another device.

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
    if out is not None:
        _check_out(backend, arrays, dim, out)
    return record(backend.cat(arrays, dim, out), tensors, lambda dy, needs: _parts(dy, sizes, dim), defers=True)


def _check_out(backend: Backend, arrays: Sequence[Array], dim: int, out: Any) -> None:
    if not backend.owns(out):
        raise DeviceError(mismatch("cat", "out to be an array on the device of tensors", repr(type(out).__name__)))
    shape = (*arrays[0].shape[:dim], sum(array.shape[dim] for array in arrays), *arrays[0].shape[dim + 1 :])
    if (out.shape, out.dtype) != (shape, arrays[0].dtype):
        expected = f"out to have shape {shape} and dtype {arrays[0].dtype}"
        raise ShapeError(mismatch("cat", expected, f"shape {out.shape} and dtype {out.dtype}"))
    interface = _interface(out)
    if interface["data"][1] or not backend.usable([out]):
        raise ArgumentError(mismatch("cat", "out to be writable and aligned", "an array that is not"))
    start = 0
    for i, array in enumerate(arrays):
        part = out[(slice(None),) * dim + (slice(start, start + array.shape[dim]),)]
        start += array.shape[dim]
        if backend.may_share_memory(out, array) and not _same_place(part, array):
            raise ArgumentError(mismatch("cat", f"out apart from tensors[{i}]", "memory that both share"))


def _interface(array: Array) -> dict[str, Any]:
    return array.__array_interface__ if hasattr(array, "__array_interface__") else array.__cuda_array_interface__


def _same_place(a: Array, b: Array) -> bool:
    return _interface(a)["data"] == _interface(b)["data"] and a.strides == b.strides


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


def _parts(dy: Array | Deferred, sizes: Sequence[int], dim: int) -> tuple:
    if type(dy) is not Deferred:
        return _split(dy, sizes, dim)
    if dim != 1:
        return _split(dy.settle(), sizes, dim)
    ends = list(accumulate(sizes))
    return tuple(dy.channels(end - size, end) for size, end in zip(sizes, ends, strict=True))


def _split(dy: Array, sizes: Sequence[int], dim: int) -> tuple:
    parts, start = [], 0
    for size in sizes:
        parts.append(dy[(slice(None),) * dim + (slice(start, start + size),)])
        start += size
    return tuple(parts)


def permute(input: Any, dims: Sequence[int]) -> Any:
    """Return the axes in another order, a view: axis i of the result is axis ``dims[i]`` of ``input``.

    >>> import numpy as np
    >>> permute(np.zeros((2, 3, 4)), (2, 0, -2)).shape
    (4, 2, 3)
    """
    backend, x = operand("permute", "input", input)
    order = _order("permute", dims, x.ndim)
    inverse = sorted(range(x.ndim), key=order.__getitem__)
    return record(backend.permute(x, order), (input,), lambda dy, needs: (backend.permute(dy, inverse),))


def permute_backward(dy: Any, dims: Sequence[int]) -> Array:
    """Return dx of ``permute``: the axes in their old order, a view."""
    backend, dy = operands("permute_backward", dy=dy)
    order = _order("permute_backward", dims, dy.ndim)
    return backend.permute(dy, sorted(range(dy.ndim), key=order.__getitem__))


def _order(op: str, dims: Any, ndim: int) -> list[int]:
    if not isinstance(dims, Sequence) or isinstance(dims, str):
        raise ArgumentError(mismatch(op, "dims to be a sequence of axes", repr(dims)))
    order = [axis(op, "dims", dim, ndim) for dim in dims]
    if sorted(order) != list(range(ndim)):
        raise ArgumentError(mismatch(op, f"dims to name each of {ndim} axes once", tuple(dims)))
    return order


def transpose(input: Any, dim0: int, dim1: int) -> Any:
    """Return ``input`` with two axes exchanged, a view."""
    _, x = operand("transpose", "input", input)
    order = list(range(x.ndim))
    first, second = axis("transpose", "dim0", dim0, x.ndim), axis("transpose", "dim1", dim1, x.ndim)
    order[first], order[second] = second, first
    return permute(input, order)


def split(input: Any, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple:
    """Return the parts of ``input`` along ``dim``: of one size (the last may be smaller), or of the sizes given. Views.

    >>> import numpy as np
    >>> [part.shape for part in split(np.zeros((2, 5)), 2, dim=1)]
    [(2, 2), (2, 2), (2, 1)]
    """
    op, sections = "split", split_size_or_sections
    _, x = operand(op, "input", input)
    dim = axis(op, "dim", dim, x.ndim)
    total = x.shape[dim]
    if isinstance(sections, Sequence):
        sizes = shape_of(op, "split_size_or_sections", sections)
        if sum(sizes) != total:
            raise ShapeError(mismatch(op, f"sections that add up to {total}", tuple(sizes)))
    else:
        size = integer(op, "split_size_or_sections", sections, 1)
        sizes = tuple(min(size, total - start) for start in range(0, total, size)) or (0,)
    parts, start = [], 0
    for size in sizes:
        parts.append(_narrowed(input, dim, start, size))
        start += size
    return tuple(parts)


def _narrowed(input: Any, dim: int, start: int, size: int) -> Any:
    backend, x = operand("split", "input", input)
    shape = x.shape
    key = (slice(None),) * dim + (slice(start, start + size),)
    widths = [(0, 0)] * dim + [(start, shape[dim] - start - size)] + [(0, 0)] * (len(shape) - dim - 1)
    return record(x[key], (input,), lambda dy, needs: (backend.pad_forward(dy, widths, "constant", 0.0),))


def chunk(input: Any, chunks: int, dim: int = 0) -> tuple:
    """Return at most ``chunks`` parts of ``input`` along ``dim``, all of one size but for the last."""
    _, x = operand("chunk", "input", input)
    count = integer("chunk", "chunks", chunks, 1)
    size = x.shape[axis("chunk", "dim", dim, x.ndim)]
    return split(input, max(1, -(-size // count)), dim)
