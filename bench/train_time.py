"""`fastconv train` on MNIST as a user runs it, a process: seconds from its start to 99 % of the test images.

    FASTCONV_DATA=... python -m bench.train_time --seeds 5

The clock starts before the process does; it is read when the line of an epoch is printed, whose test accuracy is the
first at or above the target: import, reading the data, training and testing are all in it. A steady epoch is the time
from one such line to the next: 60,000 images with their shuffling and shifting, the test of 10,000, and the checkpoint.
The bars: 5 s, and 2 s an epoch.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from . import machine
from .paired import spread

BARS = {"to_target": 5.0, "epoch": 2.0}  # seconds
EPOCH = re.compile(r"^epoch +(\d+)/\d+ .* test +([\d.]+) %")
COMMAND = [sys.executable, "-m", "fastconv", "train", "--dataset", "mnist"]


def train(seed: int, options: list[str]) -> dict[str, Any]:
    """Run one process; return when each line came (seconds from its start), and the history it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        command = [*COMMAND, "--seed", str(seed), "--output", str(place), *options]
        lines: list[tuple[float, str]] = []
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            lines.extend((time.perf_counter() - began, line) for line in process.stdout)
        ended = time.perf_counter() - began
        if process.returncode:
            raise SystemExit(f"train_time: {' '.join(command)} failed")
        history = [json.loads(line) for line in (place / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    epochs = [(at, float(match[2])) for at, line in lines if (match := EPOCH.match(line))]
    if len(epochs) != len(history):
        raise SystemExit("train_time: the lines of the epochs are not as they were")
    ready = next(at for at, line in lines if line.startswith("training:"))
    return {
        "seed": seed, "ready": ready, "ended": ended,
        "epochs": [
            {"at": at, "test_accuracy": accuracy, "training": entry["seconds"]}
            for (at, accuracy), entry in zip(epochs, history, strict=True)
        ],
    }  # fmt: skip


def first_at(run: dict[str, Any], target: float) -> tuple[float, int] | None:
    """Return when the target was reached, and in which epoch; None where it was not."""
    found = [(e["at"], i) for i, e in enumerate(run["epochs"], 1) if e["test_accuracy"] >= target]
    return found[0] if found else None


def between(run: dict[str, Any]) -> list[float]:
    """Return the seconds from the end of each epoch to the end of the next."""
    ends = [epoch["at"] for epoch in run["epochs"]]
    return [after - before for before, after in pairwise(ends)]


def main() -> None:
    parser = argparse.ArgumentParser(description="`fastconv train` on MNIST, from its start to 99 %.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--target", type=float, default=99.0, help="test accuracy, per cent")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="passed on to `fastconv train`; last")
    machine.add_results_option(parser)
    options = parser.parse_args()
    runs = []
    print(
        "| seed | ready, s | target reached, s | epoch | test accuracies, % | a later epoch, s | of that training, s |"
    )
    print("|---|---|---|---|---|---|---|")
    for seed in range(options.seeds):
        run = train(seed, options.options)
        runs.append(run)
        reached, steady = first_at(run, options.target), between(run)
        accuracies = ", ".join(f"{epoch['test_accuracy']:.2f}" for epoch in run["epochs"])
        training = [epoch["training"] for epoch in run["epochs"][1:]]
        cells = f"{reached[0]:.2f} | {reached[1]}" if reached else "never |"
        later = f"{median(steady):.2f} | {median(training):.2f}" if steady else " | "
        print(f"| {seed} | {run['ready']:.2f} | {cells} | {accuracies} | {later} |", flush=True)
    reached = [found[0] if (found := first_at(run, options.target)) else float("inf") for run in runs]
    steady = [seconds for run in runs for seconds in between(run)]
    record: dict[str, Any] = {"target": options.target, "bars": BARS, "options": options.options, "runs": runs}
    record["to_target"] = spread(reached)
    record["epoch"] = spread(steady) if steady else None
    machine.save("train_time", record, options.results)
    print(
        f"\n{options.target:g} %: median {median(reached):.2f} s, most {max(reached):.2f} s (bar {BARS['to_target']})"
    )
    if steady:
        print(f"a later epoch: median {median(steady):.2f} s, most {max(steady):.2f} s (bar {BARS['epoch']})")


if __name__ == "__main__":
    main()
