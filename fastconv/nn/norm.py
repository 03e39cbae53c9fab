"""Batch normalisation layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import integer, number
from ..errors import ShapeError, mismatch
from ..functional.norm import run_batch_norm
from ..tensor import float_dtype
from .module import Module, Parameter


class _BatchNorm(Module):
    """``functional.batch_norm`` with weight and bias (C,), and the buffers running_mean, running_var (C,) and
    num_batches_tracked (0-d int64). ``momentum`` None averages over all batches since the start."""

    axes: tuple[int, ...]  # how many axes an input may have
    _optional = ("num_batches_tracked",)  # files from before PyTorch 0.4.1 lack it; the count then stays

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True, device: Any = None, dtype: Any = None, *,
        bias: bool = True,
    ) -> None:  # fmt: skip
        op = type(self).__name__
        dtype, num_features = float_dtype(op, dtype), integer(op, "num_features", num_features, 1)
        number(op, "eps", eps, 0)
        if momentum is not None:
            number(op, "momentum", momentum)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats, self.has_bias = affine, track_running_stats, affine and bias
        self.weight = Parameter(np.ones(num_features, dtype)) if affine else None
        self.bias = Parameter(np.zeros(num_features, dtype)) if affine and bias else None
        self.register_buffer("running_mean", np.zeros(num_features, dtype) if track_running_stats else None)
        self.register_buffer("running_var", np.ones(num_features, dtype) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", np.array(0, np.int64) if track_running_stats else None)
        if device is not None:
            self.to(device)

    def forward(self, input: Any) -> Any:
        return self.run(input)

    @property
    def by_batch(self) -> bool:
        """Whether the batch's own statistics normalise it."""
        return self.training or not self.track_running_stats

    def run(self, input: Any, activation: str | None = None, residual: Any = None, moments: Any = None) -> Any:
        """``forward`` with what follows it: a residual of the input's shape that is added, and a ReLU. ``moments``: the
        input's mean and variance, where they are known."""
        mean, var, weight, bias, momentum, eps = self.begin(input)
        return run_batch_norm(
            input, mean, var, weight, bias, self.by_batch, momentum, eps, activation, residual, moments
        )

    def begin(self, input: Any) -> tuple:
        """Count a batch; return running_mean, running_var, weight, bias, momentum and eps for it."""
        shape = input.shape if hasattr(input, "shape") else np.shape(input)
        if len(shape) not in self.axes:
            expected = f"input of {' or '.join(map(str, self.axes))} axes"
            raise ShapeError(mismatch(type(self).__name__, expected, f"shape {tuple(shape)}"))
        momentum = self.momentum
        if self.training and self.track_running_stats:
            self.num_batches_tracked += 1
            if momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked)
        momentum = 0.0 if momentum is None else momentum
        return self.running_mean, self.running_var, self.weight, self.bias, momentum, self.eps

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.has_bias}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L)."""

    axes = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W)."""

    axes = (4,)


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of (N, C, D, H, W)."""

    axes = (5,)
