"""What a convolution's windows look like to a product: its taps as a table on the device, its pixels as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ...geometry import ConvGeometry
from . import launch
from .array import DeviceArray, from_numpy
from .loaders import tap_table
from .scalars import LIMIT

_MULTIPLE = 256  # rows of a table: whole slices of the depth, and whole tiles


class Axis(NamedTuple):
    """One axis of a correlation: output o sums inputs ``start + o * stride + shift`` over the kernel's ``places``."""

    start: int
    stride: int
    places: tuple[int, ...]
    shifts: tuple[int, ...]
    input: int
    output: int


def forward_axes(geometry: ConvGeometry) -> tuple[Axis, ...]:
    """The axes of a convolution."""
    sizes = zip(
        geometry.padding, geometry.stride, geometry.kernel, geometry.dilation, geometry.input, geometry.output,
        strict=True,
    )  # fmt: skip
    return tuple(Axis(-p, s, tuple(range(k)), tuple(i * d for i in range(k)), n, o) for p, s, k, d, n, o in sizes)


def phase_axes(geometry: ConvGeometry) -> list[tuple[tuple[Axis, ...], tuple[int, ...]]]:
    """The correlations over dy that make dx, one for each residue of its positions modulo the stride, and where these
    start. Of a stride's kernel positions each sees those that meet it, so no zero is multiplied."""
    axes = []
    for p, s, k, d, n, o in zip(
        geometry.padding, geometry.stride, geometry.kernel, geometry.dilation, geometry.input, geometry.output,
        strict=True,
    ):  # fmt: skip
        phases = []
        for residue in range(min(s, n)):
            places = tuple(i for i in range(k) if (residue + p - i * d) % s == 0)
            shifts = tuple((residue + p - i * d) // s for i in places)
            phases.append((Axis(0, 1, places, shifts, o, -(-(n - residue) // s)), residue))
        axes.append(phases)
    return [
        (tuple(axis for axis, _ in chosen), tuple(residue for _, residue in chosen))
        for chosen in ((z, y, x) for z in axes[0] for y in axes[1] for x in axes[2])
    ]


def checked(axes: Sequence[Axis]) -> int:
    """Return how many axes, the innermost first, some window may leave: 0, 2 or 3."""

    def leaves(axis: Axis) -> bool:
        if not axis.shifts:
            return False
        last = axis.start + (axis.output - 1) * axis.stride + max(axis.shifts)
        return axis.start + min(axis.shifts) < 0 or last >= axis.input

    return 3 if leaves(axes[0]) else 2 if leaves(axes[1]) or leaves(axes[2]) else 0


def plain(axes: Sequence[Axis]) -> bool:
    """Whether each pixel's window is the pixel itself: a product of matrices."""
    return all(a.shifts == (0,) and a.start == 0 and a.stride == 1 and a.input == a.output for a in axes)


def numbers(axes: Sequence[Axis]) -> dict[str, int]:
    """The part of a problem that tells pixels apart and where their windows start."""
    outputs = [axis.output for axis in axes]
    found = {"image": prod(outputs), "plane": prod(outputs[1:]), "row": outputs[2]}
    for name, axis in zip("dhw", axes, strict=True):
        found |= {f"size_{name}": axis.input, f"stride_{name}": axis.stride, f"start_{name}": axis.start}
    return found


def taps(axes: Sequence[Axis], channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return offsets (K,) and shifts (K, 3) of the taps, K = channels * kernel places in that order."""
    grid = np.stack(np.meshgrid(*(np.array(a.shifts, np.int64) for a in axes), indexing="ij"), -1).reshape(-1, 3)
    depth, height, width = (axis.input for axis in axes)
    places = (grid[:, 0] * height + grid[:, 1]) * width + grid[:, 2]
    channel = np.arange(channels, dtype=np.int64) * (depth * height * width)
    return (channel[:, None] + places).reshape(-1), np.tile(grid, (channels, 1))


def table(axes: tuple[Axis, ...], channels: int) -> DeviceArray:
    """Return the taps as a table on the device, kept for later calls."""
    return _table(axes, channels, launch.machine())


@lru_cache(maxsize=512)
def _table(axes: tuple[Axis, ...], channels: int, machine: launch.Machine) -> DeviceArray:
    return kept(tap_table(*taps(axes, channels), _MULTIPLE).reshape(-1))


def kept(values: np.ndarray) -> DeviceArray:
    """Return values on the device that any stream may read from now on."""
    array = from_numpy(values)
    launch.synchronize()
    return array


@lru_cache(maxsize=8)
def _no_table(machine: launch.Machine) -> DeviceArray:
    return kept(np.zeros(4, np.int32))


def no_table() -> DeviceArray:
    """What a kernel gets that needs no table."""
    return _no_table(launch.machine())


def images_at_once(geometry: ConvGeometry) -> int:
    """Return how many images a launch may take so that pixels are counted in 31 bits."""
    return max(1, (LIMIT - 1) // max(prod(geometry.output), prod(geometry.input)))


def aligned(*arrays: Any) -> bool:
    """Whether all arrays begin at a multiple of 16 bytes."""
    return all(array.address % 16 == 0 for array in arrays)
