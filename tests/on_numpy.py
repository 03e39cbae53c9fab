"""A device's backend as the contract tests call it: with NumPy arrays, which travel there and back.

So each test stands once, and says what is computed; what holds of NumPy arrays alone (views, shared memory, which
arrays are usable) is tested with the fixture ``numpy_backend``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any

import numpy as np

from fastconv.backends.base import Backend

# The arguments that a method writes to, by their places.
WRITES = {"accumulate": (0,), "move_towards": (0,), "sgd_step": (0, 2), "adam_step": (0, 2, 3)}


def nested(change: Callable[[Any], Any], value: Any) -> Any:
    """Return ``value`` with ``change`` applied to what lists and tuples hold."""
    if type(value) in (list, tuple):
        return type(value)([nested(change, v) for v in value])
    return change(value)


class OnNumpy:
    """The methods of a backend, on NumPy arrays."""

    def __init__(self, device: Backend) -> None:
        self._device = device

    def _there(self, value: Any) -> Any:
        return self._device.from_numpy(value) if isinstance(value, np.ndarray) else value

    def _back(self, value: Any) -> Any:
        return self._device.to_numpy(value) if self._device.owns(value) else value

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._device, name)
        if not callable(found):
            return found

        @wraps(found)
        def method(*args: Any, **options: Any) -> Any:
            moved = nested(self._there, args)
            result = found(*moved, **nested_values(self._there, options))
            for place in WRITES.get(name, ()):
                write_back(args[place], nested(self._back, moved[place]))
            out = signature(found).bind(*args, **options).arguments.get("out")
            if out is None:
                return nested(self._back, result)
            first, *others = result if isinstance(result, tuple) else (result,)
            write_back(out, self._back(first))
            return (out, *nested(self._back, others)) if others else out

        return method


def nested_values(change: Callable[[Any], Any], options: dict[str, Any]) -> dict[str, Any]:
    return {name: nested(change, value) for name, value in options.items()}


def write_back(target: Any, value: Any) -> None:
    """Copy ``value`` into the array, or the list of arrays and Nones, ``target``."""
    if isinstance(target, list):
        for one, new in zip(target, value, strict=True):
            write_back(one, new)
    elif target is not None:
        target[...] = value
