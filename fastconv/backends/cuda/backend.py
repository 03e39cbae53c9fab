"""CudaBackend: the table that says which function is which method. No arithmetic here."""

from __future__ import annotations

from ..base import Backend
from . import (
    activation,
    array,
    dropout,
    exchange,
    graphs,
    group_norm,
    launch,
    linear,
    loss,
    memory,
    norm,
    optim,
    plan,
    pointwise,
    pool,
    resample,
    shape,
    stump,
    unit,
)


class CudaBackend(Backend):
    """An NVIDIA GPU; kernels in Numba CUDA.

    Raises:
        DeviceError: numba-cuda, the driver or a GPU is missing or too old; the message says what to install.
    """

    name = "cuda"

    def __init__(self) -> None:
        launch.machine()

    owns = staticmethod(array.owns)
    from_numpy = staticmethod(array.from_numpy)
    to_numpy = staticmethod(array.to_numpy)
    empty = staticmethod(array.empty)
    usable = staticmethod(array.usable)
    steppable = staticmethod(array.steppable)
    may_share_memory = staticmethod(array.may_share_memory)
    all_within = staticmethod(shape.all_within)
    captured = staticmethod(graphs.captured)
    synchronize = staticmethod(launch.synchronize)
    empty_cache = staticmethod(memory.empty_cache)
    adopt = staticmethod(exchange.take_interface)
    from_dlpack = staticmethod(exchange.take_dlpack)

    explain = staticmethod(plan.explain)
    explain_unit = staticmethod(plan.explain_unit)
    conv_forward = staticmethod(plan.conv_forward)
    conv_moments_forward = staticmethod(plan.conv_moments_forward)
    conv_backward_input = staticmethod(plan.conv_backward_input)
    conv_backward_weight = staticmethod(plan.conv_backward_weight)
    bias_backward = staticmethod(norm.bias_backward)

    max_pool_forward = staticmethod(pool.max_pool_forward)
    max_pool_backward = staticmethod(pool.max_pool_backward)
    max_unpool_backward = staticmethod(pool.max_unpool_backward)
    avg_pool_forward = staticmethod(pool.avg_pool_forward)
    avg_pool_backward = staticmethod(pool.avg_pool_backward)

    conv_act_forward = staticmethod(unit.conv_act_forward)
    conv_act_pool_forward = staticmethod(unit.conv_act_pool_forward)
    conv_act_pool_backward = staticmethod(unit.conv_act_pool_backward)

    linear_forward = staticmethod(linear.linear_forward)
    linear_backward_input = staticmethod(linear.linear_backward_input)
    linear_backward_weight = staticmethod(linear.linear_backward_weight)
    matmul = staticmethod(linear.matmul)

    batch_norm_statistics = staticmethod(norm.batch_norm_statistics)
    reciprocal_root = staticmethod(norm.reciprocal_root)
    move_towards = staticmethod(norm.move_towards)
    batch_norm_forward = staticmethod(norm.batch_norm_forward)
    batch_norm_backward = staticmethod(norm.batch_norm_backward)
    group_norm_forward = staticmethod(group_norm.group_norm_forward)
    group_norm_backward = staticmethod(group_norm.group_norm_backward)
    local_response_norm_forward = staticmethod(norm.local_response_norm_forward)
    local_response_norm_backward = staticmethod(norm.local_response_norm_backward)

    resample_forward = staticmethod(resample.resample_forward)
    resample_backward = staticmethod(resample.resample_backward)
    pad_forward = staticmethod(resample.pad_forward)
    pad_backward = staticmethod(resample.pad_backward)

    relu_forward = staticmethod(activation.relu_forward)
    relu_backward = staticmethod(activation.relu_backward)
    leaky_relu_forward = staticmethod(activation.leaky_relu_forward)
    leaky_relu_backward = staticmethod(activation.leaky_relu_backward)
    sigmoid_forward = staticmethod(activation.sigmoid_forward)
    sigmoid_backward = staticmethod(activation.sigmoid_backward)
    tanh_forward = staticmethod(activation.tanh_forward)
    tanh_backward = staticmethod(activation.tanh_backward)
    softmax_forward = staticmethod(activation.softmax_forward)
    softmax_backward = staticmethod(activation.softmax_backward)
    log_softmax_forward = staticmethod(activation.log_softmax_forward)
    log_softmax_backward = staticmethod(activation.log_softmax_backward)
    pointwise_forward = staticmethod(pointwise.pointwise_forward)
    pointwise_backward = staticmethod(pointwise.pointwise_backward)

    nll_forward = staticmethod(loss.nll_forward)
    nll_backward = staticmethod(loss.nll_backward)
    cross_entropy_forward = staticmethod(loss.cross_entropy_forward)
    cross_entropy_backward = staticmethod(loss.cross_entropy_backward)
    mse_forward = staticmethod(loss.mse_forward)
    mse_backward = staticmethod(loss.mse_backward)
    bce_with_logits_forward = staticmethod(loss.bce_with_logits_forward)
    bce_with_logits_backward = staticmethod(loss.bce_with_logits_backward)

    add = staticmethod(shape.add)
    subtract = staticmethod(shape.subtract)
    multiply = staticmethod(shape.multiply)
    divide = staticmethod(shape.divide)
    scale = staticmethod(shape.scale)
    sum = staticmethod(shape.sum_)
    broadcast_to = staticmethod(shape.broadcast_to)
    reshape = staticmethod(shape.reshape)
    permute = staticmethod(shape.permute)
    maximum = staticmethod(shape.maximum)
    power = staticmethod(shape.power)
    power_slope = staticmethod(shape.power_slope)
    power_exponent_slope = staticmethod(shape.power_exponent_slope)
    extremes = staticmethod(shape.extremes)
    matches = staticmethod(shape.matches)
    cat = staticmethod(shape.cat)

    best_splits = staticmethod(stump.best_splits)

    dropout_mask = staticmethod(dropout.dropout_mask)
    dropout_apply = staticmethod(dropout.dropout_apply)

    accumulate = staticmethod(optim.accumulate)
    sgd_step = staticmethod(optim.sgd_step)
    adam_step = staticmethod(optim.adam_step)
