"""Tensor: an array that remembers how it was made (define-by-run autograd).

Every functional reaches the tape through two functions: ``operands`` here before the backend's work, ``record``
(_tape.pyx) after it. What a primitive computes lives in ``fastconv.functional`` (Tensor's operators, ``sum``,
``reshape`` and the like are bound in ``functional/arithmetic.py``), how it is computed in ``fastconv.backends``.
"""

from __future__ import annotations

import copyreg
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from . import _tape, backends
from ._tape import gradient_operands as gradient_operands  # known by this module's name, as are those that follow
from ._tape import is_frozen as is_frozen
from ._tape import layer_operands as layer_operands
from ._tape import record as record
from ._tape import walk
from .backends.base import Array
from .errors import DeviceError, DTypeError, GraphError, ShapeError, mismatch
from .tape import grad_enabled
from .tape import is_grad_enabled as is_grad_enabled
from .tape import no_grad as no_grad

_new = object.__new__
_LINE = 64  # bytes of a cache line, and of the widest vector
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
_ONE = {dtype: np.ones((), dtype) for dtype in (_FLOAT32, _FLOAT64)}  # the gradient of a loss
for _one in _ONE.values():
    _one.flags.writeable = False

# ----------------------------------------------------------------------------------------- what comes in


def operands(op: str, optional: tuple[str, ...] = (), **named: Any) -> list[Any]:
    """Return ``[backend, array, ...]`` for the operands of ``op``, in the order given; None stays None if optional.

    Accepts Tensors, arrays and nested sequences of numbers. The arrays are of one floating dtype, on one device,
    aligned and in native byte order.

    Raises:
        DTypeError: an operand that is not float32 or float64, or dtypes that differ.
        DeviceError: operands on different devices.
    """
    found = _tape.usable_operands(named, optional)
    return _examined(op, optional, named) if found is None else found


def operand(op: str, name: str, value: Any) -> tuple[backends.Backend, Array]:
    """Return what ``operands`` does for a single one, sooner."""
    if isinstance(value, Tensor):
        value = value.data
    backend = backends.for_numpy()
    if backend.usable((value,)):
        return backend, value
    backend, value = _examined(op, (), {name: value})
    return backend, value


def _examined(op: str, optional: tuple[str, ...], named: dict[str, Any]) -> list[Any]:
    """``operands``, one by one: what is not usable as it is, is brought into form or refused."""
    arrays: list[Any] = [None]
    dtype = backend = kind = first = None
    for name, value in named.items():
        if isinstance(value, Tensor):
            value = value.data
        if value is None:
            if name not in optional:
                raise DTypeError(mismatch(op, f"{name} to be float32 or float64", None))
            arrays.append(None)
            continue
        if type(value) is not np.ndarray or value.dtype not in (_FLOAT32, _FLOAT64) or not value.flags.aligned:
            value = _usable(op, name, value, dtype)
        if first is None:
            first, dtype, kind, backend = name, value.dtype, type(value), backends.of(value)
        elif value.dtype is not dtype and value.dtype != dtype:
            raise DTypeError(mismatch(op, f"{name} to have the dtype of {first} {dtype}", value.dtype))
        elif type(value) is not kind and backends.of(value) is not backend:
            raise DeviceError(mismatch(op, f"{name} on the device of {first} {backend.name!r}", _device(value)))
        arrays.append(value)
    arrays[0] = backend
    return arrays


def _usable(op: str, name: str, value: Any, dtype: np.dtype | None) -> Array:
    """Return ``value`` as an array that a backend takes; sequences of Python numbers become ``dtype`` or float32."""
    if not isinstance(value, np.ndarray) and any(backend.owns(value) for backend in backends.loaded()):
        return value
    untyped = not hasattr(value, "dtype")
    try:
        array = np.asarray(value)
    except ValueError:
        raise ShapeError(mismatch(op, f"{name} to be an array", "a ragged sequence")) from None
    if untyped and array.dtype.kind in "if":
        array = array.astype(dtype or _FLOAT32)
    if array.dtype.newbyteorder("=") not in (_FLOAT32, _FLOAT64):
        kind = type(value).__name__ if array.dtype == object else array.dtype
        raise DTypeError(mismatch(op, f"{name} to be float32 or float64", kind))
    native = array.dtype.isnative and array.flags.aligned
    return array if native else array.astype(array.dtype.newbyteorder("="))


def _device(array: Array) -> str:
    return "cpu" if isinstance(array, np.ndarray) else backends.of(array).name


# ----------------------------------------------------------------------------------------------- Tensor


