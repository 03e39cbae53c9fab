"""Initial values for parameters. Every function fills its Tensor (or array) in place and returns it.

Values are drawn in float64 from the stream of ``fastconv.manual_seed`` and rounded, so float32 and float64 networks of
one seed start alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod, sqrt
from typing import Any

import numpy as np

from . import random
from .arguments import number
from .errors import ArgumentError, ShapeError, mismatch
from .tensor import Tensor, converted

_GAINS = {
    "linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "conv_transpose1d": 1.0, "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": sqrt(2.0), "selu": 0.75,
}  # fmt: skip


_skipping: ContextVar[bool] = ContextVar("fastconv_init_skipping", default=False)


@contextmanager
def skip() -> Iterator[None]:
    """Inside, nothing is filled: new layers hold whatever their memory held. For networks whose weights are loaded.

    >>> from fastconv import nn
    >>> with skip():
    ...     layer = nn.Linear(4096, 4096)
    >>> layer.weight.shape
    (4096, 4096)
    """
    token = _skipping.set(True)
    try:
        yield
    finally:
        _skipping.reset(token)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor that keeps the variance through a nonlinearity; ``param`` is leaky_relu's slope (0.01).

    >>> calculate_gain("tanh")
    1.6666666666666667
    """
    if nonlinearity == "leaky_relu":
        return sqrt(2 / (1 + (0.01 if param is None else number("calculate_gain", "param", param)) ** 2))
    if not isinstance(nonlinearity, str) or nonlinearity not in _GAINS:
        raise ArgumentError(
            mismatch("calculate_gain", f"one of {', '.join(sorted([*_GAINS, 'leaky_relu']))}", repr(nonlinearity))
        )
    return _GAINS[nonlinearity]


def fans(tensor: Any) -> tuple[int, int]:
    """Return fan-in and fan-out of a weight (O, I, *): the inputs, and outputs, of one unit."""
    shape = _shape(tensor)
    if len(shape) < 2 or 0 in shape:
        raise ShapeError(mismatch("init", "a weight of at least two axes, none empty", f"shape {tuple(shape)}"))
    field = prod(shape[2:])
    return shape[1] * field, shape[0] * field


def _shape(tensor: Any) -> tuple[int, ...]:
    """Return the shape of what is to be filled, or raise where it cannot be."""
    data = tensor.data if isinstance(tensor, Tensor) else tensor
    if (
        not hasattr(data, "dtype")
        or isinstance(data, np.generic)
        or (isinstance(data, np.ndarray) and not data.flags.writeable)
    ):
        raise ArgumentError(mismatch("init", "a Tensor or an array that can be written to", type(data).__name__))
    return tuple(data.shape)


_BLOCK = 1 << 20  # numbers drawn at once: what float64 takes beside a large float32 array


def _fill(tensor: Any, draw: Callable[[int], np.ndarray | float]) -> Any:
    """Fill, in C order, with what ``draw(count)`` gives."""
    shape = _shape(tensor)
    if _skipping.get():
        return tensor
    data = tensor.data if isinstance(tensor, Tensor) else tensor
    host = data if isinstance(data, np.ndarray) and data.flags.c_contiguous else np.empty(shape, data.dtype)
    flat = host.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        block[...] = draw(block.size)
    if isinstance(data, np.ndarray):
        if host is not data:
            data[...] = host
    else:
        tensor.data = converted(host, tensor.device)
    return tensor


def uniform_(tensor: Any, a: float = 0.0, b: float = 1.0) -> Any:
    """Fill from the uniform distribution over [a, b)."""
    a, b = number("uniform_", "a", a), number("uniform_", "b", b, a)
    return _fill(tensor, lambda count: random.generator().uniform(a, b, count))


def normal_(tensor: Any, mean: float = 0.0, std: float = 1.0) -> Any:
    """Fill from the normal distribution."""
    mean, std = number("normal_", "mean", mean), number("normal_", "std", std, 0)
    return _fill(tensor, lambda count: random.generator().normal(mean, std, count))


def trunc_normal_(tensor: Any, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Any:
    """Fill from the normal distribution cut off at ``a`` and ``b``: what falls outside is drawn again.

    Raises:
        ArgumentError: an interval beyond four standard deviations of the mean, where hardly anything falls.
    """
    op = "trunc_normal_"
    mean, std = number(op, "mean", mean), number(op, "std", std, 0)
    a, b = number(op, "a", a), number(op, "b", b)
    if not a < b or max(a - mean, mean - b) > 4 * std:
        raise ArgumentError(mismatch(op, f"a < b within 4 std {std} of mean {mean}", f"{a}, {b}"))

    def draw(count: int) -> np.ndarray:
        generator = random.generator()
        values = generator.normal(mean, std, count)
        while (outside := (values < a) | (values > b)).any():
            values[outside] = generator.normal(mean, std, np.count_nonzero(outside))
        return values

    return _fill(tensor, draw)


def constant_(tensor: Any, val: float) -> Any:
    """Fill with one value."""
    val = number("constant_", "val", val)
    return _fill(tensor, lambda count: val)


def zeros_(tensor: Any) -> Any:
    """Fill with 0."""
    return constant_(tensor, 0.0)


def ones_(tensor: Any) -> Any:
    """Fill with 1."""
    return constant_(tensor, 1.0)


def _kaiming_std(tensor: Any, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(mismatch("kaiming", "mode to be 'fan_in' or 'fan_out'", repr(mode)))
    return calculate_gain(nonlinearity, a) / sqrt(fans(tensor)[mode == "fan_out"])


def kaiming_uniform_(tensor: Any, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Any:
    """Fill uniformly such that variance lasts through rectifiers (He et al. 2015, https://arxiv.org/abs/1502.01852)."""
    bound = sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor: Any, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Any:
    """Fill normally such that variance lasts through rectifiers (He et al. 2015)."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity))


def xavier_uniform_(tensor: Any, gain: float = 1.0) -> Any:
    """Fill uniformly with the variance 2 / (fan-in + fan-out) * gain**2 (Glorot and Bengio 2010,
    https://proceedings.mlr.press/v9/glorot10a.html)."""
    bound = number("xavier_uniform_", "gain", gain, 0) * sqrt(6.0 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Any, gain: float = 1.0) -> Any:
    """Fill normally with the variance 2 / (fan-in + fan-out) * gain**2 (Glorot and Bengio 2010)."""
    return normal_(tensor, 0.0, number("xavier_normal_", "gain", gain, 0) * sqrt(2.0 / sum(fans(tensor))))
