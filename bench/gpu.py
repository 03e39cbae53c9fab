"""The CUDA backend on a GPU: the tests, then every kind of kernel against PyTorch (cuDNN) in the same process.

    python -m bench.gpu                    # the tests with --gpu, then all groups, in nine minutes
    python -m bench.gpu conv lenet         # groups: lenet conv pool norm elements optimiser
    python -m bench.gpu --no-tests --compute bf16 conv

float32 with TF32 off on both sides; --compute tf32 or bf16 lets both sides' convolutions round. A LeNet step is
replayed from a graph, against PyTorch's eager one and its graph in channels-last. Each result is verified against
PyTorch's before it is timed; sides take turns, the best of the rounds counts. Prints geometric means of the ratio
(above 1: faster than PyTorch), and of the share of the bandwidth of a copy where memory is the limit; all figures go to
bench/results/gpu.json, a line for each case to gpu.md, after each group.

It wants a GPU, numba-cuda, PyTorch and this source, and no network; where the tree is not built the installed package
is measured. ``--minutes`` are shared out: a third to the tests, the rest to groups, each of which takes its layers in
a shuffled order until its time is up. A case that fails is noted; after one that leaves the device unusable the groups
that are left run in a new process. ``--torch cpu`` under NUMBA_ENABLE_CUDASIM=1 tries the script itself, with little
``--work``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import torch

import fastconv

from . import TREE, gpu_cases, machine
from .gpu_cases import BOUNDS, Bench, Case

SHARES = {"lenet": 1, "conv": 6, "pool": 2, "norm": 1, "elements": 1, "optimiser": 1}  # of the time; in this order
GROUPS = {name: getattr(gpu_cases, name) for name in SHARES}


# ----------------------------------------------------------------------------------------------------- tests


def tests(sanitizer: bool, seconds: float, folder: Path) -> dict[str, Any]:
    """Run the device's tests, perhaps a part of them under compute-sanitizer, for so long at most; return what they
    printed last. All of it goes to gpu_NAME.txt."""
    of_tree = Path(fastconv.__file__).parents[1] == TREE
    python = [sys.executable, *([] if of_tree else ["-P"])]  # -P: the installed package, not the tree's
    quiet = ["-W", "default::DeprecationWarning", "-p", "no:cacheprovider",
             "-o", "addopts=", "-q", "-rfE", "--tb=short"]  # fmt: skip
    pytest = [*python, "-m", "pytest", *quiet, "--gpu", "-k", "cuda"]
    workers = ["-n", str(min(8, os.cpu_count() or 1))] if find_spec("xdist") else []
    where = ["tests/backends", "--ignore", "tests/backends/cuda/test_compile.py"]
    runs = {"tests": [*pytest, *workers, *where]}
    if sanitizer:
        small = "tests/backends/test_contract_pool.py"
        runs["compute-sanitizer"] = ["compute-sanitizer", "--error-exitcode", "9", *pytest, small]
    found = {}
    for name, command in runs.items():
        code, said = _run_for(command, seconds / len(runs))
        (folder / f"gpu_{name}.txt").write_text(said, encoding="utf-8")
        found[name] = {"code": code, "end": said.splitlines()[-12:]}
        print(f"{name}: exit code {code}", *found[name]["end"][-3:], sep="\n  ", flush=True)
    return found


def _run_for(command: list[str], seconds: float) -> tuple[int | str, str]:
    """Run a command; return its exit code, or that it was stopped, and what it said. It is interrupted as by a user,
    so that pytest sums up."""
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=TREE, start_new_session=True
        )
    except OSError as error:
        return "not started", str(error)
    try:
        return _code(process, seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        return f"stopped after {seconds:.0f} s", _code(process, 20)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # a session of its own: its workers with it
        return f"killed after {seconds + 20:.0f} s", process.communicate()[0]


def _code(process: subprocess.Popen, seconds: float) -> tuple[int, str]:
    said, _ = process.communicate(timeout=seconds)
    return process.returncode, said


# -------------------------------------------------------------------------------------------------- measuring


def measured(bench: Bench, case: Case, least: float, rounds: int) -> dict[str, Any]:
    """Verify a case, then time both sides in turn."""
    entry = {"group": case.group, "name": case.name, "amount": case.amount}
    try:
        entry["error"] = bench.error(case.ours(), case.theirs())
        if not entry["error"] <= bench.bound:
            return {**entry, "wrong": f"wrong by {entry['error']:.3g}"}
        times: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(rounds):
            for side in times:
                times[side].append(bench.seconds(getattr(case, side), least))
    except Exception as error:  # one case shall not cost the others
        return {**entry, "wrong": told(error)}
    best = {side: min(samples) for side, samples in times.items()}
    return {**entry, **times, "ratio": best["theirs"] / best["ours"], "rate": case.amount / best["ours"],
            "bytes_bound": case.bytes_bound}  # fmt: skip


def group_measured(bench: Bench, name: str, least: float, rounds: int, until: float) -> tuple[list[dict], str | None]:
    """Return a group's entries, and why it ended before its last case: the time, an error, or nothing."""
    entries = []
    try:
        for cases in GROUPS[name](bench):
            try:
                for case in cases():
                    entries.append(measured(bench, case, least, rounds))
                    if time.monotonic() > until:
                        return entries, "time is up"
            except Exception as error:  # while arrays are made
                entries.append({"group": name, "name": "arrays", "amount": 0, "wrong": told(error)})
            if any("wrong" in entry for entry in entries):
                bench.wait()  # fails where the device is unusable
    except Exception as error:
        return entries, told(error)
    return entries, None


