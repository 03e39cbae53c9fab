"""The CUDA backend on a GPU: the tests, then every kind of kernel against PyTorch (cuDNN) in the same process.

    python -m bench.gpu                    # the tests with --gpu, then all groups, in nine minutes
    python -m bench.gpu conv lenet         # groups: lenet conv pool norm elements optimiser
    python -m bench.gpu --no-tests --compute bf16 conv

float32 with TF32 off on both sides; --compute tf32 or bf16 lets both sides' convolutions round. Where these run by
wgmma they are verified and timed by mma.sync too, and both are compared in the summary. A LeNet step is
replayed from a graph, against PyTorch's eager one and its graph in channels-last. Each result is verified against
PyTorch's before it is timed; sides take turns, the best of the rounds counts. Prints geometric means of the ratio
(above 1: faster than PyTorch), and of the share of the bandwidth of a copy where memory is the limit; all figures go to
bench/results/gpu.json, a line for each case to gpu.md, after each case.

It wants a GPU, numba-cuda, PyTorch and this source, and no network; where the tree is not built the installed package
is measured. First the kernels of convolutions and of LeNet are compiled on all processors. ``--minutes`` are shared
out: of what that leaves a third to the tests (a quarter of it to some under compute-sanitizer, where that is
installed), the rest to groups, each of which takes its layers in a shuffled order until its time is up. Each group is
measured by a process of its own (gpu_measure.py). One that is silent for ``--patience`` seconds is killed, one may die
or leave the device unusable: that is noted, and a new one goes on with the next layer. ``--torch cpu`` under
NUMBA_ENABLE_CUDASIM=1 tries the script itself, with little ``--work``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import fastconv
from fastconv import config

from . import TREE, machine
from .gpu_watch import Work, run_for, watched

SHARES = {"lenet": 1, "conv": 6, "pool": 2, "norm": 1, "elements": 1, "optimiser": 1}  # of the time; in this order


# ----------------------------------------------------------------------------------------------------- tests


def tests(sanitizer: bool, seconds: float, folder: Path) -> dict[str, Any]:
    """Run the device's tests, and as many as a quarter of the time allows under compute-sanitizer if it is there, for
    so long at most; return what they printed last. All of it goes to gpu_NAME.txt."""
    of_tree = Path(fastconv.__file__).parents[1] == TREE
    python = [sys.executable, *([] if of_tree else ["-P"])]  # -P: the installed package, not the tree's
    quiet = ["-W", "default::DeprecationWarning", "-p", "no:cacheprovider",
             "-o", "addopts=", "-q", "-rfE", "--tb=short"]  # fmt: skip
    pytest = [*python, "-m", "pytest", *quiet, "--gpu", "-k", "cuda"]
    workers = ["-n", str(min(8, os.cpu_count() or 1))] if find_spec("xdist") else []
    where = ["tests/backends", "--ignore", "tests/backends/cuda/test_compile.py"]
    runs = {"tests": [*pytest, *workers, *where]}
    if sanitizer:
        some = [f"tests/backends/test_contract_{part}.py" for part in ("pool", "conv")]
        runs["compute-sanitizer"] = ["compute-sanitizer", "--error-exitcode", "9", *pytest, *some]
    found, part = {}, {"tests": 0.75 if sanitizer else 1.0, "compute-sanitizer": 0.25}
    for name, command in runs.items():
        code, said = run_for(command, seconds * part[name])
        (folder / f"gpu_{name}.txt").write_text(said, encoding="utf-8")
        found[name] = {"code": code, "end": said.splitlines()[-12:]}
        print(f"{name}: exit code {code}", *found[name]["end"][-3:], sep="\n  ", flush=True)
    return found


# -------------------------------------------------------------------------------------------------- reporting


def summary(name: str, own: list[dict[str, Any]], copied: float, ended: str | None) -> Iterator[str]:
    """Yield what is printed of a group."""
    ratios = [entry["ratio"] for entry in own if "ratio" in entry]
    shares = [entry["rate"] / copied for entry in own if entry.get("bytes_bound")]
    against = [entry["against mma.sync"] for entry in own if "against mma.sync" in entry]
    line = f"{name:<10} {len(own):>4} cases, {sum('wrong' in entry for entry in own)} wrong"
    if ratios:
        line += f"; against PyTorch {geometric_mean(ratios):.2f}x, least {min(ratios):.2f}x"
    if against:
        line += f"; wgmma against mma.sync {geometric_mean(against):.2f}x, least {min(against):.2f}x"
    if shares:
        line += f"; {100 * geometric_mean(shares):.0f} % of a copy's bandwidth"
    yield line + (f"; not all: {ended}" if ended else "")
    for entry in own:
        if "wrong" in entry:
            yield f"  wrong: {entry['name']}: {entry['wrong']}"


def lines(device: str, entries: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a table of all cases."""
    yield f"On {device or 'an unknown device'}, best of the rounds; above 1: faster than PyTorch."
    yield ""
    yield "| group | case | ours, us | PyTorch, us | ratio |"
    yield "|---|---|--:|--:|--:|"
    for entry in entries:
        if "wrong" in entry:
            yield f"| {entry['group']} | {entry['name']} | {entry['wrong']} | | |"
        else:
            ours, theirs = (1e6 * min(entry[side]) for side in ("ours", "theirs"))
            yield f"| {entry['group']} | {entry['name']} | {ours:.1f} | {theirs:.1f} | {entry['ratio']:.2f} |"