class Tensor:
    """An array with a gradient. ``Tensor(array)`` wraps without a copy; ``fastconv.tensor`` copies.

    Attributes:
        data: the array.
        grad: an array of the same shape once ``backward`` has reached this Tensor; None before. Gradients arrive at
            leaves (Tensors that no operation made) and add up until they are set to None.
        requires_grad: whether operations on this Tensor are recorded.

    >>> x = tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    array([2., 4., 6.], dtype=float32)
    """

    __slots__ = ("__weakref__", "_node", "data", "grad", "requires_grad")
    __array_ufunc__ = None  # `array + tensor` is Tensor.__radd__

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        if isinstance(data, Tensor):
            data = data.data
        elif isinstance(data, np.ndarray) or not any(backend.owns(data) for backend in backends.loaded()):
            data = _foreign(data) if hasattr(data, "__cuda_array_interface__") else _host_array(data)
        _check_differentiable(data, requires_grad)
        self.data: Any = data
        self.grad: Any = None
        self.requires_grad = requires_grad
        self._node: Any = None  # the operation that made it

    @classmethod
    def _wrap(cls, data: Array) -> Tensor:
        """Wrap a backend's result: ``__init__`` without its checks."""
        out = _new(Tensor)
        out.data, out.grad, out.requires_grad, out._node = data, None, False, None
        return out

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        """The number of elements, as NumPy's."""
        return self.data.size

    @property
    def device(self) -> str:
        """``'cpu'``, or the name of the device that holds the array."""
        return _device(self.data)

    def numpy(self) -> np.ndarray:
        """Return the values as a NumPy array: the very array, on the CPU."""
        return self.data if isinstance(self.data, np.ndarray) else backends.of(self.data).to_numpy(self.data)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if not isinstance(self.data, np.ndarray):
            raise DeviceError(mismatch("array", "a Tensor on the cpu (.numpy() copies one from a device)", self.device))
        return np.array(self.numpy(), dtype) if copy else np.asarray(self.numpy(), dtype)

    def item(self) -> float:
        """Return the one element as a Python number."""
        if self.data.size != 1:
            raise ShapeError(mismatch("item", "a Tensor of one element", f"shape {self.shape}"))
        return self.numpy().item()

    def __len__(self) -> int:
        return len(self.data)

    def __bool__(self) -> bool:
        return bool(self.item())

    def __repr__(self) -> str:
        values = np.array2string(self.numpy(), separator=", ", prefix="tensor(")
        device = "" if self.device == "cpu" else f", device={self.device!r}"
        grad = ", requires_grad=True" if self.requires_grad else ""
        return f"tensor({values}, dtype={self.dtype}{device}{grad})"

    # ------------------------------------------------------------------------------------- gradients

    def backward(self, dy: Any = None, retain_graph: bool = False) -> None:
        """Add the gradient of every leaf behind this Tensor to the leaf's ``grad``.

        Args:
            dy: the gradient of this Tensor, of its shape; 1 where left out, for a Tensor of one element.
            retain_graph: keep what the gradients need, for another walk; else it is freed on the way.

        Raises:
            GraphError: nothing was recorded, or the graph was freed by an earlier walk.
            ShapeError: ``dy`` is of another shape, or is left out where there are several elements; or a ``grad`` that
                was set is of another shape.
        """
        if not self.requires_grad:
            raise GraphError(mismatch("backward", "a Tensor made from one that requires_grad", "one that is not"))
        if dy is None:
            if self.data.size != 1:
                raise ShapeError(mismatch("backward", f"dy, for a Tensor of shape {self.shape}", "none"))
            dy = backends.of(self.data).from_numpy(_ONE[self.dtype].reshape(self.shape))
        else:
            _, _, dy = operands("backward", tensor=self.data, dy=dy)
            if dy.shape != self.shape:
                raise ShapeError(mismatch("backward", f"dy of shape {self.shape}", f"shape {dy.shape}"))
        if self._node is None:
            dy = backends.of(dy).scale(dy, 1.0)
        for leaf, gradient in walk(self._node or self, dy, retain_graph).items():
            leaf.grad = gradient if leaf.grad is None else _added(leaf.grad, gradient)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set ``requires_grad`` in place and return the Tensor."""
        _check_differentiable(self.data, requires_grad)
        self.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.grad = None

    def detach(self) -> Tensor:
        """Return a Tensor of the same array that is not recorded."""
        return Tensor._wrap(self.data)

    def to(self, target: Any) -> Tensor:
        """Return this Tensor as another dtype (``'float64'``, ``np.float32``) or on another device (``'cpu'``)."""
        data = converted(self.data, target)
        if data is self.data:
            return self
        back = self.device if data.dtype == self.dtype else self.dtype
        return record(data, (self,), lambda dy, needs: (converted(dy, back),))


def _added(grad: Any, gradient: Array) -> Array:
    """Return a leaf's ``grad``, which its user may have set, plus what arrived."""
    backend, gradient, grad = operands("backward", gradient=gradient, grad=grad)
    if grad.shape != gradient.shape:
        raise ShapeError(mismatch("backward", f"grad of shape {gradient.shape}", f"shape {grad.shape}"))
    return backend.add(grad, gradient)


