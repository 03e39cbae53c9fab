"""Verbs for batch norm, its ReLU and a 1x1 convolution behind it, made of others until a device has better ones."""

from __future__ import annotations

from math import prod

from ...geometry import ConvGeometry
from .arrays import Array
from .elements import Elements
from .layers import Layers


def rows(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return (N, C, *) as (N, C, L)."""
    return shape[0], shape[1], prod(shape[2:])


class NormConv(Layers, Elements):
    """What ``conv(relu(batch_norm(x)))`` is, forward and backward, x (N, IC, ID, IH, IW); mean and rstd (IC,), and the
    weight and bias of the norm, which may be None, are those of ``batch_norm_forward``."""

    def fuses_norm_conv(self, x: Array, geometry: ConvGeometry) -> bool:
        """Whether the device gains by these verbs here; else nothing but tests asks for them."""
        return False

    def norm_conv_forward(
        self, x: Array, mean: Array, rstd: Array, weight: Array | None, bias: Array | None, w: Array, b: Array | None,
        geometry: ConvGeometry, moments: bool, frozen: bool | dict = False,
    ) -> tuple[Array, Array | None, Array | None]:  # fmt: skip
        """-> y, and its ``batch_norm_statistics`` if ``moments``, else None: with the bits of the verbs one by one."""
        z = self._normalised(x, mean, rstd, weight, bias)
        if moments:
            return self.conv_moments_forward(z, w, b, geometry, frozen)
        return self.conv_forward(z, w, b, geometry, frozen), None, None

    def norm_conv_backward_weight(
        self, dy: Array, x: Array, mean: Array, rstd: Array, weight: Array | None, bias: Array | None,
        geometry: ConvGeometry,
    ) -> Array:  # fmt: skip
        """-> dw, with the bits of the verbs one by one."""
        return self.conv_backward_weight(dy, self._normalised(x, mean, rstd, weight, bias), geometry)

    def norm_conv_backward_input(
        self, dy: Array, w: Array, x: Array, mean: Array, rstd: Array, weight: Array | None, bias: Array | None,
        geometry: ConvGeometry, residual: Array | None = None, out: Array | None = None,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        """-> dx, as if mean and rstd were constants, dweight and dbias (IC,) of the norm.

        ``residual``, of x's shape, is added to dx. ``out``, which may be the residual, is written over and returned
        as dx; if its pixels lie at one distance, and each one's channels side by side.
        """
        dz = self.relu_backward(
            self.conv_backward_input(dy, w, None, geometry), self._normalised(x, mean, rstd, weight, bias)
        )
        shape = rows(x.shape)
        residual = None if residual is None else self.reshape(residual, shape)
        flat = self.reshape(dz, shape), self.reshape(x, shape)
        dx, dweight, dbias = self.batch_norm_backward(*flat, mean, rstd, weight, False, residual=residual)
        dx = self.reshape(dx, x.shape)
        if out is None:
            return dx, dweight, dbias
        out[...] = dx
        return out, dweight, dbias

    def batch_norm_settle(self, dx: Array, x: Array, mean: Array, slope: Array, shift: Array) -> Array:
        """dx - ((x - mean) * slope + shift), per channel of dx and x (N, C, L); the others (C,)."""
        mean, slope, shift = (self.reshape(one, (1, one.shape[0], 1)) for one in (mean, slope, shift))
        return self.subtract(dx, self.add(self.multiply(self.subtract(x, mean), slope), shift))

    def _normalised(self, x: Array, *constants: Array | None) -> Array:
        z = self.batch_norm_forward(self.reshape(x, rows(x.shape)), *constants, "relu")
        return self.reshape(z, x.shape)
