"""Convolution layers: rank is data, a numbered class is a line."""

from __future__ import annotations

from math import sqrt
from typing import Any

from .. import functional as F
from .. import init
from ..arguments import flag, integer, per_axis
from ..errors import ArgumentError, ShapeError, mismatch
from ..functional._common import shape_of
from ..tensor import empty_aligned, float_dtype, operand
from .module import Module, Parameter

_FORWARD = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _ConvBase(Module):
    """What both directions share: channels, kernel, options, and parameters as torch starts them."""

    rank: int

    def __init__(self, transposed, in_channels, out_channels, kernel_size, stride, padding, output_padding, dilation,
                 groups, bias, padding_mode, device, dtype, exact) -> None:  # fmt: skip
        op = type(self).__name__
        groups = integer(op, "groups", groups, 1)
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
            if integer(op, name, value, 1) % groups:
                raise ArgumentError(mismatch(op, f"{name} to be a positive multiple of groups {groups}", value))
        if padding_mode not in _PADDING_MODES[: 1 if transposed else None]:
            known = "'zeros'" if transposed else f"one of {', '.join(_PADDING_MODES)}"
            raise ArgumentError(mismatch(op, f"padding_mode to be {known}", repr(padding_mode)))
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.exact = exact if exact is None else flag(op, "exact", exact)
        self.kernel_size, self.stride = self._axes("kernel_size", kernel_size, 1), self._axes("stride", stride, 1)
        self.dilation, self.padding_mode = self._axes("dilation", dilation, 1), padding_mode
        named = isinstance(padding, str) and not transposed and padding in ("same", "valid")
        self.padding = padding if named else self._axes("padding", padding, 0)
        self.output_padding = self._axes("output_padding", output_padding, 0)
        first, second = (in_channels, out_channels) if transposed else (out_channels, in_channels)
        dtype = float_dtype(op, dtype)
        self.weight = Parameter(empty_aligned((first, second // groups, *self.kernel_size), dtype))
        self.bias = Parameter(empty_aligned((out_channels,), dtype)) if bias else None
        self.reset_parameters()
        if device is not None:
            self.to(device)

    def _axes(self, name: str, value: Any, minimum: int) -> tuple[int, ...]:
        """Return an option as one entry an axis."""
        return per_axis(type(self).__name__, name, value, self.rank, minimum, minimum)[3 - self.rank :]

    def reset_parameters(self) -> None:
        """Draw weight and bias uniformly from +-1 / sqrt(fan-in), torch's default."""
        init.kaiming_uniform_(self.weight, a=sqrt(5))
        if self.bias is not None:
            bound = 1 / sqrt(init.fans(self.weight)[0])
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        none = (0,) * self.rank
        options = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != none:
            options += f", padding={self.padding!r}" if isinstance(self.padding, tuple) else f", padding={self.padding}"
        if self.dilation != (1,) * self.rank:
            options += f", dilation={self.dilation}"
        if self.output_padding != none:
            options += f", output_padding={self.output_padding}"
        if self.groups != 1:
            options += f", groups={self.groups}"
        if self.bias is None:
            options += ", bias=False"
        if self.exact is not None:
            options += f", exact={self.exact}"
        return options if self.padding_mode == "zeros" else f"{options}, padding_mode={self.padding_mode}"


class _Conv(_ConvBase):
    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None,
        dtype: Any = None, exact: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            False, in_channels, out_channels, kernel_size, stride, padding, 0, dilation, groups, bias, padding_mode,
            device, dtype, exact,
        )  # fmt: skip
        self._extended = None if padding_mode == "zeros" else self._flat_padding()

    def _flat_padding(self) -> list[int]:
        """Return the padding as ``functional.pad`` takes it: last axis first."""
        if self.padding == "same":
            total = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            pairs = [(t // 2, t - t // 2) for t in total]
        else:
            pairs = [(0, 0)] * self.rank if self.padding == "valid" else [(p, p) for p in self.padding]
        return [width for pair in reversed(pairs) for width in pair]

    def forward(self, input: Any) -> Any:
        padding = self.padding
        if self._extended is not None:
            input, padding = F.pad(input, self._extended, mode=self.padding_mode), 0
        conv = _FORWARD[self.rank]
        return conv(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups, self.exact)


class _ConvTranspose(_ConvBase):
    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        output_padding: Any = 0, groups: int = 1, bias: bool = True, dilation: Any = 1, padding_mode: str = "zeros",
        device: Any = None, dtype: Any = None, exact: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            True, in_channels, out_channels, kernel_size, stride, padding, output_padding, dilation, groups, bias,
            padding_mode, device, dtype, exact,
        )  # fmt: skip

    def forward(self, input: Any, output_size: Any = None) -> Any:
        """Apply the layer. ``output_size``: the output's spatial sizes (or its shape), of the several that are
        convolved to the input's sizes; None: those that the layer's ``output_padding`` makes.

        Raises:
            ShapeError: sizes that no ``output_padding`` below the stride makes.
        """
        extra = self.output_padding if output_size is None else self._extra(input, output_size)
        return _TRANSPOSED[self.rank](
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation, self.exact
        )

    def _extra(self, input: Any, output_size: Any) -> tuple[int, ...]:
        """Return the output padding with which ``input`` gives ``output_size``."""
        op = type(self).__name__
        shape, sizes = operand(op, "input", input)[1].shape, shape_of(op, "output_size", output_size)
        if len(shape) <= self.rank:
            return self.output_padding  # the functional refuses this input
        if len(sizes) not in (self.rank, len(shape)):
            wanted = f"output_size of {self.rank} or {len(shape)} axes for input {shape}"
            raise ShapeError(mismatch(op, wanted, sizes))
        sizes, options = sizes[-self.rank :], (self.stride, self.padding, self.kernel_size, self.dilation)
        least = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, k, d in zip(shape[-self.rank :], *options, strict=True)
        ]  # fmt: skip
        extra = tuple(size - low for size, low in zip(sizes, least, strict=True))
        if not all(0 <= e < s for e, s in zip(extra, self.stride, strict=True)):
            most = tuple(low + s - 1 for low, s in zip(least, self.stride, strict=True))
            wanted = f"output_size from {tuple(least)} to {most} for input {shape}"
            raise ShapeError(mismatch(op, wanted, sizes))
        return extra


class Conv1d(_Conv):
    """``functional.conv1d`` with weight (OC, IC / groups, K) and bias (OC,)."""

    rank = 1


class Conv2d(_Conv):
    """``functional.conv2d`` with weight (OC, IC / groups, KH, KW) and bias (OC,).

    >>> Conv2d(1, 32, 5)
    Conv2d(1, 32, kernel_size=(5, 5), stride=(1, 1))
    """

    rank = 2


class Conv3d(_Conv):
    """``functional.conv3d`` with weight (OC, IC / groups, KD, KH, KW) and bias (OC,)."""

    rank = 3


class ConvTranspose1d(_ConvTranspose):
    """``functional.conv_transpose1d`` with weight (IC, OC / groups, K) and bias (OC,)."""

    rank = 1


class ConvTranspose2d(_ConvTranspose):
    """``functional.conv_transpose2d`` with weight (IC, OC / groups, KH, KW) and bias (OC,)."""

    rank = 2


class ConvTranspose3d(_ConvTranspose):
    """``functional.conv_transpose3d`` with weight (IC, OC / groups, KD, KH, KW) and bias (OC,)."""

    rank = 3
