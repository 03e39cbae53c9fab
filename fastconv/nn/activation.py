"""Activation layers and dropout."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..arguments import number
from .module import Module


class ReLU(Module):
    """``functional.relu``; ``inplace`` changes nothing."""

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = inplace

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""

    def forward(self, input: Any) -> Any:
        return F.relu(input)


class LeakyReLU(Module):
    """``functional.leaky_relu``; ``inplace`` changes nothing."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.negative_slope, self.inplace = negative_slope, inplace

    def forward(self, input: Any) -> Any:
        return F.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class Sigmoid(Module):
    """``functional.sigmoid``."""

    def forward(self, input: Any) -> Any:
        return F.sigmoid(input)


class Tanh(Module):
    """``functional.tanh``."""

    def forward(self, input: Any) -> Any:
        return F.tanh(input)


class _OverAxis(Module):
    def __init__(self, dim: int) -> None:
        self.dim = dim

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax(_OverAxis):
    """``functional.softmax`` along ``dim``, which has no default here."""

    def forward(self, input: Any) -> Any:
        return F.softmax(input, self.dim)


class LogSoftmax(_OverAxis):
    """``functional.log_softmax`` along ``dim``, which has no default here."""

    def forward(self, input: Any) -> Any:
        return F.log_softmax(input, self.dim)


class Dropout(Module):
    """``functional.dropout`` while training; ``inplace`` changes nothing."""

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        number("Dropout", "p", p, 0, 1)
        self.p, self.inplace = p, inplace

    def forward(self, input: Any) -> Any:
        return F.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"
