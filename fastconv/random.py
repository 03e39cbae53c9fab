"""The process' random streams: one for initial parameters, one key a dropout mask. Data order has its own counters.

Both derive from one seed, so ``manual_seed`` makes a run repeat bit for bit; the state is plain JSON, so that a
checkpoint can carry it.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np

from .errors import ArgumentError, mismatch

_lock = Lock()
_seed = 0
_masks = 0  # dropout masks drawn since the seed was set
_parameters = np.random.Generator(np.random.Philox(_seed))


def manual_seed(seed: int) -> None:
    """Restart every stream from ``seed`` (0 <= seed < 2**64). A process starts as if with seed 0.

    >>> manual_seed(1)
    >>> first = generator().random()
    >>> manual_seed(1)
    >>> generator().random() == first
    True
    """
    global _seed, _masks, _parameters
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
        raise ArgumentError(mismatch("manual_seed", "an integer seed in [0, 2**64)", repr(seed)))
    seed = int(seed)
    with _lock:
        _seed, _masks = seed, 0
        _parameters = np.random.Generator(np.random.Philox(seed))


def initial_seed() -> int:
    """Return the seed of the streams."""
    return _seed


def generator() -> np.random.Generator:
    """Return the stream that initial parameters are drawn from."""
    return _parameters


def dropout_key() -> tuple[int, int]:
    """Return a fresh key ``(seed, counter)`` for one dropout mask."""
    global _masks
    with _lock:
        _masks += 1
        return _seed, _masks


def get_state() -> dict[str, Any]:
    """Return where every stream stands, as a dict of plain numbers, strings and lists."""
    with _lock:
        return {"seed": _seed, "masks": _masks, "parameters": _plain(_parameters.bit_generator.state)}


def set_state(state: dict[str, Any]) -> None:
    """Continue from a state that ``get_state`` returned.

    Raises:
        ArgumentError: it is not such a state; nothing has changed then.
    """
    global _seed, _masks, _parameters
    stream = np.random.Philox()
    try:
        seed, masks = int(state["seed"]), int(state["masks"])
        stream.state = state["parameters"]
    except (KeyError, TypeError, ValueError) as error:
        raise ArgumentError(mismatch("set_state", "a state from get_state", repr(error))) from None
    with _lock:
        _seed, _masks, _parameters = seed, masks, np.random.Generator(stream)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value
