"""The contract of a device: its arrays, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...errors import DeviceError
from ...geometry import ConvGeometry, PoolGeometry

Array = Any  # the backend's own array type


class Arrays:
    """What every device is asked about its arrays."""

    name = "base"

    def owns(self, array: object) -> bool:
        """Whether ``array`` is an array of this device."""
        raise self._missing("owns")

    def from_numpy(self, array: Any) -> Array:
        """Return a device array with the values of a NumPy array (the array itself where that is possible)."""
        raise self._missing("from_numpy")

    def to_numpy(self, array: Array) -> Any:
        """Return a NumPy array with the values of a device array (the array itself where that is possible)."""
        raise self._missing("to_numpy")

    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        """Return a new array (N, C, ...) of undefined content, with a pixel's channels side by side where the device
        has strides."""
        raise self._missing("empty")

    def usable(self, operands: Sequence[object]) -> bool:
        """Whether all of ``operands``, None apart, are arrays that methods take as they are: of one dtype, aligned, in
        native byte order. The path of every call: it then looks at no array again."""
        raise self._missing("usable")

    def may_share_memory(self, a: Array, b: Array) -> bool:
        """Whether writing to ``a`` might change ``b``."""
        raise self._missing("may_share_memory")

    def all_within(self, array: Array, low: int, high: int) -> bool:
        """Whether every element of an array of integers lies in [low, high)."""
        raise self._missing("all_within")

    def captured(self, step: Callable[[], Any], arrays: Sequence[Any]) -> Any:
        """Run ``step()``, which takes these NumPy arrays to the device in this order, and return what repeats its work
        on other arrays without Python's: ``graph(arrays, keys, update)``, see backends/cuda/graphs.py.

        None where a device, or the step, does not allow it; the step is then to be run as usual.
        """
        raise self._missing("captured")

    def explain(self, verb: str, geometry: ConvGeometry, dtype: str) -> str:
        """Say which kernel would run ``verb`` for this geometry, and why."""
        raise self._missing("explain")

    def explain_unit(self, geometry: ConvGeometry, pool_geometry: PoolGeometry, dtype: str) -> str:
        """Say, a line for the forward pass and each gradient, how a unit would run, and why."""
        raise self._missing("explain_unit")

    def _missing(self, method: str) -> DeviceError:
        return DeviceError(f"{method}: expected a backend that implements it, got {self.name!r}")
