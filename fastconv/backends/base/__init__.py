"""Backend: the whole contract of a device. What each primitive takes, returns, accumulates and saves.

The rules that hold for every method:

* Arrays are the backend's own kind (NumPy arrays for ``reference`` and ``cpu``), of one dtype, float32 or float64, in
  native byte order and aligned. Strides are arbitrary (negative, zero, channels-last, ...). Inputs are never written.
* Shapes were checked (``fastconv.geometry``) before the call. A batch of zero samples is legal everywhere.
* Convolution and pooling see five axes, ``(N, C, D, H, W)``; ops over channels see ``(N, C, L)``; elementwise ops see
  any shape.
* Outputs are new arrays of the logical shape documented, in any memory order, writable. Gradients of parameters
  (``dw``, ``db``) are C-contiguous. Only the optimiser steps, ``accumulate`` and ``move_towards`` write into what they
  are given.
* A result does not depend on the number of threads, nor a sample's result on the batch around it.
* NaN and infinity propagate as in IEEE 754 arithmetic; an algorithm that transforms its operands (Winograd, refused
  by ``geometry.exact``) may spread them over the 4x4 outputs of a tile.

A device overrides what it speeds up; what it does not override raises. ``tests/backends`` runs the same cases over all.
"""

from .arrays import Array
from .elements import Elements
from .layers import Layers
from .norm_conv import NormConv

__all__ = ["Array", "Backend"]


class Backend(NormConv, Layers, Elements):
    """A device: its arrays, and every primitive on them, forward and backward."""
