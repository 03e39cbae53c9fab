"""The fully connected layer, and the two layers that only change shapes."""

from __future__ import annotations

from math import sqrt
from typing import Any

from .. import functional as F
from .. import init
from ..arguments import integer
from ..tensor import empty_aligned, float_dtype
from .module import Module, Parameter


class Linear(Module):
    """``functional.linear`` with weight (O, I) and bias (O,).

    >>> Linear(256, 10)
    Linear(in_features=256, out_features=10, bias=True)
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        for name, value in (("in_features", in_features), ("out_features", out_features)):
            integer("Linear", name, value, 1)
        self.in_features, self.out_features = in_features, out_features
        dtype = float_dtype("Linear", dtype)
        self.weight = Parameter(empty_aligned((out_features, in_features), dtype))
        self.bias = Parameter(empty_aligned((out_features,), dtype)) if bias else None
        self.reset_parameters()
        if device is not None:
            self.to(device)

    def reset_parameters(self) -> None:
        """Draw weight and bias uniformly from +-1 / sqrt(in_features), torch's default."""
        init.kaiming_uniform_(self.weight, a=sqrt(5))
        if self.bias is not None:
            bound = 1 / sqrt(self.in_features)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Any) -> Any:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Flatten(Module):
    """``functional.flatten`` of all axes but the batch's."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Any) -> Any:
        return F.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Identity(Module):
    """The input itself. Takes, and ignores, any arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def forward(self, input: Any) -> Any:
        return input
