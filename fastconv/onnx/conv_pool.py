"""Convolution, transposed convolution, pooling, unpooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from .. import functional as F
from ..errors import OperatorError, ShapeError, mismatch
from .registry import Node, Run, operator
from .values import host, integers, is_float


def of_rank(node: Node, name: str, x: Any) -> Callable:
    """Return the functional ``name`` for the number of spatial axes of x (N, C, spatial)."""
    rank = len(x.shape) - 2
    if rank not in (1, 2, 3):
        raise OperatorError(mismatch(node.where, "input of 3 to 5 axes", f"shape {tuple(x.shape)}"))
    return getattr(F, f"{name}{rank}d")


@dataclass(frozen=True, slots=True)
class Window:
    """The attributes that convolutions and poolings share, 1 or 0 where they are left out."""

    auto: str
    kernel: tuple[int, ...] | None
    stride: tuple[int, ...] | int
    dilation: tuple[int, ...] | int
    pads: tuple[int, ...] | int

    @classmethod
    def of(cls, node: Node) -> Window:
        def sizes(name: str, default: Any) -> Any:
            value = node.get(name)
            return tuple(value) if value else default

        return cls(
            node.choice("auto_pad", "NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"),
            sizes("kernel_shape", None), sizes("strides", 1), sizes("dilations", 1), sizes("pads", 0),
        )  # fmt: skip

    def padding(self, sizes: Sequence[int], kernel: Sequence[int]) -> tuple[int, ...] | int:
        """Return what the functionals take for spatial ``sizes``: all paddings before, then all after."""
        if not self.auto.startswith("SAME"):
            return self.pads if self.auto == "NOTSET" else 0
        ends = []
        for size, k, s, d in zip(sizes, kernel, *self.each(len(sizes)), strict=True):
            ends.append(max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0))
        return halves(ends, self.auto == "SAME_UPPER")

    def require_kernel(self, sizes: Sequence[int]) -> None:
        """Refuse weights of other spatial ``sizes`` than the node says."""
        if self.kernel is not None and self.kernel != tuple(sizes):
            raise ShapeError(mismatch("onnx", f"weight with the kernel_shape {self.kernel} of its node", tuple(sizes)))

    def each(self, rank: int) -> tuple[Sequence[int], Sequence[int]]:
        """Return stride and dilation, one for each axis."""
        return tuple((v,) * rank if isinstance(v, int) else v for v in (self.stride, self.dilation))  # type: ignore


def halves(totals: Sequence[int], upper: bool) -> tuple[int, ...]:
    """Return totals cut in two, all first halves before all second; the odd one goes to the second if ``upper``."""
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (*small, *large) if upper else (*large, *small)


@operator("Conv", last=22)
def conv(node: Node) -> Run:
    window, groups = Window.of(node), node.get("group", 1)

    def run(x: Any, w: Any, b: Any = None) -> Any:
        window.require_kernel(w.shape[2:])
        padding = window.padding(x.shape[2:], w.shape[2:])
        return of_rank(node, "conv", x)(x, w, b, window.stride, padding, window.dilation, groups)

    return run


@operator("ConvTranspose", last=22)
def conv_transpose(node: Node) -> Run:
    window, groups = Window.of(node), node.get("group", 1)
    extra, wanted = node.get("output_padding"), node.get("output_shape")

    def run(x: Any, w: Any, b: Any = None) -> Any:
        window.require_kernel(w.shape[2:])
        rank = len(x.shape) - 2
        strides, dilations = window.each(rank)
        more = extra or (0,) * rank
        axes = list(zip(x.shape[2:], w.shape[2:], strides, dilations, more, strict=True))
        if wanted or window.auto.startswith("SAME"):
            sizes = wanted[-rank:] if wanted else [n * s for n, _, s, _, _ in axes]
            totals = [(n - 1) * s + e + d * (k - 1) + 1 - o for (n, k, s, d, e), o in zip(axes, sizes, strict=True)]
            pads = halves(totals, window.auto == "SAME_UPPER")
        else:
            pads = (0,) * (2 * rank) if window.auto == "VALID" or window.pads == 0 else window.pads
        # Output padding is so much less padding at the end; what is negative then is zeros beyond all products.
        ends = [*pads[:rank], *(p - e for p, e in zip(pads[rank:], more, strict=True))]
        function = of_rank(node, "conv_transpose", x)
        cropped = tuple(max(p, 0) for p in ends)
        if min(ends) >= 0:
            return function(x, w, b, window.stride, cropped, 0, groups, window.dilation)
        y = function(x, w, None, window.stride, cropped, 0, groups, window.dilation)
        flat = [max(-ends[i + side], 0) for i in reversed(range(rank)) for side in (0, rank)]
        y = F.pad(y, flat)
        return y if b is None else F.add(y, F.reshape(b, (-1, *(1,) * rank)))

    return run


# ------------------------------------------------------------------------------------------------ pooling


def _kernel(node: Node, window: Window) -> tuple[int, ...]:
    if window.kernel is None:
        raise OperatorError(mismatch(node.where, "kernel_shape", "none"))
    return window.kernel


def _ceil(node: Node, window: Window) -> bool:
    return bool(node.get("ceil_mode", 0)) and window.auto == "NOTSET"


@operator("MaxPool", last=22)
def max_pool(node: Node) -> Run:
    window = Window.of(node)
    kernel, ceil_mode = _kernel(node, window), _ceil(node, window)
    with_indices, by_columns = node.has_output(1), node.get("storage_order", 0) == 1

    def run(x: Any) -> Any:
        padding = window.padding(x.shape[2:], kernel)
        pool, dtype = of_rank(node, "max_pool", x), x.dtype
        if not is_float(x):  # small integers, which float64 holds
            wide = host(x).astype(np.float64)
            return pool(wide, kernel, window.stride, padding, window.dilation, ceil_mode).astype(dtype)
        y = pool(x, kernel, window.stride, padding, window.dilation, ceil_mode, with_indices)
        return (y[0], _whole_indices(host(y[1]), x.shape, by_columns)) if with_indices else y

    return run


def _whole_indices(indices: np.ndarray, shape: Sequence[int], by_columns: bool) -> np.ndarray:
    """Return indices in each plane as indices into the whole of an array of ``shape``."""
    n, c, *sizes = shape
    if by_columns:
        indices = np.ravel_multi_index(np.unravel_index(indices, sizes), sizes, order="F")
    planes = np.arange(n * c, dtype=np.int64).reshape(n, c, *(1,) * len(sizes))
    return indices + planes * prod(sizes)


@operator("AveragePool", last=22)
def average_pool(node: Node) -> Run:
    window = Window.of(node)
    kernel, ceil_mode = _kernel(node, window), _ceil(node, window)
    include_pad = bool(node.get("count_include_pad", 0))

    def run(x: Any) -> Any:
        padding = window.padding(x.shape[2:], kernel)
        pool = of_rank(node, "avg_pool", x)
        return pool(x, kernel, window.stride, padding, ceil_mode, include_pad, None, window.dilation)

    return run


@operator("LpPool", last=22)
def lp_pool(node: Node) -> Run:
    window, p = Window.of(node), float(node.get("p", 2))
    kernel, ceil_mode = _kernel(node, window), _ceil(node, window)

    def run(x: Any) -> Any:
        padding = window.padding(x.shape[2:], kernel)
        return of_rank(node, "lp_pool", x)(x, p, kernel, window.stride, ceil_mode, padding, window.dilation)

    return run


def _spatial(x: Any) -> list[int]:
    return list(range(2, len(x.shape)))


@operator("GlobalAveragePool", last=22)
def global_average_pool(node: Node) -> Run:
    return lambda x: F.adaptive_avg_pool2d(x, 1) if len(x.shape) == 4 else F.mean(x, _spatial(x), True)


@operator("GlobalMaxPool", last=22)
def global_max_pool(node: Node) -> Run:
    return lambda x: F.adaptive_max_pool2d(x, 1) if len(x.shape) == 4 else F.amax(x, _spatial(x), True)


@operator("GlobalLpPool", last=22)
def global_lp_pool(node: Node) -> Run:
    p = float(node.get("p", 2))
    return lambda x: root(power_sum(x, p, _spatial(x), True), p)


def power_sum(x: Any, p: float, axes: Sequence[int] | None, keepdim: bool) -> Any:
    """Return the sum of ``|x|**p`` over axes."""
    powers = F.abs(x) if p == 1 else F.multiply(x, x) if p == 2 else F.pow(F.abs(x), p)
    return F.sum(powers, axes, keepdim)


def root(x: Any, p: float) -> Any:
    """Return ``x**(1/p)``."""
    return x if p == 1 else F.sqrt(x) if p == 2 else F.pow(x, 1 / p)


@operator("MaxUnpool", last=22, options=(2,))
def max_unpool(node: Node) -> Run:
    window = Window.of(node)
    kernel, pads = _kernel(node, window), window.pads
    rank = len(kernel)
    if pads and pads[:rank] != pads[rank:]:
        raise OperatorError(mismatch(node.where, "pads that are equal before and after", pads))

    def run(x: Any, indices: Any, output_shape: Any = None) -> Any:
        ends = pads[:rank] if pads else (0,) * rank
        strides, _ = window.each(rank)
        sizes = [(n - 1) * s - 2 * p + k for n, s, p, k in zip(x.shape[2:], strides, ends, kernel, strict=True)]
        unpool = of_rank(node, "max_unpool", x)
        y = unpool(x, host(indices) % prod(sizes), kernel, window.stride, ends, sizes)
        if output_shape is None:
            return y
        wanted = integers(output_shape)[-rank:]
        return F.pad(y, [w for size, want in zip(sizes[::-1], wanted[::-1], strict=True) for w in (0, want - size)])

    return run
