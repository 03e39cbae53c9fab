"""Losses."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from .registry import Node, Run, operator
from .values import host

_NO_CLASS = -(2**63)  # where the file ignores none


@operator("NegativeLogLikelihoodLoss", last=22)
def nll_loss(node: Node) -> Run:
    reduction = node.choice("reduction", "mean", "mean", "sum", "none")
    ignored = node.get("ignore_index", _NO_CLASS)

    def run(x: Any, target: Any, weight: Any = None) -> Any:
        return F.nll_loss(x, host(target), weight, ignore_index=ignored, reduction=reduction)

    return run


@operator("SoftmaxCrossEntropyLoss", last=13)
def cross_entropy(node: Node) -> Run:
    reduction = node.choice("reduction", "mean", "mean", "sum", "none")
    ignored, with_logarithms = node.get("ignore_index", _NO_CLASS), node.has_output(1)

    def run(x: Any, target: Any, weight: Any = None) -> Any:
        options = {"ignore_index": ignored, "reduction": reduction}
        if not with_logarithms:
            return F.cross_entropy(x, host(target), weight, **options)
        logarithms = F.log_softmax(x, 1)
        return F.nll_loss(logarithms, host(target), weight, **options), logarithms

    return run
