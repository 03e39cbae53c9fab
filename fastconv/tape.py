"""Whether operations are recorded. What records them and walks back is in _tape.pyx, Tensors are in tensor.py."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from functools import wraps

grad_enabled: ContextVar[bool] = ContextVar("fastconv_grad_enabled", default=True)


def is_grad_enabled() -> bool:
    """Return whether operations are being recorded."""
    return grad_enabled.get()


class no_grad:
    """Record nothing within a ``with`` block, or within a decorated function.

    >>> from fastconv import tensor
    >>> x = tensor([1.0], requires_grad=True)
    >>> with no_grad():
    ...     (x * 2.0).requires_grad
    False
    """

    def __init__(self) -> None:
        self._tokens: list[Token[bool]] = []  # one an open block

    def __enter__(self) -> None:
        self._tokens.append(grad_enabled.set(False))

    def __exit__(self, *exception: object) -> None:
        grad_enabled.reset(self._tokens.pop())

    def __call__(self, function: Callable) -> Callable:
        @wraps(function)
        def without_grad(*args, **kwargs):
            with no_grad():
                return function(*args, **kwargs)

        return without_grad
