"""Interpolation, and the rearrangements that change resolution: pixel shuffle, max-unpooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from ..arguments import integer
from ..backends.base import Array
from ..errors import DataError, ShapeError, mismatch
from ..geometry import PoolGeometry, check_same_shape, lift_shape
from ..resampling import interpolation
from ..tensor import operand, operands, record
from ._common import RANKS, batched, check_gradient, integers, named, remembered, shape_of
from .arithmetic import reshape
from .pool import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from .shape import permute

_AREA = {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}


def _resampled(
    op: str, rank: int, shape: tuple, size: Any, scale_factor: Any, mode: str, align_corners: Any, again: Any,
    antialias: Any,
) -> tuple:  # fmt: skip
    return interpolation(op, shape, size, scale_factor, mode, align_corners, again, antialias)


_taps_of = remembered(_resampled, shapes=1)


def interpolate(
    input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None, antialias: bool = False,
) -> Any:  # fmt: skip
    """Return ``input`` (N, C, spatial) at another resolution; itself, not a copy, where sizes and scales stay.

    Args:
        size: the output's spatial sizes, an int or one for each axis; or
        scale_factor: output pixels an input pixel, a number or one for each axis.
        mode: 'nearest', 'nearest-exact', 'linear' (3 axes), 'bilinear', 'bicubic' (4), 'trilinear' (5), or 'area'.
        align_corners: the centres of the corner pixels coincide (also with ``antialias``, where torch's do not); else
            the corners of the images do.
        recompute_scale_factor: sample by the ratio of the sizes, not by ``scale_factor``.
        antialias: widen the kernel where pixels are lost ('bilinear', 'bicubic').

    Raises:
        ArgumentError, ShapeError: options that do not fit each other or the input.

    >>> import numpy as np
    >>> interpolate(np.array([[[0.0, 4.0]]]), scale_factor=2, mode="linear")
    array([[[0., 1., 3., 4.]]])
    """
    op = "interpolate"
    backend, x = operand(op, "input", input)
    rank = x.ndim - 2
    if isinstance(mode, str) and mode == "area" and rank in _AREA:
        sizes, _ = interpolation(op, x.shape, size, scale_factor, "nearest", None, None, False)
        return _itself(x, input) if sizes == x.shape[2:] else _AREA[rank](input, sizes)
    shape = x.shape
    sizes, taps = _taps_of(op, rank, shape, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    if taps == [None, None, None]:
        return _itself(x, input)
    lifted = lift_shape(op, shape, rank)
    y = backend.reshape(backend.resample_forward(backend.reshape(x, lifted), taps), (*shape[:2], *sizes))

    def backward(dy: Array, needs: Sequence[bool]) -> tuple:
        dy = backend.reshape(dy, lift_shape(op, dy.shape, rank))
        return (backend.reshape(backend.resample_backward(dy, taps, lifted), shape),)

    return record(y, (input,), backward)


def _itself(x: Array, input: Any) -> Any:
    return record(x, (input,), lambda dy, needs: (dy,))


def interpolate_backward(
    dy: Any, input_shape: Sequence[int], size: Any = None, scale_factor: Any = None, mode: str = "nearest",
    align_corners: bool | None = None, recompute_scale_factor: bool | None = None, antialias: bool = False,
) -> Array:  # fmt: skip
    """Return dx of ``interpolate`` (all modes but 'area', whose gradient is adaptive average pooling's)."""
    op = "interpolate_backward"
    backend, dy = operands(op, dy=dy)
    shape = shape_of(op, "input_shape", input_shape)
    rank = len(shape) - 2
    sizes, taps = _taps_of(op, rank, shape, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    check_gradient(op, (*shape[:2], *sizes), dy)
    lifted = backend.reshape(dy, lift_shape(op, dy.shape, rank))
    return backend.reshape(backend.resample_backward(lifted, taps, lift_shape(op, shape, rank)), shape)


def pixel_shuffle(input: Any, upscale_factor: int) -> Any:
    """Return (..., C * r * r, H, W) as (..., C, H * r, W * r): channels become pixels (Shi et al. 2016,
    https://arxiv.org/abs/1609.05158).

    >>> import numpy as np
    >>> pixel_shuffle(np.arange(4.0).reshape(4, 1, 1), 2)
    array([[[0., 1.],
            [2., 3.]]])
    """
    op = "pixel_shuffle"
    r = integer(op, "upscale_factor", upscale_factor, 1)
    _, x = operand(op, "input", input)
    if x.ndim < 3 or x.shape[-3] % (r * r):
        raise ShapeError(mismatch(op, f"input (..., C * {r * r}, H, W)", f"shape {x.shape}"))
    *lead, c, h, w = x.shape
    n = len(lead)
    split = reshape(input, (*lead, c // (r * r), r, r, h, w))
    moved = permute(split, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return reshape(moved, (*lead, c // (r * r), h * r, w * r))


def pixel_unshuffle(input: Any, downscale_factor: int) -> Any:
    """Return (..., C, H * r, W * r) as (..., C * r * r, H, W): ``pixel_shuffle`` undone."""
    op = "pixel_unshuffle"
    r = integer(op, "downscale_factor", downscale_factor, 1)
    _, x = operand(op, "input", input)
    if x.ndim < 3 or x.shape[-1] % r or x.shape[-2] % r:
        raise ShapeError(mismatch(op, f"input (..., C, H * {r}, W * {r})", f"shape {x.shape}"))
    *lead, c, h, w = x.shape
    n = len(lead)
    split = reshape(input, (*lead, c, h // r, r, w // r, r))
    moved = permute(split, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return reshape(moved, (*lead, c * r * r, h // r, w // r))


def pixel_shuffle_backward(dy: Any, upscale_factor: int) -> Array:
    """Return dx of ``pixel_shuffle``, which is ``pixel_unshuffle``."""
    _, dy = operands("pixel_shuffle_backward", dy=dy)
    return pixel_unshuffle(dy, upscale_factor)


def pixel_unshuffle_backward(dy: Any, downscale_factor: int) -> Array:
    """Return dx of ``pixel_unshuffle``, which is ``pixel_shuffle``."""
    _, dy = operands("pixel_unshuffle_backward", dy=dy)
    return pixel_shuffle(dy, downscale_factor)


# ------------------------------------------------------------------------------------------ max-unpooling


def _unpool_geometry(
    op: str, rank: int, shape: Sequence[int], kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> tuple[PoolGeometry, tuple[int, ...]]:
    """Return the sizes of the pooling that is undone (its windows do not matter here), and the output's shape."""
    options = {"kernel_size": kernel_size, "stride": kernel_size if stride is None else stride, "padding": padding}
    each = [_axes(op, name, value, rank) for name, value in options.items()]
    inside = lift_shape(op, batched(shape, rank), rank)
    default = [(n - 1) * s - 2 * p + k for n, k, s, p in zip(inside[-rank:], *each, strict=True)]
    sizes = default
    if output_size is not None:
        sizes = list(shape_of(op, "output_size", output_size))[-rank:]
        fits = len(sizes) == rank and all(
            d - s < size < d + s for d, s, size in zip(default, each[1], sizes, strict=True)
        )
        if not fits:
            raise ShapeError(mismatch(op, f"output_size within a stride of {tuple(default)}", tuple(sizes)))
    full = (*shape[:-rank], *sizes)
    outside = lift_shape(op, batched(full, rank), rank)
    return PoolGeometry(*inside[:2], outside[2:], inside[2:], ()), full


def _axes(op: str, name: str, value: Any, rank: int) -> tuple[int, ...]:
    """Return an option as one int an axis."""
    values = tuple(value) if isinstance(value, Sequence) else (value,) * rank
    if len(values) != rank:
        raise ShapeError(mismatch(op, f"{name} to be an int or {rank} of them", repr(value)))
    return tuple(integer(op, name, v, 0 if name == "padding" else 1) for v in values)


def _unpool(rank: int) -> Callable:
    op = f"max_unpool{rank}d"

    def max_unpool(
        input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
    ) -> Any:
        backend, x = operand(op, "input", input)
        where = integers(op, "indices", indices)
        check_same_shape(op, "input", x.shape, "indices", where.shape)
        geometry, full = _unpool_geometry(op, rank, x.shape, kernel_size, stride, padding, output_size)
        at = backend.from_numpy(where)
        shape, lifted = x.shape, geometry.output_shape
        at = backend.reshape(at, lifted)
        try:
            y = backend.max_pool_backward(backend.reshape(x, lifted), at, geometry)
        except IndexError:
            expected = f"indices in [0, {prod(geometry.input)})"
            raise DataError(mismatch(op, expected, f"{where.min()} to {where.max()}")) from None

        def backward(dy: Array, needs: Sequence[bool]) -> tuple:
            dy = backend.reshape(dy, geometry.input_shape)
            return (backend.reshape(backend.max_unpool_backward(dy, at), shape),)

        return record(backend.reshape(y, full), (input,), backward)

    max_unpool.__doc__ = f"""Return ``input`` put back where ``max_pool{rank}d`` found it; 0 elsewhere.

    Args:
        input, indices: (N, C, {rank} sizes), or without N, the indices from ``return_indices=True``.
            Values that share an index are added up.
        kernel_size, stride, padding: the pooling's.
        output_size: the size before pooling, where several pool to the same.

    Raises:
        DataError: indices outside the output's plane.
    """
    return named(max_unpool, op)


max_unpool1d, max_unpool2d, max_unpool3d = (_unpool(rank) for rank in RANKS)
