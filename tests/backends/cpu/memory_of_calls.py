"""Run as a program: what each call takes beyond its arguments and results, a line of JSON a call.

`blocks`: bytes that the call took from the buffer pool and gave back; `allowed`: those of packed or transformed weights
among them, and, for a verb made of others, of the array that one hands to the next; `python`: NumPy's own arrays at
their peak; `workspaces`: scratch memory of all threads, of all calls so far.
"""

import json
import sys
import tracemalloc
from functools import partial

import numpy as np

import fastconv
from fastconv import backends
from fastconv import functional as F
from fastconv.backends.cpu import runtime
from fastconv.geometry import conv_geometry

CONVOLUTIONS = {  # of real networks: input, weight, options
    "alexnet conv1": ((4, 3, 227, 227), (96, 3, 11, 11), {"stride": 4}),
    "resnet conv1": ((4, 3, 224, 224), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
    "resnet res2 1x1": ((8, 64, 56, 56), (256, 64, 1, 1), {}),
    "resnet res5 1x1": ((8, 2048, 7, 7), (512, 2048, 1, 1), {}),
    "resnet res5 shortcut": ((4, 1024, 14, 14), (2048, 1024, 1, 1), {"stride": 2}),
    "vgg conv2": ((1, 64, 224, 224), (64, 64, 3, 3), {"padding": 1}),
    "vgg conv5": ((4, 512, 14, 14), (512, 512, 3, 3), {"padding": 1}),
    "googlenet 5x5": ((8, 32, 28, 28), (96, 32, 5, 5), {"padding": 2}),
    "stride 2": ((4, 128, 56, 56), (128, 128, 3, 3), {"padding": 1, "stride": 2}),
    "dilated": ((1, 64, 65, 65), (64, 64, 3, 3), {"padding": 12, "dilation": 12}),
    "depthwise": ((4, 256, 56, 56), (256, 1, 3, 3), {"padding": 1, "groups": 256}),
    "depthwise stride 2": ((4, 144, 112, 112), (144, 1, 3, 3), {"padding": 1, "stride": 2, "groups": 144}),
    "resnext": ((4, 128, 56, 56), (128, 4, 3, 3), {"padding": 1, "groups": 32}),
    "resnext conv5": ((16, 1024, 14, 14), (1024, 32, 3, 3), {"padding": 1, "stride": 2, "groups": 32}),
    "dilated groups": ((2, 512, 56, 56), (512, 32, 3, 3), {"padding": 16, "dilation": 16, "groups": 16}),
    "3-D unet": ((1, 32, 32, 64, 64), (64, 32, 3, 3, 3), {"padding": 1}),
    "i3d temporal": ((1, 192, 16, 28, 28), (192, 192, 3, 1, 1), {"padding": (1, 0, 0)}),
}
NORM_CONVOLUTIONS = {  # of DenseNet: input, output channels
    "dense block 1": ((8, 256, 56, 56), 128),
    "dense block 4": ((16, 1024, 7, 7), 128),
    "transition": ((16, 1024, 14, 14), 512),
    "many channels": ((5, 2304, 28, 28), 256),
}
POOLS = {
    "global": ((16, 2048, 7, 7), 7, {}),
    "3x3": ((8, 64, 112, 112), 3, {"stride": 2, "padding": 1}),
    "overlapping": ((8, 256, 28, 28), 3, {"stride": 1, "padding": 1}),
    "many places": ((4, 64, 56, 56), 5, {"stride": 5}),
    "few channels": ((256, 3, 32, 32), 2, {}),
    "volume": ((1, 32, 48, 48, 48), 2, {}),
    "wide volume": ((1, 16, 16, 64, 64), 3, {"stride": 1, "padding": 1}),
}


def values(shape, dtype, last=False):
    """Random numbers, with channels side by side in memory or as C has them."""
    a = np.random.default_rng(0).standard_normal((shape[0], *shape[2:], shape[1]) if last else shape).astype(dtype)
    return np.moveaxis(a, -1, 1) if last else a


def convolutions(dtype):
    for name, (shape, w_shape, options) in CONVOLUTIONS.items():
        rank = len(shape) - 2
        forward, backward = getattr(F, f"conv{rank}d"), getattr(F, f"conv{rank}d_backward")
        w = values(w_shape, dtype)
        for exact in (False, True):
            for last in (False, True):
                x = values(shape, dtype, last)
                dy = values(forward(x, w, **options).shape, dtype, last)
                where = f"{name}{' exact' if exact else ''}{', channels-last' if last else ''}"
                given = {**options, "exact": exact}
                yield f"conv forward, {where}", w.nbytes, partial(forward, x, w, **given)
                for i, which in enumerate(("input", "weight")):
                    needs = [i == k for k in range(3)]
                    call = partial(backward, dy, x, w, **given, needs=needs)
                    yield f"conv {which} gradient, {where}", w.nbytes, call


def units(dtype):
    for shape, w_shape in (((16, 32, 14, 14), (64, 32, 5, 5)), ((4, 64, 112, 112), (64, 64, 3, 3))):
        x, w = fastconv.Tensor(values(shape, dtype), requires_grad=True), values(w_shape, dtype)
        leaf = fastconv.Tensor(w, requires_grad=True)
        unit = partial(F.conv_unit, x, leaf, padding=1, activation="relu", pool=2)
        yield f"unit, {w_shape}", w.nbytes, unit
        y = unit()
        dy = np.ones(y.shape, dtype)
        spread = 0 if w_shape[2] == 5 else 4 * dy.nbytes  # the gradient of a convolution that is not fused
        yield f"unit backward, {w_shape}", w.nbytes + spread, partial(y.backward, dy, retain_graph=True)


def norm_convolutions(dtype):
    """Batch norm, ReLU and a 1x1 convolution, of some channels of a larger array."""
    cpu = backends.get("cpu")
    for name, ((n, channels, *sizes), out) in NORM_CONVOLUTIONS.items():
        geometry = conv_geometry("conv2d", 2, (n, channels, *sizes), (out, channels, 1, 1))
        x = values((n, channels + 32, 1, *sizes), dtype, True)[:, :channels]
        w, dy = values(geometry.weight_shape, dtype), values(geometry.output_shape, dtype, True)
        constants = [np.ones(channels, dtype) for _ in range(4)]
        assert cpu.fuses_norm_conv(x, geometry)
        for moments in (False, True):
            where = f"{name}{', moments' if moments else ''}"
            call = partial(cpu.norm_conv_forward, x, *constants, w, None, geometry, moments)
            yield f"norm and conv forward, {where}", w.nbytes, call
        call = partial(cpu.norm_conv_backward_weight, dy, x, *constants, geometry)
        yield f"norm and conv weight gradient, {name}", 0, call
        for residual in (None, x):
            call = partial(cpu.norm_conv_backward_input, dy, w, x, *constants, geometry, residual)
            yield f"norm and conv input gradient, {name}", w.nbytes, call


def linears(dtype):
    for inside, outside in ((4096, 1000), (1024, 256), (84, 10)):
        for n in (1, 16, 300):
            x, w, dy = values((n, inside), dtype), values((outside, inside), dtype), values((n, outside), dtype)
            b = values((outside,), dtype)
            where = f"{inside} to {outside}, {n} rows"
            yield f"linear forward, {where}", w.nbytes, partial(F.linear, x, w, b)
            yield f"linear backward, {where}", w.nbytes, partial(F.linear_backward, dy, x, w)


def pools(dtype):
    for name, (shape, kernel, options) in POOLS.items():
        for last in (False, True):
            for kind in ("max", "avg"):
                pool = getattr(F, f"{kind}_pool{len(shape) - 2}d")
                leaf = fastconv.Tensor(values(shape, dtype, last), requires_grad=True)
                y = pool(leaf, kernel, **options)
                dy = values(y.shape, dtype, last)
                where = f"{kind} {name}{', channels-last' if last else ''}"
                yield f"pool forward, {where}", 0, partial(pool, leaf, kernel, **options)
                yield f"pool backward, {where}", 0, partial(y.backward, dy, retain_graph=True)


def elements(dtype):
    """Verbs of whole maps, forward and with their gradients."""
    channels = 128
    mean, var, w = (np.ones(channels, dtype) for _ in range(3))
    verbs = {
        "batch norm": lambda x: F.batch_norm(x, mean, var, w, w, True),
        "batch norm, inference": lambda x: F.batch_norm(x, mean, var, w, w, False),
        "group norm": lambda x: F.group_norm(x, 8, w, w), "local response norm": lambda x: F.local_response_norm(x, 5),
        "relu": F.relu, "gelu": F.gelu, "add": lambda x: F.add(x, other),
        "add a channel's value": lambda x: F.add(x, w[:, None, None]),
        "dropout": lambda x: F.dropout(x, 0.5), "softmax": lambda x: F.softmax(x, 1),
        "nearest": lambda x: F.interpolate(x, scale_factor=2), "sum": lambda x: F.sum(x, (0, 2, 3)),
        "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
        "pad": lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), "cat": lambda x: F.cat([x, other], 1),
        "max": lambda x: F.amax(x, (2, 3)), "cross-entropy": lambda x: F.cross_entropy(x, target),
    }  # fmt: skip
    target = np.zeros((8, 56, 56), np.int64)
    for last in (False, True):
        x, other = (values((8, channels, 56, 56), dtype, last) for _ in range(2))
        for name, verb in verbs.items():
            where = f"{name}{', channels-last' if last else ''}"
            leaf = fastconv.Tensor(x, requires_grad=True)  # so what is kept for the gradient is a result
            yield f"forward, {where}", 0, partial(verb, leaf)
            y = verb(leaf)
            dy = values(y.shape, dtype, last) if y.ndim == 4 else np.ones(y.shape, dtype)
            yield f"backward, {where}", x.nbytes if name == "max" else 0, partial(y.backward, dy, retain_graph=True)


def main(dtype):
    runtime.set_num_threads(2)
    for family in (convolutions, units, norm_convolutions, linears, pools, elements):
        for name, allowed, call in family(np.dtype(dtype)):
            fastconv.empty_cache()
            tracemalloc.start()
            result = call()
            python = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            print(json.dumps({"call": name, "blocks": runtime.cached_bytes(), "python": python, "allowed": allowed,
                              "workspaces": runtime.workspace_bytes()}))  # fmt: skip
            del result


if __name__ == "__main__":
    main(sys.argv[1])
