"""Sizes: what an operation's arguments mean, and whether they fit. Shapes are checked here, once.

Rank is data: every geometry has three spatial axes (depth, height, width); a 1-D or 2-D operation has leading
axes of size 1. Backends receive 5-D arrays ``(N, C, D, H, W)`` and a geometry, and check nothing again.
Nothing here touches an array: shapes in, sizes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import Any

from .arguments import Axes, both_ends, integer, per_axis
from .errors import ArgumentError, ShapeError, mismatch

_SIZES = {1: "L", 2: "H, W", 3: "D, H, W"}


def _derived() -> Any:
    """A field that the others determine: worked out once, since a geometry is looked at on the way of every call."""
    return field(init=False, repr=False, compare=False)


_derive = object.__setattr__


def lift_shape(op: str, shape: Sequence[int], rank: int, name: str = "input") -> tuple[int, ...]:
    """Return ``(A, B, spatial)`` with ``rank`` spatial axes as ``(A, B, D, H, W)``."""
    if len(shape) != rank + 2:
        expected = f"{name} of {rank + 2} axes (N, C, {_SIZES[rank]})"
        raise ShapeError(mismatch(op, expected, f"shape {tuple(shape)}"))
    return (*shape[:2], *(1,) * (3 - rank), *shape[2:])


def _spatial(sizes: Sequence[int], rank: int) -> str:
    return "(" + ", ".join(str(size) for size in sizes[3 - rank :]) + ("," if rank == 1 else "") + ")"


# -------------------------------------------------------------------------------------------- convolution


@dataclass(frozen=True, slots=True)
class ConvGeometry:
    """A convolution's sizes. The transposed convolution has the geometry of the convolution it is the adjoint of.

    ``output = floor((input + padding + padding_end - dilation * (kernel - 1) - 1) / stride) + 1`` per axis
    (`Dumoulin and Visin 2016 <https://arxiv.org/abs/1603.07285>`_, relationship 6 with dilation).
    """

    n: int
    ic: int
    oc: int
    groups: int
    input: Axes
    kernel: Axes
    stride: Axes
    padding: Axes  # zeros before the first element
    padding_end: Axes  # zeros after the last one
    dilation: Axes
    output: Axes
    exact: bool = False  # only algorithms that sum the products themselves: no Winograd
    compute: str = "float32"  # float32 operands may be rounded before they are multiplied: 'bf16', or on GPUs 'tf32'
    whole: ConvGeometry | None = None  # this is a window of that one: its kernel runs, so that the bits are the same
    input_shape: tuple[int, ...] = _derived()
    output_shape: tuple[int, ...] = _derived()
    weight_shape: tuple[int, ...] = _derived()
    _hash: int = _derived()

    def __post_init__(self) -> None:
        _derive(self, "input_shape", (self.n, self.ic, *self.input))
        _derive(self, "output_shape", (self.n, self.oc, *self.output))
        _derive(self, "weight_shape", (self.oc, self.ic // self.groups, *self.kernel))
        options = self.groups, self.stride, self.padding, self.padding_end, self.dilation, self.exact, self.compute
        _derive(self, "_hash", hash((self.input_shape, self.weight_shape, options, self.whole)))

    def __hash__(self) -> int:
        return self._hash

    @property
    def flops(self) -> int:
        """Floating-point operations of one direction: a multiplication and an addition a product."""
        return 2 * self.n * self.oc * prod(self.output) * (self.ic // self.groups) * prod(self.kernel)


@lru_cache(maxsize=4096)
def _conv_axes(op: str, rank: int, input_: Axes, kernel: Axes, stride, padding, dilation):
    """Resolve stride, dilation and padding (numbers or a name); return them with the output sizes."""
    strides = per_axis(op, "stride", stride, rank, 1, 1)
    dilations = per_axis(op, "dilation", dilation, rank, 1, 1)
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ArgumentError(mismatch(op, "padding to be 'same', 'valid' or integers", repr(padding)))
        if padding == "same" and any(s != 1 for s in strides):
            raise ArgumentError(mismatch(op, "stride 1 with padding 'same'", f"stride {_spatial(strides, rank)}"))
        same = padding == "same"
        total = [d * (k - 1) if same else 0 for d, k in zip(dilations, kernel, strict=True)]
        before = tuple(t // 2 for t in total)
        after = tuple(t - t // 2 for t in total)
    else:
        before, after = both_ends(op, "padding", padding, rank)
    extent = tuple(d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True))
    padded = tuple(i + b + a for i, b, a in zip(input_, before, after, strict=True))
    if any(p < e for p, e in zip(padded, extent, strict=True)):
        raise ShapeError(
            mismatch(
                op,
                f"padded input at least as large as the dilated kernel {_spatial(extent, rank)}",
                _spatial(padded, rank),
            )
        )
    output = tuple((p - e) // s + 1 for p, e, s in zip(padded, extent, strides, strict=True))
    return strides, before, after, dilations, output


def _key(op: str, name: str, value: object, minimum: int) -> object:
    """Return an argument as a cache key of plain ints: 2.0 equals 2, yet is no size, and a list has no hash."""
    if type(value) is int or isinstance(value, str):
        return value
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return tuple(integer(op, name, entry, minimum) for entry in value)
    return integer(op, name, value, minimum)


def _check_weight(op: str, w: Sequence[int], rank: int, groups: object, out_axis: int) -> int:
    if len(w) != rank + 2:
        raise ShapeError(mismatch(op, f"weight of {rank + 2} axes", f"shape {tuple(w)}"))
    if min(w) < 1:
        raise ShapeError(mismatch(op, "weight without empty axes", f"shape {tuple(w)}"))
    number = integer(op, "groups", groups, 1)
    if w[0] % number:
        name = "OC" if out_axis == 0 else "IC"
        raise ShapeError(mismatch(op, f"weight's first axis ({name}) divisible by groups {number}", w[0]))
    return number


def _check_bias(op: str, bias: Sequence[int] | None, oc: int) -> None:
    if bias is not None and tuple(bias) != (oc,):
        raise ShapeError(mismatch(op, f"bias ({oc},) to match the output channels", f"shape {tuple(bias)}"))


def _check_sizes(op: str, x5: Sequence[int], rank: int) -> None:
    if min(x5[1:]) < 1:
        raise ShapeError(mismatch(op, "input whose axes, the batch apart, are not empty", _spatial(x5[2:], rank)))


def conv_geometry(
    op: str, rank: int, x: Sequence[int], w: Sequence[int], bias: Sequence[int] | None = None,
    stride: object = 1, padding: object = 0, dilation: object = 1, groups: object = 1, exact: bool = False,
    compute: str = "float32",
) -> ConvGeometry:  # fmt: skip
    """Return the geometry of ``conv{rank}d`` for shapes ``x`` (N, IC, spatial) and ``w`` (OC, IC/groups, spatial).

    >>> conv_geometry("conv2d", 2, (1, 3, 8, 8), (4, 3, 3, 3), padding=1).output_shape
    (1, 4, 1, 8, 8)
    >>> conv_geometry("conv2d", 2, (1, 4, 8, 8), (4, 3, 3, 3))
    Traceback (most recent call last):
        ...
    fastconv.errors.ShapeError: conv2d: expected weight (OC, 3, KH, KW) to match input (N, 4, H, W): 3 != 4
    """
    x5 = lift_shape(op, x, rank)
    g = _check_weight(op, w, rank, groups, 0)
    if w[1] * g != x[1]:
        kernel_names = ", ".join("K" + s for s in _SIZES[rank].split(", "))
        times = f" * {g} groups" if g > 1 else ""
        raise ShapeError(
            f"{op}: expected weight (OC, {w[1]}, {kernel_names}) to match input "
            f"(N, {x[1]}, {_SIZES[rank]}): {w[1]}{times} != {x[1]}"
        )
    _check_sizes(op, x5, rank)
    _check_bias(op, bias, w[0])
    kernel = (1,) * (3 - rank) + tuple(w[2:])
    options = _key(op, "stride", stride, 1), _key(op, "padding", padding, 0), _key(op, "dilation", dilation, 1)
    strides, before, after, dilations, output = _conv_axes(op, rank, x5[2:], kernel, *options)
    return ConvGeometry(x[0], x[1], w[0], g, x5[2:], kernel, strides, before, after, dilations, output, exact, compute)


def conv_transpose_geometry(
    op: str, rank: int, x: Sequence[int], w: Sequence[int], bias: Sequence[int] | None = None,
    stride: object = 1, padding: object = 0, output_padding: object = 0, groups: object = 1, dilation: object = 1,
    exact: bool = False, compute: str = "float32",
) -> ConvGeometry:  # fmt: skip
    """Return the geometry of the convolution whose input gradient is ``conv_transpose{rank}d``.

    ``x`` is (N, IC, spatial), ``w`` is (IC, OC/groups, spatial). In the returned geometry ``input`` and ``ic``
    belong to the transposed convolution's *output*, ``output`` and ``oc`` to its *input*:
    ``size = (x - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1``.

    >>> conv_transpose_geometry("conv_transpose2d", 2, (1, 8, 4, 4), (8, 3, 2, 2), stride=2).input_shape
    (1, 3, 1, 8, 8)
    """
    x5 = lift_shape(op, x, rank)
    g = _check_weight(op, w, rank, groups, 1)
    if w[0] != x[1]:
        raise ShapeError(f"{op}: expected weight ({w[0]}, ...) to match input (N, {x[1]}, ...): {w[0]} != {x[1]}")
    _check_sizes(op, x5, rank)
    _check_bias(op, bias, w[1] * g)
    kernel = (1,) * (3 - rank) + tuple(w[2:])
    strides = per_axis(op, "stride", stride, rank, 1, 1)
    dilations = per_axis(op, "dilation", dilation, rank, 1, 1)
    before, after = both_ends(op, "padding", padding, rank)
    extra = per_axis(op, "output_padding", output_padding, rank, 0, 0)
    if any(e and e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        raise ArgumentError(
            mismatch(op, "output_padding smaller than stride or dilation", f"output_padding {_spatial(extra, rank)}")
        )
    sizes = tuple(
        (i - 1) * s - p - q + d * (k - 1) + e + 1
        for i, s, p, q, d, k, e in zip(x5[2:], strides, before, after, dilations, kernel, extra, strict=True)
    )
    if min(sizes) < 1:
        raise ShapeError(mismatch(op, "an output that is not empty", f"sizes {_spatial(sizes, rank)}"))
    ends = before, after, dilations, x5[2:]
    return ConvGeometry(x[0], w[1] * g, x[1], g, sizes, kernel, strides, *ends, exact, compute)


# ------------------------------------------------------------------------------------------------ pooling


@dataclass(frozen=True, slots=True)
class AxisWindows:
    """Where each output position of one axis looks: indices ``start[o] + step * j`` for ``0 <= j < count[o]``.

    Clipped to the input, so a kernel reads them without a check. ``divisor[o]`` is what an average divides by
    (the product over the axes); it counts padding where ``count_include_pad`` says so.
    """

    start: tuple[int, ...]
    count: tuple[int, ...]
    step: int
    divisor: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PoolGeometry:
    """A pooling's sizes: regular or adaptive windows are the same thing, three lists of index ranges."""

    n: int
    c: int
    input: Axes
    output: Axes
    windows: tuple[AxisWindows, AxisWindows, AxisWindows]
    divisor_override: int | None = None
    input_shape: tuple[int, ...] = _derived()
    output_shape: tuple[int, ...] = _derived()
    _hash: int = _derived()

    def __post_init__(self) -> None:
        _derive(self, "input_shape", (self.n, self.c, *self.input))
        _derive(self, "output_shape", (self.n, self.c, *self.output))
        _derive(self, "_hash", hash((self.input_shape, self.output_shape, self.windows, self.divisor_override)))

    def __hash__(self) -> int:
        return self._hash


@lru_cache(maxsize=1024)
def _window_axis(size: int, k: int, s: int, p: int, q: int, d: int, output: int, include_pad: bool) -> AxisWindows:
    starts, counts, divisors = [], [], []
    for o in range(output):
        first = o * s - p
        skipped = max(0, -(first // d))  # positions before the array
        last = min(k, -((first - size) // d))  # positions up to its end
        starts.append(first + skipped * d)
        counts.append(max(0, last - skipped))
        divisors.append(min(k, -((first - size - q) // d)) if include_pad else max(1, last - skipped))
    return AxisWindows(tuple(starts), tuple(counts), d, tuple(divisors))


def pooled_size(size: int, k: int, s: int, p: int, q: int, d: int, ceil_mode: bool) -> int:
    """Return an axis' output size for paddings p and q; with ``ceil_mode`` the last window must start inside the input
    or its left padding, as in PyTorch."""
    span = size + p + q - d * (k - 1) - 1
    output = (-(-span // s) if ceil_mode else span // s) + 1
    if ceil_mode and (output - 1) * s >= size + p:
        output -= 1
    return output


def pool_geometry(
    op: str, rank: int, x: Sequence[int], kernel_size: object, stride: object = None, padding: object = 0,
    dilation: object = 1, ceil_mode: bool = False, count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> PoolGeometry:  # fmt: skip
    """Return the geometry of max or average pooling over ``x`` (N, C, spatial).

    >>> pool_geometry("max_pool2d", 2, (1, 3, 7, 7), 2, ceil_mode=True).output_shape
    (1, 3, 1, 4, 4)
    """
    x5 = lift_shape(op, x, rank)
    _check_sizes(op, x5, rank)
    kernel = per_axis(op, "kernel_size", kernel_size, rank, 1, 1)
    strides = kernel if stride is None else per_axis(op, "stride", stride, rank, 1, 1)
    before, after = both_ends(op, "padding", padding, rank)
    dilations = per_axis(op, "dilation", dilation, rank, 1, 1)
    extent = tuple(d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True))
    if before is after and any(2 * p > e for p, e in zip(before, extent, strict=True)):
        expected = f"padding of at most half the (dilated) kernel_size {_spatial(extent, rank)}"
        raise ArgumentError(mismatch(op, expected, _spatial(before, rank)))
    if divisor_override is not None:
        divisor_override = integer(op, "divisor_override", divisor_override, 1)
    axes = list(zip(x5[2:], kernel, strides, before, after, dilations, strict=True))
    output = tuple(pooled_size(*axis, ceil_mode) for axis in axes)
    if min(output) < 1:
        raise ShapeError(
            mismatch(op, "padded input at least as large as the kernel", f"input {_spatial(x5[2:], rank)}, "
                     f"kernel_size {_spatial(kernel, rank)}, padding {_spatial(before, rank)}")
        )  # fmt: skip
    windows = tuple(_window_axis(*axis, size, bool(count_include_pad)) for axis, size in zip(axes, output, strict=True))
    if any(0 in axis.count for axis in windows):
        raise ShapeError(mismatch(op, "every window to see an input element", "one that sees padding alone"))
    return PoolGeometry(x[0], x[1], x5[2:], output, windows, divisor_override)


@lru_cache(maxsize=1024)
def _adaptive_axis(size: int, output: int) -> AxisWindows:
    starts = tuple(o * size // output for o in range(output))
    counts = tuple(-(-(o + 1) * size // output) - start for o, start in enumerate(starts))
    return AxisWindows(starts, counts, 1, counts)


def adaptive_pool_geometry(op: str, rank: int, x: Sequence[int], output_size: object) -> PoolGeometry:
    """Return the geometry of adaptive pooling to ``output_size``; ``None`` on an axis keeps its size.

    Output ``o`` averages or maximises inputs ``floor(o * I / O)`` up to ``ceil((o + 1) * I / O)``.

    >>> adaptive_pool_geometry("adaptive_avg_pool2d", 2, (1, 3, 7, 5), (3, None)).output_shape
    (1, 3, 1, 3, 5)
    """
    x5 = lift_shape(op, x, rank)
    _check_sizes(op, x5, rank)
    wanted = output_size if isinstance(output_size, Sequence) else (output_size,) * rank
    if len(wanted) == rank:
        wanted = tuple(i if w is None else w for i, w in zip(x[2:], wanted, strict=True))
    output = per_axis(op, "output_size", wanted, rank, 1, 1)
    windows = tuple(_adaptive_axis(i, o) for i, o in zip(x5[2:], output, strict=True))
    return PoolGeometry(x[0], x[1], x5[2:], output, windows)


# ------------------------------------------------------------------------------------------------- others


def check_linear(op: str, x: Sequence[int], w: Sequence[int], bias: Sequence[int] | None) -> None:
    """Check ``x`` (*, I), ``w`` (O, I), ``bias`` (O,)."""
    if x and len(w) == 2 and x[-1] == w[1] and (bias is None or bias == w[:1]):
        return
    if len(x) < 1:
        raise ShapeError(mismatch(op, "input (*, I) of at least one axis", f"shape {tuple(x)}"))
    if len(w) != 2:
        raise ShapeError(mismatch(op, "weight (O, I)", f"shape {tuple(w)}"))
    if x[-1] != w[1]:
        raise ShapeError(f"{op}: expected weight ({w[0]}, {w[1]}) to match input (*, {x[-1]}): {w[1]} != {x[-1]}")
    _check_bias(op, bias, w[0])


def channel_shape(op: str, shape: Sequence[int]) -> tuple[int, int, int]:
    """Return ``(N, C, *)`` as ``(N, C, L)``, the remaining axes multiplied into one."""
    if len(shape) < 2:
        raise ShapeError(mismatch(op, "input (N, C, *) of at least two axes", f"shape {tuple(shape)}"))
    return shape[0], shape[1], prod(shape[2:])


def check_per_channel(op: str, name: str, shape: Sequence[int] | None, channels: int) -> None:
    """Check that an optional per-channel array is ``(C,)``."""
    if shape is not None and tuple(shape) != (channels,):
        raise ShapeError(mismatch(op, f"{name} ({channels},) to match the channels", f"shape {tuple(shape)}"))


def check_same_shape(op: str, first: str, a: Sequence[int], second: str, b: Sequence[int]) -> None:
    """Check that two arrays have one shape."""
    if tuple(a) != tuple(b):
        raise ShapeError(mismatch(op, f"{second} to have the shape of {first} {tuple(a)}", f"shape {tuple(b)}"))
