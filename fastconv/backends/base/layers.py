"""The contract of a device: convolution, pooling, units, linear layers, normalisation, resampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...geometry import ConvGeometry, PoolGeometry
from ...resampling import AxisTaps
from .arrays import Array, Arrays


class Layers(Arrays):
    """Primitives that know which axis is which."""

    # ------------------------------------------------------------------------------------- convolution

    def conv_forward(
        self, x: Array, w: Array, b: Array | None, geometry: ConvGeometry, frozen: bool | dict = False
    ) -> Array:
        """Cross-correlation. x (N, IC, ID, IH, IW), w (OC, IC/G, KD, KH, KW), b (OC,) -> y (N, OC, OD, OH, OW).

        ``frozen``: no gradient of ``w`` will be taken, so what is made of it may be kept for a later call, which must
        see whether ``w`` has changed since. A dict: the caller vouches that ``w`` never changes, and the dict, for this
        one ``w`` and empty at first, is where to keep it. It never changes the result.
        """
        raise self._missing("conv_forward")

    def conv_backward_input(
        self, dy: Array, w: Array, b: Array | None, geometry: ConvGeometry, residual: Array | None = None,
        gate: Array | None = None, spare: bool = False,
    ) -> Array:  # fmt: skip
        """dy (N, OC, OD, OH, OW), w (OC, IC/G, KD, KH, KW) -> dx (N, IC, ID, IH, IW).

        ``b`` (IC,) is added to every position: it is None for a gradient and the bias when this is the forward
        pass of a transposed convolution. Input positions that no window reaches get the bias alone.

        Then ``residual`` is added, and ``relu_backward`` follows with ``gate`` as its y; either, of dx's shape, is left
        out if None. The bits are those of the verbs one after the other. ``spare``: the residual is no one else's, may
        be written over and be what dx lies in.
        """
        raise self._missing("conv_backward_input")

    def conv_backward_weight(self, dy: Array, x: Array, geometry: ConvGeometry) -> Array:
        """dy (N, OC, OD, OH, OW), x (N, IC, ID, IH, IW) -> dw (OC, IC/G, KD, KH, KW), summed over N and space."""
        raise self._missing("conv_backward_weight")

    def bias_backward(self, dy: Array) -> Array:
        """dy (N, C, ...) -> db (C,), summed over every other axis."""
        raise self._missing("bias_backward")

    # ----------------------------------------------------------------------------------------- pooling

    def max_pool_forward(
        self, x: Array, geometry: PoolGeometry, keep: str = "indices", out: Array | None = None
    ) -> tuple[Array, Any]:
        """x (N, C, D, H, W) -> y (N, C, OD, OH, OW), and beside it what ``keep`` says.

        ``"indices"``: int32 or int64, of y's shape. An index is the flat position in the sample's (D, H, W) plane (D
        slowest). The first maximum in that order wins; the first NaN wins over every number.
        ``"winners"``: the same knowledge in any form that ``max_pool_backward`` takes. ``"nothing"``: anything.
        ``out`` receives y, as in ``conv_act_forward``.
        """
        raise self._missing("max_pool_forward")

    def max_pool_backward(self, dy: Array, winners: Any, geometry: PoolGeometry) -> Array:
        """Add dy up at the winners, or at indices of any integer dtype -> dx (N, C, D, H, W).

        Raises:
            IndexError: an index outside the plane.
        """
        raise self._missing("max_pool_backward")

    def max_unpool_backward(self, dy: Array, indices: Array) -> Array:
        """dy (N, C, D, H, W), indices (N, C, OD, OH, OW), checked to lie within the plane -> dx[i] = dy[indices[i]]."""
        raise self._missing("max_unpool_backward")

    def avg_pool_forward(self, x: Array, geometry: PoolGeometry, out: Array | None = None) -> Array:
        """Sum over the windows divided by ``divisor_override``, or by the product of the axes' divisors.

        ``out`` as in ``conv_act_forward``.
        """
        raise self._missing("avg_pool_forward")

    def avg_pool_backward(self, dy: Array, geometry: PoolGeometry) -> Array:
        """dy (N, C, OD, OH, OW) -> dx (N, C, D, H, W)."""
        raise self._missing("avg_pool_backward")

    # ------------------------------------------------------------------------------------------- units
    # A convolution with what follows it: an activation ('relu' or None) and a max-pool without overlap, padding or
    # dilation, its sizes rounded down, of at most 254 outputs a window. The unit saves x and the index, not the
    # convolution's output.

    def conv_act_forward(
        self, x: Array, w: Array, b: Array | None, geometry: ConvGeometry, activation: str | None,
        residual: Array | None = None, frozen: bool | dict = False, out: Array | None = None,
    ) -> Array:  # fmt: skip
        """``activation(conv_forward(x, w, b) + residual)``, with the bits of the verbs one after the other.

        ``residual``, of y's shape, is left out if None. ``out``, of y's shape and dtype and apart from all inputs,
        receives y and is returned; any strides, but best with a pixel's channels side by side.
        """
        raise self._missing("conv_act_forward")

    def conv_moments_forward(
        self, x: Array, w: Array, b: Array | None, geometry: ConvGeometry, frozen: bool | dict = False
    ) -> tuple[Array, Array, Array]:
        """``conv_forward``, and ``batch_norm_statistics`` of its result, with their bits -> y, mean, variance (OC,)."""
        raise self._missing("conv_moments_forward")

    def conv_act_pool_forward(
        self, x: Array, w: Array, b: Array | None, geometry: ConvGeometry, activation: str | None,
        pool_geometry: PoolGeometry, frozen: bool | dict = False,
    ) -> tuple[Array, Array]:  # fmt: skip
        """``max_pool_forward`` of ``conv_act_forward`` -> y (N, OC, PD, PH, PW), index of its shape, uint8.

        An index is the maximum's place in its window, D slowest, or 255 where the activation lets no gradient through.
        """
        raise self._missing("conv_act_pool_forward")

    def conv_act_pool_backward(
        self, dy: Array, index: Array, x: Array, w: Array, geometry: ConvGeometry, pool_geometry: PoolGeometry,
        needs: Sequence[bool],
    ) -> tuple[Array | None, Array | None, Array | None]:  # fmt: skip
        """dy, index (N, OC, PD, PH, PW), x (N, IC, ID, IH, IW), w -> dx, dw, db; None where ``needs`` says no.

        What lies in no maximum's window does not matter: a NaN in x or w may or may not meet a gradient of 0.
        """
        raise self._missing("conv_act_pool_backward")

    # ------------------------------------------------------------------------------------------ linear

    def linear_forward(
        self, x: Array, w: Array, b: Array | None, frozen: bool | dict = False, compute: str = "float32"
    ) -> Array:
        """x (N, I), w (O, I), b (O,) -> x w^T + b (N, O). ``frozen`` as in ``conv_forward``."""
        raise self._missing("linear_forward")

    def linear_backward_input(self, dy: Array, w: Array, compute: str = "float32") -> Array:
        """dy (N, O), w (O, I) -> dx (N, I)."""
        raise self._missing("linear_backward_input")

    def linear_backward_weight(self, dy: Array, x: Array, compute: str = "float32") -> Array:
        """dy (N, O), x (N, I) -> dw (O, I), summed over N. (``bias_backward`` gives db.)"""
        raise self._missing("linear_backward_weight")

    def matmul(self, a: Array, b: Array) -> Array:
        """a (..., M, K), b (..., K, P) -> (..., M, P), the leading axes with NumPy's broadcasting. A product does not
        depend on the others."""
        raise self._missing("matmul")

    # ----------------------------------------------------------------------------------- normalisation

    def batch_norm_statistics(self, x: Array) -> tuple[Array, Array]:
        """x (N, C, L) -> mean (C,) and biased variance (C,) over N and L; two passes or as good as two.

        Where a channel holds an infinity its variance is NaN, and its mean the infinity or NaN.
        """
        raise self._missing("batch_norm_statistics")

    def reciprocal_root(self, variance: Array, eps: float) -> Array:
        """1 / sqrt(variance + eps), the eps rounded to the dtype first. variance (C,) -> (C,)."""
        raise self._missing("reciprocal_root")

    def move_towards(self, running: Array, batch: Array, share: float, factor: float) -> None:
        """running += (batch * factor - running) * share, in place; (C,), the numbers rounded to the dtype first."""
        raise self._missing("move_towards")

    def batch_norm_forward(
        self, x: Array, mean: Array, rstd: Array, weight: Array | None, bias: Array | None,
        activation: str | None = None, residual: Array | None = None, out: Array | None = None,
    ) -> Array:  # fmt: skip
        """(x - mean) * rstd * weight + bias, per channel of x (N, C, L). ``rstd`` is 1 / sqrt(variance + eps).

        Then ``residual``, ``activation`` and ``out`` as in ``conv_act_forward``.
        """
        raise self._missing("batch_norm_forward")

    def batch_norm_backward(
        self, dy: Array, x: Array, mean: Array, rstd: Array, weight: Array | None, training: bool,
        needs: Sequence[bool] = (True, True, True), bias: Array | None = None, activation: str | None = None,
        residual: Array | None = None,
    ) -> tuple[Array | None, Array | None, Array | None]:  # fmt: skip
        """-> dx (N, C, L), dweight (C,), dbias (C,), None where ``needs`` says no. In training mean and rstd depend on
        x, else they are constants.

        ``activation``, in training only: that of a forward pass with this ``bias`` and no residual, whose output had
        the gradient dy; where it let dy through is found out from x. ``residual`` (N, C, L) is added to dx, with the
        bits of ``add``.
        """
        raise self._missing("batch_norm_backward")

    def group_norm_forward(
        self, x: Array, groups: int, weight: Array | None, bias: Array | None, eps: float
    ) -> tuple[Array, Array, Array]:
        """Each sample's ``groups`` of neighbouring channels of x (N, C, L) to mean 0 and variance 1, then * weight +
        bias (C,) -> y (N, C, L), mean and 1 / sqrt(variance + eps) of the groups (N, groups).

        ``groups`` divides C. Statistics as in ``batch_norm_statistics``, the eps as in ``reciprocal_root``.
        """
        raise self._missing("group_norm_forward")

    def group_norm_backward(
        self, dy: Array, x: Array, mean: Array, rstd: Array, weight: Array | None,
        needs: Sequence[bool] = (True, True, True),
    ) -> tuple[Array | None, Array | None, Array | None]:  # fmt: skip
        """-> dx (N, C, L), dweight (C,), dbias (C,), None where ``needs`` says no. mean, rstd: of the forward pass."""
        raise self._missing("group_norm_backward")

    def local_response_norm_forward(
        self, x: Array, size: int, alpha: float, beta: float, k: float
    ) -> tuple[Array, Array]:
        """x (N, C, L) -> y = x * scale**-beta and scale = k + alpha / size * (the sum of x**2 over ``size`` channels).

        The channels are c - size // 2 to c - size // 2 + size - 1, as far as they exist.
        """
        raise self._missing("local_response_norm_forward")

    def local_response_norm_backward(
        self, dy: Array, x: Array, scale: Array, size: int, alpha: float, beta: float
    ) -> Array:
        """-> dx (N, C, L)."""
        raise self._missing("local_response_norm_backward")

    # -------------------------------------------------------------------------------------- resampling

    def resample_forward(self, x: Array, axes: Sequence[AxisTaps | None]) -> Array:
        """x (N, C, D, H, W) -> y of the same axes: along axis 2 + i, output o is the sum over t of
        ``axes[i].weight[o, t] * x[axes[i].index[o, t]]``; None leaves an axis alone."""
        raise self._missing("resample_forward")

    def resample_backward(self, dy: Array, axes: Sequence[AxisTaps | None], shape: Sequence[int]) -> Array:
        """The adjoint: dx of ``shape``."""
        raise self._missing("resample_backward")
