"""What every call asks about arrays: usable, steppable, may_share_memory, of NumPy arrays; all_within of any."""

from __future__ import annotations

import numpy as np
import pytest
from layouts import DTYPES, LAYOUTS, normal

A = np.zeros((2, 3), np.float32)


class Own(np.ndarray):
    pass


def misaligned(dtype: str) -> np.ndarray:
    return np.zeros(17, np.uint8)[1:].view(dtype)


REFUSED = [A.view(Own), A.astype(">f4"), A.astype(np.float16), A.astype(np.int64), misaligned("f4"), [1.0], 1.0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_plain_arrays_of_one_dtype_are_usable(numpy_backend, layout, dtype):
    array = LAYOUTS[layout](normal("a", (3, 4, 5), dtype))
    assert numpy_backend.usable([array, None, array])
    assert numpy_backend.usable((array,))
    other = "float64" if dtype == "float32" else "float32"
    assert not numpy_backend.usable([array, np.zeros(1, other)])


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: str(getattr(value, "dtype", value)))
def test_anything_else_is_not_usable(numpy_backend, value):
    assert not numpy_backend.usable([value])
    assert not numpy_backend.usable([A, value])


def test_nothing_is_not_usable(numpy_backend):
    assert not numpy_backend.usable([])
    assert not numpy_backend.usable([None])


def test_steppable(numpy_backend):
    read_only = A.copy()
    read_only.flags.writeable = False
    assert numpy_backend.steppable([A, np.zeros(())], [A, np.zeros(())])
    assert numpy_backend.steppable([A], [read_only])
    assert not numpy_backend.steppable([read_only], [A])
    for wrong in (np.zeros((3, 2), np.float32), np.zeros(6, np.float32), np.zeros((2, 3)), *REFUSED):
        assert not numpy_backend.steppable([A.copy()], [wrong])
        assert not numpy_backend.steppable([A, A], [A, wrong])


def test_may_share_memory(numpy_backend):
    a = np.zeros((4, 6))
    for one, other in [(a, a), (a, a[1:2, ::-1]), (a.T, a[2]), (a[::-1], a[:1]), (np.broadcast_to(a[0], (9, 6)), a[0])]:
        assert numpy_backend.may_share_memory(one, other)
        assert numpy_backend.may_share_memory(other, one)
    for one, other in [(a[:2], a[2:]), (a[1::-1], a[2:]), (a, a.copy()), (a[:0], a), (a, np.zeros(()))]:
        assert not numpy_backend.may_share_memory(one, other)
        assert not numpy_backend.may_share_memory(other, one)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "uint64"])
def test_all_within(backend, dtype):
    values = np.arange(3, 24, dtype=dtype).reshape(3, 7)
    for array in (values, values[:, ::2], values.T):
        low, high = int(array.min()), int(array.max())
        assert backend.all_within(array, low, high + 1)
        assert not backend.all_within(array, low, high)
        assert not backend.all_within(array, low + 1, high + 1)
    assert backend.all_within(values[:0], 5, 5)


def test_one_value_in_every_place_is_a_view_that_cannot_be_written(numpy_backend):
    for value in (np.full((), 3.0, np.float32), np.full((1, 1), 3.0)):
        spread = numpy_backend.broadcast_to(value, (2, 1, 4))
        np.testing.assert_array_equal(spread, np.full((2, 1, 4), 3.0))
        assert (spread.dtype, spread.flags.writeable) == (value.dtype, False)
        assert np.shares_memory(spread, value)
        assert numpy_backend.broadcast_to(value, (0, 4)).shape == (0, 4)
    with pytest.raises(ValueError, match="more dimensions"):
        numpy_backend.broadcast_to(np.zeros((1, 1)), (4,))
