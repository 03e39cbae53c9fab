"""The tape: what is recorded, what a walk back does and frees, how gradients add up; Tensor's operators."""

import copy
import pickle
import re
import threading

import numpy as np
import oracle
import pytest
import tape

import fastconv
from fastconv import Tensor, no_grad, tensor
from fastconv import functional as F
from fastconv.errors import ArgumentError, DeviceError, DTypeError, GraphError, ShapeError
from fastconv.tensor import operands, record


def leaf(values, dtype="float64"):
    return Tensor(np.array(values, dtype), requires_grad=True)


def counted(x, calls, name="op"):
    """An identity whose backward reports the flags that it was given."""

    def backward(dy, needs):
        calls.append((name, tuple(needs)))
        return [dy if need else None for need in needs]

    return record(x[0].data.copy(), x, backward)


def test_a_shared_input_gets_the_sum_of_its_gradients():
    x = leaf([1.0, 2.0])
    (x * x * x).sum().backward()
    np.testing.assert_array_equal(x.grad, [3.0, 12.0])


def test_a_diamond_walks_each_operation_once():
    calls = []
    x = leaf([3.0])
    top = counted((x,), calls, "top")
    left, right = counted((top,), calls, "left"), counted((top,), calls, "right")
    (left + right + top).backward()
    assert [name for name, _ in calls] == ["right", "left", "top"]
    np.testing.assert_array_equal(x.grad, [3.0])


def test_gradients_of_two_walks_add_up_without_touching_the_first_array():
    x = leaf([1.0])
    (x * 2.0).backward()
    first = x.grad
    (x * 5.0).backward()
    np.testing.assert_array_equal(x.grad, [7.0])
    np.testing.assert_array_equal(first, [2.0])
    x.zero_grad()
    assert x.grad is None


def test_leaves_own_their_gradients():
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    dy = np.ones(2)
    (a + b).backward(dy)
    a.grad += 10
    np.testing.assert_array_equal(b.grad, [1.0, 1.0])
    np.testing.assert_array_equal(dy, [1.0, 1.0])
    (a.sum()).backward()
    a.grad *= 2  # a sum's gradient is a broadcast view inside the tape, never for the user
    np.testing.assert_array_equal(a.grad, [24.0, 24.0])


def test_a_gradient_that_its_user_set_is_checked():
    x = leaf(np.ones((3, 2)))
    x.grad = np.ones(2)  # it would broadcast
    with pytest.raises(ShapeError, match=re.escape("backward: expected grad of shape (3, 2), got shape (2,)")):
        x.sum().backward()
    x.grad = np.ones((3, 2), np.float32)
    with pytest.raises(DTypeError, match="expected grad to have the dtype of gradient float64, got float32"):
        x.sum().backward()
    x.grad = np.ones((3, 2), ">f8")
    x.sum().backward()
    np.testing.assert_array_equal(x.grad, np.full((3, 2), 2.0))
    x.grad = Tensor(np.ones((3, 2)))
    x.sum().backward()
    np.testing.assert_array_equal(x.grad, np.full((3, 2), 2.0))


def test_backward_of_a_leaf_copies_dy():
    x, dy = leaf([1.0]), np.array([2.0])
    x.backward(dy)
    dy[0] = 9
    np.testing.assert_array_equal(x.grad, [2.0])


@pytest.mark.parametrize("walk", [True, False], ids=["walked", "dropped"])
def test_a_chain_of_5000_operations_does_not_reach_the_recursion_limit(walk):
    x = leaf([1.0])
    y = x
    for _ in range(5000):
        y = y + 0.0
    if walk:
        y.backward()
        np.testing.assert_array_equal(x.grad, [1.0])
    del y


def test_a_second_walk_raises_unless_the_graph_is_retained():
    x = leaf([2.0])
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_array_equal(x.grad, [8.0])
    with pytest.raises(GraphError, match=r"^backward: expected a graph that is still there .*, got a freed one$"):
        y.backward()
    np.testing.assert_array_equal(x.grad, [8.0])


