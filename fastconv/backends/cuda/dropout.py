"""Dropout: a mask of counter-based random words, the same on every device, and its application."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import launch
from .array import DeviceArray, empty, empty_like

cuda: Any = None
math: Any = None

_word = np.uint64
_M0, _M1 = _word(0xD2E7470EE14C6C93), _word(0xCA5A826395121157)
_W0, _W1 = _word(0x9E3779B97F4A7C15), _word(0xBB67AE8584CAA73B)
_LOW, _HALF = _word(0xFFFFFFFF), _word(32)


def high_word(a: np.uint64, b: np.uint64) -> np.uint64:
    """Return the upper 64 bits of a product of two words.

    >>> int(high_word(np.uint64(2**63), np.uint64(6)))
    3
    """
    a0, a1, b0, b1 = a & _LOW, a >> _HALF, b & _LOW, b >> _HALF
    middle = a1 * b0 + (a0 * b0 >> _HALF)
    other = a0 * b1 + (middle & _LOW)
    return a1 * b1 + (middle >> _HALF) + (other >> _HALF)


@launch.factory
def mask(words: int, held: bool) -> Callable:
    """Philox4x64-10 (Salmon et al. 2011): each counter, from 1 on as NumPy counts, gives four words.

    ``held``: the key lies in memory, for a graph.
    """
    high = launch.inline(high_word)
    zero, one = _word(0), _word(1)

    taken = launch.inline(launch.from_memory if held else launch.as_given)

    def kernel(kept, key, count, key0, key1, threshold):
        key0, key1 = taken(key, 0, key0), taken(key, 1, key1)
        for block in range(cuda.grid(1), (count + words - 1) // words, cuda.gridsize(1)):
            c0, c1, c2, c3 = _word(block) + one, zero, zero, zero
            k0, k1 = key0, key1
            for _ in range(10):
                h0, h1 = high(_M0, c0), high(_M1, c2)
                l0, l1 = _M0 * c0, _M1 * c2
                c0, c1, c2, c3 = h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0
                k0, k1 = k0 + _W0, k1 + _W1
            i = block * words
            kept[i] = c0 >= threshold
            if i + 1 < count:
                kept[i + 1] = c1 >= threshold
            if i + 2 < count:
                kept[i + 2] = c2 >= threshold
            if i + 3 < count:
                kept[i + 3] = c3 >= threshold

    return kernel


def dropout_mask(shape: Sequence[int], p: float, key: tuple[int, int]) -> DeviceArray:
    kept = empty(shape, bool)
    threshold = _word(int(p * 2.0**64))  # exact: the product only moves the exponent
    capture = launch.capture.get()
    held = None if capture is None else capture.numbers("dropout_mask", np.array(key, _word))
    arguments = (kept if held is None else held, kept.size, *map(_word, key), threshold)
    launch.elements("dropout_mask", mask, (4, held is not None), -(-kept.size // 4), kept, *arguments)
    return kept


@launch.factory
def masked(number: type) -> Callable:
    zero = number(0)

    def kernel(y, x, kept, count, factor):
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            y[i] = x[i] * factor if kept[i] else zero

    return kernel


def dropout_apply(x: DeviceArray, mask: DeviceArray, factor: float) -> DeviceArray:
    y, number = empty_like(x), x.dtype.type
    launch.elements("dropout", masked, (number,), x.size, y, x, mask, x.size, number(factor))
    return y
