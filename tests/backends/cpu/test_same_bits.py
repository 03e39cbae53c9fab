"""The same bits: whole networks on 1, 2 and 4 threads, and a sample alone and anywhere in a batch.

Single operations are in the contract tests; here they work together, as tiles, tasks and reductions meet in training.
"""

import numpy as np
import pytest

import fastconv
from fastconv import functional as F
from fastconv import nn, optim
from fastconv.backends.cpu import runtime

THREADS = (1, 2, 4)


@pytest.fixture(autouse=True)
def restore_threads():
    before = runtime.get_num_threads()
    yield
    runtime.set_num_threads(before)


def plane_net():
    return nn.Sequential(
        nn.Conv2d(3, 33, 5, padding=2, stride=2), nn.BatchNorm2d(33), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(33, 33, 3, padding=1, groups=33), nn.LeakyReLU(), nn.Conv2d(33, 33, 3, 2, 2, groups=33),
        nn.ConvTranspose2d(33, 8, 3, stride=2),
        nn.AvgPool2d(2, ceil_mode=True), nn.AdaptiveMaxPool2d(3), nn.Flatten(), nn.Dropout(0.3), nn.Linear(72, 7),
    )  # fmt: skip


def volume_net():
    return nn.Sequential(
        nn.Conv3d(2, 17, (3, 1, 3), padding="same"), nn.Tanh(), nn.AvgPool3d(2), nn.Conv3d(17, 8, 2, dilation=2),
        nn.BatchNorm3d(8), nn.Sigmoid(), nn.AdaptiveAvgPool3d(2), nn.Flatten(), nn.Linear(64, 7),
    )  # fmt: skip


NETS = {"2-D": (plane_net, (3, 37, 29)), "3-D": (volume_net, (2, 9, 10, 11))}


def trained(name, dtype, threads):
    """Train for four steps; return every number that came out."""
    make, shape = NETS[name]
    runtime.set_num_threads(threads)
    fastconv.manual_seed(3)
    model = make().to(dtype)
    rng = np.random.default_rng(5)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    numbers = []
    for n in (13, 4, 1 if name == "3-D" else 2, 13):
        x, labels = fastconv.tensor(rng.standard_normal((n, *shape)).astype(dtype)), rng.integers(0, 7, n)
        loss = F.cross_entropy(model(x), labels, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        numbers.append(loss.numpy())
    return {str(i): number for i, number in enumerate(numbers)} | model.state_dict()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETS)
def test_training_does_not_depend_on_threads(isa, name, dtype):
    expected = trained(name, dtype, THREADS[0])
    assert all(np.isfinite(value).all() for value in expected.values())
    for threads in THREADS[1:]:
        for key, value in trained(name, dtype, threads).items():
            np.testing.assert_array_equal(value, expected[key], err_msg=f"{key}, {threads} threads")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETS)
def test_a_sample_does_not_see_its_batch(isa, name, dtype):
    make, shape = NETS[name]
    fastconv.manual_seed(3)
    model = make().to(dtype).eval()
    samples = np.random.default_rng(6).standard_normal((11, *shape)).astype(dtype)
    with fastconv.no_grad():
        together = model(fastconv.tensor(samples)).numpy()
        for index in (0, 4, 10):
            alone = model(fastconv.tensor(samples[index : index + 1])).numpy()
            np.testing.assert_array_equal(alone[0], together[index])
        backwards = model(fastconv.tensor(samples[::-1])).numpy()
        np.testing.assert_array_equal(backwards[::-1], together)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("features", [(1024, 256), (1025, 255), (3000, 100), (2100, 70)])
def test_one_row_through_a_linear_layer(features, dtype):
    """Threads hand the sums of one row on to each other where the weights stay in their caches."""
    inside, outside = features
    rng = np.random.default_rng(2)
    x, dy = rng.standard_normal((5, inside)).astype(dtype), rng.standard_normal((5, outside)).astype(dtype)
    w = rng.standard_normal((outside, inside)).astype(dtype)
    for rows in (1, 5):
        for threads in (1, 2, 3, 4):
            runtime.set_num_threads(threads)
            dx = F.linear_backward(dy[:rows], x[:rows], w, needs=(True, False, False))[0]
            if rows == threads == 1:
                alone = dx
                np.testing.assert_allclose(dx, dy[:1] @ w, rtol=1e-4, atol=1e-4)
            np.testing.assert_array_equal(dx[:1], alone)


@pytest.mark.parametrize("strides", [(1, 2), (2, 1), (-1, 4), (4, -1), (1, 20)])
@pytest.mark.parametrize("kernel", [(2, 2), (1, 3), (3, 1)])
def test_taps_in_any_order_of_memory_have_their_own_gradients(kernel, strides):
    base, item = np.random.default_rng(0).standard_normal(2000).astype(np.float32), 4
    x = np.lib.stride_tricks.as_strided(base[900:], (3, 1, 9, 9), (100 * item, item, *(item * s for s in strides)))
    w = np.zeros((20, 1, *kernel), np.float32)
    dy = np.random.default_rng(1).standard_normal((3, 20, 10 - kernel[0], 10 - kernel[1])).astype(np.float32)
    needs = [False, True, False]
    actual = F.conv2d_backward(dy, x, w, needs=needs)[1]
    np.testing.assert_array_equal(actual, F.conv2d_backward(dy, np.ascontiguousarray(x), w, needs=needs)[1])