def test_saved_arrays_are_released_by_the_walk():
    import weakref

    class Saved(np.ndarray):
        pass

    x = leaf([1.0])
    saved = np.ones(1).view(Saved)
    watch = weakref.ref(saved)
    y = record(x.data.copy(), (x,), lambda dy, needs, saved=saved: (dy * saved,))
    del saved
    assert watch() is not None
    y.backward()
    assert watch() is None


def test_an_activation_that_no_gradient_needs_is_not_kept():
    import weakref

    x = leaf([[1.0, -1.0]])
    middle = x + 1.0
    watch = weakref.ref(middle)
    y = F.relu(middle)
    del middle
    assert watch() is None
    y.backward(np.ones((1, 2)))
    np.testing.assert_array_equal(x.grad, [[1.0, 0.0]])


def test_needs_says_which_inputs_want_a_gradient():
    calls = []
    x, w = Tensor(np.ones(1)), leaf([1.0])
    counted((x, w, None, np.ones(1)), calls).backward()
    assert calls == [("op", (False, True, False, False))]


def test_the_first_layer_computes_no_input_gradient(monkeypatch):
    from fastconv import backends

    (x, w) = tape.arrays("float32", (1, 1, 5, 5), (2, 1, 3, 3))
    monkeypatch.setattr(type(backends.for_numpy()), "conv_backward_input", None)
    weight = Tensor(w, requires_grad=True)
    F.conv2d(x, weight).sum().backward()
    assert weight.grad.shape == w.shape


def test_no_grad_as_a_block_and_as_a_decorator():
    x = leaf([1.0])

    @no_grad()
    def inner():
        assert not fastconv.is_grad_enabled()
        return x * 2.0

    with no_grad():
        with no_grad():
            pass
        assert not (x * 2.0).requires_grad
    assert not inner().requires_grad
    assert fastconv.is_grad_enabled()
    assert (x * 2.0).requires_grad


def test_no_grad_ends_with_an_exception_and_stays_in_its_thread():
    seen = []

    @no_grad()
    def fail():
        thread = threading.Thread(target=lambda: seen.append(fastconv.is_grad_enabled()))
        thread.start()
        thread.join()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen == [True]
    assert fastconv.is_grad_enabled()


def test_numpy_in_numpy_out_and_tensor_in_tensor_out():
    x = np.ones((1, 1, 4, 4), np.float32)
    assert type(F.max_pool2d(x, 2)) is np.ndarray
    y = F.max_pool2d(Tensor(x), 2)
    assert type(y) is Tensor
    assert not y.requires_grad
    y, indices = F.max_pool2d(Tensor(x, requires_grad=True), 2, return_indices=True)
    assert y.requires_grad
    assert not indices.requires_grad
    assert indices.dtype.kind == "i"


def test_detach_cuts_the_tape():
    x = leaf([2.0])
    (x.detach() * x).backward()
    np.testing.assert_array_equal(x.grad, [2.0])


def test_leaves_are_pickled_and_results_say_why_not():
    x = tensor([1.0, 2.0], requires_grad=True)
    for twin in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x), pickle.loads(pickle.dumps((x * 2).detach())) / 2):
        np.testing.assert_array_equal(twin.data, x.data)
    wanted = "pickle: expected a Tensor that no operation made (detach() gives one), got a result with its graph"
    for way in (pickle.dumps, copy.deepcopy):
        with raises(GraphError, wanted):
            way(x * 2)
    assert copy.copy(x * 2).requires_grad


def test_to_converts_and_its_gradient_converts_back():
    x = leaf([1.5])
    assert x.to("float64") is x
    assert x.to("cpu") is x
    y = x.to(np.float32)
    assert (y.dtype, y.device) == (np.float32, "cpu")
    y.backward(np.float32([2]))
    assert x.grad.dtype == np.float64
    with pytest.raises(DTypeError, match=r"^to: expected dtype float32 or float64, got int64$"):
        x.to(np.int64)
    with pytest.raises(DeviceError, match=r"got 'nowhere'$"):
        x.to("nowhere")


