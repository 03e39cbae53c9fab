"""The memory of a convolution beyond input, output and packed weights: at most 4 MB a thread."""

import subprocess
import sys

import pytest

LIMIT = 4 << 20
PROGRAM = """
import numpy as np
from fastconv.backends.cpu import runtime
from fastconv import functional as F
runtime.set_num_threads(2)
dtype, (shape, w_shape, options) = {dtype!r}, {case!r}
x, w = np.ones(shape, dtype), np.ones(w_shape, dtype)
rank = len(shape) - 2
y = getattr(F, f"conv{{rank}}d")(x, w, **options)
getattr(F, f"conv{{rank}}d_backward")(y, x, w, **options, needs=(True, False, False))
panels = 2 * w.nbytes * 2  # packed for either direction, columns up to a whole panel
print(runtime.workspace_bytes(), runtime.cached_bytes() - panels - x.nbytes)
"""
CASES = {
    "3x3": ((2, 64, 96, 96), (64, 64, 3, 3), {"padding": 1}),
    "deep 3x3": ((4, 512, 14, 14), (256, 512, 3, 3), {"padding": 1}),
    "wide 3x3": ((2, 192, 56, 56), (200, 192, 3, 3), {"padding": 1}),
    "wide rows": ((1, 16, 4, 20000), (16, 16, 3, 3), {"padding": 1}),
    "dilated": ((1, 32, 200, 200), (32, 32, 5, 5), {"dilation": 20, "padding": 40}),
    "first layer": ((2, 3, 224, 224), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
    "1x1": ((2, 512, 28, 28), (128, 512, 1, 1), {}),
    "few pixels": ((1, 2048, 4, 4), (512, 2048, 1, 1), {}),
    "few a group": ((2, 128, 56, 56), (128, 8, 3, 3), {"padding": 1, "groups": 16}),
    "volume": ((1, 32, 24, 28, 28), (32, 32, 3, 3, 3), {"padding": 1}),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_extra_memory(case, dtype):
    program = PROGRAM.format(dtype=dtype, case=case)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    workspaces, kept = map(int, run.stdout.split())
    assert 0 < workspaces <= 2 * LIMIT
    assert kept <= 2 * LIMIT  # what the calls took from the pool and gave back
