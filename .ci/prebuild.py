"""Fills the folder ``prebuilt`` of a wheel for GPUs: machine code of the kernels that common networks start.

    python .ci/prebuild.py FOLDER [--nets NAME ...]

Training steps and inference of the networks are recorded on a machine without a device. A kernel that is not among
theirs is compiled when it is first needed. numba-cuda and ptxas are needed (the extra cuda13), a GPU is not.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from fastconv import functional, models, no_grad, optim, tensor
from fastconv.backends.cuda import kernel_cache, launch, recorder, shipped

BATCHES = (1, 64)
NETS = {  # with the shape of a picture
    "tutorial": (1, 28, 28),
    "lenet5": (1, 28, 28),
    "cifar_net": (3, 32, 32),
    "alexnet": (3, 224, 224),
    "vgg11": (3, 224, 224),
    "resnet18": (3, 224, 224),
    "resnet50": (3, 224, 224),
    "densenet121": (3, 224, 224),
}
CAPABILITY = (8, 0)  # what PTX is written for; all architectures take it
OPTIMISERS = {"SGD": {"lr": 0.1, "momentum": 0.9, "nesterov": True}, "Adam": {"lr": 0.1}, "AdamW": {"lr": 0.1}}


def record(nets: list[str]) -> recorder.Recorder:
    """Return a machine that has noted every kernel of some networks."""
    with launch.use(recorder.Recorder()) as machine:
        for name in nets:
            model = models.create(name).to("cuda")
            for batch in BATCHES:
                x = tensor(np.zeros((batch, *NETS[name]), np.float32), device="cuda")
                with no_grad():
                    model.eval()(x)
                for kind, options in OPTIMISERS.items() if batch == BATCHES[-1] else ():
                    stepper = getattr(optim, kind)(model.train().parameters(), **options)
                    for _ in range(2):  # the first step of an optimiser is another
                        stepper.zero_grad()
                        functional.cross_entropy(model(x), np.zeros(batch, np.int64)).backward()
                        stepper.step()
    return machine


def build(number: int) -> tuple[str, dict[str, bytes]]:
    """Return the name of a recorded kernel, and its file for each architecture."""
    launched, kernel = KERNELS[number]
    architectures = list(kernel_cache.ARCHITECTURES.values())
    entry, codes = recorder.machine_code(launched, kernel, CAPABILITY, architectures)
    files = {architecture: kernel_cache.packed(entry, code) for architecture, code in codes.items()}
    return kernel_cache.digest(kernel_cache.identity(launched.name, launched.key), launched.types), files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nets", nargs="*", default=list(NETS), choices=list(NETS))
    options = parser.parse_args()
    if find_spec("numba_cuda") is None or recorder.ptxas() is None:
        sys.exit("prebuild: expected numba-cuda and ptxas (pip install 'fastconv[cuda13]'), got neither or one of them")
    KERNELS.extend(record(options.nets).kernels.items())
    with ProcessPoolExecutor(mp_context=get_context("fork")) as pool:  # kernels are closures: children have them
        size = 0
        for name, files in pool.map(build, range(len(KERNELS)), chunksize=4):
            for architecture, content in files.items():
                kernel_cache.write(options.folder / architecture / name, content)
                size += len(content)
    shipped.sign(options.folder)
    print(f"{len(KERNELS)} kernels for {', '.join(kernel_cache.ARCHITECTURES.values())}: {size} bytes")


KERNELS: list[tuple] = []

if __name__ == "__main__":
    main()
