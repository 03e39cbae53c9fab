"""A backend that counts multiply-adds where they happen, be it in a layer or in a functional."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..backends import Backend
from ..geometry import ConvGeometry, PoolGeometry


class _Meter:
    """Forward products are counted and not computed: their results are zeros, which cost nothing either."""

    count: Callable[[int], None]

    def _convolved(self, shape: tuple[int, ...], x: Any, geometry: ConvGeometry) -> np.ndarray:
        self.count(geometry.flops // 2)
        return np.zeros(shape, x.dtype)

    def conv_forward(self, x: Any, w: Any, b: Any, geometry: ConvGeometry, *args: Any, **options: Any) -> np.ndarray:
        return self._convolved(geometry.output_shape, x, geometry)

    conv_act_forward = conv_forward

    def conv_moments_forward(self, x: Any, w: Any, b: Any, geometry: ConvGeometry, *args: Any) -> tuple:
        return self._convolved(geometry.output_shape, x, geometry), *np.zeros((2, geometry.oc), x.dtype)

    def norm_conv_forward(self, x: Any, mean: Any, rstd: Any, weight: Any, bias: Any, w: Any, b: Any,
                          geometry: ConvGeometry, moments: bool, *args: Any) -> tuple:  # fmt: skip
        y, *found = self.conv_moments_forward(x, w, b, geometry)
        return (y, *found) if moments else (y, None, None)

    def conv_backward_input(self, dy: Any, w: Any, b: Any, geometry: ConvGeometry) -> np.ndarray:
        return self._convolved(geometry.input_shape, dy, geometry)  # a transposed convolution

    def conv_act_pool_forward(
        self, x: Any, w: Any, b: Any, geometry: ConvGeometry, activation: str | None, pool_geometry: PoolGeometry,
        *args: Any, **options: Any,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        y = self._convolved(pool_geometry.output_shape, x, geometry)
        return y, np.zeros(y.shape, np.uint8)

    def linear_forward(self, x: Any, w: Any, b: Any, *args: Any, **options: Any) -> np.ndarray:
        self.count(len(x) * w.size)
        return np.zeros((len(x), len(w)), x.dtype)

    def matmul(self, a: Any, b: Any) -> np.ndarray:
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        y = np.zeros((*lead, a.shape[-2], b.shape[-1]), a.dtype)
        self.count(y.size * a.shape[-1])
        return y


def metered(backend: Backend, count: Callable[[int], None]) -> Backend:
    """Return ``backend`` with ``count(multiply_adds)`` called in place of every convolution and matrix product."""
    kind = type(backend)
    meter = type(f"Metered{kind.__name__}", (_Meter, kind), {})()
    meter.count = count
    return meter
