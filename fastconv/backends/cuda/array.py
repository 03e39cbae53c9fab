"""DeviceArray: an array in a GPU's memory, dense and in C order, and what the contract asks about such arrays."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ...errors import DeviceError, mismatch
from . import launch, memory

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class DeviceArray:
    """Shape, dtype and memory. Arithmetic is the backend's; ``numpy()`` brings the values to the host.

    Indexing with integers, slices, None and an ellipsis gives a view where the result is dense, else a copy.
    ``__cuda_array_interface__`` and DLPack pass the memory on without a copy.
    """

    __slots__ = ("__weakref__", "_lease", "_offset", "dtype", "made_by", "shape", "size")

    def __init__(self, lease: Any, shape: Sequence[int], dtype: np.dtype, offset: int = 0) -> None:
        self._lease, self.shape, self.dtype, self._offset = lease, tuple(shape), dtype, offset
        self.size = prod(self.shape)
        self.made_by: Any = None  # what made the values, for whom they tell more than others would

    # ---------------------------------------------------------------------------------- as NumPy's arrays

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def strides(self) -> tuple[int, ...]:
        """In bytes, those of C order."""
        return tuple(step * self.itemsize for step in dense_strides(self.shape))

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d array")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype})"

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise DeviceError(mismatch("numpy", "an array of the host (.numpy() copies one from the device)", repr(self)))

    def numpy(self) -> np.ndarray:
        """Return a copy on the host."""
        return to_numpy(self)

    def reshape(self, *shape: Any) -> DeviceArray:
        """Return the same memory under another shape of as many elements; one size may be -1."""
        wanted = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
        if -1 in wanted:
            rest = -prod(wanted)
            wanted = tuple(self.size // max(rest, 1) if size == -1 else size for size in wanted)
        if prod(wanted) != self.size:
            raise ValueError(f"cannot reshape an array of shape {self.shape} into {wanted}")
        return DeviceArray(self._lease, wanted, self.dtype, self._offset)

    def astype(self, dtype: Any, copy: bool = True) -> DeviceArray:
        """Return the values as another dtype; the array itself where it has it and ``copy`` is False."""
        from . import shape

        return shape.cast(self, np.dtype(dtype)) if copy or self.dtype != np.dtype(dtype) else self

    def __getitem__(self, key: Any) -> DeviceArray:
        from . import shape

        return shape.take(self, key)

    def __setitem__(self, key: Any, value: DeviceArray) -> None:
        from . import shape

        shape.put(self, key, value)

    # ------------------------------------------------------------------------------------- for the device

    @property
    def kernel_argument(self) -> Any:
        """The elements as kernels take them: one axis."""
        return self._lease.piece.flat(self.dtype, self._offset, max(self.size, 1))

    @property
    def address(self) -> int:
        return self._lease.piece.address + self._offset

    def part(self, start: int, shape: Sequence[int]) -> DeviceArray:
        """Return a view of elements from ``start`` on."""
        return DeviceArray(self._lease, shape, self.dtype, self._offset + start * self.itemsize)

    # ------------------------------------------------------------------------------------ for other packages

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address if self.size else 0, False),
            "version": 3,
            "strides": None,
            "stream": launch.machine().stream_number(),
        }

    def __dlpack__(self, *, stream: Any = None, **options: Any) -> Any:
        from . import exchange

        return exchange.give(self, stream, **options)

    def __dlpack_device__(self) -> tuple[int, int]:
        from . import exchange

        return exchange.device()


# ------------------------------------------------------------------------------------------------ making


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of C order, in elements.

    >>> dense_strides((2, 3, 4))
    (12, 4, 1)
    """
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def empty(shape: Sequence[int], dtype: Any) -> DeviceArray:
    """Return an array with undefined content.

    Raises:
        DeviceError: there is no device, or it has too little memory.
    """
    dtype = np.dtype(dtype)
    return DeviceArray(memory.pool.take(prod(shape) * dtype.itemsize), shape, dtype)


def empty_like(array: DeviceArray) -> DeviceArray:
    return empty(array.shape, array.dtype)


def from_numpy(array: np.ndarray) -> DeviceArray:
    """Return a copy of a NumPy array on the device. It may be on its way as this returns; ``array`` is free then."""
    array = np.asarray(array)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if (capture := launch.capture.get()) is not None:
        return capture.upload(array)
    out = empty(array.shape, array.dtype)
    if array.size:
        source = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        memory.staging().upload(out._lease.piece.memory[: out.nbytes], source)
    return out


def to_numpy(array: DeviceArray) -> np.ndarray:
    """Return a copy on the host, when all work before it is done."""
    if (capture := launch.capture.get()) is not None:
        capture.download(array)
    out = np.empty(array.shape, array.dtype)
    if array.size:
        start = array._offset
        with launch.named("numpy"):
            memory.staging().download(
                out.reshape(-1).view(np.uint8), array._lease.piece.memory[start : start + array.nbytes]
            )
    return out


# ---------------------------------------------------------------------------------- what the contract asks


def owns(array: object) -> bool:
    return type(array) is DeviceArray


def usable(operands: Sequence[object]) -> bool:
    dtype = None
    for array in operands:
        if array is None:
            continue
        if type(array) is not DeviceArray or array.dtype not in _FLOATS or dtype not in (None, array.dtype):
            return False
        dtype = array.dtype
    return dtype is not None


def steppable(params: Sequence[object], grads: Sequence[object]) -> bool:
    return all(
        type(p) is type(g) is DeviceArray and p.dtype in _FLOATS and p.dtype == g.dtype and p.shape == g.shape
        for p, g in zip(params, grads, strict=True)
    )


def may_share_memory(a: DeviceArray, b: DeviceArray) -> bool:
    if a._lease.piece is not b._lease.piece or not a.size or not b.size:
        return False
    return a._offset < b._offset + b.nbytes and b._offset < a._offset + a.nbytes
