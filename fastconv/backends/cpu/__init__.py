"""The CPU backend: Cython frames (tiles, packing, loop nests) over the C++ SIMD micro-kernels of csrc/."""

from .dispatch import available_isas, isa, set_max_isa

__all__ = ["available_isas", "isa", "set_max_isa"]
