"""Arrays of the device: shapes, views, copies, what they refuse, and the way to other packages and back."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from layouts import LAYOUTS, normal

import fastconv
from fastconv.errors import ArgumentError, DeviceError, DTypeError

KEYS = [
    0, -1, slice(1, 3), (slice(None), 1), (..., -1), (slice(None, None, -1), ..., slice(0, 4, 2)), (None, 1, ..., None),
    (1, 2, 3), (slice(2, 2),), (),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (1,), (3, 4), (0, 3), (2, 1, 3, 2, 2)], ids=str)
def test_there_and_back(cuda, shape, dtype):
    values = (10 * normal(shape, shape)).astype(dtype)
    array = cuda.from_numpy(values)
    assert (array.shape, array.dtype, array.ndim, array.size) == (shape, values.dtype, values.ndim, values.size)
    assert (array.itemsize, array.nbytes) == (values.itemsize, values.nbytes)
    assert array.strides == values.strides or not values.size
    np.testing.assert_array_equal(array.numpy(), values)
    assert array.numpy().dtype == dtype


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_order_and_byte_order_comes_in(cuda, layout):
    values = normal("a", (3, 4, 5), "float32")
    np.testing.assert_array_equal(cuda.from_numpy(LAYOUTS[layout](values)).numpy(), values)
    np.testing.assert_array_equal(cuda.from_numpy(values.astype(">f4")).numpy(), values)


def test_a_copy_longer_than_the_pinned_buffers(cuda, monkeypatch):
    monkeypatch.setattr("fastconv.backends.cuda.memory.STAGE", 1000)
    values = normal("a", (1777,), "float32")
    array = cuda.from_numpy(values)
    values_before = values.copy()
    values[:] = 0  # the caller's memory is free as the call returns
    np.testing.assert_array_equal(array.numpy(), values_before)


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing_is_numpys(cuda, key):
    values = normal("a", (3, 4, 5), "float32")
    array = cuda.from_numpy(values)
    taken = array[key]
    assert taken.shape == values[key].shape
    np.testing.assert_array_equal(taken.numpy(), values[key])
    new = normal("new", values[key].shape, "float32")
    array[key] = cuda.from_numpy(new)
    values[key] = new
    np.testing.assert_array_equal(array.numpy(), values)


@pytest.mark.parametrize("key", [[0, 1], np.array([0]), 1.0, "a", (slice(None), [0])], ids=str)
def test_other_indices_are_refused(cuda, key):
    with pytest.raises(IndexError, match="slices"):
        cuda.from_numpy(np.zeros((2, 3)))[key]
    with pytest.raises(IndexError):
        cuda.from_numpy(np.zeros((2, 3)))[2]


def test_dense_parts_are_views(cuda):
    array = cuda.from_numpy(np.arange(24.0).reshape(4, 6))
    part = array[1:3]
    assert cuda.may_share_memory(part, array)
    assert not cuda.may_share_memory(array[:1], part)
    assert not cuda.may_share_memory(array[:, 1:], array)
    assert cuda.may_share_memory(array.reshape(6, -1), array)
    with pytest.raises(ValueError, match="reshape"):
        array.reshape(5, 5)


def test_usable_and_steppable(cuda):
    a, b = cuda.from_numpy(np.zeros(3, "f4")), cuda.from_numpy(np.zeros(3))
    assert cuda.usable([a, None, a])
    for wrong in ([], [None], [a, b], [a, np.zeros(3, "f4")], [cuda.from_numpy(np.zeros(3, int))]):
        assert not cuda.usable(wrong)
    assert cuda.steppable([a, b], [a, b])
    assert not cuda.steppable([a], [b])
    assert not cuda.steppable([a], [np.zeros(3, "f4")])


def test_nothing_reaches_the_host_by_itself(cuda):
    array = cuda.from_numpy(np.zeros(3))
    for implicit in (np.asarray, np.sum, lambda a: np.add(1.0, a)):
        with pytest.raises((DeviceError, TypeError)):
            implicit(array)
        with pytest.raises((DeviceError, TypeError)):
            implicit(fastconv.Tensor(array))
    with pytest.raises(DeviceError, match="on the device of"):
        fastconv.Tensor(array) + np.zeros(3)


def test_dlpack_to_numpy_shares_memory(simulated):
    values = normal("a", (3, 4), "float32")
    array = simulated.from_numpy(values)
    seen = np.from_dlpack(array)
    np.testing.assert_array_equal(seen, values)
    array[0] = simulated.from_numpy(np.zeros(4, "f4"))
    assert not seen[0].any()
    del array
    gc.collect()
    simulated.from_numpy(normal("other", (3, 4), "float32"))  # may not take the memory that is still seen
    np.testing.assert_array_equal(seen[1:], values[1:])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])
def test_dlpack_from_numpy(simulated, layout, dtype):
    values = LAYOUTS[layout]((10 * normal("a", (3, 4, 5))).astype(dtype))
    if values.flags.writeable:  # NumPy does not export others
        np.testing.assert_array_equal(simulated.from_dlpack(values).numpy(), values)
    np.testing.assert_array_equal(simulated.from_dlpack(values.copy()[:0]).numpy(), values[:0])


def test_dlpack_keeps_what_it_borrows_as_long_as_it_is_used(simulated):
    freed = []

    class Values(np.ndarray):
        def __array_finalize__(self, other):
            pass

    values = np.arange(6.0).view(Values)
    finaliser = __import__("weakref").finalize(values, freed.append, True)
    array = simulated.from_dlpack(values)
    half = array[3:]
    del values, array
    gc.collect()
    assert not freed
    np.testing.assert_array_equal(half.numpy(), [3, 4, 5])
    del half
    gc.collect()
    assert freed
    finaliser.detach()


def test_dlpack_that_nobody_takes_is_freed(simulated):
    from fastconv.backends.cuda import exchange

    array = simulated.from_numpy(np.zeros(3))
    capsule = array.__dlpack__()
    assert exchange._given
    del capsule
    gc.collect()
    assert not exchange._given
    copied = np.from_dlpack(array, copy=True)
    assert not copied.any()


def test_what_dlpack_refuses(simulated):
    class Elsewhere:
        def __dlpack_device__(self):
            return 10, 3

    with pytest.raises(DeviceError, match="device"):
        simulated.from_dlpack(Elsewhere())
    with pytest.raises(DTypeError, match="real numbers"):
        simulated.from_dlpack(np.zeros(2, complex))
    with pytest.raises(DeviceError, match="dl_device"):
        simulated.from_numpy(np.zeros(2)).__dlpack__(dl_device=(4, 0))


class Foreign:
    """What another package's array shows of itself; simulated memory is the host's."""

    def __init__(self, values: np.ndarray, **more) -> None:
        self.values = values
        self.__cuda_array_interface__ = {
            "shape": values.shape, "typestr": values.dtype.str, "data": (values.ctypes.data, False), "version": 3,
            "strides": None if values.flags.c_contiguous else values.strides, **more,
        }  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_cuda_array_interface(simulated, layout):
    values = LAYOUTS[layout](normal("a", (3, 4), "float32"))
    x = fastconv.Tensor(Foreign(values, stream=1), requires_grad=True)
    assert x.device == "cuda"
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 2 * values)
    with pytest.raises(ArgumentError, match="mask"):
        fastconv.Tensor(Foreign(values, mask=values))
    entry = simulated.from_numpy(values).__cuda_array_interface__
    assert (entry["shape"], entry["typestr"], entry["version"], entry["strides"]) == ((3, 4), "<f4", 3, None)
    dense = np.array(values, order="C")
    array = simulated.adopt(Foreign(dense))
    dense[0] = 7
    np.testing.assert_array_equal(array.numpy(), dense)  # no copy
