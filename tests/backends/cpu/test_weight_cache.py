"""Packed weights that are kept between calls are never stale, bounded, and asked for by inference alone."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

import fastconv
from fastconv import backends, config
from fastconv import functional as F
from fastconv.backends.cpu import weight_cache
from fastconv.errors import ArgumentError

conv2d = partial(F.conv2d, exact=True)  # not by Winograd
SIZES = (3, 40, 24, 24), (37, 40, 3, 3)


@pytest.fixture(autouse=True)
def empty():
    fastconv.empty_cache()
    yield
    fastconv.empty_cache()


@pytest.fixture
def bound(monkeypatch):
    """Set FASTCONV_WEIGHT_CACHE."""

    def set_to(value):
        monkeypatch.setenv("FASTCONV_WEIGHT_CACHE", str(value))
        config.weight_cache_bytes.cache_clear()

    yield set_to
    monkeypatch.undo()
    config.weight_cache_bytes.cache_clear()


@pytest.fixture
def arrays(rng):
    return [rng.standard_normal(size).astype(np.float32) for size in SIZES]


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def expected(x, w):
    """Without the cache, whatever it holds."""
    leaf = fastconv.tensor(w, requires_grad=True)
    return conv2d(x, leaf).numpy()


def test_the_second_call_keeps_and_the_third_finds(arrays):
    x, w = arrays
    y = expected(x, w)
    assert weight_cache.entries() == 0
    for kept in (0, 1, 1, 1):
        np.testing.assert_array_equal(conv2d(x, w), y)
        assert weight_cache.entries() == kept
    assert weight_cache.cached_bytes() >= 2 * w.nbytes
    fastconv.empty_cache()
    assert weight_cache.entries() == weight_cache.cached_bytes() == 0


def test_weights_written_in_place_are_seen(arrays, rng):
    x, w = arrays
    for _ in range(10):
        for _ in range(3):
            np.testing.assert_array_equal(conv2d(x, w), expected(x, w))
        w[tuple(rng.integers(0, w.shape))] += 1
    assert weight_cache.entries() == 0, "a weight that moves is not kept"


def test_each_single_element_counts(arrays):
    x, w = arrays
    for index in (0, w.size - 1):
        fastconv.empty_cache()
        for _ in range(3):
            conv2d(x, w)
        assert weight_cache.entries() == 1
        w.flat[index] = np.nextafter(w.flat[index], np.float32(9))
        np.testing.assert_array_equal(conv2d(x, w), expected(x, w))


def test_views_of_the_same_memory(arrays):
    x, w = arrays
    views = [w, w[:20], w.reshape(37, 40, 9, 1), w[::-1], w[:, :, ::-1], w.transpose(0, 1, 3, 2)]
    for _ in range(4):
        for view in views:
            np.testing.assert_array_equal(conv2d(x, view), expected(x, view))


def test_groups_of_the_same_weights(rng):
    x, w = rng.standard_normal((2, 24, 20, 20)), rng.standard_normal((24, 12, 3, 3))
    y = rng.standard_normal((2, 12, 20, 20))
    for _ in range(4):
        grouped = conv2d(x, fastconv.tensor(w, requires_grad=True), groups=2).numpy()
        np.testing.assert_array_equal(conv2d(x, w, groups=2), grouped)
        np.testing.assert_array_equal(conv2d(y, w), expected(y, w))


def test_dilations_of_the_same_weights(rng):
    """Far taps cut the channels into other chunks, and so order the panels otherwise."""
    x, w = (rng.standard_normal(size).astype(np.float32) for size in ((1, 256, 52, 52), (33, 256, 3, 3)))
    for dilation in (2, 2, 24, 24, 2):
        leaf = fastconv.tensor(w, requires_grad=True)
        np.testing.assert_array_equal(conv2d(x, w, dilation=dilation), conv2d(x, leaf, dilation=dilation).numpy())


def test_a_freed_array_whose_address_is_used_again(arrays, rng):
    x, w = arrays
    for value in range(12):
        again = backends.get("cpu").scale(w, float(value))  # on pooled memory: the address of the one before
        for _ in range(2):
            np.testing.assert_array_equal(conv2d(x, again), expected(x, again))
        del again


def test_instruction_sets_have_their_own(isa, arrays):
    x, w = arrays
    for _ in range(3):
        np.testing.assert_array_equal(conv2d(x, w), expected(x, w))


def test_linear_layers_and_their_batches(rng):
    w = rng.standard_normal((330, 500)).astype(np.float32)
    samples = rng.standard_normal((700, 500)).astype(np.float32)
    whole = F.linear(samples, fastconv.tensor(w, requires_grad=True)).numpy()
    for n in (1, 2, 4, 5, 63, 256, 257, 700):
        for _ in range(3):
            np.testing.assert_array_equal(F.linear(samples[:n], w), whole[:n])
        w[3, 5] += 1
        whole = F.linear(samples, fastconv.tensor(w, requires_grad=True)).numpy()


@pytest.mark.parametrize("outputs, entries", [(96, 0), (330, 1), (2100, 0)])
def test_linear_layers_are_kept_where_a_comparison_costs_less_than_packing(rng, outputs, entries):
    w, x = rng.standard_normal((outputs, 500)).astype(np.float32), np.ones((6, 500), np.float32)
    for _ in range(3):
        F.linear(x, w)
    assert weight_cache.entries() == entries


@pytest.mark.parametrize("rows", [1, 4, 6, 300])
def test_a_linear_layer_packs_once_into_a_dict_of_its_own(isa, rng, rows):
    linear = backends.get("cpu").linear_forward
    x, b = rng.standard_normal((rows, 120)).astype(np.float32), rng.standard_normal(84).astype(np.float32)
    w, kept = rng.standard_normal((84, 120)).astype(np.float32), {}
    y = linear(x, w, b, False)
    np.testing.assert_array_equal(linear(x, w, b, kept), y)
    assert len(kept) == 1
    w[:] = 0  # the owner vouches that this does not happen: here it shows that w is not read again
    np.testing.assert_array_equal(linear(x, w, b, kept), y)
    assert weight_cache.entries() == 0


def test_training_does_not_ask(arrays):
    x, w = arrays
    leaf = fastconv.tensor(w, requires_grad=True)
    for _ in range(4):
        conv2d(x, leaf)
    assert weight_cache.entries() == 0
    with fastconv.no_grad():
        for _ in range(2):
            conv2d(x, leaf)
    assert weight_cache.entries() == 1


def test_the_bound_is_kept_and_the_oldest_goes(arrays, bound):
    x, w = arrays
    for _ in range(2):
        conv2d(x, w)
    one = weight_cache.cached_bytes()
    fastconv.empty_cache()
    bound(3 * one)
    weights = [w + i for i in range(5)]
    for each in (*weights, *weights):
        conv2d(x, each)
        assert weight_cache.cached_bytes() <= 3 * one
    assert weight_cache.entries() == 3
    bound(0)
    fastconv.empty_cache()
    for _ in range(3):
        np.testing.assert_array_equal(conv2d(x, w), expected(x, w))
    assert weight_cache.entries() == 0


def test_what_is_no_longer_used_goes_for_what_is(arrays, bound):
    x, w = arrays
    for _ in range(2):
        conv2d(x, w)
    bound(weight_cache.cached_bytes() + w.nbytes)
    other = w + 1
    for _ in range(2):  # between its calls the first is used
        conv2d(x, other)
        conv2d(x, w)
    kept = weight_cache.cached_bytes()
    conv2d(x, w)
    assert weight_cache.cached_bytes() == kept
    w += 1  # so the entry that is there is found changed, if it is of these weights
    for _ in range(2):
        conv2d(x, other)
    w -= 1
    conv2d(x, w)
    assert weight_cache.entries() == 1
    for _ in range(2):
        np.testing.assert_array_equal(conv2d(x, other), expected(x, other))


@pytest.mark.parametrize("options, sizes", [
    ({"padding": 1}, ((2, 40, 12, 12), (37, 40, 3, 3))),
    ({"padding": 1}, ((1, 160, 8, 8), (256, 160, 3, 3))),
    ({"groups": 16}, ((2, 16, 9, 9), (16, 1, 3, 3))), ({"groups": 5}, ((2, 10, 9, 9), (15, 2, 3, 2))),
])  # fmt: skip
def test_winograd_and_groups_are_kept_and_never_stale(isa, rng, options, sizes):
    """Of the two Winograd layers the large one is transformed by the tasks that use it, where it is not kept."""
    x, w = (rng.standard_normal(size).astype(np.float32) for size in sizes)
    for step in range(12):
        leaf = fastconv.tensor(w, requires_grad=True)
        np.testing.assert_array_equal(F.conv2d(x, w, **options), F.conv2d(x, leaf, **options).numpy())
        assert weight_cache.entries() == (1 if step % 6 else 0)
        if step == 5:
            w[-1, 0, 1, 1] += 1
            np.testing.assert_array_equal(F.conv2d(x, w, **options), F.conv2d(x, w + 0, **options))
            fastconv.empty_cache()


def test_a_unit_keeps_its_weights(rng):
    x, w = (rng.standard_normal(size).astype(np.float32) for size in ((2, 32, 12, 12), (37, 32, 3, 3)))
    for _ in range(3):
        leaf = fastconv.tensor(w, requires_grad=True)
        np.testing.assert_array_equal(F.conv_unit(x, w, pool=2), F.conv_unit(x, leaf, pool=2).numpy())
    assert weight_cache.entries() == 1
    w[0, 0, 0, 0] += 1
    np.testing.assert_array_equal(F.conv_unit(x, w, pool=2), F.conv_unit(x, w + 0, pool=2))


def test_what_is_too_large_alone_drives_nothing_out(arrays, bound, rng):
    x, w = arrays
    large = rng.standard_normal((150, 40, 3, 3)).astype(np.float32)
    for _ in range(2):
        conv2d(x, w)
    one = weight_cache.cached_bytes()
    bound(2 * large.nbytes)  # for the copy and the panels, which are padded to whole vectors, too little
    assert one < 2 * large.nbytes
    for _ in range(4):
        np.testing.assert_array_equal(conv2d(x, large), expected(x, large))
        assert (weight_cache.entries(), weight_cache.cached_bytes()) == (1, one)


class Kind:
    """A kind of packing whose hash, which the cache asks for while it holds its lock, does something first."""

    def __init__(self, name, action):
        self.name, self.action = name, action

    def __hash__(self):
        self.action()
        return hash(self.name)

    def __eq__(self, other):
        return self.name == other.name


def test_a_thread_that_holds_the_lock_may_come_back_in(arrays):
    """As a signal handler does that runs a layer."""
    x, w = arrays

    def ask(kind):
        return weight_cache.cached_panels(w, kind, weight_cache.Panels)

    for _ in range(6):
        ask(Kind("outer", lambda: ask(Kind("inner", lambda: None))))
        ask(Kind("outer", fastconv.empty_cache))
    np.testing.assert_array_equal(conv2d(x, w), expected(x, w))


@pytest.mark.parametrize("when", range(1, 12))
def test_an_interrupt_anywhere_leaves_a_cache_that_works(arrays, when):
    x, w = arrays
    left = [when]

    def interrupt():
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    kind, interrupted = Kind("moving", interrupt), 0
    for step in range(5):
        w[0, 0, 0, 0] = step // 2
        try:
            weight_cache.cached_panels(w, kind, weight_cache.Panels)
        except KeyboardInterrupt:
            interrupted += 1
    assert interrupted == 1
    for entries in (0, 1):  # in another thread: the lock is free
        with ThreadPoolExecutor(1) as pool:
            np.testing.assert_array_equal(pool.submit(conv2d, x, w).result(timeout=60), expected(x, w))
        assert weight_cache.entries() >= entries
    fastconv.empty_cache()
    assert weight_cache.entries() == weight_cache.cached_bytes() == 0


def test_many_threads_at_once(arrays):
    x, w = arrays
    weights = [w + i for i in range(4)]
    results = [expected(x, each) for each in weights]

    def work(index):
        for step in range(30):
            which = (index + step) % 4
            if not np.array_equal(conv2d(x, weights[which]), results[which]):
                return False
            if step % 10 == index:
                fastconv.empty_cache()
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


@pytest.mark.parametrize("value", ["-1", "many", "1.5", "9" * 20])
def test_a_bound_that_is_no_number(bound, value):
    bound(value)
    with pytest.raises(ArgumentError, match="FASTCONV_WEIGHT_CACHE"):
        config.weight_cache_bytes()