def writable(folder: Path) -> Path:
    """Return a folder for results: this one, or where it takes no files one that does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        other = Path(tempfile.mkdtemp(prefix="bench_gpu_"))
        print(f"results go to {other}: {error}", flush=True)
        return other


# -------------------------------------------------------------------------------------------------- measuring


class Results:
    """What is known so far; on disk after each step, as a whole or as it was before."""

    def __init__(self, folder: Path, compute: str) -> None:
        self.folder, self.name = folder, "gpu" if compute == "float32" else f"gpu_{compute}"
        self.known: dict[str, Any] = {
            "device": None, "cores": None, "copy": None, "kernels": None, "tests": None, "ended": {}, "cases": []
        }  # fmt: skip

    def save(self) -> Path:
        table = "\n".join(lines(self.known["device"], self.known["cases"])) + "\n"
        machine.write(self.folder / f"{self.name}.md", table)
        return machine.save(self.name, self.known, self.folder)

    def of(self, group: str) -> list[dict[str, Any]]:
        return [entry for entry in self.known["cases"] if entry["group"] == group]


def measure(work: Work, patience: float, end: float, results: Results) -> None:
    """Measure a group, and save each case as it comes."""
    known = results.known
    for kind, value in watched(work, patience, end):
        if kind == "device":
            known |= {key: value[key] for key in value if known[key] is None}  # of the first process
        elif kind == "entry":
            known["cases"].append(value)
        elif kind == "unfit" and not known["cases"]:
            sys.exit(f"bench.gpu: {value}")
        else:
            known["ended"][work.group] = value
        results.save()


def main() -> None:
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(SHARES)}; default: all")
    parser.add_argument("--no-tests", action="store_true", help="only measure")
    parser.add_argument(
        "--compute-sanitizer", action=argparse.BooleanOptionalAction, default=bool(shutil.which("compute-sanitizer")),
        help="run some tests under it too (default: where it is installed)",
    )  # fmt: skip
    parser.add_argument(
        "--work", type=float, default=2e10, help="FLOPs of a convolution; others have 1/100 as many elements"
    )
    parser.add_argument(
        "--compute", default="float32", choices=("float32", "tf32", "bf16"), help="what convolutions multiply"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--least", type=float, default=0.01, help="seconds of a sample")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all of it, tests included")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds without a result")
    parser.add_argument("--torch", default="cuda", choices=("cuda", "cpu"), help="where PyTorch works")
    machine.add_results_option(parser)
    options = parser.parse_args()
    if unknown := [name for name in options.groups if name not in SHARES]:
        parser.error(f"GROUP: expected one of {', '.join(SHARES)}, got {', '.join(unknown)}")
    if find_spec("torch") is None:
        sys.exit("bench.gpu: expected PyTorch to compare with, got no such package")
    end = began + 60 * options.minutes - 15  # to kill what hangs, and to write results in
    results = Results(writable(options.results), options.compute)
    if not config.cuda_simulated():
        ahead = [sys.executable, "-m", "bench.gpu_kernels", "--work", str(options.work), "--compute", options.compute]
        code, said = run_for(ahead, (end - time.monotonic()) / 5)
        results.known["kernels"] = {"code": code, "end": said.splitlines()[-3:]}
        print(*said.splitlines()[-3:], f"kernels: exit code {code}", sep="\n", flush=True)
    if not options.no_tests:
        seconds = (end - time.monotonic()) / 3
        results.known["tests"] = tests(options.compute_sanitizer, seconds, results.folder)
        results.save()
    left = [group for group in SHARES if group in (options.groups or SHARES)]
    for i, group in enumerate(left):
        share = SHARES[group] / sum(SHARES[each] for each in left[i:])
        until = time.monotonic() + share * (end - time.monotonic())
        work = Work(group, 0, until, options.torch, options.work, options.compute, options.least, options.rounds)
        measure(work, options.patience, end, results)
        known = results.known
        print(*summary(group, results.of(group), known["copy"], known["ended"][group]), sep="\n", flush=True)
    print(results.save())


if __name__ == "__main__":
    main()