@pytest.mark.parametrize(
    ("shape", "other"), [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2,)), ((0, 3), (1, 3))]
)
@pytest.mark.parametrize("operator", ["__add__", "__sub__", "__mul__", "__truediv__"])
def test_operators_broadcast_like_torch(operator, shape, other):
    a, b = tape.arrays("float64", shape, other)
    y, gradients, dy = tape.run(lambda a, b: getattr(a, operator)(b), (a, b))
    expected, wanted = oracle.run(lambda t, a, b: getattr(a, operator)(b), (a, b), dy)
    oracle.assert_close(y, expected)
    for gradient, want in zip(gradients, wanted, strict=True):
        oracle.assert_close(gradient, want)


def test_operators_with_numbers_and_arrays():
    x = leaf([1.0, 2.0], "float32")
    for y, slope in [
        (2 - x, -1),
        (x - 2, 1),
        (2 * x, 2),
        (-x, -1),
        (x / 2, 0.5),
        (np.float32([1, 1]) + x, 1),
        (1 + x, 1),
    ]:
        x.zero_grad()
        assert y.dtype == np.float32
        y.sum().backward()
        np.testing.assert_array_equal(x.grad, np.float32([slope, slope]))
    x.zero_grad()
    (4.0 / x).sum().backward()
    np.testing.assert_array_equal(x.grad, np.float32([-4, -1]))


def test_sum_mean_reshape_flatten():
    (a,) = tape.arrays("float64", (2, 3, 4))
    for f in (
        lambda x: x.sum(1), lambda x: x.sum((0, -1), keepdim=True), lambda x: x.mean(), lambda x: x.mean(-1),
        lambda x: x.reshape(3, -1), lambda x: x.reshape((4, 6)), lambda x: x.flatten(1), lambda x: x.sum(),
    ):  # fmt: skip
        y, (gradient,), dy = tape.run(f, (a,))
        expected, (wanted,) = oracle.run(lambda t, x, f=f: f(x), (a,), dy)
        oracle.assert_close(y, expected)
        oracle.assert_close(gradient, wanted)


def test_tensor_copies_and_Tensor_wraps():
    a = np.ones(2)
    assert Tensor(a).data is a
    mine = tensor(a)
    a[0] = 5
    np.testing.assert_array_equal(mine.data, [1.0, 1.0])
    assert tensor([1.0]).dtype == np.float32
    assert tensor([1, 2]).dtype == np.int64
    assert tensor(a, dtype="float32").dtype == np.float32
    with pytest.raises(DTypeError, match="float32 or float64 where requires_grad is set, got int64"):
        tensor([1], requires_grad=True)


def test_repr_item_len_bool():
    x = tensor([[1.0, 2.0]], requires_grad=True)
    assert repr(x) == "tensor([[1., 2.]], dtype=float32, requires_grad=True)"
    assert (len(x), x.ndim, x.size, x.device) == (1, 2, 2, "cpu")
    assert x.sum().item() == 3.0
    assert x.sum().shape == ()
    assert bool(tensor(1.0))
    assert not bool(tensor(0.0))
    with pytest.raises(ShapeError, match=r"^item: expected a Tensor of one element, got shape \(1, 2\)$"):
        x.item()
    np.testing.assert_array_equal(np.asarray(x), [[1, 2]])


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def test_what_operands_refuse():
    f4, f8 = np.ones(2, "f4"), np.ones(2, "f8")
    with raises(DTypeError, "op: expected b to have the dtype of a float32, got float64"):
        operands("op", a=f4, b=f8)
    with raises(DTypeError, "op: expected a to be float32 or float64, got int64"):
        operands("op", a=np.arange(2))
    with raises(DTypeError, "op: expected a to be float32 or float64, got float16"):
        operands("op", a=np.ones(2, "f2"))
    with raises(DTypeError, "op: expected a to be float32 or float64, got list"):
        operands("op", a=[object()])
    with raises(DTypeError, "op: expected a to be float32 or float64, got None"):
        operands("op", ("b",), a=None)
    with raises(ShapeError, "op: expected a to be an array, got a ragged sequence"):
        operands("op", a=[[1.0], [1.0, 2.0]])


