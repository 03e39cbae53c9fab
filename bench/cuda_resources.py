"""What each CUDA kernel uses: registers, spilled registers, shared memory, as ptxas says, for sm_80 and sm_90 (sm_90a,
where it has instructions that no other architecture has).

``python -m bench.cuda_resources`` prints the table of docs/cuda.md. No GPU is needed: every verb is called on a machine
that only notes which kernels it would start (fastconv/backends/cuda/recorder.py), once of each capability, and these
are compiled: once to PTX for sm_80, which is assembled for both.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import numpy as np

from fastconv.backends.cuda import launch, naive, recorder, tiles, warpgroup_check
from fastconv.backends.cuda.backend import CudaBackend
from fastconv.backends.cuda.pointwise import KINDS
from fastconv.geometry import conv_geometry, pool_geometry
from fastconv.resampling import nearest_taps

CAPABILITIES = ((8, 0), (9, 0))
DTYPES = ("float32", "float64")
# Shapes that reach the kernels which plan.py chooses among, as (x, w, options).
CONVOLUTIONS = (
    ((2, 3, 224, 224), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((2, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
    ((2, 64, 56, 56), (128, 64, 3, 3), {"padding": 1, "stride": 2}),
    ((2, 64, 56, 56), (256, 64, 1, 1), {}),
    ((2, 1, 28, 28), (32, 1, 5, 5), {}),
    ((2, 32, 56, 56), (32, 1, 3, 3), {"padding": 1, "groups": 32}),
    ((2, 8, 16, 16), (8, 4, 3, 3), {"padding": 1, "groups": 2}),
    ((64, 128, 28, 28), (128, 128, 3, 3), {"padding": 1, "compute": "bf16"}),
    ((64, 128, 28, 28), (128, 128, 3, 3), {"padding": 1, "compute": "tf32"}),
    *(
        ((64, c, 56, 56), (c, c, 3, 3), {"padding": 1, "compute": compute})
        for c in (32, 64)
        for compute in ("bf16", "tf32")
    ),
    ((32, 64, 8, 28, 28), (128, 64, 3, 3, 3), {"padding": 1}),
    *(  # few tiles and a deep sum: parts apart, and in turn
        ((n, 512, 7, 7), (512, 512, 3, 3), {"padding": 1, "compute": compute})
        for n in (1, 256)
        for compute in ("float32", "bf16", "tf32")
    ),
    *(
        ((16, 384, 14, 14), (384, 384, 3, 3), {"padding": 1, "compute": compute})
        for compute in ("float32", "bf16", "tf32")
    ),
    ((64, 256, 14, 14), (256, 256, 3, 3), {"padding": 1}),
    ((64, 2048, 8, 8), (512, 2048, 1, 1), {}),
    ((16, 512, 14, 14), (512, 512, 3, 3), {"padding": 1, "stride": 2}),
    ((1, 4, 6, 6), (4, 4, 3, 3), {"padding": 1}),
)


def call_every_verb(backend: CudaBackend, dtype: str) -> None:
    """Call each method of the backend that starts a kernel, with the options that choose among them."""

    def array(*shape: int, kind: str = dtype):
        return backend.from_numpy(np.zeros(shape, kind))

    x, c, column = array(4, 6, 50), array(6), array(6, 1)
    for verb in ("add", "subtract", "multiply", "divide", "maximum"):
        for other in (x, column, array(4, 1, 50), array(1)):
            getattr(backend, verb)(x, other)
    backend.add(array(3, 1, 5, 1), array(1, 4, 1, 6))
    backend.scale(x, 2.0)
    for verb in ("relu", "sigmoid", "tanh", "softmax", "log_softmax"):
        for shape in ((4, 6, 50), (4, 1000, 1), (4, 10, 1), (2, 100, 20)):
            y = getattr(backend, f"{verb}_forward")(array(*shape))
            getattr(backend, f"{verb}_backward")(y, y)
    backend.leaky_relu_backward(backend.leaky_relu_forward(x, 0.1), x, 0.1)
    for kind in KINDS:
        backend.pointwise_backward(kind, backend.pointwise_forward(kind, x, 1.0, 1.0), x, 1.0, 1.0)
    _losses(backend, array)
    for axes in (None, 0, 1, 2, (0, 2), (0, 1), (1, 2)):
        backend.sum(x, axes)
        backend.extremes(x, (0, 1, 2) if axes is None else axes if isinstance(axes, tuple) else (axes,), True)
        backend.extremes(x, (0, 1, 2) if axes is None else axes if isinstance(axes, tuple) else (axes,), False)
    for shape in ((4, 3, 5, 6, 7), (1000, 10), (64, 20, 100)):
        backend.sum(array(*shape), (0, 2) if len(shape) > 2 else 0)
        backend.sum(array(*shape))
    backend.sum(array(2, 3, 4, 5, 6), (0, 2, 4))
    for kind in ("int64", "int32", "uint8"):
        backend.all_within(array(7, kind=kind), 0, 5)
    backend.permute(x, (2, 0, 1)), backend.cat([x, x], 1), backend.broadcast_to(column, (4, 6, 50))
    x.astype("float32"), x.astype("float64"), array(5, kind="int32").astype("int64")
    _norms(backend, array)
    _pools(backend, array)
    taps = nearest_taps(np.arange(4))
    y = backend.resample_forward(array(1, 2, 1, 4, 4), [None, taps, taps])
    backend.resample_backward(y, [None, taps, taps], (1, 2, 1, 4, 4))
    backend.pad_backward(backend.pad_forward(c, [(1, 1)], "reflect", 0.0), (6,), [(1, 1)], "reflect")
    backend.dropout_apply(x, backend.dropout_mask(x.shape, 0.5, (1, 2)), 2.0)
    for criterion in ("gini", "error") if dtype == "float64" else ():
        backend.best_splits(array(3, 9, kind="uint8"), array(9), (0, 4, 9), criterion)
    _optimisers(backend, array)
    _in_a_graph(backend, dtype)
    _convolutions(backend, array)


def _losses(backend: CudaBackend, array) -> None:
    x, loss, t, w = array(4, 6, 50), array(4, 50), array(4, 50, kind="int64"), array(6)
    for weight in (None, w):
        for smoothing in (0.0, 0.1):
            backend.cross_entropy_forward(x, t, weight, -100, smoothing)
            backend.cross_entropy_backward(loss, x, t, weight, -100, smoothing)
            backend.nll_backward(loss, t, 6, weight, -100, smoothing)
    backend.mse_backward(backend.mse_forward(x, x), x, x)
    for factor in (None, x):
        backend.bce_with_logits_backward(backend.bce_with_logits_forward(x, x, None, factor), x, x, None, factor)


def _norms(backend: CudaBackend, array) -> None:
    c = array(6)
    for shape in ((4, 6, 50), (4, 6, 1), (64, 6, 400), (1, 6, 9)):
        x = array(*shape)
        mean, variance = backend.batch_norm_statistics(x)
        for w in (None, c):
            for b in (None, c):
                backend.batch_norm_forward(x, mean, variance, w, b)
            for training in (False, True):
                backend.batch_norm_backward(x, x, mean, variance, w, training)
        backend.bias_backward(x)
    backend.move_towards(c, backend.reciprocal_root(c, 1e-5), 0.1, 1.0)
    y, scale = backend.local_response_norm_forward(x, 5, 1e-4, 0.75, 1.0)
    backend.local_response_norm_backward(y, x, scale, 5, 1e-4, 0.75)


def _pools(backend: CudaBackend, array) -> None:
    geometry = pool_geometry("pool", 2, (2, 3, 8, 8), 2)
    x = array(2, 3, 1, 8, 8)
    y, where = backend.max_pool_forward(x, geometry)
    backend.max_pool_backward(y, where, geometry)
    for kind in ("int32", "int64", "uint8"):
        backend.max_pool_backward(y, array(*y.shape, kind=kind), geometry)
        backend.max_unpool_backward(x, array(*y.shape, kind=kind))
    backend.avg_pool_backward(backend.avg_pool_forward(x, geometry), geometry)
    conv = conv_geometry("conv", 2, (2, 3, 8, 8), (3, 3, 3, 3), padding=1)
    w, b = array(3, 3, 1, 3, 3), array(3)
    for activation in ("relu", None):
        y, place = backend.conv_act_pool_forward(x, w, b, conv, activation, geometry)
        backend.conv_act_pool_backward(y, place, x, w, conv, geometry, (True, True, True))


def _optimisers(backend: CudaBackend, array) -> None:
    p = [array(20), array(3, 3)]
    backend.accumulate(p[0], p[0])
    options = {"lr": 0.1, "dampening": 0.0, "weight_decay": 0.0}
    backend.sgd_step(p, p, [None, None], momentum=0.0, nesterov=False, first=False, **options)
    for nesterov in (False, True):
        for first in (False, True):
            backend.sgd_step(p, p, p, momentum=0.9, nesterov=nesterov, first=first, **options)
    for decoupled in (False, True):
        backend.adam_step(p, p, p, p, step=1, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.1,
                          decoupled=decoupled)  # fmt: skip


def _in_a_graph(backend: CudaBackend, dtype: str) -> None:
    """What takes numbers from memory there."""

    def step() -> bool:
        _optimisers(backend, lambda *shape: backend.empty(shape, dtype))
        backend.dropout_mask((5,), 0.5, (1, 2))
        return True

    if backend.captured(step, []) is None:
        raise RuntimeError("the step of an optimiser was not captured")


def _convolutions(backend: CudaBackend, array) -> None:
    for x_shape, w_shape, options in CONVOLUTIONS:
        geometry = conv_geometry("conv", len(x_shape) - 2, x_shape, w_shape, **options)
        x, w = array(*geometry.input_shape), array(*geometry.weight_shape)
        dy = array(*geometry.output_shape)
        for b in (None, array(geometry.oc)):
            backend.conv_forward(x, w, b, geometry)
        backend.conv_act_forward(x, w, b, geometry, "relu")
        for b in (None, array(geometry.ic)):
            backend.conv_backward_input(dy, w, b, geometry)
        backend.conv_backward_weight(dy, x, geometry)
    w, b = array(*geometry.weight_shape), array(geometry.oc)
    for bias in (None, b):
        naive.conv_forward(x, w, bias, geometry), naive.conv_backward_input(dy, w, bias, geometry)
    naive.conv_backward_weight(dy, x, geometry)
    for n, i, o in ((64, 1024, 256), (64, 256, 10), (1, 1024, 256), (8192, 2048, 512)):
        x, w, dy = array(n, i), array(o, i), array(n, o)
        backend.linear_forward(x, w, None)
        for compute in ("float32", "bf16", "tf32"):
            backend.linear_forward(x, w, array(o), False, compute)
            backend.linear_backward_input(dy, w, compute), backend.linear_backward_weight(dy, x, compute)


def recorded(dtypes: tuple[str, ...] = DTYPES) -> recorder.Recorder:
    """Return a machine that has noted every kernel of every capability."""
    with launch.use(recorder.Recorder()) as machine:
        for machine.capability in CAPABILITIES:
            for dtype in dtypes:
                call_every_verb(CudaBackend(), dtype)
        for compute in tiles._CORES:
            warpgroup_check.answers(compute)
    return machine


def text_of(key: tuple) -> str:
    """A kernel's key as text."""
    return " ".join(getattr(value, "__name__", str(value)).strip("_") for value in key)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", metavar="FACTORY", help="how names begin, as reduce. (default: all)")
    parser.add_argument("--all", action="store_true", help="a line for each kernel, not for each factory")
    options = parser.parse_args()
    machine, lines = recorded(), defaultdict(list)
    for launched, kernel in machine.kernels.items():
        if not options.only or launched.name.startswith(tuple(options.only)):
            name = f"{launched.name} {text_of(launched.key)}" if options.all else launched.name
            lines[name].append(recorder.usage(launched, kernel, CAPABILITIES))
    print("| kernel | variants | registers sm_80 | sm_90 | spilled bytes | stack | shared bytes |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, variants in sorted(lines.items()):
        registers = [_range([used[i].registers for used in variants if used[i]]) for i in range(len(CAPABILITIES))]
        every = [used for both in variants for used in both if used]
        rest = [_range([getattr(used, field) for used in every]) for field in ("spills", "stack", "shared")]
        print("| " + " | ".join([name, str(len(variants)), *registers, *rest]) + " |")


def _range(values: list[int]) -> str:
    if not values:
        return ""
    return str(min(values)) if min(values) == max(values) else f"{min(values)} to {max(values)}"


if __name__ == "__main__":
    main()
