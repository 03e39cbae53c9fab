"""Layers that normalise each sample by itself, and local response normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import functional as F
from ..arguments import integer, number
from ..errors import ArgumentError, ShapeError, mismatch
from ..tensor import float_dtype
from .module import Module, Parameter


class _Affine(Module):
    """``weight`` and ``bias`` of one shape, or None."""

    def _parameters(self, shape: tuple[int, ...], weight: bool, bias: bool, device: Any, dtype: Any) -> None:
        dtype = float_dtype(type(self).__name__, dtype)
        self.weight = Parameter(np.ones(shape, dtype)) if weight else None
        self.bias = Parameter(np.zeros(shape, dtype)) if bias else None
        if device is not None:
            self.to(device)


class GroupNorm(_Affine):
    """``functional.group_norm`` with weight and bias (C,)."""

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, device: Any = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        op = "GroupNorm"
        if integer(op, "num_channels", num_channels, 1) % integer(op, "num_groups", num_groups, 1):
            raise ArgumentError(mismatch(op, f"num_groups to divide the {num_channels} channels", num_groups))
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, number(op, "eps", eps, 0)
        self.affine = affine
        self._parameters((num_channels,), affine, affine, device, dtype)

    def forward(self, input: Any) -> Any:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class LayerNorm(_Affine):
    """``functional.layer_norm`` with weight and bias of ``normalized_shape``."""

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True,
        bias: bool = True, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        sizes = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
        self.normalized_shape = tuple(integer("LayerNorm", "normalized_shape", size, 1) for size in sizes)
        self.eps, self.elementwise_affine = number("LayerNorm", "eps", eps, 0), elementwise_affine
        self._parameters(self.normalized_shape, elementwise_affine, elementwise_affine and bias, device, dtype)

    def forward(self, input: Any) -> Any:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class _InstanceNorm(_Affine):
    """``functional.instance_norm``; without running statistics, and by default without parameters, as torch's."""

    axes: int

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = False,
        track_running_stats: bool = False, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        op = type(self).__name__
        if track_running_stats:
            raise ArgumentError(mismatch(op, "track_running_stats False", track_running_stats))
        self.num_features, self.eps = integer(op, "num_features", num_features, 1), number(op, "eps", eps, 0)
        self.momentum, self.affine, self.track_running_stats = momentum, affine, track_running_stats
        self._parameters((num_features,), affine, affine, device, dtype)

    def forward(self, input: Any) -> Any:
        shape = np.shape(input)
        if len(shape) != self.axes or shape[1] != self.num_features:
            expected = f"input (N, {self.num_features}, *) of {self.axes} axes"
            raise ShapeError(mismatch(type(self).__name__, expected, f"shape {shape}"))
        return F.instance_norm(input, weight=self.weight, bias=self.bias, eps=self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, affine={self.affine}"


class InstanceNorm1d(_InstanceNorm):
    """Instance normalisation of (N, C, L)."""

    axes = 3


class InstanceNorm2d(_InstanceNorm):
    """Instance normalisation of (N, C, H, W)."""

    axes = 4


class InstanceNorm3d(_InstanceNorm):
    """Instance normalisation of (N, C, D, H, W)."""

    axes = 5


class LocalResponseNorm(Module):
    """``functional.local_response_norm``."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        self.size, self.alpha, self.beta, self.k = integer("LocalResponseNorm", "size", size, 1), alpha, beta, k

    def forward(self, input: Any) -> Any:
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
