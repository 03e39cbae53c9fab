"""Which instruction set's kernels run: the widest that the processor, the build and FASTCONV_MAX_ISA allow."""

from cpython.pycapsule cimport PyCapsule_New

from fastconv import config
from fastconv.errors import ArgumentError, mismatch

from fastconv.backends.cpu._csrc cimport FC_F32, FC_F64, fc_isa_available, fc_kernels, fc_kernels_for

# Index: the value of enum fc_isa. The order of preference is from the last to the first.
_NAMES = ("scalar", "avx2", "avx512", "neon", "avx512_bf16")
cdef int _isa = 0
cdef const fc_kernels* _f32 = NULL
cdef const fc_kernels* _f64 = NULL


cdef const fc_kernels* kernels(int itemsize) noexcept nogil:
    """The table for float32 (4 bytes) or float64 (8)."""
    return _f32 if itemsize == 4 else _f64


def available_isas():
    """Return the instruction sets that this build holds and this processor runs, narrowest first."""
    return [name for index, name in enumerate(_NAMES) if fc_isa_available(index)]


def isa():
    """Return the name of the instruction set in use."""
    return _NAMES[_isa]


def lanes(int itemsize):
    """Return how many numbers of this size, 4 or 8 bytes, a vector holds."""
    return kernels(itemsize).width


def set_max_isa(name):
    """Use the widest available instruction set up to ``name`` (None: no limit); return the one chosen.

    Raises:
        ArgumentError: the name is unknown.
    """
    global _isa, _f32, _f64
    if name is not None and name not in _NAMES:
        raise ArgumentError(mismatch("set_max_isa", f"one of {', '.join(_NAMES)}", repr(name)))
    limit = len(_NAMES) - 1 if name is None else _NAMES.index(name)
    for index in range(limit, -1, -1):
        if fc_isa_available(index):
            _isa = index
            _f32 = fc_kernels_for(index, FC_F32)
            _f64 = fc_kernels_for(index, FC_F64)
            return _NAMES[index]


def _kernels_for():
    """The C function that looks a table up, as a capsule, for the laboratory window (csrc/bindings)."""
    return PyCapsule_New(<void*> fc_kernels_for, NULL, NULL)


set_max_isa(config.max_isa())
