"""Not one byte outside the arrays: inputs that end, or begin, at a page that may not be touched.

A kernel that reads a vector too far dies with a segmentation fault here, so each operation runs in a child process.
"""

import ctypes
import mmap
import multiprocessing
import sys

import numpy as np
import pytest

from fastconv import backends
from fastconv.backends import cpu as cpu_package
from fastconv.geometry import adaptive_pool_geometry, conv_geometry, pool_geometry

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="uses mprotect and fork as Linux has them")

PAGE = mmap.PAGESIZE
_kept = []  # mappings, for as long as the process lives


def fenced(values, at_end):
    """Copy an array to memory whose neighbouring page, after it (``at_end``) or before it, may not be touched."""
    values = np.ascontiguousarray(values)
    pages = -(-max(values.nbytes, 1) // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    _kept.append(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    for fence in (start, start + (pages + 1) * PAGE):
        assert libc.mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(PAGE), 0) == 0
    offset = PAGE + (pages * PAGE - values.nbytes if at_end else 0)
    array = np.frombuffer(memory, values.dtype, values.size, offset).reshape(values.shape)
    array[...] = values
    return array


def conv(backend, x, layout, **options):
    rng = np.random.default_rng(0)
    w = rng.standard_normal(options.pop("w")).astype(x.dtype)
    geometry = conv_geometry("conv2d", 2, x.shape, w.shape, **options)
    dy = rng.standard_normal(geometry.output_shape).astype(x.dtype)
    b = rng.standard_normal(geometry.oc).astype(x.dtype)
    for at_end in (True, False):
        fx, fdy = (layout(a.reshape(s), at_end) for a, s in ((x, geometry.input_shape), (dy, geometry.output_shape)))
        fw, fb = fenced(w.reshape(geometry.weight_shape), at_end), fenced(b, at_end)
        backend.conv_forward(fx, fw, fb, geometry)
        backend.conv_backward_input(fdy, fw, None, geometry)
        backend.conv_backward_weight(fdy, fx, geometry)
        backend.bias_backward(fdy)


def as_is(a, at_end):
    return fenced(a, at_end)


def as_channels_last(a, at_end):
    return np.moveaxis(fenced(np.moveaxis(a, 1, -1), at_end), -1, 1)


def pools(backend, x, layout):
    shape = (*x.shape[:2], 1, *x.shape[2:])
    for at_end in (True, False):
        for geometry in (
            pool_geometry("max_pool2d", 2, x.shape, 3, 2, 1),
            pool_geometry("max_pool2d", 2, x.shape, 3, 1),
            pool_geometry("max_pool2d", 2, x.shape, 2),
            adaptive_pool_geometry("pool", 2, x.shape, (3, 2)),
        ):
            fx = layout(x.reshape(shape), at_end)
            y, indices = backend.max_pool_forward(fx, geometry)
            dy = layout(np.ones_like(y), at_end)
            backend.max_pool_backward(dy, layout(indices, at_end), geometry)
            backend.avg_pool_forward(fx, geometry)
            backend.avg_pool_backward(dy, geometry)


def rows(backend, x, layout):
    flat = x.reshape(x.shape[0], -1)
    w = np.ones((7, flat.shape[1]), x.dtype)
    target = np.arange(len(flat)) % flat.shape[1]
    for at_end in (True, False):
        fx, fw = fenced(flat, at_end), fenced(w, at_end)
        y = backend.linear_forward(fx, fw, fenced(np.ones(7, x.dtype), at_end))
        dy = fenced(y, at_end)
        backend.linear_backward_input(dy, fw)
        backend.linear_backward_weight(dy, fx)
        x3, labels = fenced(flat[:, :, None], at_end), fenced(target[:, None].astype(np.int64), at_end)
        _, _, log_prob = backend.cross_entropy_forward(x3, labels, None, -100, 0.1)
        dloss = fenced(np.ones((len(flat), 1), x.dtype), at_end)
        backend.cross_entropy_backward(dloss, fenced(log_prob, at_end), labels, None, -100, 0.1)
        backend.softmax_backward(x3, backend.softmax_forward(x3))


def elementwise(backend, x, layout):
    c = x.shape[1]
    for at_end in (True, False):
        fx, ones = layout(x[:, :, None], at_end), fenced(np.ones(c, x.dtype), at_end)
        for name in ("relu", "sigmoid", "tanh"):
            y = layout(getattr(backend, f"{name}_forward")(fx), at_end)
            getattr(backend, f"{name}_backward")(fx, y)
        backend.leaky_relu_backward(fx, backend.leaky_relu_forward(fx, 0.1), 0.1)
        backend.add(fx, fx)
        backend.sum(fx)
        backend.dropout_apply(fx, backend.dropout_mask(fx.shape, 0.5, (1, 2)), 2.0)
        x3 = fenced(x.reshape(x.shape[0], c, -1), at_end)
        mean, variance = backend.batch_norm_statistics(x3)
        backend.batch_norm_forward(x3, fenced(mean, at_end), ones, ones, ones)
        backend.batch_norm_backward(x3, x3, fenced(mean, at_end), fenced(variance, at_end), ones, True)
        parameter, gradient, buffer = (fenced(x, at_end) for _ in range(3))
        backend.sgd_step([parameter], [gradient], [buffer], lr=0.1, momentum=0.9, dampening=0.0, weight_decay=0.1,
                         nesterov=True, first=False)  # fmt: skip
        backend.adam_step([parameter], [gradient], [buffer], [fenced(x * x, at_end)], step=1, lr=0.1, beta1=0.9,
                          beta2=0.99, eps=1e-8, weight_decay=0.0, decoupled=False)  # fmt: skip


OPERATIONS = {
    "conv": lambda b, x, layout: conv(b, x, layout, w=(9, x.shape[1], 3, 3)),
    "conv_padded_strided": lambda b, x, layout: conv(b, x, layout, w=(5, x.shape[1], 3, 2), stride=2, padding=1),
    "conv_1x1": lambda b, x, layout: conv(b, x, layout, w=(33, x.shape[1], 1, 1)),
    "conv_depthwise": lambda b, x, layout: conv(b, x, layout, w=(x.shape[1], 1, 3, 3), groups=x.shape[1]),
    "pools": pools,
    "rows": rows,
    "elementwise": elementwise,
}


def run(operation, isa, dtype, layout):
    cpu_package.set_max_isa(isa)
    backend = backends.get("cpu")
    rng = np.random.default_rng(0)
    for channels in (1, 3, 8, 17):
        OPERATIONS[operation](backend, rng.standard_normal((2, channels, 6, 7)).astype(dtype), layout)


def test_the_fence_bites():
    child = multiprocessing.get_context("fork").Process(target=read_past_a_fence)
    child.start()
    child.join()
    assert child.exitcode == -11  # SIGSEGV


def read_past_a_fence():
    import faulthandler

    faulthandler.disable()
    ctypes.string_at(fenced(np.zeros(5, np.float32), True).ctypes.data, 24)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("layout", [as_is, as_channels_last])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_nothing_outside_the_arrays_is_touched(operation, isa, dtype, layout):
    child = multiprocessing.get_context("fork").Process(target=run, args=(operation, isa, dtype, layout))
    child.start()
    child.join(120)
    assert child.exitcode == 0
