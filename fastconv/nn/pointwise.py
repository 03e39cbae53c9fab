"""Further activation layers. ``inplace`` is accepted and changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional as F
from ..arguments import integer
from .module import Module, Parameter


class _Plain(Module):
    """A function without options."""

    function: str

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = inplace

    def forward(self, input: Any) -> Any:
        return getattr(F, self.function)(input)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class SiLU(_Plain):
    """``functional.silu``."""

    function = "silu"


class Mish(_Plain):
    """``functional.mish``."""

    function = "mish"


class SELU(_Plain):
    """``functional.selu``."""

    function = "selu"


class ReLU6(_Plain):
    """``functional.relu6``."""

    function = "relu6"


class Hardswish(_Plain):
    """``functional.hardswish``."""

    function = "hardswish"


class Hardsigmoid(_Plain):
    """``functional.hardsigmoid``."""

    function = "hardsigmoid"


class Softsign(_Plain):
    """``functional.softsign``."""

    function = "softsign"

    def __init__(self) -> None:
        super().__init__()


class _Alpha(Module):
    """A function of input and ``alpha``."""

    function: str

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha, self.inplace = alpha, inplace

    def forward(self, input: Any) -> Any:
        return getattr(F, self.function)(input, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class ELU(_Alpha):
    """``functional.elu``."""

    function = "elu"


class CELU(_Alpha):
    """``functional.celu``."""

    function = "celu"


class GELU(Module):
    """``functional.gelu``."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def forward(self, input: Any) -> Any:
        return F.gelu(input, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Hardtanh(Module):
    """``functional.hardtanh``."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        self.min_val, self.max_val, self.inplace = min_val, max_val, inplace

    def forward(self, input: Any) -> Any:
        return F.hardtanh(input, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}" + (", inplace=True" if self.inplace else "")


class Softplus(Module):
    """``functional.softplus``. ``threshold`` is torch's guard against overflow, which is not needed here."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta, self.threshold = beta, threshold

    def forward(self, input: Any) -> Any:
        return F.softplus(input, self.beta)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Threshold(Module):
    """``functional.threshold``."""

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        self.threshold, self.value, self.inplace = threshold, value, inplace

    def forward(self, input: Any) -> Any:
        return F.threshold(input, self.threshold, self.value)

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, value={self.value}" + (", inplace=True" if self.inplace else "")


class PReLU(Module):
    """``functional.prelu`` with a trained slope for each channel, or one for all.

    Attributes:
        weight: (num_parameters,), ``init`` at first.
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        self.num_parameters = integer("PReLU", "num_parameters", num_parameters, 1)
        self.weight = Parameter(np.full(self.num_parameters, init, np.float32))

    def forward(self, input: Any) -> Any:
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"
