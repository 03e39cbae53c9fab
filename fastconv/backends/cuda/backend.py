"""CudaBackend: the table that says which function is which method. No arithmetic here."""

from __future__ import annotations

from ..base import Backend
from . import array, launch, memory, shape


class CudaBackend(Backend):
    """An NVIDIA GPU; kernels in Numba CUDA.

    Raises:
        DeviceError: numba-cuda, the driver or a GPU is missing or too old; the message says what to install.
    """

    name = "cuda"

    def __init__(self) -> None:
        launch.machine()

    owns = staticmethod(array.owns)
    from_numpy = staticmethod(array.from_numpy)
    to_numpy = staticmethod(array.to_numpy)
    usable = staticmethod(array.usable)
    steppable = staticmethod(array.steppable)
    may_share_memory = staticmethod(array.may_share_memory)

    synchronize = staticmethod(launch.synchronize)
    empty_cache = staticmethod(memory.empty_cache)

    add = staticmethod(shape.add)
    subtract = staticmethod(shape.subtract)
    multiply = staticmethod(shape.multiply)
    divide = staticmethod(shape.divide)
    scale = staticmethod(shape.scale)
    maximum = staticmethod(shape.maximum)
    broadcast_to = staticmethod(shape.broadcast_to)
    reshape = staticmethod(shape.reshape)
    permute = staticmethod(shape.permute)
    cat = staticmethod(shape.cat)
