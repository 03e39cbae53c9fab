"""Backend: the whole contract of a device. What each primitive takes, returns, accumulates and saves.

The rules that hold for every method:

* Arrays are the backend's own kind (NumPy arrays for ``reference`` and ``cpu``), of one dtype, float32 or float64, in
  native byte order and aligned. Strides are arbitrary (negative, zero, channels-last, ...). Inputs are never written.
* Shapes were checked (``fastconv.geometry``) before the call. A batch of zero samples is legal everywhere.
* Convolution and pooling see five axes, ``(N, C, D, H, W)``; ops over channels see ``(N, C, L)``; elementwise ops see
  any shape.
* Outputs are new arrays of the logical shape documented, in any memory order, writable. Gradients of parameters
  (``dw``, ``db``) are C-contiguous. Only the optimiser steps and ``accumulate`` write into arrays they are given.
* A result does not depend on the number of threads, nor a sample's result on the batch around it.
* NaN and infinity propagate as in IEEE 754 arithmetic; an algorithm that transforms its operands (Winograd, refused
  by ``geometry.exact``) may spread them over the 4x4 outputs of a tile.

A device overrides what it speeds up; what it does not override raises. ``tests/backends`` runs the same cases over all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import DeviceError
from ..geometry import ConvGeometry, PoolGeometry
from ..resampling import AxisTaps

Array = Any  # the backend's own array type


class Backend:
    """A device: its arrays, and every primitive on them, forward and backward."""

    name = "base"

    # ------------------------------------------------------------------------------------------ arrays

    def owns(self, array: object) -> bool:
        """Whether ``array`` is an array of this device."""
        raise self._missing("owns")

    def from_numpy(self, array: Any) -> Array:
        """Return a device array with the values of a NumPy array (the array itself where that is possible)."""
        raise self._missing("from_numpy")

    def to_numpy(self, array: Array) -> Any:
        """Return a NumPy array with the values of a device array (the array itself where that is possible)."""
        raise self._missing("to_numpy")

    def usable(self, operands: Sequence[object]) -> bool:
        """Whether all of ``operands``, None apart, are arrays that methods take as they are: of one dtype, aligned, in
        native byte order. The path of every call: it then looks at no array again."""
        raise self._missing("usable")

    def may_share_memory(self, a: Array, b: Array) -> bool:
        """Whether writing to ``a`` might change ``b``."""
        raise self._missing("may_share_memory")

    def all_within(self, array: Array, low: int, high: int) -> bool:
        """Whether every element of an array of integers lies in [low, high)."""
        raise self._missing("all_within")

    # ------------------------------------------------------------------------------------- convolution

    def conv_forward(self, x: Array, w: Array, b: Array | None, geometry: ConvGeometry, frozen: bool = False) -> Array:
        """Cross-correlation. x (N, IC, ID, IH, IW), w (OC, IC/G, KD, KH, KW), b (OC,) -> y (N, OC, OD, OH, OW).

        ``frozen``: no gradient of ``w`` will be taken, so what is made of it may be kept for a later call, which must
        see whether ``w`` has changed since. It never changes the result.
        """
        raise self._missing("conv_forward")

    def conv_backward_input(self, dy: Array, w: Array, b: Array | None, geometry: ConvGeometry) -> Array:
        """dy (N, OC, OD, OH, OW), w (OC, IC/G, KD, KH, KW) -> dx (N, IC, ID, IH, IW).

        ``b`` (IC,) is added to every position: it is None for a gradient and the bias when this is the forward
        pass of a transposed convolution. Input positions that no window reaches get the bias alone.
        """
        raise self._missing("conv_backward_input")

    def conv_backward_weight(self, dy: Array, x: Array, geometry: ConvGeometry) -> Array:
        """dy (N, OC, OD, OH, OW), x (N, IC, ID, IH, IW) -> dw (OC, IC/G, KD, KH, KW), summed over N and space."""
        raise self._missing("conv_backward_weight")

    def bias_backward(self, dy: Array) -> Array:
        """dy (N, C, ...) -> db (C,), summed over every other axis."""
        raise self._missing("bias_backward")

    # ----------------------------------------------------------------------------------------- pooling

    def max_pool_forward(self, x: Array, geometry: PoolGeometry, keep: str = "indices") -> tuple[Array, Any]:
        """x (N, C, D, H, W) -> y (N, C, OD, OH, OW), and beside it what ``keep`` says.

        ``"indices"``: int32 or int64, of y's shape. An index is the flat position in the sample's (D, H, W) plane (D
        slowest). The first maximum in that order wins; the first NaN wins over every number.
        ``"winners"``: the same knowledge in any form that ``max_pool_backward`` takes. ``"nothing"``: anything.
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

    def avg_pool_forward(self, x: Array, geometry: PoolGeometry) -> Array:
        """Sum over the windows divided by ``divisor_override``, or by the product of the axes' divisors."""
        raise self._missing("avg_pool_forward")

    def avg_pool_backward(self, dy: Array, geometry: PoolGeometry) -> Array:
        """dy (N, C, OD, OH, OW) -> dx (N, C, D, H, W)."""
        raise self._missing("avg_pool_backward")

    # ------------------------------------------------------------------------------------------- units
    # A convolution with what follows it: an activation ('relu' or None) and a max-pool without overlap, padding or
    # dilation, its sizes rounded down, of at most 254 outputs a window. The unit saves x and the index, not the
    # convolution's output.

    def conv_act_forward(
        self, x: Array, w: Array, b: Array | None, geometry: ConvGeometry, activation: str | None
    ) -> Array:
        """The activation of ``conv_forward``."""
        raise self._missing("conv_act_forward")

    def conv_act_pool_forward(
        self, x: Array, w: Array, b: Array | None, geometry: ConvGeometry, activation: str | None,
        pool_geometry: PoolGeometry,
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

    def linear_forward(self, x: Array, w: Array, b: Array | None, frozen: bool = False) -> Array:
        """x (N, I), w (O, I), b (O,) -> x w^T + b (N, O). ``frozen`` as in ``conv_forward``."""
        raise self._missing("linear_forward")

    def linear_backward_input(self, dy: Array, w: Array) -> Array:
        """dy (N, O), w (O, I) -> dx (N, I)."""
        raise self._missing("linear_backward_input")

    def linear_backward_weight(self, dy: Array, x: Array) -> Array:
        """dy (N, O), x (N, I) -> dw (O, I), summed over N. (``bias_backward`` gives db.)"""
        raise self._missing("linear_backward_weight")

    # ----------------------------------------------------------------------------------- normalisation

    def batch_norm_statistics(self, x: Array) -> tuple[Array, Array]:
        """x (N, C, L) -> mean (C,) and biased variance (C,) over N and L; two passes or as good as two."""
        raise self._missing("batch_norm_statistics")

    def batch_norm_forward(self, x: Array, mean: Array, rstd: Array, weight: Array | None, bias: Array | None) -> Array:
        """(x - mean) * rstd * weight + bias, per channel of x (N, C, L). ``rstd`` is 1 / sqrt(variance + eps)."""
        raise self._missing("batch_norm_forward")

    def batch_norm_backward(
        self, dy: Array, x: Array, mean: Array, rstd: Array, weight: Array | None, training: bool,
        needs: Sequence[bool] = (True, True, True),
    ) -> tuple[Array | None, Array | None, Array | None]:  # fmt: skip
        """-> dx (N, C, L), dweight (C,), dbias (C,), None where ``needs`` says no. In training mean and rstd depend on
        x, else they are constants."""
        raise self._missing("batch_norm_backward")

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

    # ------------------------------------------------------------------------------------- activations

    def relu_forward(self, x: Array) -> Array:
        """max(x, 0); NaN stays NaN."""
        raise self._missing("relu_forward")

    def relu_backward(self, dy: Array, y: Array) -> Array:
        """0 where the output y <= 0 (the subgradient at 0 is 0), else dy: also where y is NaN."""
        raise self._missing("relu_backward")

    def leaky_relu_forward(self, x: Array, negative_slope: float) -> Array:
        """x where x > 0, else negative_slope * x."""
        raise self._missing("leaky_relu_forward")

    def leaky_relu_backward(self, dy: Array, x: Array, negative_slope: float) -> Array:
        """dy where x > 0, else negative_slope * dy."""
        raise self._missing("leaky_relu_backward")

    def sigmoid_forward(self, x: Array) -> Array:
        """1 / (1 + exp(-x)), without overflow."""
        raise self._missing("sigmoid_forward")

    def sigmoid_backward(self, dy: Array, y: Array) -> Array:
        """dy * y * (1 - y)."""
        raise self._missing("sigmoid_backward")

    def tanh_forward(self, x: Array) -> Array:
        """tanh(x)."""
        raise self._missing("tanh_forward")

    def tanh_backward(self, dy: Array, y: Array) -> Array:
        """dy * (1 - y * y)."""
        raise self._missing("tanh_backward")

    def pointwise_forward(self, kind: str, x: Array, a: float = 0.0, b: float = 0.0) -> Array:
        """A function of each element by itself, ``kind`` with its parameters a and b:

        elu (x, or below 0 a * (exp(x / b) - 1)), gelu, gelu_tanh, silu, mish, hardswish, hardsigmoid (a * x + b within
        [0, 1]), softplus (log(1 + exp(a * x)) / a), softsign, clip and hardtanh (within [a, b]), exp, log, sqrt, abs,
        reciprocal, erf, power (x ** a).
        """
        raise self._missing("pointwise_forward")

    def pointwise_backward(self, kind: str, dy: Array, x: Array, a: float = 0.0, b: float = 0.0) -> Array:
        """dy times the slope at x. Where two slopes meet: abs 0, elu the left one, clip 1, hardtanh and hardsigmoid 0,
        hardswish the outer one."""
        raise self._missing("pointwise_backward")

    def softmax_forward(self, x: Array) -> Array:
        """x (N, C, L) -> exp(x - max) / sum over C."""
        raise self._missing("softmax_forward")

    def softmax_backward(self, dy: Array, y: Array) -> Array:
        """dy, y (N, C, L) -> y * (dy - sum(dy * y))."""
        raise self._missing("softmax_backward")

    def log_softmax_forward(self, x: Array) -> Array:
        """x (N, C, L) -> x - max - log(sum(exp(x - max))) over C."""
        raise self._missing("log_softmax_forward")

    def log_softmax_backward(self, dy: Array, y: Array) -> Array:
        """dy, y (N, C, L) -> dy - exp(y) * sum(dy)."""
        raise self._missing("log_softmax_backward")

    # ------------------------------------------------------------------------------------------ losses
    # A loss returns one value a position; reductions are `sum` and a division in functional/loss.py. `dloss` is one
    # value a position, of the loss' shape (it may be broadcast, with zero strides).

    def nll_forward(
        self, log_prob: Array, target: Array, weight: Array | None, ignore_index: int, label_smoothing: float
    ) -> tuple[Array, Array]:
        """Negative log-likelihood. log_prob (N, C, L), target (N, L) int64, weight (C,) -> loss (N, L), scale (N, L).

        ``loss = (1 - s) * weight[t] * -log_prob[t] + s / C * sum_c(weight[c] * -log_prob[c])``, s the label smoothing;
        ``scale = weight[t]`` is what a weighted mean divides by. Both are 0 where ``target == ignore_index``.
        Other targets were checked to lie in [0, C).
        """
        raise self._missing("nll_forward")

    def nll_backward(
        self, dloss: Array, target: Array, channels: int, weight: Array | None, ignore_index: int,
        label_smoothing: float,
    ) -> Array:  # fmt: skip
        """dloss (N, L) -> dlog_prob (N, C, L)."""
        raise self._missing("nll_backward")

    def cross_entropy_forward(
        self, x: Array, target: Array, weight: Array | None, ignore_index: int, label_smoothing: float
    ) -> tuple[Array, Array, Array]:
        """``nll_forward`` of ``log_softmax_forward``: x (N, C, L) -> loss (N, L), scale (N, L), log_prob (N, C, L)."""
        raise self._missing("cross_entropy_forward")

    def cross_entropy_backward(
        self, dloss: Array, log_prob: Array, target: Array, weight: Array | None, ignore_index: int,
        label_smoothing: float,
    ) -> Array:  # fmt: skip
        """dloss (N, L), the saved log_prob (N, C, L) -> dx (N, C, L)."""
        raise self._missing("cross_entropy_backward")

    def mse_forward(self, x: Array, target: Array) -> Array:
        """(x - target)^2, elementwise."""
        raise self._missing("mse_forward")

    def mse_backward(self, dloss: Array, x: Array, target: Array) -> Array:
        """2 * dloss * (x - target); the target's gradient is its negative."""
        raise self._missing("mse_backward")

    def bce_with_logits_forward(self, x: Array, target: Array, weight: Array | None, pos_weight: Array | None) -> Array:
        """weight * (pos_weight * target * softplus(-x) + (1 - target) * softplus(x)), elementwise, without overflow.

        ``weight`` and ``pos_weight`` were broadcast to the shape of ``x``.
        """
        raise self._missing("bce_with_logits_forward")

    def bce_with_logits_backward(
        self, dloss: Array, x: Array, target: Array, weight: Array | None, pos_weight: Array | None
    ) -> Array:
        """The gradient with respect to the logits x."""
        raise self._missing("bce_with_logits_backward")

    # ------------------------------------------------------------------------------------------ shapes

    def add(self, a: Array, b: Array) -> Array:
        """a + b with NumPy broadcasting."""
        raise self._missing("add")

    def subtract(self, a: Array, b: Array) -> Array:
        """a - b with NumPy broadcasting."""
        raise self._missing("subtract")

    def multiply(self, a: Array, b: Array) -> Array:
        """a * b with NumPy broadcasting."""
        raise self._missing("multiply")

    def divide(self, a: Array, b: Array) -> Array:
        """a / b with NumPy broadcasting."""
        raise self._missing("divide")

    def scale(self, a: Array, factor: float) -> Array:
        """a * factor, the factor rounded to a's dtype first."""
        raise self._missing("scale")

    def sum(self, a: Array, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Array:
        """The sum over ``axis`` (None: all axes, a 0-d array), added up in an order that the shape alone decides."""
        raise self._missing("sum")

    def broadcast_to(self, a: Array, shape: Sequence[int]) -> Array:
        """``a`` under NumPy broadcasting: a view with zero strides where the device has them. Never written to."""
        raise self._missing("broadcast_to")

    def reshape(self, a: Array, shape: Sequence[int]) -> Array:
        """The values in logical (C) order under another shape; a view of ``a`` where strides allow."""
        raise self._missing("reshape")

    def permute(self, a: Array, axes: Sequence[int]) -> Array:
        """Axis i is a's axis ``axes[i]``; a view where the device has strides."""
        raise self._missing("permute")

    def maximum(self, a: Array, b: Array) -> Array:
        """The larger of a and b with NumPy broadcasting; NaN where either is."""
        raise self._missing("maximum")

    def extremes(self, a: Array, axis: Sequence[int], largest: bool) -> tuple[Array, Array]:
        """The largest (or smallest) element over ``axis``, kept as axes of size 1, and a mask of a's shape (1 at each
        that equals it, else 0). NaN wins, and only NaN is then in the mask. No axis is empty."""
        raise self._missing("extremes")

    def cat(self, arrays: Sequence[Array], axis: int) -> Array:
        """Concatenate along ``axis`` (0 <= axis)."""
        raise self._missing("cat")

    def pad_forward(self, x: Array, widths: Sequence[tuple[int, int]], mode: str, value: float) -> Array:
        """Pad every axis by (before, after); negative widths crop. Modes: constant, reflect, replicate, circular.

        A crop is made after the padding beside it, but before a circular one.
        """
        raise self._missing("pad_forward")

    def pad_backward(self, dy: Array, shape: Sequence[int], widths: Sequence[tuple[int, int]], mode: str) -> Array:
        """The adjoint: dx of ``shape``, each padded position's gradient added to the element it copied."""
        raise self._missing("pad_backward")

    def dropout_mask(self, shape: Sequence[int], p: float, key: tuple[int, int]) -> Array:
        """bool, True (kept) with probability 1 - p.

        Element ``i`` in logical order is kept where word i (64 bits) of ``numpy.random.Philox(key=key)`` is at least
        ``floor(p * 2**64)``: the same mask on every device (Salmon et al. 2011, Philox4x64-10). p lies in [0, 1).
        """
        raise self._missing("dropout_mask")

    def dropout_apply(self, x: Array, mask: Array, factor: float) -> Array:
        """x * factor where the mask is True, else 0. Its own backward."""
        raise self._missing("dropout_apply")

    # ------------------------------------------------------------------------------------ optimisation

    def steppable(self, params: Sequence[object], grads: Sequence[object]) -> bool:
        """Whether all ``params`` can be written to and each has a gradient of its shape and dtype, ``usable`` arrays
        all of them."""
        raise self._missing("steppable")

    def accumulate(self, into: Array, value: Array) -> None:
        """into += value, in place; the same shape."""
        raise self._missing("accumulate")

    def sgd_step(
        self, params: Sequence[Array], grads: Sequence[Array], buffers: Sequence[Array | None], *, lr: float,
        momentum: float, dampening: float, weight_decay: float, nesterov: bool, first: bool,
    ) -> None:  # fmt: skip
        """In place, as ``torch.optim.SGD``: g += weight_decay * p; buffer = momentum * buffer + (1 - dampening) * g
        (``first``: buffer = g); p -= lr * (g + momentum * buffer if nesterov else buffer). Without momentum the
        buffers are None."""
        raise self._missing("sgd_step")

    def adam_step(
        self, params: Sequence[Array], grads: Sequence[Array], means: Sequence[Array], squares: Sequence[Array], *,
        step: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
    ) -> None:  # fmt: skip
        """In place, as ``torch.optim.Adam`` (``decoupled``: AdamW). ``step`` counts from 1 (Kingma and Ba 2015;
        Loshchilov and Hutter 2019)."""
        raise self._missing("adam_step")

    # ------------------------------------------------------------------------------------------- other

    def explain(self, verb: str, geometry: ConvGeometry, dtype: str) -> str:
        """Say which kernel would run ``verb`` for this geometry, and why."""
        raise self._missing("explain")

    def explain_unit(self, geometry: ConvGeometry, pool_geometry: PoolGeometry, dtype: str) -> str:
        """Say, a line for the forward pass and each gradient, how a unit would run, and why."""
        raise self._missing("explain_unit")

    def _missing(self, method: str) -> DeviceError:
        return DeviceError(f"{method}: expected a backend that implements it, got {self.name!r}")
