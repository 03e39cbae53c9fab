"""The process that measures one group for bench.gpu: it tells each step as it comes, and may be killed at any of them.

Started by bench.gpu as ``python -m bench.gpu_measure JSON``, which is a ``Work`` of gpu_watch.py. What it tells are
pairs, in this order: ``device`` and what it is; then, of each layer, ``layer`` and its number, and of each of its cases
``case`` and its name, ``entry`` and what came of it. The last one is ``ended`` and why (None: there are no more
layers); ``broken`` and why, where the device needs a new process; or ``unfit`` and why nothing can be measured.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any

import torch

from . import gpu_cases, machine
from .gpu_cases import Bench, Case
from .gpu_watch import Work


def told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def measured(bench: Bench, case: Case, least: float, rounds: int) -> dict[str, Any]:
    """Verify a case, then time both sides, and other ways of ours, in turn."""
    entry = {"group": case.group, "name": case.name, "amount": case.amount}
    try:
        entry["error"] = bench.error(case.ours(), case.theirs())
        if not entry["error"] <= bench.bound:
            return {**entry, "wrong": f"wrong by {entry['error']:.3g}"}
        for name, call in case.others.items():
            if not (error := bench.error(call(), case.theirs())) <= bench.bound:
                return {**entry, "wrong": f"{name} wrong by {error:.3g}"}
        sides = {"ours": case.ours, "theirs": case.theirs, **case.others}
        times: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, call in sides.items():
                times[side].append(bench.seconds(call, least))
    except Exception as error:  # one case shall not cost the others
        return {**entry, "wrong": told(error)}
    best = {side: min(samples) for side, samples in times.items()}
    others = {f"against {name}": best[name] / best["ours"] for name in case.others}
    return {**entry, **times, **others, "ratio": best["theirs"] / best["ours"], "rate": case.amount / best["ours"],
            "bytes_bound": case.bytes_bound}  # fmt: skip


def steps(bench: Bench, work: Work) -> Iterator[tuple[str, Any]]:
    """Measure, and yield what is to be told."""
    try:
        layers = islice(enumerate(getattr(gpu_cases, work.group)(bench)), work.skip, None)
        for number, cases in layers:
            if time.monotonic() > work.until:
                yield "ended", "time is up"
                return
            yield "layer", number
            sound = True
            try:
                for case in cases():
                    yield "case", case.name
                    entry = measured(bench, case, work.least, work.rounds)
                    sound &= "wrong" not in entry
                    yield "entry", entry
                    if time.monotonic() > work.until:
                        yield "ended", "time is up"
                        return
            except Exception as error:  # while arrays are made
                sound = False
                yield "entry", {"group": work.group, "name": "arrays", "amount": 0, "wrong": told(error)}
            if not sound:  # the device may be unusable
                bench.wait()
                bench.pair(1)
                bench.wait()
        yield "ended", None
    except Exception as error:
        yield "broken", told(error)


def ready(where: str, work: float, compute: str) -> Bench:
    """Return the bench after it has compiled and run one kernel.

    Raises:
        RuntimeError: it cannot.
    """
    try:
        bench = Bench(where, work, compute)
        theirs, ours = bench.pair(9)
        error = bench.error(bench.backend.scale(ours, 2.0), theirs * 2.0)
    except Exception as error:  # of the driver, the compiler, PyTorch
        raise RuntimeError(f"expected a GPU that compiles and runs a kernel, got {told(error)}") from error
    if not error <= bench.bound:
        raise RuntimeError(f"expected a GPU that doubles nine numbers, got a relative error of {error:.3g}")
    return bench


def device(bench: Bench, work: Work) -> dict[str, Any]:
    """Return the device's name, by which instruction its tensor cores multiply, and the bytes that a copy moves in a
    second."""
    values = bench.pair(max(1, int(work.work / 100)))[0]
    seconds = min(bench.seconds(values.clone, work.least) for _ in range(work.rounds))
    name = torch.cuda.get_device_name() if work.torch == "cuda" else "numba's simulator"
    return {"device": name, "cores": bench.cores or None, "copy": 8 * values.numel() / seconds}


def main(work: Work) -> Iterator[tuple[str, Any]]:
    """Yield all that is to be told."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = work.compute == "tf32"
    torch.backends.cudnn.benchmark = True
    if machine.describe()["isa"] is None:  # not compiled here: what is on the host runs by NumPy
        os.environ.setdefault("FASTCONV_BACKEND", "reference")
    try:
        bench = ready(work.torch, work.work, work.compute)
        yield "device", device(bench, work)
    except Exception as error:
        yield "unfit", str(error)
        return
    yield from steps(bench, work)


if __name__ == "__main__":
    given = Work(**json.loads(sys.argv[1]))
    with Connection(given.speak, readable=False) as listener:
        for step in main(given):
            listener.send(step)
