"""Compiles ahead what bench.gpu starts: the kernels of its convolutions and of LeNet, on all processors.

    python -m bench.gpu_kernels [--compute bf16] [--work FLOPS]

A kernel takes seconds to compile, and there are more than a hundred: one after the other they would take the time that
there is for measuring. A machine that is none notes which they are, with the device's capability and multiprocessors;
they are left in the user's cache, where the processes that measure find them. numba-cuda and ptxas are needed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from random import Random
from typing import Any

import numpy as np

from fastconv.backends.cuda import kernel_cache, launch, recorder, tiles, warpgroup_check
from fastconv.backends.cuda.backend import CudaBackend
from fastconv.errors import DeviceError

from . import gpu_layers


def recorded(layers: Sequence[dict[str, Any]], work: float, compute: str, batches: Sequence[int]) -> dict:
    """Return the kernels of layers in three directions, and of LeNet's training step."""
    here = launch.machine()
    backend = CudaBackend()
    for batch in batches:
        model = gpu_layers.lenet(*gpu_layers.LENET).to("cuda")
        edge = gpu_layers.LENET[2]
        x = backend.empty((batch, 1, edge, edge), "float32")
        gpu_layers.replayed(backend, model, x, np.zeros(batch, np.int64))
    for layer in layers:
        if g := gpu_layers.convolution(layer, work, compute):
            x, w, dy = (backend.empty(s, "float32") for s in (g.input_shape, g.weight_shape, g.output_shape))
            backend.conv_forward(x, w, None, g)
            backend.conv_backward_input(dy, w, None, g)
            backend.conv_backward_weight(dy, x, g)
    return here.kernels


def build(number: int, capability: tuple[int, int]) -> bool:
    """Compile a kernel, unless it is there; return whether it was not."""
    launched, kernel = KERNELS[number]
    name = kernel_cache.digest(kernel_cache.identity(launched.name, launched.key), launched.types)
    places = kernel_cache.places(name, capability)
    if any(path.is_file() for path in places):
        return False
    architecture = "sm_{}{}{}".format(*kernel_cache.numba_capability(capability))
    entry, codes = recorder.machine_code(launched, kernel, min(capability, (8, 0)), [architecture])
    kernel_cache.write(places[-1], kernel_cache.packed(entry, codes[architecture]))
    return True


def device() -> tuple[tuple[int, int], int]:
    """Return the compute capability and the multiprocessors, in a process apart: one that has asked the driver must not
    be forked."""
    here = launch.machine()
    return here.capability, here.processors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=float, default=2e10)
    parser.add_argument("--compute", default="float32", choices=("float32", "tf32", "bf16"))
    options = parser.parse_args()
    if recorder.ptxas() is None:
        sys.exit("bench.gpu_kernels: expected ptxas (nvidia-cuda-nvcc), got none: kernels are compiled as they come")
    with ProcessPoolExecutor(1, get_context("spawn")) as apart:
        try:
            capability, processors = apart.submit(device).result()
        except DeviceError as error:
            sys.exit(f"bench.gpu_kernels: {error}")
    machine = recorder.Recorder()
    machine.capability, machine.processors = capability, processors
    layers = gpu_layers.listed("conv.json")
    with launch.use(machine):
        some = Random(0).sample(layers, len(layers))
        recorded(some, options.work, options.compute, gpu_layers.LENET_BATCHES)
        if tiles.cores(options.compute) == "wgmma":  # its known answer; and convolutions without it
            warpgroup_check.answers(options.compute)
            os.environ["FASTCONV_WGMMA"] = "0"
            recorded(some, options.work, options.compute, ())
    KERNELS.extend(machine.kernels.items())
    with ProcessPoolExecutor(os.cpu_count(), get_context("fork")) as pool:  # kernels are closures: children have them
        made = sum(pool.map(build, range(len(KERNELS)), repeat(capability)))
    print(f"{len(KERNELS)} kernels, {made} of them compiled")


KERNELS: list[tuple] = []

if __name__ == "__main__":
    main()
