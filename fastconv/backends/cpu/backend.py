"""CpuBackend: the reference backend with every primitive that has a kernel replaced by it."""

from __future__ import annotations

from ...geometry import ConvGeometry
from ..base import Array
from ..reference.backend import ReferenceBackend
from . import plan
from .linear import linear_backward_input, linear_backward_weight, linear_forward


class CpuBackend(ReferenceBackend):
    """NumPy arrays on SIMD kernels; what has no kernel of its own runs as the reference does."""

    name = "cpu"

    def conv_forward(self, x: Array, w: Array, b: Array | None, geometry: ConvGeometry) -> Array:
        return plan.choose("conv_forward", geometry)(x, w, b, geometry)

    def conv_backward_input(self, dy: Array, w: Array, b: Array | None, geometry: ConvGeometry) -> Array:
        return plan.choose("conv_backward_input", geometry)(dy, w, b, geometry)

    def conv_backward_weight(self, dy: Array, x: Array, geometry: ConvGeometry) -> Array:
        return plan.choose("conv_backward_weight", geometry)(dy, x, geometry)

    explain = staticmethod(plan.explain)

    linear_forward = staticmethod(linear_forward)
    linear_backward_input = staticmethod(linear_backward_input)
    linear_backward_weight = staticmethod(linear_backward_weight)
