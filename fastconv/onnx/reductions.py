"""Reductions along axes."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np

from .. import functional as F
from .registry import Node, Run, operator
from .values import beside, host, integers, is_float


def _sum_of_squares(x: Any, axes: Any, keep: bool) -> Any:
    return F.sum(F.multiply(x, x), axes, keep)


def _norm1(x: Any, axes: Any, keep: bool) -> Any:
    return F.sum(F.abs(x), axes, keep)


def _norm2(x: Any, axes: Any, keep: bool) -> Any:
    return F.sqrt(_sum_of_squares(x, axes, keep))


def _log_sum(x: Any, axes: Any, keep: bool) -> Any:
    return F.log(F.sum(x, axes, keep))


def _square_total(x: np.ndarray, **options: Any) -> np.ndarray:
    return np.sum(x * x, **options)


def _absolute_total(x: np.ndarray, **options: Any) -> np.ndarray:
    return np.sum(np.abs(x), **options)


def _largest(x: np.ndarray, **options: Any) -> np.ndarray:
    return np.max(x, initial=_limits(x)[0], **options)


def _smallest(x: np.ndarray, **options: Any) -> np.ndarray:
    return np.min(x, initial=_limits(x)[1], **options)


def _limits(x: np.ndarray) -> tuple[Any, Any]:
    """The least and the largest number of an integer type: the extremes of nothing."""
    return (False, True) if x.dtype == bool else (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)


def _reduction(name: str, last: int, floats: Callable, others: Callable | None, empty: float) -> None:
    """Register a reduction. Its axes are an attribute, or in later opsets an input.

    Args:
        floats: a function of x, axes and keepdim. others: NumPy's, for integers. empty: the result of nothing.
    """

    def make(node: Node) -> Run:
        keep, fixed = bool(node.get("keepdims", 1)), node.get("axes")
        nothing = bool(node.get("noop_with_empty_axes", 0))

        def run(x: Any, axes: Any = None) -> Any:
            chosen = integers(axes) if axes is not None else tuple(fixed or ())
            if not chosen:
                chosen = () if nothing else tuple(range(len(x.shape)))
            if not is_float(x):
                return np.asarray(others(host(x), axis=chosen, keepdims=keep)).astype(x.dtype)
            if any(x.shape[i] == 0 for i in chosen):
                shape = np.sum(host(x), axis=chosen, keepdims=keep).shape
                return beside(np.full(shape, empty, x.dtype), x)
            return floats(x, chosen, keep)

        return run

    operator(name, last=last, options=(1,))(make)


_reduction("ReduceSum", 13, F.sum, np.sum, 0.0)
_reduction("ReduceMean", 18, F.mean, np.mean, np.nan)
_reduction("ReduceProd", 18, F.prod, np.prod, 1.0)
_reduction("ReduceMax", 20, F.amax, _largest, -inf)
_reduction("ReduceMin", 20, F.amin, _smallest, inf)
_reduction("ReduceL1", 18, _norm1, _absolute_total, 0.0)
_reduction("ReduceL2", 18, _norm2, None, 0.0)
_reduction("ReduceSumSquare", 18, _sum_of_squares, _square_total, 0.0)
_reduction("ReduceLogSum", 28, _log_sum, None, -inf)
_reduction("ReduceLogSumExp", 28, F.logsumexp, None, -inf)


def _place_of(name: str, largest: bool) -> None:
    def make(node: Node) -> Run:
        axis, keep = node.get("axis", 0), bool(node.get("keepdims", 1))
        last = bool(node.get("select_last_index", 0))
        find = np.argmax if largest else np.argmin

        def run(x: Any) -> Any:
            values = host(x)
            if not last:
                return np.asarray(find(values, axis=axis, keepdims=keep))
            return values.shape[axis] - 1 - find(np.flip(values, axis), axis=axis, keepdims=keep)

        return run

    operator(name, last=13)(make)


_place_of("ArgMax", True)
_place_of("ArgMin", False)
