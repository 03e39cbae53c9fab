"""Results of short sums that no cache holds go past the caches: with the bits of single images, which do not."""

import numpy as np
import pytest
from fastconv.backends.cpu.conv_backward_input import conv_backward_input
from fastconv.backends.cpu.conv_forward import conv_forward

from fastconv.backends.cpu import runtime
from fastconv.geometry import conv_geometry

BYTES = 32 << 20  # that a result has to exceed
CASES = {
    "1x1": ((3, 48, 1, 119, 53), (512, 48, 1, 1, 1), {}),
    "parts of a register tile": ((2, 33, 3, 61, 47), (592, 33, 1, 1, 1), {}),
    "no whole lines": ((2, 16, 1, 131, 127), (296, 16, 1, 1, 1), {}),
    "groups": ((2, 24, 1, 140, 133), (288, 8, 1, 1, 1), {"groups": 3}),
    "borders": ((2, 3, 1, 271, 270), (64, 3, 1, 3, 3), {"padding": (0, 1, 1)}),
    "few pixels, padded": ((2, 3, 1, 3, 3), (64, 3, 1, 3, 3), {"padding": (0, 150, 151)}),
}


@pytest.fixture(autouse=True)
def restore_threads():
    before = runtime.get_num_threads()
    yield
    runtime.set_num_threads(before)


def channels_last(a):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)


def compare(geometry_of, run, arrays):
    """Compare the result of the whole batch, with that of each image alone, on one thread and more."""
    for threads in (1, 2, 3):
        runtime.set_num_threads(threads)
        whole = run(*arrays, geometry_of(len(arrays[0])))
        assert whole.nbytes > BYTES >= whole[0].nbytes
        for n in range(len(whole)):
            alone = run(*(a[n : n + 1] for a in arrays), geometry_of(1))
            np.testing.assert_array_equal(whole[n], alone[0])


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_forward(isa, case):
    (n, *x_shape), w_shape, options = case
    rng = np.random.default_rng(0)
    x = channels_last(rng.standard_normal((n, *x_shape), dtype=np.float32))
    w, b = rng.standard_normal(w_shape, dtype=np.float32), rng.standard_normal(w_shape[0], dtype=np.float32)

    def geometry_of(n):
        return conv_geometry("conv3d", 3, (n, *x_shape), w_shape, **options)

    compare(geometry_of, lambda x, g: conv_forward(x, w, b, g), (x,))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("endings", [(), ("residual",), ("gate",), ("residual", "gate")], ids="-".join)
@pytest.mark.parametrize("spare", [False, True])
def test_input_gradients(isa, stride, endings, spare):
    rng = np.random.default_rng(1)
    x_shape, w_shape, options = (512, 1, 125, 71), (40, 512, 1, 1, 1), {"stride": (1, stride, stride)}

    def geometry_of(n):
        return conv_geometry("conv3d", 3, (n, *x_shape), w_shape, **options)

    def run(dy, *others):
        *others, geometry = others
        given = {name: a.copy(order="K") for name, a in zip(endings, others, strict=True)}  # may be written to
        return conv_backward_input(dy, w, None, geometry, **given, spare=spare)

    w = rng.standard_normal(w_shape, dtype=np.float32)
    shapes = [geometry_of(2).output_shape, *[(2, *x_shape)] * len(endings)]
    compare(geometry_of, run, [channels_last(rng.standard_normal(shape, dtype=np.float32)) for shape in shapes])
