"""Functions of one variable and their gradients, in the memory order of x."""

from fastconv.backends.cpu._csrc cimport (
    FC_POINTWISE_elu, FC_POINTWISE_gelu, FC_POINTWISE_gelu_tanh, FC_POINTWISE_silu, FC_POINTWISE_mish,
    FC_POINTWISE_hardswish, FC_POINTWISE_hardsigmoid, FC_POINTWISE_softplus, FC_POINTWISE_softsign,
    FC_POINTWISE_clip, FC_POINTWISE_hardtanh, FC_POINTWISE_exp, FC_POINTWISE_log, FC_POINTWISE_sqrt,
    FC_POINTWISE_abs, FC_POINTWISE_reciprocal, FC_POINTWISE_erf, FC_POINTWISE_power,
)
from fastconv.backends.cpu.elementwise cimport run_map, table

cdef dict KINDS = {
    "elu": FC_POINTWISE_elu, "gelu": FC_POINTWISE_gelu, "gelu_tanh": FC_POINTWISE_gelu_tanh,
    "silu": FC_POINTWISE_silu, "mish": FC_POINTWISE_mish, "hardswish": FC_POINTWISE_hardswish,
    "hardsigmoid": FC_POINTWISE_hardsigmoid, "softplus": FC_POINTWISE_softplus, "softsign": FC_POINTWISE_softsign,
    "clip": FC_POINTWISE_clip, "hardtanh": FC_POINTWISE_hardtanh, "exp": FC_POINTWISE_exp, "log": FC_POINTWISE_log,
    "sqrt": FC_POINTWISE_sqrt, "abs": FC_POINTWISE_abs, "reciprocal": FC_POINTWISE_reciprocal,
    "erf": FC_POINTWISE_erf, "power": FC_POINTWISE_power,
}


def has_kernel(str kind):
    """Whether ``kind`` runs here."""
    return kind in KINDS


def pointwise_forward(str kind, x, double a=0.0, double b=0.0):
    """See ``Backend.pointwise_forward``."""
    if kind == "power":
        b = a
    return run_map(table(x).pointwise_forward, (x,), 0, a, None, b, KINDS[kind])


def pointwise_backward(str kind, dy, x, double a=0.0, double b=0.0):
    """See ``Backend.pointwise_backward``."""
    if kind == "power":
        b = a - 1 if a else 0.0
    return run_map(table(x).pointwise_backward, (dy, x), 1, a, None, b, KINDS[kind])
