"""The exceptions that fastconv raises, and the one format of their messages.

Every message reads ``operation: expected <what>, got <what>``: the argument, what was wanted, what came.
Each class also derives from the built-in exception that a Python user would expect to catch.
"""

from __future__ import annotations


class FastconvError(Exception):
    """Base of everything that fastconv raises on purpose."""


class ShapeError(FastconvError, ValueError):
    """A size, rank or shape that does not fit the operation."""


class DTypeError(FastconvError, TypeError):
    """A dtype, or a value of a type, that the operation does not take, or dtypes that differ where they must agree."""


class ArgumentError(FastconvError, ValueError):
    """An option whose value is not one of those that the operation knows."""


class DeviceError(FastconvError, RuntimeError):
    """A device that is missing, or operands that live on different devices."""


class GraphError(FastconvError, RuntimeError):
    """A gradient that cannot be had (nothing was recorded, or it was freed), or a network that cannot be traced."""


class DataError(FastconvError, ValueError):
    """A data file or data set that is missing, damaged or not what it claims to be."""


class OperatorError(FastconvError, NotImplementedError):
    """An operator that a network needs, or a use of it, for which there is no counterpart on the other side."""


class CheckpointError(FastconvError, RuntimeError):
    """A checkpoint or weight file that is missing, damaged or does not fit the model."""


def mismatch(op: str, expected: object, actual: object) -> str:
    """Return the one message format: ``op: expected ..., got ...``.

    >>> mismatch("conv2d", "groups >= 1", 0)
    'conv2d: expected groups >= 1, got 0'
    """
    return f"{op}: expected {expected}, got {actual}"
