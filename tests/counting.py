"""A backend that counts the calls of its verbs, to say what a network did not compute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastconv import backends


@contextmanager
def counted() -> Iterator[Counter]:
    """Count what is asked of the backend for NumPy arrays within the block, by the verb's name."""
    calls: Counter = Counter()
    kind = type(backends.for_numpy())

    class Counting(kind):
        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            if not name.startswith("_") and callable(value):
                calls[name] += 1
            return value

    with backends.use(Counting()):
        yield calls
