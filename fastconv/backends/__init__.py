"""The registry of devices: which backend serves an array, and which one serves NumPy arrays just now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module

import numpy as np

from .. import config
from ..errors import DeviceError, mismatch
from .base import Backend

_CLASSES = {"cpu": "CpuBackend", "cuda": "CudaBackend", "reference": "ReferenceBackend"}
_instances: dict[str, Backend] = {}
_numpy_backend: ContextVar[Backend | None] = ContextVar("fastconv_numpy_backend", default=None)


def get(name: str) -> Backend:
    """Return the backend called ``name``, loaded at its first use.

    Raises:
        DeviceError: no such backend, or it cannot run here.
    """
    backend = _instances.get(name)
    if backend is None:
        if name not in _CLASSES:
            raise DeviceError(mismatch("backend", f"one of {sorted(_CLASSES)}", repr(name)))
        module = import_module(f"{__name__}.{name}.backend")
        backend = _instances[name] = getattr(module, _CLASSES[name])()
    return backend


def loaded() -> Iterable[Backend]:
    """Return the backends in use so far, the one that ``use`` set first."""
    current = _numpy_backend.get()
    return _instances.values() if current is None else (current, *_instances.values())


_default: Backend | None = None


def for_numpy() -> Backend:
    """Return the backend that serves NumPy arrays: ``cpu`` unless ``use`` or FASTCONV_BACKEND says otherwise.

    FASTCONV_BACKEND is read once, at the first call: this stands on the path of every operation.
    """
    return _numpy_backend.get() or _default or _set_default()


def _set_default() -> Backend:
    global _default
    _default = get(config.numpy_backend())
    return _default


def of(array: object) -> Backend:
    """Return the backend whose array this is."""
    if isinstance(array, np.ndarray):
        return for_numpy()
    for backend in loaded():
        if backend.owns(array):
            return backend
    raise DeviceError(mismatch("array", "a NumPy array or an array of a loaded device", type(array).__name__))


@contextmanager
def use(name: str | Backend) -> Iterator[Backend]:
    """Let ``name`` ('cpu' or 'reference', or a backend itself) serve NumPy arrays within a ``with`` block.

    >>> with use("reference") as backend:
    ...     backend.name
    'reference'
    """
    backend = name if isinstance(name, Backend) else get(name)
    token = _numpy_backend.set(backend)
    try:
        yield backend
    finally:
        _numpy_backend.reset(token)