_tape.serve(Tensor, grad_enabled, _examined)


def _stay(node: _tape.Node) -> Any:
    expected = "a Tensor that no operation made (detach() gives one)"
    raise GraphError(mismatch("pickle", expected, "a result with its graph"))


copyreg.pickle(_tape.Node, _stay)  # copy.deepcopy asks here too


# ---------------------------------------------------------------------------------- dtypes, devices, making


def converted(array: Array, target: Any) -> Array:
    """Return ``array`` as a dtype or on a device: the array itself where it is so already.

    Raises:
        DTypeError: a dtype other than float32 and float64.
        DeviceError: a device that is not there.
    """
    if isinstance(target, str) and target not in ("float32", "float64"):
        if target == _device(array):
            return array
        host = backends.of(array).to_numpy(array)
        return host if target == "cpu" else backends.get(target).from_numpy(host)
    dtype = float_dtype("to", target)
    if array.dtype == dtype:
        return array
    backend = backends.of(array)
    return backend.from_numpy(backend.to_numpy(array).astype(dtype))


def empty_aligned(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """Return a NumPy array of undefined content that begins at a cache line, for what every step reads and writes.

    A vector of numbers that straddles two lines costs two reads, and a row of them at a stride of whole pages up to two
    misses: a product of a batch of one with weights that begin elsewhere takes twice as long.
    """
    dtype = np.dtype(dtype)
    nbytes = prod(shape) * dtype.itemsize
    memory = np.empty(nbytes + _LINE - 1, np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + nbytes].view(dtype).reshape(shape)


def copy_aligned(array: np.ndarray, dtype: Any = None) -> np.ndarray:
    """Return a C-contiguous copy of a NumPy array, as ``dtype``, in memory as ``empty_aligned`` gives."""
    copied = empty_aligned(array.shape, array.dtype if dtype is None else dtype)
    copied[...] = array
    return copied


def _check_differentiable(data: Array, requires_grad: bool) -> None:
    if requires_grad and data.dtype not in (_FLOAT32, _FLOAT64):
        raise DTypeError(mismatch("tensor", "float32 or float64 where requires_grad is set", data.dtype))


def float_dtype(op: str, dtype: Any) -> np.dtype:
    """Return ``dtype`` (None: float32) as float32 or float64, or raise."""
    try:
        wanted = _FLOAT32 if dtype is None else np.dtype(dtype)
    except TypeError:
        wanted = None
    if wanted is None or wanted not in (_FLOAT32, _FLOAT64):  # np.float64 == None
        raise DTypeError(mismatch(op, "dtype float32 or float64", repr(dtype) if wanted is None else wanted))
    return wanted


def _foreign(data: Any) -> Array:
    """Return another package's array on a GPU as one of ours, without a copy where it is dense."""
    return backends.get("cuda").adopt(data)


def _host_array(data: Any) -> np.ndarray:
    """Return ``data`` as an aligned array in native byte order, itself where it is one; Python floats as float32."""
    try:
        array = np.asarray(data)
    except ValueError:
        raise ShapeError(mismatch("tensor", "an array", "a ragged sequence")) from None
    if array.dtype.kind not in "fiub":
        kind = type(data).__name__ if array.dtype == object else array.dtype
        raise DTypeError(mismatch("tensor", "numbers", kind))
    if array.dtype.kind == "f" and not hasattr(data, "dtype"):
        return array.astype(_FLOAT32)
    return array if array.dtype.isnative and array.flags.aligned else array.astype(array.dtype.newbyteorder("="))


def tensor(data: Any, requires_grad: bool = False, dtype: Any = None, device: str = "cpu") -> Tensor:
    """Return a Tensor with a copy of ``data``. Python floats become float32; arrays keep their dtype.

    >>> tensor([[1.0, 2.0]])
    tensor([[1., 2.]], dtype=float32)
    """
    values = Tensor(data).numpy()
    values = np.array(values, None if dtype is None else float_dtype("tensor", dtype), copy=True, order="C")
    return Tensor(values if device == "cpu" else converted(values, device), requires_grad)
