"""Power-average pooling: the p-norm of each window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..arguments import number
from ._common import RANKS, named
from .arithmetic import multiply
from .pointwise import abs, pow, sqrt
from .pool import avg_pool1d, avg_pool2d, avg_pool3d

_SUMS = {1: avg_pool1d, 2: avg_pool2d, 3: avg_pool3d}


def _lp_pool(rank: int) -> Callable:
    op = f"lp_pool{rank}d"

    def lp_pool(
        input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False, padding: Any = 0,
        dilation: Any = 1,
    ) -> Any:  # fmt: skip
        p = number(op, "norm_type", norm_type, 1, 1e300)
        powers = abs(input) if p == 1 else multiply(input, input) if p == 2 else pow(abs(input), p)
        total = _SUMS[rank](powers, kernel_size, stride, padding, ceil_mode, True, 1, dilation)
        return total if p == 1 else sqrt(total) if p == 2 else pow(total, 1 / p)

    lp_pool.__doc__ = f"""Return the ``norm_type``-norm of each window of {rank}-D ``input``: ``sum(|x|**p)**(1/p)``.

    torch's keeps the sign of x where p is odd, and scales windows that ``ceil_mode`` cuts; these are norms.

    Args:
        input: (N, C, {rank} sizes), or without N.
        norm_type: p, at least 1.
        kernel_size, stride, ceil_mode, padding, dilation: as ``max_pool{rank}d``; padding counts as zeros.

    >>> import numpy as np
    >>> {op}(np.array([3.0, 4.0]).reshape(1, 1{", 1" * (rank - 1)}, 2), 2, {"(" + "1, " * (rank - 1) + "2,)"})
    array({"[" * (rank + 2)}5.{"]" * (rank + 2)})
    """
    return named(lp_pool, op)


lp_pool1d, lp_pool2d, lp_pool3d = map(_lp_pool, RANKS)
