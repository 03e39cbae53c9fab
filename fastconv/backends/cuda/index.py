"""Index arithmetic, written once for kernels and for the host that tests it: plain functions of whole numbers.

Kernels count in 64 bits, so products of sizes past 2**31 are right. Sizes and strides come as tuples of one length.
"""

from __future__ import annotations

from collections.abc import Sequence


def offset_of(i: int, sizes: tuple, strides: tuple) -> int:
    """Return where element ``i`` in C order over ``sizes`` lies by ``strides``.

    >>> offset_of(5, (2, 3), (10, 1))
    12
    """
    offset = 0
    for axis in range(len(sizes) - 1, -1, -1):
        offset += i % sizes[axis] * strides[axis]
        i //= sizes[axis]
    return offset


def collapsed(sizes: Sequence[int], *strides: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return the sizes and each list of strides with axes of 1 left out and those that lie alike joined; one axis at
    least.

    >>> collapsed((2, 1, 3, 4), (12, 5, 4, 1), (4, 0, 0, 1))
    ((2, 3, 4), (12, 4, 1), (4, 0, 1))
    >>> collapsed((2, 3, 4), (12, 4, 1))
    ((24,), (1,))
    """
    axes = [(size, *steps) for size, *steps in zip(sizes, *strides, strict=True) if size != 1]
    joined: list[tuple[int, ...]] = []
    for size, *steps in axes:
        if joined and all(outer == inner * size for outer, inner in zip(joined[-1][1:], steps, strict=True)):
            joined[-1] = (joined[-1][0] * size, *steps)
        else:
            joined.append((size, *steps))
    return tuple(zip(*joined, strict=True)) if joined else ((1,), *((0,) for _ in strides))


def broadcast_strides(shape: Sequence[int], target: Sequence[int]) -> tuple[int, ...]:
    """Return the strides, in elements, of a dense array of ``shape`` seen as ``target``.

    >>> broadcast_strides((3, 1), (2, 3, 4))
    (0, 1, 0)
    """
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(0 if size == 1 else step)
        step *= size
    return (0,) * (len(target) - len(shape)) + tuple(reversed(strides))
