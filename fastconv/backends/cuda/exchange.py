"""DLPack and the CUDA array interface: arrays to and from other packages, without a copy where they are dense.

DLPack 0.8 as its specification has it (https://dmlc.github.io/dlpack/latest/c_api.html): a capsule named ``dltensor``
holds a struct with a deleter; who takes it renames the capsule and calls the deleter when done.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from ...errors import ArgumentError, DeviceError, DTypeError, mismatch
from . import launch
from .array import DeviceArray, empty
from .memory import Lease, Piece

_CPU, _CUDA = 1, 2
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
_KINDS = {code: kind for kind, code in _CODES.items()}
_NAME, _USED = b"dltensor", b"used_dltensor"


class _Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("id", ctypes.c_int32)]


class _DataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p), ("device", _Device), ("ndim", ctypes.c_int32), ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]  # fmt: skip


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter)]

_api = ctypes.pythonapi
_new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", _api)
)
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", _api))
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", _api))
_raw_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))

_given: dict[int, tuple] = {}  # what others hold: address of the struct -> all that must live as long


@_Deleter
def _delete(managed: Any) -> None:
    _given.pop(ctypes.addressof(managed.contents), None)


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def _destroy(capsule: int) -> None:
    if _is_valid(capsule, _NAME):  # nobody has taken it
        _given.pop(_raw_pointer(capsule, _NAME), None)


def device() -> tuple[int, int]:
    """DLPack's name of the device; simulated memory is the host's."""
    return (_CPU if launch.machine().simulated else _CUDA), 0


def give(array: DeviceArray, stream: Any = None, **options: Any) -> Any:
    """Return a capsule for ``array``. Work so far is waited for unless the consumer's ``stream`` is -1 (no waiting)."""
    if options.get("copy"):
        array = array.reshape(array.shape).astype(array.dtype)
    if options.get("dl_device") not in (None, device()):
        raise DeviceError(mismatch("__dlpack__", f"dl_device {device()}", options["dl_device"]))
    if stream != -1:
        launch.synchronize()
    code = _CODES.get(array.dtype.kind)
    if code is None:
        raise DTypeError(mismatch("__dlpack__", "numbers", array.dtype))
    managed = _Managed()
    shape = (ctypes.c_int64 * max(array.ndim, 1))(*array.shape)
    tensor = managed.tensor
    tensor.data, tensor.device = array.address if array.size else None, _Device(*device())
    tensor.ndim, tensor.dtype = array.ndim, _DataType(code, 8 * array.itemsize, 1)
    tensor.shape, tensor.strides, tensor.byte_offset = shape, None, 0
    managed.deleter = _delete
    where = ctypes.addressof(managed)
    _given[where] = managed, shape, array
    return _new_capsule(where, _NAME, ctypes.cast(_destroy, ctypes.c_void_p).value)


class _Borrowed:
    """Memory of another package's capsule, given back as the last array in it goes."""

    def __init__(self, managed: Any) -> None:
        self._managed = managed

    def __del__(self) -> None:
        if self._managed.contents.deleter:
            self._managed.contents.deleter(self._managed)


class _Foreign:
    """Memory by address, as numba adopts it."""

    def __init__(self, address: int, nbytes: int, owner: Any) -> None:
        self.owner = owner
        entry = {"shape": (nbytes,), "typestr": "|u1", "data": (address, False), "version": 3, "strides": None}
        name = "__array_interface__" if launch.machine().simulated else "__cuda_array_interface__"
        setattr(self, name, entry)


def _array(address: int, shape: tuple, dtype: np.dtype, strides: tuple | None, owner: Any) -> DeviceArray:
    """Return foreign memory as an array: a view where it is dense, else a copy. ``strides`` in elements."""
    from . import shape as moves

    count = int(np.prod(shape, dtype=np.int64))
    if not count:
        return empty(shape, dtype)
    steps = moves.dense_strides(shape) if strides is None else strides
    reach = [(size - 1) * step for size, step in zip(shape, steps, strict=True)]
    low, high = sum(r for r in reach if r < 0), sum(r for r in reach if r > 0)
    nbytes = (high - low + 1) * dtype.itemsize
    foreign = _Foreign(address + low * dtype.itemsize, nbytes, owner)
    piece = Piece(launch.machine().adopt(foreign), nbytes)
    piece.views["owner"] = foreign
    lease = Lease(piece, None)
    if moves.is_dense(shape, steps):
        return DeviceArray(lease, shape, dtype)
    whole = DeviceArray(lease, (high - low + 1,), dtype)
    return moves.gathered(whole, -low, shape, steps)


def take_dlpack(source: Any) -> DeviceArray:
    """Return the array of an object with ``__dlpack__``.

    Raises:
        DeviceError: it lies elsewhere. DTypeError: it holds something other than numbers.
    """
    if tuple(int(i) for i in source.__dlpack_device__()) != device():
        raise DeviceError(mismatch("from_dlpack", f"an array on device {device()}", source.__dlpack_device__()))
    number = launch.machine().stream_number()
    capsule = source.__dlpack__() if number is None else source.__dlpack__(stream=number)
    pointer = _pointer_of(capsule, _NAME)
    managed = ctypes.cast(pointer, ctypes.POINTER(_Managed))
    _rename(capsule, _USED)
    owner, tensor = _Borrowed(managed), managed.contents.tensor
    kind = _KINDS.get(tensor.dtype.code)
    if kind is None or tensor.dtype.lanes != 1:
        raise DTypeError(mismatch("from_dlpack", "real numbers", f"DLPack type code {tensor.dtype.code}"))
    dtype = np.dtype(bool if kind == "b" else f"{kind}{tensor.dtype.bits // 8}")
    shape = tuple(tensor.shape[: tensor.ndim])
    strides = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None
    return _array((tensor.data or 0) + tensor.byte_offset, shape, dtype, strides, owner)


def take_interface(source: Any) -> DeviceArray:
    """Return the array of an object with ``__cuda_array_interface__``, ordered after the stream that it names.

    Raises:
        ArgumentError: it has a mask.
    """
    entry = source.__cuda_array_interface__
    if entry.get("mask") is not None:
        raise ArgumentError(mismatch("from_dlpack", "an array without a mask", "one with"))
    dtype = np.dtype(entry["typestr"])
    if entry.get("stream") is not None:
        launch.wait_for(entry["stream"])
    strides = entry.get("strides")
    steps = None if strides is None else tuple(stride // dtype.itemsize for stride in strides)
    return _array(entry["data"][0], tuple(entry["shape"]), dtype, steps, source)
