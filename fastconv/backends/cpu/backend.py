"""CpuBackend: the reference backend with every primitive that has a kernel replaced by it."""

from __future__ import annotations

from ..reference.backend import ReferenceBackend
from .conv_backward_input import conv_backward_input
from .conv_backward_weight import conv_backward_weight
from .conv_forward import conv_forward
from .linear import linear_backward_input, linear_backward_weight, linear_forward


class CpuBackend(ReferenceBackend):
    """NumPy arrays on SIMD kernels; what has no kernel of its own runs as the reference does."""

    name = "cpu"

    conv_forward = staticmethod(conv_forward)
    conv_backward_input = staticmethod(conv_backward_input)
    conv_backward_weight = staticmethod(conv_backward_weight)
    linear_forward = staticmethod(linear_forward)
    linear_backward_input = staticmethod(linear_backward_input)
    linear_backward_weight = staticmethod(linear_backward_weight)
