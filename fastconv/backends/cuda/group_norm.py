"""Group normalisation of x (N, C, L): its groups are the channels of a batch of one (1, N * G, C / G * L), whose batch
normalisation it is; weight and bias follow in a second one, which moves nothing (mean 0, deviation 1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from . import launch
from .array import DeviceArray
from .graphs import constant
from .norm import batch_norm_backward, batch_norm_forward, batch_norm_statistics, reciprocal_root
from .shape import reshape


@lru_cache(maxsize=64)
def _constants(count: int, dtype: np.dtype, _machine: launch.Machine) -> tuple[DeviceArray, DeviceArray]:
    """Return a mean of 0 and a deviation of 1 for so many channels."""
    return constant(np.zeros(count, dtype)), constant(np.ones(count, dtype))


def _in_groups(x: DeviceArray, groups: int) -> DeviceArray:
    n, c, length = x.shape
    return reshape(x, (1, n * groups, c // groups * length))


def group_norm_forward(
    x: DeviceArray, groups: int, weight: DeviceArray | None, bias: DeviceArray | None, eps: float
) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
    n, c, _ = x.shape
    rows = _in_groups(x, groups)
    mean, variance = batch_norm_statistics(rows)
    rstd = reciprocal_root(variance, eps)
    y = reshape(batch_norm_forward(rows, mean, rstd, None, None), x.shape)
    if weight is not None or bias is not None:
        y = batch_norm_forward(y, *_constants(c, x.dtype, launch.machine()), weight, bias)
    return y, reshape(mean, (n, groups)), reshape(rstd, (n, groups))


def group_norm_backward(
    dy: DeviceArray, x: DeviceArray, mean: DeviceArray, rstd: DeviceArray, weight: DeviceArray | None,
    needs: Sequence[bool] = (True, True, True),
) -> tuple[DeviceArray | None, ...]:  # fmt: skip
    n, groups = mean.shape
    rows, constants = _in_groups(x, groups), _constants(x.shape[1], x.dtype, launch.machine())
    own = reshape(mean, (n * groups,)), reshape(rstd, (n * groups,))
    dx = dweight = dbias = None
    if needs[1] or needs[2]:
        y = reshape(batch_norm_forward(rows, *own, None, None), x.shape)
        _, dweight, dbias = batch_norm_backward(dy, y, *constants, weight, False, (False, *needs[1:]))
    if needs[0]:
        if weight is not None:
            dy = batch_norm_forward(dy, *constants, weight, None)
        dx, _, _ = batch_norm_backward(_in_groups(dy, groups), rows, *own, None, True, (True, False, False))
        dx = reshape(dx, x.shape)
    return dx, dweight, dbias
