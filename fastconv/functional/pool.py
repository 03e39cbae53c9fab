"""Max and average pooling, regular and adaptive, forward and backward, over one, two or three spatial axes.

A geometry lists each output position's window, so regular and adaptive pooling are the same kernels, and one function
here makes each public name for its rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..arguments import flag
from ..backends.base import Array
from ..errors import DataError, ShapeError, mismatch
from ..geometry import adaptive_pool_geometry, check_same_shape, pool_geometry
from ..tensor import Tensor, is_grad_enabled, operand, operands, record
from ._common import RANKS, check_gradient, integers, named, remembered, shape_of, sizes_of

_pool_sizes = remembered(sizes_of(pool_geometry, "c"), shapes=1)
_adaptive_sizes = remembered(sizes_of(adaptive_pool_geometry, "c"), shapes=1)


def _max(op: str, rank: int, input: Any, sizes: Callable, options: tuple, return_indices: bool) -> Any:
    backend, x = operand(op, "input", input)
    x_shape = x.shape
    geometry, y_shape = sizes(op, rank, x_shape, *options)
    return_indices = flag(op, "return_indices", return_indices)
    tracked = isinstance(input, Tensor) and input.requires_grad and is_grad_enabled()
    keep = "indices" if return_indices else "winners" if tracked else "nothing"
    y, winners = backend.max_pool_forward(backend.reshape(x, geometry.input_shape), geometry, keep)

    def backward(dy: Array, needs: Sequence[bool]) -> tuple:
        dy = backend.reshape(dy, geometry.output_shape)
        return (backend.reshape(backend.max_pool_backward(dy, winners, geometry), x_shape),)

    out = record(backend.reshape(y, y_shape), (input,), backward)
    if not return_indices:
        return out
    where = backend.reshape(winners, y_shape).astype(np.int64, copy=tracked)  # the gradient keeps its own
    return out, Tensor(where) if isinstance(out, Tensor) else where


def _max_gradient(
    op: str, rank: int, dy: Any, indices: Any, shape: Sequence[int], sizes: Callable, options: tuple
) -> Array:
    backend, dy = operands(op, dy=dy)
    shape = shape_of(op, "input_shape", shape)
    geometry, y_shape = sizes(op, rank, shape, *options)
    check_gradient(op, y_shape, dy)
    where = integers(op, "indices", indices)
    check_same_shape(op, "dy", dy.shape, "indices", where.shape)
    at = backend.reshape(backend.from_numpy(where), geometry.output_shape)
    try:
        dx = backend.max_pool_backward(backend.reshape(dy, geometry.output_shape), at, geometry)
    except IndexError:
        size = geometry.input[0] * geometry.input[1] * geometry.input[2]
        worst = where.min() if where.min() < 0 else where.max()
        raise DataError(mismatch(op, f"indices in [0, {size})", worst)) from None
    return backend.reshape(dx, shape)


def _avg(op: str, rank: int, input: Any, sizes: Callable, options: tuple) -> Any:
    backend, x = operand(op, "input", input)
    x_shape = x.shape
    geometry, y_shape = sizes(op, rank, x_shape, *options)
    y = backend.avg_pool_forward(backend.reshape(x, geometry.input_shape), geometry)

    def backward(dy: Array, needs: Sequence[bool]) -> tuple:
        dy = backend.reshape(dy, geometry.output_shape)
        return (backend.reshape(backend.avg_pool_backward(dy, geometry), x_shape),)

    return record(backend.reshape(y, y_shape), (input,), backward)


def _avg_gradient(op: str, rank: int, dy: Any, shape: Sequence[int], sizes: Callable, options: tuple) -> Array:
    backend, dy = operands(op, dy=dy)
    shape = shape_of(op, "input_shape", shape)
    geometry, y_shape = sizes(op, rank, shape, *options)
    check_gradient(op, y_shape, dy)
    dx = backend.avg_pool_backward(backend.reshape(dy, geometry.output_shape), geometry)
    return backend.reshape(dx, shape)


def _output_size(op: str, rank: int, dy: Any) -> tuple[int, ...]:
    _, dy = operands(op, dy=dy)
    if dy.ndim < rank:
        raise ShapeError(mismatch(op, f"dy of {rank + 2} axes, or without the batch's", f"shape {dy.shape}"))
    return dy.shape[-rank:]


# -------------------------------------------------------------------------------------------- max pooling


def _max_pool(rank: int) -> Callable:
    op = f"max_pool{rank}d"

    def max_pool(
        input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:  # fmt: skip
        options = (kernel_size, stride, padding, dilation, flag(op, "ceil_mode", ceil_mode))
        return _max(op, rank, input, _pool_sizes, options, return_indices)

    max_pool.__doc__ = f"""Return each window's maximum of {rank}-D ``input``. The first one, or NaN, has the gradient.

    Each output size is ``floor((size + 2 * padding - dilation * (kernel_size - 1) - 1) / stride) + 1``, rounded up with
    ``ceil_mode`` (where the last window still starts inside the input or its left padding).

    Args:
        input: (N, C, {rank} sizes), or without N.
        kernel_size, padding, dilation: an int, or one for each axis; padding counts as minus infinity, and may be two
            for each axis: all those before, then all after.
        stride: as these; ``kernel_size`` where None.
        return_indices: also return each maximum's flat position in its (spatial) plane, integers.

    >>> import numpy as np
    >>> {op}(np.arange(4.0).reshape(1, 1{", 1" * (rank - 1)}, 4), {"(" + "1, " * (rank - 1) + "2,)"})
    array({"[" * (rank + 2)}1., 3.{"]" * (rank + 2)})
    """
    return named(max_pool, op)


def _max_pool_backward(rank: int) -> Callable:
    op = f"max_pool{rank}d_backward"

    def max_pool_backward(
        dy: Any, indices: Any, input_shape: Sequence[int], kernel_size: Any, stride: Any = None, padding: Any = 0,
        dilation: Any = 1, ceil_mode: bool = False,
    ) -> Any:  # fmt: skip
        options = (kernel_size, stride, padding, dilation, flag(op, "ceil_mode", ceil_mode))
        return _max_gradient(op, rank, dy, indices, input_shape, _pool_sizes, options)

    max_pool_backward.__doc__ = f"""Return dx of ``max_pool{rank}d``: ``dy`` added up at the ``indices`` of the maxima.

    Raises:
        DataError: an index outside the plane. DTypeError: indices that are not integers.
    """
    return named(max_pool_backward, op)


def _adaptive_max_pool(rank: int) -> Callable:
    op = f"adaptive_max_pool{rank}d"

    def adaptive_max_pool(input: Any, output_size: Any, return_indices: bool = False) -> Any:
        return _max(op, rank, input, _adaptive_sizes, (output_size,), return_indices)

    adaptive_max_pool.__doc__ = f"""Return maxima over windows chosen such that the output has ``output_size``.

    Output ``o`` sees inputs ``floor(o * I / O)`` up to ``ceil((o + 1) * I / O)`` of each of the {rank} axes.

    Args:
        output_size: an int, or one for each axis; None keeps an axis' size.
    """
    return named(adaptive_max_pool, op)


def _adaptive_max_pool_backward(rank: int) -> Callable:
    op = f"adaptive_max_pool{rank}d_backward"

    def adaptive_max_pool_backward(dy: Any, indices: Any, input_shape: Sequence[int]) -> Any:
        options = (_output_size(op, rank, dy),)
        return _max_gradient(op, rank, dy, indices, input_shape, _adaptive_sizes, options)

    adaptive_max_pool_backward.__doc__ = (
        f"""Return dx of ``adaptive_max_pool{rank}d``; see ``max_pool{rank}d_backward``."""
    )
    return named(adaptive_max_pool_backward, op)


# ---------------------------------------------------------------------------------------- average pooling


def _avg_options(op, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation) -> tuple:
    flags = flag(op, "ceil_mode", ceil_mode), flag(op, "count_include_pad", count_include_pad)
    return kernel_size, stride, padding, dilation, *flags, divisor_override


def _avg_pool(rank: int) -> Callable:
    op = f"avg_pool{rank}d"

    def avg_pool(
        input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None, dilation: Any = 1,
    ) -> Any:  # fmt: skip
        options = _avg_options(
            op, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation
        )
        return _avg(op, rank, input, _pool_sizes, options)

    avg_pool.__doc__ = f"""Return the mean of each window of {rank}-D ``input``.

    Args:
        input: (N, C, {rank} sizes), or without N.
        kernel_size, stride, padding, ceil_mode: as ``max_pool{rank}d``; padding counts as zeros.
        count_include_pad: divide by the window's size with its padding; without it if False.
        divisor_override: divide by this instead.
        dilation: as ``max_pool{rank}d`` (torch has none).

    >>> import numpy as np
    >>> {op}(np.arange(4.0).reshape(1, 1{", 1" * (rank - 1)}, 4), {"(" + "1, " * (rank - 1) + "2,)"})
    array({"[" * (rank + 2)}0.5, 2.5{"]" * (rank + 2)})
    """
    return named(avg_pool, op)


def _avg_pool_backward(rank: int) -> Callable:
    op = f"avg_pool{rank}d_backward"

    def avg_pool_backward(
        dy: Any, input_shape: Sequence[int], kernel_size: Any, stride: Any = None, padding: Any = 0,
        ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
        dilation: Any = 1,
    ) -> Any:  # fmt: skip
        options = _avg_options(
            op, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, dilation
        )
        return _avg_gradient(op, rank, dy, input_shape, _pool_sizes, options)

    avg_pool_backward.__doc__ = f"""Return dx of ``avg_pool{rank}d``: each ``dy`` spread evenly over its window."""
    return named(avg_pool_backward, op)


def _adaptive_avg_pool(rank: int) -> Callable:
    op = f"adaptive_avg_pool{rank}d"

    def adaptive_avg_pool(input: Any, output_size: Any) -> Any:
        return _avg(op, rank, input, _adaptive_sizes, (output_size,))

    adaptive_avg_pool.__doc__ = f"""Return means over windows chosen such that the output has ``output_size``.

    The windows and ``output_size`` are those of ``adaptive_max_pool{rank}d``.
    """
    return named(adaptive_avg_pool, op)


def _adaptive_avg_pool_backward(rank: int) -> Callable:
    op = f"adaptive_avg_pool{rank}d_backward"

    def adaptive_avg_pool_backward(dy: Any, input_shape: Sequence[int]) -> Any:
        return _avg_gradient(op, rank, dy, input_shape, _adaptive_sizes, (_output_size(op, rank, dy),))

    adaptive_avg_pool_backward.__doc__ = f"""Return dx of ``adaptive_avg_pool{rank}d``."""
    return named(adaptive_avg_pool_backward, op)


max_pool1d, max_pool2d, max_pool3d = map(_max_pool, RANKS)
max_pool1d_backward, max_pool2d_backward, max_pool3d_backward = map(_max_pool_backward, RANKS)
avg_pool1d, avg_pool2d, avg_pool3d = map(_avg_pool, RANKS)
avg_pool1d_backward, avg_pool2d_backward, avg_pool3d_backward = map(_avg_pool_backward, RANKS)
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = map(_adaptive_max_pool, RANKS)
adaptive_max_pool1d_backward, adaptive_max_pool2d_backward, adaptive_max_pool3d_backward = map(
    _adaptive_max_pool_backward, RANKS
)
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = map(_adaptive_avg_pool, RANKS)
adaptive_avg_pool1d_backward, adaptive_avg_pool2d_backward, adaptive_avg_pool3d_backward = map(
    _adaptive_avg_pool_backward, RANKS
)
