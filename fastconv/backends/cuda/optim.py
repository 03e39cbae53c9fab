"""Optimiser steps, in place and in the parameters' own dtype, with PyTorch's formulas: one launch for all parameters.

Kernels reach the arrays through a table of addresses on the device. It is kept while the addresses stay the same, as
they do in training, where each step takes the same memory from the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np

from . import graphs, launch
from .array import DeviceArray

cuda: Any = None
math: Any = None

_CHUNK = 8192  # elements of a parameter that a block works on


@launch.factory
def accumulation(number: type) -> Callable:
    def kernel(into, value, count):
        for i in range(cuda.grid(1), count, cuda.gridsize(1)):
            into[i] += value[i]

    return kernel


def accumulate(into: DeviceArray, value: DeviceArray) -> None:
    launch.elements("accumulate", accumulation, (into.dtype.type,), into.size, into, value, into.size)


@lru_cache(maxsize=64)
def _table(addresses: tuple[tuple[int, ...], ...], sizes: tuple[int, ...], _machine: launch.Machine) -> DeviceArray:
    """Return a row for each chunk of a parameter: the arrays' addresses, where it starts and ends."""
    rows = [
        (*each, start, min(start + _CHUNK, size))
        for each, size in zip(addresses, sizes, strict=True)
        for start in range(0, size, _CHUNK)
    ]
    return graphs.constant(np.array(rows, np.int64))


def _step(op: str, make: Callable, key: tuple, lists: Sequence[Sequence[DeviceArray]], *numbers: Any) -> None:
    """Start a kernel over the chunks of arrays that belong together, parameters first; empty ones are left out.

    A graph keeps the numbers in memory, and renews them there without starting anything.
    """
    together = [arrays for arrays in zip(*lists, strict=True) if arrays[0].size]
    if together:
        addresses = tuple(tuple(array.address for array in arrays) for arrays in together)
        held, capture = None, launch.capture.get()
        if capture is not None:
            held = capture.numbers((op, key, addresses), np.array(numbers, key[0]))
            if held is None:
                return
            capture.keep(lists)
        table = _table(addresses, tuple(arrays[0].size for arrays in together), launch.machine())
        rates = table if held is None else held
        launch.blocks(op, make, (*key, held is not None), len(table), launch.threads(), table, rates, *numbers)


@launch.factory
def sgd(number: type, momentum: bool, nesterov: bool, first: bool, held: bool) -> Callable:
    load, store = launch.by_address(number)
    taken = launch.inline(launch.from_memory if held else launch.as_given)
    columns = 5 if momentum else 4

    def kernel(table, rates, lr, share, fresh, decay):
        lr, share = taken(rates, 0, lr), taken(rates, 1, share)
        fresh, decay = taken(rates, 2, fresh), taken(rates, 3, decay)
        row = cuda.blockIdx.x * columns
        param, grad, buffer = table[row], table[row + 1], table[row + 2]
        for i in range(table[row + columns - 2] + cuda.threadIdx.x, table[row + columns - 1], cuda.blockDim.x):
            p = load(param, i)
            g = load(grad, i) + decay * p
            if momentum:
                moved = g if first else share * load(buffer, i) + fresh * g
                store(buffer, i, moved)
                g = g + share * moved if nesterov else moved
            store(param, i, p - lr * g)

    return kernel


def sgd_step(
    params: Sequence[DeviceArray], grads: Sequence[DeviceArray], buffers: Sequence[DeviceArray | None], *, lr: float,
    momentum: float, dampening: float, weight_decay: float, nesterov: bool, first: bool,
) -> None:  # fmt: skip
    for number in dict.fromkeys(p.dtype.type for p in params):
        chosen = [i for i, p in enumerate(params) if p.dtype.type is number]
        has = bool(chosen) and buffers[chosen[0]] is not None
        lists = [[arrays[i] for i in chosen] for arrays in (params, grads, *([buffers] if has else []))]
        numbers = (number(n) for n in (lr, momentum, 1.0 - dampening, weight_decay))
        _step("sgd_step", sgd, (number, has, has and nesterov, has and first), lists, *numbers)


@launch.factory
def adam(number: type, decoupled: bool, held: bool) -> Callable:
    load, store = launch.by_address(number)
    taken = launch.inline(launch.from_memory if held else launch.as_given)

    def kernel(table, rates, rate, correction, beta2, fresh1, fresh2, eps, decay, kept):
        rate, correction, beta2 = taken(rates, 0, rate), taken(rates, 1, correction), taken(rates, 2, beta2)
        fresh1, fresh2, eps = taken(rates, 3, fresh1), taken(rates, 4, fresh2), taken(rates, 5, eps)
        decay, kept = taken(rates, 6, decay), taken(rates, 7, kept)
        row = cuda.blockIdx.x * 6
        param, grad, mean, square = table[row], table[row + 1], table[row + 2], table[row + 3]
        for i in range(table[row + 4] + cuda.threadIdx.x, table[row + 5], cuda.blockDim.x):
            p, g = load(param, i), load(grad, i)
            if decoupled:
                p *= kept
            else:
                g += decay * p
            m = load(mean, i)
            m += fresh1 * (g - m)
            s = beta2 * load(square, i) + fresh2 * g * g
            store(mean, i, m)
            store(square, i, s)
            store(param, i, p - rate * m / (math.sqrt(s) / correction + eps))

    return kernel


def adam_step(
    params: Sequence[DeviceArray], grads: Sequence[DeviceArray], means: Sequence[DeviceArray],
    squares: Sequence[DeviceArray], *, step: int, lr: float, beta1: float, beta2: float, eps: float,
    weight_decay: float, decoupled: bool,
) -> None:  # fmt: skip
    for number in dict.fromkeys(p.dtype.type for p in params):
        chosen = [i for i, p in enumerate(params) if p.dtype.type is number]
        lists = [[arrays[i] for i in chosen] for arrays in (params, grads, means, squares)]
        numbers = (lr / (1.0 - beta1**step), sqrt(1.0 - beta2**step), beta2, 1.0 - beta1, 1.0 - beta2, eps,
                   weight_decay, 1.0 - lr * weight_decay)  # fmt: skip
        _step("adam_step", adam, (number, decoupled), lists, *(number(n) for n in numbers))
