"""Running a network to look at it, and leaving it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import nn, random
from ..nn.modes import in_mode
from ..tensor import Tensor, no_grad


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Inference mode and no gradients within the block; modes and random streams are as before behind it."""
    streams = random.get_state()
    try:
        with in_mode(model, False), no_grad():
            yield
    finally:
        random.set_state(streams)


def arrays_in(value: Any) -> Iterator[Any]:
    """Yield the arrays in what a module returned, or was given: it may be nested in tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value.data
    elif isinstance(value, (tuple, list)):
        for entry in value:
            yield from arrays_in(entry)
    elif isinstance(value, dict):
        yield from arrays_in(list(value.values()))
    elif isinstance(value, np.ndarray):
        yield value
