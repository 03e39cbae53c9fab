"""CpuBackend: the reference backend with every primitive that has a kernel replaced by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...geometry import ConvGeometry
from ..base import Array
from ..reference.backend import ReferenceBackend
from . import (
    activation,
    arithmetic,
    arrays,
    copies,
    dropout,
    group_norm,
    local_response_norm,
    loss,
    moments,
    norm,
    norm_conv,
    optim,
    pad,
    plan,
    pointwise,
    pool,
    reduce,
    resample,
    running,
    runtime,
    softmax,
    stumps,
    unit_plan,
    unpool,
)  # fmt: skip
from .linear import linear_backward_input, linear_backward_weight, linear_forward
from .matmul import matmul


class CpuBackend(ReferenceBackend):
    """NumPy arrays on SIMD kernels; what has no kernel of its own runs as the reference does."""

    name = "cpu"

    def conv_forward(
        self, x: Array, w: Array, b: Array | None, geometry: ConvGeometry, frozen: bool | dict = False
    ) -> Array:
        return plan.choose("conv_forward", geometry, x.itemsize)(x, w, b, geometry, frozen=frozen)

    def conv_backward_input(
        self, dy: Array, w: Array, b: Array | None, geometry: ConvGeometry, residual: Array | None = None,
        gate: Array | None = None, spare: bool = False,
    ) -> Array:  # fmt: skip
        run = plan.choose("conv_backward_input", geometry, dy.itemsize)
        return run(dy, w, b, geometry, residual=residual, gate=gate, spare=spare)

    def conv_backward_weight(self, dy: Array, x: Array, geometry: ConvGeometry) -> Array:
        return plan.choose("conv_backward_weight", geometry, dy.itemsize)(dy, x, geometry)

    explain = staticmethod(plan.explain)

    def conv_act_forward(
        self, x: Array, w: Array, b: Array | None, geometry: ConvGeometry, activation: str | None,
        residual: Array | None = None, frozen: bool | dict = False, out: Array | None = None,
    ) -> Array:  # fmt: skip
        return plan.choose("conv_forward", geometry, x.itemsize)(
            x, w, b, geometry, frozen=frozen, activation=activation, residual=residual, out=out
        )

    def conv_moments_forward(
        self, x: Array, w: Array, b: Array | None, geometry: ConvGeometry, frozen: bool | dict = False
    ) -> tuple[Array, Array, Array]:
        return plan.choose("conv_forward", geometry, x.itemsize)(x, w, b, geometry, frozen=frozen, moments=True)

    def fuses_norm_conv(self, x: Array, geometry: ConvGeometry) -> bool:
        return norm_conv.declines(x, geometry) is None

    def norm_conv_forward(
        self, x: Array, mean: Array, rstd: Array, weight: Array | None, bias: Array | None, w: Array, b: Array | None,
        geometry: ConvGeometry, moments: bool, frozen: bool | dict = False,
    ) -> tuple[Array, Array | None, Array | None]:  # fmt: skip
        taken = self.fuses_norm_conv(x, geometry)
        run = norm_conv.norm_conv_forward if taken else super().norm_conv_forward
        return run(x, mean, rstd, weight, bias, w, b, geometry, moments, frozen)

    def norm_conv_backward_weight(
        self, dy: Array, x: Array, mean: Array, rstd: Array, weight: Array | None, bias: Array | None,
        geometry: ConvGeometry,
    ) -> Array:  # fmt: skip
        taken = self.fuses_norm_conv(x, geometry) and norm_conv.lies_in_rows(dy)
        run = norm_conv.norm_conv_backward_weight if taken else super().norm_conv_backward_weight
        return run(dy, x, mean, rstd, weight, bias, geometry)

    def norm_conv_backward_input(
        self, dy: Array, w: Array, x: Array, mean: Array, rstd: Array, weight: Array | None, bias: Array | None,
        geometry: ConvGeometry, residual: Array | None = None, out: Array | None = None,
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        arrays = dy, *(array for array in (residual, out) if array is not None)
        taken = self.fuses_norm_conv(x, geometry) and all(norm_conv.lies_in_rows(array) for array in arrays)
        run = norm_conv.norm_conv_backward_input if taken else super().norm_conv_backward_input
        return run(dy, w, x, mean, rstd, weight, bias, geometry, residual, out)

    batch_norm_settle = staticmethod(norm.batch_norm_settle)

    conv_act_pool_forward = staticmethod(unit_plan.conv_act_pool_forward)
    conv_act_pool_backward = staticmethod(unit_plan.conv_act_pool_backward)
    explain_unit = staticmethod(unit_plan.explain)

    linear_forward = staticmethod(linear_forward)
    linear_backward_input = staticmethod(linear_backward_input)
    linear_backward_weight = staticmethod(linear_backward_weight)

    relu_forward = staticmethod(activation.relu_forward)
    relu_backward = staticmethod(activation.relu_backward)
    leaky_relu_forward = staticmethod(activation.leaky_relu_forward)
    leaky_relu_backward = staticmethod(activation.leaky_relu_backward)
    sigmoid_forward = staticmethod(activation.sigmoid_forward)
    sigmoid_backward = staticmethod(activation.sigmoid_backward)
    tanh_forward = staticmethod(activation.tanh_forward)
    tanh_backward = staticmethod(activation.tanh_backward)

    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        return runtime.empty(tuple(shape), dtype, "channels_last")

    def pointwise_forward(self, kind: str, x: Array, a: float = 0.0, b: float = 0.0) -> Array:
        return (pointwise if pointwise.has_kernel(kind) else super()).pointwise_forward(kind, x, a, b)

    def pointwise_backward(self, kind: str, dy: Array, x: Array, a: float = 0.0, b: float = 0.0) -> Array:
        return (pointwise if pointwise.has_kernel(kind) else super()).pointwise_backward(kind, dy, x, a, b)

    broadcast_to = staticmethod(arrays.broadcast_to)
    usable = staticmethod(arrays.usable)
    steppable = staticmethod(arrays.steppable)
    may_share_memory = staticmethod(arrays.may_share_memory)
    all_within = staticmethod(arrays.all_within)

    add = staticmethod(arithmetic.add)
    subtract = staticmethod(arithmetic.subtract)
    multiply = staticmethod(arithmetic.multiply)
    divide = staticmethod(arithmetic.divide)
    scale = staticmethod(arithmetic.scale)
    maximum = staticmethod(arithmetic.maximum)
    power = staticmethod(arithmetic.power)
    power_slope = staticmethod(arithmetic.power_slope)
    power_exponent_slope = staticmethod(arithmetic.power_exponent_slope)
    matmul = staticmethod(matmul)
    accumulate = staticmethod(arithmetic.accumulate)

    best_splits = staticmethod(stumps.best_splits)

    sgd_step = staticmethod(optim.sgd_step)
    adam_step = staticmethod(optim.adam_step)

    max_pool_forward = staticmethod(pool.max_pool_forward)
    max_pool_backward = staticmethod(pool.max_pool_backward)
    max_unpool_backward = staticmethod(unpool.max_unpool_backward)
    avg_pool_forward = staticmethod(pool.avg_pool_forward)
    avg_pool_backward = staticmethod(pool.avg_pool_backward)

    softmax_forward = staticmethod(softmax.softmax_forward)
    softmax_backward = staticmethod(softmax.softmax_backward)
    log_softmax_forward = staticmethod(softmax.log_softmax_forward)
    log_softmax_backward = staticmethod(softmax.log_softmax_backward)

    nll_forward = staticmethod(loss.nll_forward)
    nll_backward = staticmethod(loss.nll_backward)
    cross_entropy_forward = staticmethod(loss.cross_entropy_forward)
    cross_entropy_backward = staticmethod(loss.cross_entropy_backward)
    mse_forward = staticmethod(loss.mse_forward)
    mse_backward = staticmethod(loss.mse_backward)
    bce_with_logits_forward = staticmethod(loss.bce_with_logits_forward)
    bce_with_logits_backward = staticmethod(loss.bce_with_logits_backward)

    cat = staticmethod(copies.cat)
    reshape = staticmethod(copies.reshape)

    pad_forward = staticmethod(pad.pad_forward)

    def pad_backward(self, dy: Array, shape: Sequence[int], widths: Sequence[tuple[int, int]], mode: str) -> Array:
        dx = pad.pad_backward(dy, shape, widths, mode)
        return super().pad_backward(dy, shape, widths, mode) if dx is None else dx

    resample_forward = staticmethod(resample.resample_forward)
    resample_backward = staticmethod(resample.resample_backward)

    local_response_norm_forward = staticmethod(local_response_norm.local_response_norm_forward)
    local_response_norm_backward = staticmethod(local_response_norm.local_response_norm_backward)

    sum = staticmethod(reduce.sum_)
    extremes = staticmethod(reduce.extremes)
    matches = staticmethod(reduce.matches)
    bias_backward = staticmethod(reduce.bias_backward)

    batch_norm_statistics = staticmethod(moments.batch_norm_statistics)
    reciprocal_root = staticmethod(running.reciprocal_root)
    move_towards = staticmethod(running.move_towards)
    batch_norm_forward = staticmethod(norm.batch_norm_forward)
    batch_norm_backward = staticmethod(norm.batch_norm_backward)
    group_norm_forward = staticmethod(group_norm.group_norm_forward)
    group_norm_backward = staticmethod(group_norm.group_norm_backward)

    dropout_mask = staticmethod(dropout.dropout_mask)
    dropout_apply = staticmethod(dropout.dropout_apply)
