"""ReferenceBackend: the table that says which function is which method. No arithmetic here."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from ...geometry import ConvGeometry, PoolGeometry
from ..base import Backend
from . import activation, arrays, conv, dropout, linear, loss, norm, optim, pointwise, pool, resample, shape, unit
from .stump import best_splits


def _ieee(function: Callable) -> Any:
    """Make a method of a function. Infinities and NaN are results, not warnings, as in compiled kernels."""

    @wraps(function)
    def method(*args, **kwargs):
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return staticmethod(method)


class ReferenceBackend(Backend):
    """Plain NumPy: slow, short and exact to the last rounding."""

    name = "reference"

    def owns(self, array: object) -> bool:
        return isinstance(array, np.ndarray)

    def from_numpy(self, array: np.ndarray) -> np.ndarray:
        return array

    def to_numpy(self, array: np.ndarray) -> np.ndarray:
        return array

    empty = staticmethod(arrays.empty)
    usable = staticmethod(arrays.usable)
    steppable = staticmethod(arrays.steppable)
    captured = staticmethod(arrays.captured)
    may_share_memory = staticmethod(arrays.may_share_memory)
    all_within = staticmethod(arrays.all_within)

    def explain(self, verb: str, geometry: ConvGeometry, dtype: str) -> str:
        return f"{verb}: reference, a NumPy loop over the taps of the kernel {geometry.kernel} in float64"

    def explain_unit(self, geometry: ConvGeometry, pool_geometry: PoolGeometry, dtype: str) -> str:
        return "conv_act_pool_forward, conv_act_pool_backward: reference, the verbs that they are made of"

    conv_forward = _ieee(conv.conv_forward)
    conv_backward_input = _ieee(conv.conv_backward_input)
    conv_backward_weight = _ieee(conv.conv_backward_weight)
    bias_backward = _ieee(conv.bias_backward)

    max_pool_forward = _ieee(pool.max_pool_forward)
    max_pool_backward = _ieee(pool.max_pool_backward)
    max_unpool_backward = _ieee(pool.max_unpool_backward)
    avg_pool_forward = _ieee(pool.avg_pool_forward)
    avg_pool_backward = _ieee(pool.avg_pool_backward)

    conv_act_forward = _ieee(unit.conv_act_forward)
    conv_moments_forward = _ieee(unit.conv_moments_forward)
    conv_act_pool_forward = _ieee(unit.conv_act_pool_forward)
    conv_act_pool_backward = _ieee(unit.conv_act_pool_backward)

    linear_forward = _ieee(linear.linear_forward)
    linear_backward_input = _ieee(linear.linear_backward_input)
    linear_backward_weight = _ieee(linear.linear_backward_weight)
    matmul = _ieee(linear.matmul)

    batch_norm_statistics = _ieee(norm.batch_norm_statistics)
    reciprocal_root = _ieee(norm.reciprocal_root)
    move_towards = _ieee(norm.move_towards)
    batch_norm_forward = _ieee(norm.batch_norm_forward)
    batch_norm_backward = _ieee(norm.batch_norm_backward)
    group_norm_forward = _ieee(norm.group_norm_forward)
    group_norm_backward = _ieee(norm.group_norm_backward)

    local_response_norm_forward = _ieee(norm.local_response_norm_forward)
    local_response_norm_backward = _ieee(norm.local_response_norm_backward)

    resample_forward = _ieee(resample.resample_forward)
    resample_backward = _ieee(resample.resample_backward)

    relu_forward = _ieee(activation.relu_forward)
    relu_backward = _ieee(activation.relu_backward)
    leaky_relu_forward = _ieee(activation.leaky_relu_forward)
    leaky_relu_backward = _ieee(activation.leaky_relu_backward)
    sigmoid_forward = _ieee(activation.sigmoid_forward)
    sigmoid_backward = _ieee(activation.sigmoid_backward)
    tanh_forward = _ieee(activation.tanh_forward)
    tanh_backward = _ieee(activation.tanh_backward)
    pointwise_forward = _ieee(pointwise.pointwise_forward)
    pointwise_backward = _ieee(pointwise.pointwise_backward)
    softmax_forward = _ieee(activation.softmax_forward)
    softmax_backward = _ieee(activation.softmax_backward)
    log_softmax_forward = _ieee(activation.log_softmax_forward)
    log_softmax_backward = _ieee(activation.log_softmax_backward)

    nll_forward = _ieee(loss.nll_forward)
    nll_backward = _ieee(loss.nll_backward)
    cross_entropy_forward = _ieee(loss.cross_entropy_forward)
    cross_entropy_backward = _ieee(loss.cross_entropy_backward)
    mse_forward = _ieee(loss.mse_forward)
    mse_backward = _ieee(loss.mse_backward)
    bce_with_logits_forward = _ieee(loss.bce_with_logits_forward)
    bce_with_logits_backward = _ieee(loss.bce_with_logits_backward)

    add = _ieee(shape.add)
    subtract = _ieee(shape.subtract)
    multiply = _ieee(shape.multiply)
    divide = _ieee(shape.divide)
    scale = _ieee(shape.scale)
    sum = _ieee(shape.sum_)
    broadcast_to = _ieee(shape.broadcast_to)
    reshape = _ieee(shape.reshape)
    permute = _ieee(shape.permute)
    power = _ieee(shape.power)
    power_slope = _ieee(shape.power_slope)
    power_exponent_slope = _ieee(shape.power_exponent_slope)
    maximum = _ieee(shape.maximum)
    extremes = _ieee(shape.extremes)
    matches = _ieee(shape.matches)
    cat = _ieee(shape.cat)
    pad_forward = _ieee(shape.pad_forward)
    pad_backward = _ieee(shape.pad_backward)

    dropout_mask = _ieee(dropout.dropout_mask)
    dropout_apply = _ieee(dropout.dropout_apply)

    best_splits = _ieee(best_splits)

    accumulate = _ieee(optim.accumulate)
    sgd_step = _ieee(optim.sgd_step)
    adam_step = _ieee(optim.adam_step)
