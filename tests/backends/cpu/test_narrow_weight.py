"""Weight gradients of few input channels whose dy comes from memory: the next tile is asked for while one is summed."""

import numpy as np
import pytest
from fastconv.backends.cpu.conv_backward_weight import conv_backward_weight

from fastconv.backends.cpu import runtime
from fastconv.geometry import conv_geometry


@pytest.mark.parametrize("layout", ["NCHW", "channels-last"])
def test_large_gradients(layout):
    geometry = conv_geometry("conv3d", 3, (2, 1, 1, 301, 283), (33, 1, 1, 3, 2))
    rng = np.random.default_rng(0)
    x = rng.standard_normal(geometry.input_shape, dtype=np.float32)
    dy = rng.standard_normal(geometry.output_shape, dtype=np.float32)
    assert dy.nbytes > 16 << 20
    if layout == "channels-last":
        dy = np.moveaxis(np.ascontiguousarray(np.moveaxis(dy, 1, -1)), -1, 1)
    before, results = runtime.get_num_threads(), []
    for threads in (1, 2):
        runtime.set_num_threads(threads)
        results.append(conv_backward_weight(dy, x, geometry))
    runtime.set_num_threads(before)
    np.testing.assert_array_equal(*results)
    _, _, _, height, width = geometry.output_shape
    for i, j in np.ndindex(3, 2):
        exact = np.einsum("nchw,nhw->c", dy[:, :, 0], x[:, 0, 0, i : i + height, j : j + width], dtype=np.float64)
        np.testing.assert_allclose(results[0][:, 0, 0, i, j], exact, rtol=0, atol=2e-2)