def test_what_Tensor_refuses_and_repairs():
    with raises(DTypeError, "tensor: expected numbers, got NoneType"):
        Tensor(None)
    with raises(DTypeError, "tensor: expected numbers, got complex128"):
        Tensor(np.ones(2, complex))
    with raises(ShapeError, "tensor: expected an array, got a ragged sequence"):
        tensor([[1.0], [1.0, 2.0]])
    with raises(DTypeError, "tensor: expected dtype float32 or float64, got 'swallow'"):
        tensor([1.0], dtype="swallow")
    with raises(DTypeError, "tensor: expected float32 or float64 where requires_grad is set, got int64"):
        Tensor(np.arange(2)).requires_grad_()
    assert Tensor(np.ones(2, ">f4"), requires_grad=True).data.dtype.isnative


@pytest.mark.parametrize(
    "index", [0, -1, slice(None, None, -2), (slice(1, None), 2), (..., None, 1), (0, 1), None, (1, ..., slice(0, 0))]
)
def test_getitem_is_a_view_whose_gradient_lands_where_it_looks(index):
    x = leaf(np.arange(12.0).reshape(3, 4))
    y = x[index]
    np.testing.assert_array_equal(y.data, x.data[index])
    assert np.shares_memory(y.data, x.data) == (y.size > 0)
    dy = 1 + np.arange(float(y.size)).reshape(y.shape)
    expected = np.zeros((3, 4))
    expected[index] = dy
    y.backward(dy)
    np.testing.assert_array_equal(x.grad, expected)


def test_what_getitem_refuses():
    x = leaf(np.ones((2, 3)))
    for index in (2, (0, 0, 0), slice(0, 2, 0), (..., ...)):
        with pytest.raises(ArgumentError, match=r"^index: expected an index within shape \(2, 3\), got"):
            x[index]
    for index in (True, 1.5, "a", [0, 1], np.array([True, False])):
        with pytest.raises(ArgumentError, match=r"^index: expected index to be an integer, got"):
            x[index]
    assert [row.shape for row in x] == [(3,), (3,)]


def test_what_operands_repair():
    values = np.arange(4.0)
    _, swapped = operands("op", a=values.astype(values.dtype.newbyteorder()))
    assert swapped.dtype.isnative
    odd = np.frombuffer(b"\0" + values.tobytes(), np.uint8)[1:].view(np.float64)
    assert not odd.flags.aligned
    _, aligned = operands("op", a=odd)
    assert aligned.flags.aligned
    np.testing.assert_array_equal(swapped, values)
    np.testing.assert_array_equal(aligned, values)
    _, a, b, c = operands("op", ("c",), a=values, b=[1.0, 2.0], c=None)
    assert (a is values, b.dtype, c) == (True, np.float64, None)


def test_what_backward_refuses():
    with raises(GraphError, "backward: expected a Tensor made from one that requires_grad, got one that is not"):
        Tensor(np.ones(1)).backward()
    x = leaf([1.0, 2.0])
    with raises(ShapeError, "backward: expected dy, for a Tensor of shape (2,), got none"):
        (x * 2.0).backward()
    with raises(ShapeError, "backward: expected dy of shape (2,), got shape (3,)"):
        (x * 2.0).backward(np.ones(3))
    with raises(DTypeError, "backward: expected dy to have the dtype of tensor float64, got float32"):
        (x * 2.0).backward(np.ones(2, "f4"))
