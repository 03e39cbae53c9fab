"""A gradient that is not finished: what mean and variance of a batch norm owe its input is still to be taken away."""

from __future__ import annotations

from .backends.base import Array, Backend
from .backends.base.norm_conv import rows


class Deferred:
    """The gradient ``array - ((x - mean) * slope + shift)``, with constants a channel of x (N, C, *).

    Sums over the whole batch make ``slope`` and ``shift``, so they are known only when ``array`` is in memory. Where
    many batch norms see the same channels, as in a dense block, each adds to all three, and the line is taken away
    once, when someone wants the gradient. ``array`` belongs to this object alone, and may be written to.
    """

    __slots__ = ("array", "backend", "mean", "shift", "slope", "x")

    def __init__(self, backend: Backend, array: Array, x: Array, mean: Array, slope: Array, shift: Array) -> None:
        self.backend, self.array, self.x = backend, array, x
        self.mean, self.slope, self.shift = mean, slope, shift

    def settle(self) -> Array:
        """Return the gradient, a new array."""
        shape = self.array.shape
        flat = (self.backend.reshape(one, rows(shape)) for one in (self.array, self.x))
        return self.backend.reshape(self.backend.batch_norm_settle(*flat, self.mean, self.slope, self.shift), shape)

    def channels(self, first: int, last: int) -> Deferred:
        """Return the gradient of some channels, a view."""
        part = slice(first, last)
        constants = (one[part] for one in (self.mean, self.slope, self.shift))
        return Deferred(self.backend, self.array[:, part], self.x[:, part], *constants)
