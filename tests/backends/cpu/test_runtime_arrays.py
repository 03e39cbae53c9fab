"""NumPy arrays on memory of the buffer pool: shapes, memory orders, reuse, bounds, lifetimes."""

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fastconv.errors import ArgumentError, DTypeError, ShapeError

runtime = pytest.importorskip("fastconv.backends.cpu.runtime", reason="the compiled CPU backend is not built")

MB = 1 << 20


def address(array):
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize(
    "shape", [(), (0,), (5,), (3, 0, 2), (2, 3, 4, 5), (2, 3, 40, 50), (1, 1, 700, 1, 3), (9, 1024)]
)
@pytest.mark.parametrize("dtype", ["float32", np.float64, np.dtype("int64"), bool, ">i2", "complex128"])
def test_empty_is_like_numpys(shape, dtype):
    array, expected = runtime.empty(shape, dtype), np.empty(shape, dtype)
    assert (array.shape, array.dtype, array.strides) == (expected.shape, expected.dtype, expected.strides)
    flags = ("C_CONTIGUOUS", "F_CONTIGUOUS", "WRITEABLE", "ALIGNED")
    assert [array.flags[name] for name in flags] == [expected.flags[name] for name in flags]
    array[...] = 1
    assert (array == 1).all()


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 7), (2, 3, 4, 5), (2, 8, 20, 30), (2, 3, 4, 5, 6), (4, 16, 9, 9, 9)])
def test_channels_last(shape):
    array = runtime.empty(shape, "float32", "channels_last")
    memory = np.moveaxis(array, 1, -1)
    assert array.shape == shape
    assert memory.flags.c_contiguous
    memory[...] = np.arange(array.size).reshape(memory.shape)
    assert array[1, 2].flat[0] == np.prod(shape[2:], dtype=int) * shape[1] + 2


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (2, 0, 3, 1)])
def test_any_memory_order(axes):
    array = runtime.empty_permuted((6, 7, 8, 9), np.float64, axes)
    assert array.shape == (6, 7, 8, 9)
    assert array.transpose(axes).flags.c_contiguous


@pytest.mark.parametrize(
    "error, call",
    [
        (ArgumentError, lambda: runtime.empty((2, 3), "f4", "F")),
        (ShapeError, lambda: runtime.empty((3,), "f4", "channels_last")),
        (ShapeError, lambda: runtime.empty((3, -1), "f4")),
        (ShapeError, lambda: runtime.empty((1,) * 33, "f4")),
        (DTypeError, lambda: runtime.empty((3,), object)),
        (DTypeError, lambda: runtime.empty((3000,), [("a", "O")])),
        (ArgumentError, lambda: runtime.empty_permuted((2, 3), "f4", (0,))),
        (ArgumentError, lambda: runtime.empty_permuted((2, 3), "f4", (0, 0))),
        (ArgumentError, lambda: runtime.empty_permuted((2, 3), "f4", (1, 2))),
    ],
)
def test_arrays_that_cannot_be(error, call):
    with pytest.raises(error, match=r"empty(_permuted)?: expected .*, got "):
        call()


@pytest.mark.parametrize("shape", [(2**47,), (2**61,), (2**40, 2**40), (0, 2**62, 2**62)])
def test_no_memory(shape):
    before = runtime.allocated_bytes()
    with pytest.raises(MemoryError, match="no memory for shape"):
        runtime.empty(shape, "float64")
    assert runtime.allocated_bytes() == before
    assert runtime.empty((MB,), "uint8").nbytes == MB


@pytest.mark.parametrize("nbytes", [4096, 5000, 70_000, MB, 2 * MB, 3 * MB + 1])
def test_blocks_are_aligned_and_reused(nbytes):
    first, second = runtime.empty((nbytes,), "uint8"), runtime.empty((nbytes,), "uint8")
    first[:], second[:] = 1, 2
    a, b = address(first), address(second)
    assert a % 64 == b % 64 == 0
    assert (first == 1).all()
    del first, second
    assert address(runtime.empty((nbytes,), "uint8")) in (a, b)
    again = [runtime.empty((nbytes,), "uint8") for _ in range(2)]
    assert {address(array) for array in again} == {a, b}
    last = address(again[1])
    del again[1]
    assert address(runtime.empty((nbytes,), "uint8")) == last  # the warmest first


@pytest.mark.parametrize("nbytes", [MB, 4 * MB])
def test_large_blocks_start_at_different_offsets(nbytes):
    runtime.empty_cache()
    arrays = [runtime.empty((nbytes,), "uint8") for _ in range(8)]
    assert len({address(array) % 4096 for array in arrays}) == 8


@pytest.mark.parametrize("nbytes", [4096, 4097, 10_001, 99_999, MB + 1, 2 * MB - 1, 2 * MB + 1, 9 * MB + 77])
def test_at_most_an_eighth_is_wasted(nbytes):
    before = runtime.allocated_bytes()
    array = runtime.empty((nbytes,), "uint8")
    assert nbytes <= runtime.allocated_bytes() - before <= nbytes * 1.125
    del array
    assert runtime.allocated_bytes() == before


def test_views_keep_the_memory():
    array = runtime.empty((1000, 100), "float32")
    array[...] = 7
    before = runtime.allocated_bytes()
    view = array[10:20].T[::2]
    memory = memoryview(view)
    del array
    assert runtime.allocated_bytes() == before
    other = runtime.empty((1000, 100), "float32")
    other[...] = 1
    del view
    assert np.all(np.asarray(memory) == 7)
    del memory, other
    assert runtime.allocated_bytes() < before


def test_the_cache_is_given_back():
    array = runtime.empty((3 * MB,), "uint8")
    held = runtime.cached_bytes()
    del array
    assert runtime.cached_bytes() >= held + 3 * MB
    runtime.empty_cache()
    assert runtime.cached_bytes() == 0


def test_a_thousand_cycles_do_not_grow():
    gc.collect()
    runtime.empty_cache()
    before, sums = runtime.allocated_bytes(), set()
    for _ in range(1000):
        arrays = [runtime.empty((n,), "uint8") for n in (5000, 100_000, MB, 3 * MB)]
        del arrays
        sums.add(runtime.allocated_bytes() + runtime.cached_bytes())
    assert runtime.allocated_bytes() == before
    assert len(sums) == 1


def test_what_is_kept_is_bounded():
    runtime.empty_cache()
    lent = runtime.allocated_bytes()
    for size in range(64, 124, 2):  # 30 sizes, 2.8 GB of address space in turn; hardly a page of it is touched
        runtime.empty((size * MB,), "uint8")
        assert lent + runtime.cached_bytes() <= max(256 * MB, (lent + 140 * MB) * 5 // 4)
    assert runtime.cached_bytes() > 64 * MB
    runtime.empty_cache()


def test_arrays_of_many_threads():
    before = runtime.allocated_bytes()

    def work(i):
        kept = []
        for k in range(300):
            array = runtime.empty((4096 + 997 * ((i * 31 + k) % 60),), "uint8")
            array[:] = i
            kept.append(array)
            if len(kept) > 10:
                assert (kept.pop(k % 10) == i).all()
        return all((array == i).all() for array in kept)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [True] * 8
    assert runtime.allocated_bytes() == before