def told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def usable(bench: Bench) -> bool:
    """Whether the device still answers."""
    try:
        bench.wait()
        bench.pair(1)
        bench.wait()
    except Exception:  # whatever it is, nothing can be measured any more
        return False
    return True


def summary(name: str, own: list[dict[str, Any]], copied: float, ended: str | None) -> Iterator[str]:
    """Yield what is printed of a group."""
    ratios = [entry["ratio"] for entry in own if "ratio" in entry]
    shares = [entry["rate"] / copied for entry in own if entry.get("bytes_bound")]
    line = f"{name:<10} {len(own):>4} cases, {sum('wrong' in entry for entry in own)} wrong"
    if ratios:
        line += f"; against PyTorch {geometric_mean(ratios):.2f}x, least {min(ratios):.2f}x"
    if shares:
        line += f"; {100 * geometric_mean(shares):.0f} % of a copy's bandwidth"
    yield line + (f"; not all: {ended}" if ended else "")
    for entry in own:
        if "wrong" in entry:
            yield f"  wrong: {entry['name']}: {entry['wrong']}"


def lines(device: str, entries: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a table of all cases."""
    yield f"On {device}, best of the rounds; above 1: faster than PyTorch."
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


def ready(where: str, work: float, compute: str) -> Bench:
    """Return the bench after it has compiled and run one kernel; else say what is missing, and end."""
    try:
        bench = Bench(where, work, compute)
        theirs, ours = bench.pair(9)
        error = bench.error(bench.backend.scale(ours, 2.0), theirs * 2.0)
    except Exception as error:  # of the driver, the compiler, PyTorch
        sys.exit(f"bench.gpu: expected a GPU that compiles and runs a kernel, got {told(error)}")
    if not error <= bench.bound:
        sys.exit(f"bench.gpu: expected a GPU that doubles nine numbers, got a relative error of {error:.3g}")
    return bench


def main() -> None:
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; default: all")
    parser.add_argument("--no-tests", action="store_true", help="only measure")
    parser.add_argument("--compute-sanitizer", action="store_true", help="run some tests under it too")
    parser.add_argument(
        "--work", type=float, default=2e10, help="FLOPs of a convolution; others have 1/100 as many elements"
    )
    parser.add_argument("--compute", default="float32", choices=BOUNDS, help="what both sides' convolutions multiply")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--least", type=float, default=0.01, help="seconds of a sample")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all of it, tests included")
    parser.add_argument("--torch", default="cuda", choices=("cuda", "cpu"), help="where PyTorch works")
    parser.add_argument("--resume", action="store_true", help="add to the results that are there")
    machine.add_results_option(parser)
    options = parser.parse_args()
    if unknown := [name for name in options.groups if name not in GROUPS]:
        parser.error(f"GROUP: expected one of {', '.join(GROUPS)}, got {', '.join(unknown)}")
    end = began + 60 * options.minutes - 10  # to write results in
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.compute == "tf32"
    torch.backends.cudnn.benchmark = True
    if machine.describe()["isa"] is None:  # not compiled here: what is on the host runs by NumPy
        os.environ.setdefault("FASTCONV_BACKEND", "reference")
    bench, folder = ready(options.torch, options.work, options.compute), writable(options.results)
    name = "gpu" if options.compute == "float32" else f"gpu_{options.compute}"
    device = torch.cuda.get_device_name() if options.torch == "cuda" else "numba's simulator"
    result: dict[str, Any] = {"device": device, "copy": None, "tests": None, "ended": {}, "cases": []}
    if options.resume:
        kept = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        result |= {key: kept[key] for key in result}
    if not options.no_tests:
        result["tests"] = tests(options.compute_sanitizer, (end - time.monotonic()) / 3, folder)
        machine.save(name, result, folder)
    values = bench.pair(max(1, int(options.work / 100)))[0]
    copied = 8 * values.numel() / min(bench.seconds(values.clone, options.least) for _ in range(options.rounds))
    result["copy"], left = copied, [group for group in GROUPS if group in (options.groups or GROUPS)]
    del values
    while left:
        group, *rest = left
        share = SHARES[group] / sum(SHARES[each] for each in left)
        until = time.monotonic() + share * (end - time.monotonic())
        own, ended = group_measured(bench, group, options.least, options.rounds, until)
        result["cases"] += own
        result["ended"][group] = ended
        print(*summary(group, own, copied, ended), sep="\n", flush=True)
        path = machine.save(name, result, folder)
        path.with_suffix(".md").write_text("\n".join(lines(device, result["cases"])) + "\n", encoding="utf-8")
        if rest and not usable(bench):
            print("the device is unusable: a new process goes on", flush=True)
            again = ["--no-tests", "--resume", "--results", str(folder), "--work", str(options.work), "--rounds",
                     str(options.rounds), "--least", str(options.least), "--compute", options.compute,
                     "--minutes", str(max(0.5, (end - time.monotonic()) / 60))]  # fmt: skip
            os.execv(sys.executable, [sys.executable, "-m", "bench.gpu", *again, *rest])
        left = rest
    print(path)


if __name__ == "__main__":
    main()
