"""Which kernel runs: the candidates of each direction."""

from __future__ import annotations

from ...geometry import ConvGeometry, PoolGeometry
from .naive import conv_backward_input, conv_backward_weight, conv_forward

__all__ = ["conv_backward_input", "conv_backward_weight", "conv_forward", "explain", "explain_unit"]


def explain(verb: str, geometry: ConvGeometry, dtype: str) -> str:
    return f"{verb}: naive ({dtype}, {geometry.flops / 1e6:.4g} MFLOP)"


def explain_unit(geometry: ConvGeometry, pool_geometry: PoolGeometry, dtype: str) -> str:
    return "conv_act_pool_forward, conv_act_pool_backward: the verbs that they are made of"
