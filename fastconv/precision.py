"""The compute mode: in which numbers convolutions and linear layers multiply float32 operands.

Arrays stay float32 everywhere, and so do all sums. Which layers take the mode up is decided in backends.
"""

from __future__ import annotations

from contextvars import ContextVar, Token

from . import config
from .errors import ArgumentError, mismatch

_FIRST = config.compute()
_mode: ContextVar[str] = ContextVar("fastconv_compute", default=_FIRST)


def compute_mode() -> str:
    """Return the mode that holds now, in this thread: 'float32', 'bf16' or 'tf32'."""
    return _mode.get()


class compute:
    """Set the compute mode, from now on or for a ``with`` block.

    With 'bf16' convolutions and linear layers may round their float32 operands to bfloat16 (8 bits of precision, ties
    to even) before they multiply them; products are summed in float32. That is twice as fast where the processor has
    such an instruction. Weights, activations and gradients stay float32 arrays, float64 is not concerned, and where
    float32 kernels are as fast (Winograd, layers of few channels) they run as ever: ``explain`` says what does. A
    gradient is computed in the mode of the forward pass. A mode that is set is that of the thread; FASTCONV_COMPUTE
    is the first one of each.

    With 'tf32' a GPU whose tensor cores know TF32 (compute capability 8.0 and newer) may round them to TF32 (11 bits of
    precision, ties away from zero), in the same layers. The CPU, and other GPUs, multiply float32 then: the mode allows
    rounding, it does not ask for it, so that one program runs everywhere.

    Raises:
        ArgumentError: another mode than 'float32', 'bf16' or 'tf32'.

    >>> with compute("bf16"):
    ...     compute_mode()
    'bf16'
    >>> compute_mode()
    'float32'
    """

    def __init__(self, mode: str) -> None:
        self._token: Token[str] = _mode.set(check_mode("compute", mode))

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exception: object) -> None:
        _mode.reset(self._token)


def check_mode(op: str, mode: object) -> str:
    """Return ``mode`` if it is one.

    Raises:
        ArgumentError: it is none.
    """
    if not isinstance(mode, str) or mode not in config.COMPUTE:
        raise ArgumentError(mismatch(op, f"one of {', '.join(config.COMPUTE)}", repr(mode)))
    return mode
