"""What the contract tests do not reach: gathered gradients of pooling, sums in parts, the same bits, tables kept."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from cases import POOL_CASES
from layouts import DTYPES, normal

from fastconv import backends
from fastconv.backends.cuda import array, launch, optim, reduce

MAXIMA = [case for case in POOL_CASES if case.maximum and np.prod(case.x_shape) < 1000]
by_dtype = pytest.mark.parametrize("dtype", DTYPES)


def there(cuda, *arrays):
    return [cuda.from_numpy(a) for a in arrays]


@by_dtype
@pytest.mark.parametrize("case", MAXIMA, ids=lambda case: case.id)
def test_a_gathered_gradient_has_the_bits_of_a_scattered_one(cuda, case, dtype):
    geometry = case.geometry
    x = normal(case.id, geometry.input_shape, dtype).round(1)  # with ties
    (device,) = there(cuda, x)
    y, winners = cuda.max_pool_forward(device, geometry, "winners")
    reference, indices = backends.get("reference").max_pool_forward(x, geometry)
    oracle.assert_same_bits(y.numpy(), reference)
    np.testing.assert_array_equal(winners.numpy(), indices)
    dy = normal((case.id, "dy"), geometry.output_shape, dtype)
    (device_dy,) = there(cuda, dy)
    gathered = cuda.max_pool_backward(device_dy, winners, geometry).numpy()
    scattered = cuda.max_pool_backward(device_dy, cuda.from_numpy(indices), geometry).numpy()
    oracle.assert_same_bits(gathered, scattered)
    oracle.assert_close(gathered, backends.get("reference").max_pool_backward(dy, indices, geometry))


@by_dtype
@pytest.mark.parametrize("rows, columns", [(3, 1000), (1, 5000), (5, 257), (2, 128)])
def test_long_rows_are_summed_in_parts(cuda, rows, columns, dtype):
    if launch.machine().simulated and columns > 128:
        assert columns > reduce._SERIAL * reduce.shared_out(columns)[1]
    a = normal((rows, columns), (rows, columns), dtype)
    for values, axis in ((a, 1), (np.ascontiguousarray(a.T), 0)):
        (x,) = there(cuda, values)
        oracle.assert_close(cuda.sum(x, axis).numpy(), values.sum(axis=axis, dtype="f8"))
        best = cuda.extremes(x, (axis,), True)
        np.testing.assert_array_equal(best.numpy(), values.max(axis=axis, keepdims=True))
    mean, variance = cuda.batch_norm_statistics(*there(cuda, a[None]))
    oracle.assert_close(mean.numpy(), a.mean(axis=1, dtype="f8"))
    oracle.assert_close(variance.numpy(), a.var(axis=1, dtype="f8"))


@by_dtype
def test_a_rows_bits_do_not_depend_on_the_other_rows(cuda, dtype):
    a = normal("rows", (5, 300), dtype)
    together = cuda.sum(*there(cuda, a), 1).numpy()
    again = cuda.sum(*there(cuda, a), 1).numpy()
    oracle.assert_same_bits(together, again)
    for i in range(5):
        oracle.assert_same_bits(cuda.sum(*there(cuda, a[i : i + 1]), 1).numpy(), together[i : i + 1])


@pytest.mark.parametrize("axes", [(0, 2, 4), (1, 3), (0, 4), (0, 1, 2, 3, 4)], ids=str)
def test_sums_over_axes_in_many_groups(cuda, axes):
    a = normal("many", (2, 3, 2, 3, 4))
    oracle.assert_close(cuda.sum(*there(cuda, a), axes).numpy(), a.sum(axes))
    oracle.assert_close(cuda.sum(*there(cuda, a), axes, True).numpy(), a.sum(axes, keepdims=True))
    for largest, function in ((True, np.max), (False, np.min)):
        best = cuda.extremes(*there(cuda, a), axes, largest)
        np.testing.assert_array_equal(best.numpy(), function(a, axes, keepdims=True))
        np.testing.assert_array_equal(cuda.matches(*there(cuda, a), best).numpy(), a == best.numpy())


def test_what_was_not_written_is_seen(simulated):
    """Fresh memory holds NaN, so the other tests would notice a kernel that leaves something out."""
    simulated.empty_cache()
    assert np.isnan(array.empty((3,), np.float32).numpy()).all()
    assert array.empty((), np.int32).numpy() == -1


def test_the_optimisers_table_of_addresses_is_kept(cuda):
    p, g = there(cuda, np.ones(3, "f4"), np.ones(3, "f4"))
    options = {"momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False, "first": False}
    before = optim._table.cache_info()
    for _ in range(3):
        cuda.sgd_step([p], [g], [None], lr=0.25, **options)
    after = optim._table.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 2)
    np.testing.assert_array_equal(p.numpy(), np.full(3, 0.25))


def test_parameters_of_several_dtypes_and_none_in_one_step(cuda):
    params = [np.ones(3, "f4"), np.ones((2, 2)), np.zeros((0, 3)), np.ones((), "f4")]
    moved = there(cuda, *params)
    means, squares = there(cuda, *map(np.zeros_like, params)), there(cuda, *map(np.zeros_like, params))
    options = {"step": 1, "lr": 0.5, "beta1": 0.9, "beta2": 0.99, "eps": 0.0, "weight_decay": 0.0, "decoupled": True}
    cuda.adam_step(moved, there(cuda, *params), means, squares, **options)
    for p, after in zip(params, moved, strict=True):
        np.testing.assert_allclose(after.numpy(), p - 0.5, rtol=1e-6)
    cuda.adam_step([], [], [], [], **options)
