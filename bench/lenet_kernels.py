"""Where a training step of the tutorial network goes: each kernel's time beside the least that its operations take.

    python -m bench.lenet_kernels --batch 1 64 512
    FASTCONV_EXACT=1 python -m bench.lenet_kernels --batch 64
    python -m bench.lenet_kernels --batch 64 --compute bf16

Counted are the multiply-adds that a kernel cannot do without, given its algorithm: one for each live window of a pooled
layer's gradient, the products of Winograd's planes and the steps of its transforms (each a vector operation, as a
multiply-add is); two bfloat16 products at a time count as one. The least time is theirs at the rate that the
micro-kernel reaches from the nearest cache on so many threads (bench.peak), in the same run. The optimiser's step moves
memory: it has its bytes in place of products. What is left of a step after its kernels is Python.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

import fastconv
from fastconv import backends, config, models

from . import machine, peak
from .lenet_step import Fastconv, batch_of

PLANES = 64  # of a tile of F(4 x 4, 5 x 5)
SQUARES = 4  # 4 x 4 outputs: tiles of an image in the second layer
TAPS, IC, OC = 25, 32, 64  # of the second layer
HIDDEN, INPUTS, CLASSES, PARAMETERS = 256, 1024, 10, 317_066
# Operations on an element (a tile's or a weight's channel): calls of the one-dimensional map x its own.
INPUT, OUTPUT, SPREAD, SCATTER, FILTER, FILTER_BACK = 16 * 24, 12 * 18, 12 * 15, 16 * 35 + 64, 13 * 25, 13 * 28
LINES, LINE_INPUT = (72 * 32 * 80, 72 * 32 * 36), 6 * 28 * 24  # of the first layer along rows: an image's 2 x 4 outputs


def winograd(batch: int) -> dict[str, tuple[int, int]]:
    """Return (products, steps of transforms) of the second layer, forward and backward."""
    tiles, products = SQUARES * batch, PLANES * SQUARES * batch * IC * OC
    forward = tiles * (IC * INPUT + OC * OUTPUT) + IC * OC * FILTER
    backward = tiles * (IC * (INPUT + SCATTER) + OC * SPREAD) + IC * OC * (FILTER + FILTER_BACK)
    if batch == 1:  # the weight gradient is summed over live windows
        products, live = 2 * products, 16 * OC * TAPS * IC
        return {
            "forward": (products // 2, forward),
            "backward": (products // 2 + live, tiles * (IC * SCATTER + OC * SPREAD) + IC * OC * FILTER),
        }
    return {"forward": (products, forward), "backward": (2 * products, backward)}


def counted(batch: int, exact: bool, pairs: bool) -> dict[tuple[str, int], tuple[str, float, float]]:
    """Return, by verb and number of its call, a name and the products and other vector operations, in elements.

    With ``pairs`` the layers that multiply bfloat16 numbers have a product for each two.
    """
    half = 0.5 if pairs else 1
    first = (batch * 576 * 32 * TAPS, 0) if exact else (batch * LINES[0], batch * (LINES[1] + LINE_INPUT))
    dense, live = batch * 64 * OC * TAPS * IC, batch * 16 * OC * TAPS * IC
    second = {"forward": (half * dense, 0), "backward": (2 * live, 0)} if exact else winograd(batch)
    large, small = half * batch * INPUTS * HIDDEN, half * batch * HIDDEN * CLASSES
    return {
        ("conv_act_pool_forward", 0): ("first layer", *first),
        ("conv_act_pool_forward", 1): ("second layer", *second["forward"]),
        ("linear_forward", 0): ("linear layer", large, 0),
        ("linear_forward", 1): ("classes", small, 0),
        ("linear_backward_input", 0): ("classes, input gradient", small, 0),
        ("linear_backward_weight", 0): ("classes, weight gradient", small, 0),
        ("linear_backward_input", 1): ("linear layer, input gradient", large, 0),
        ("linear_backward_weight", 1): ("linear layer, weight gradient", large, 0),
        ("conv_act_pool_backward", 0): ("second layer, both gradients", *second["backward"]),
        ("conv_act_pool_backward", 1): ("first layer, weight gradient", batch * 144 * 32 * TAPS, 0),
    }


class Timed(type(backends.get("cpu"))):  # type: ignore[misc]
    """The CPU backend with a watch: seconds of each verb's calls, by the number of the call in its step."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, int], list[float]] = defaultdict(list)
        self.calls: Counter[str] = Counter()

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        return self._watched(name, value) if callable(value) and not name.startswith("_") else value

    def _watched(self, name: str, verb: Callable) -> Callable:
        def run(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            result = verb(*args, **kwargs)
            self.seconds[name, self.calls[name]].append(time.perf_counter() - began)
            self.calls[name] += 1
            return result

        return run


def measure(batch: int, steps: int, compute: str) -> tuple[float, dict[tuple[str, int], float]]:
    """Return the median seconds of a step, and of each verb's calls in steps that are watched."""
    x, labels = batch_of(batch)
    fastconv.manual_seed(0)
    weights = {name: np.array(value) for name, value in models.create("tutorial").state_dict().items()}
    side, taken, watch = Fastconv(x, labels, weights, compute=compute), [], Timed()
    for i in range(steps + 10):
        began = time.perf_counter()
        side.step()
        if i >= 10:
            taken.append(time.perf_counter() - began)
    with backends.use(watch):
        for _ in range(steps):
            watch.calls.clear()
            side.step()
    return median(taken), {call: median(times) for call, times in watch.seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="A LeNet training step, kernel by kernel, against its operations.")
    parser.add_argument("--batch", type=int, nargs="+", default=[64], help="batch sizes")
    parser.add_argument("--threads", type=int, default=fastconv.get_num_threads())
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--compute", choices=config.COMPUTE, default="float32", help="numbers that are multiplied")
    machine.add_results_option(parser)
    options = parser.parse_args()
    fastconv.set_num_threads(options.threads)
    for batch in options.batch:
        rate = max([peak.arithmetic(options.threads) for _ in range(9)])
        step, verbs = measure(batch, options.steps, options.compute)
        rows, known = [], counted(batch, config.exact(), options.compute == "bf16")
        for call, (name, products, others) in known.items():
            rows.append((name, products, others, 2e-9 * (products + others) / rate, verbs[call]))
        rest = sum(seconds for call, seconds in verbs.items() if call not in {*known, ("sgd_step", 0)})
        optimiser = verbs["sgd_step", 0]
        python = step - rest - optimiser - sum(row[-1] for row in rows)
        print(f"batch {batch}, {options.threads} threads, {rate:.0f} GFLOP/s: a step takes {1e6 * step:.0f} us\n")
        print("| kernel | million products | other operations | least us | us | share of the limit |")
        print("|---|---|---|---|---|---|")
        for name, products, others, least, seconds in rows:
            print(f"| {name} | {1e-6 * products:.2f} | {1e-6 * others:.2f} | {1e6 * least:.1f} | {1e6 * seconds:.1f} "
                  f"| {least / seconds:.2f} |")  # fmt: skip
        bound = sum(row[3] for row in rows)
        print(f"| optimiser, {20e-6 * PARAMETERS:.1f} MB read and written | | | | {1e6 * optimiser:.1f} | |\n"
              f"| small calls | | | | {1e6 * rest:.1f} | |\n| Python | | | | {1e6 * python:.1f} | |\n"
              f"| sum | | | {1e6 * bound:.1f} | {1e6 * step:.1f} | {bound / step:.2f} |\n")  # fmt: skip
        record = {"batch": batch, "threads": options.threads, "gflops": rate, "step": step, "rows": rows,
                  "optimiser": optimiser, "small_calls": rest, "python": python}  # fmt: skip
        suffix = ("_exact" if config.exact() else "") + ("" if options.compute == "float32" else f"_{options.compute}")
        machine.save(f"lenet_kernels_b{batch}_t{options.threads}{suffix}", record, options.results)


if __name__ == "__main__":
    main()
