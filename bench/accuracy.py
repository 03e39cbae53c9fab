"""What `fastconv train` reaches, seed by seed: the test accuracy after each epoch of the default command.

FASTCONV_DATA=... python -m bench.accuracy --dataset mnist --seeds 5
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from fastconv import cli, config

from . import machine


def history(dataset: str, seed: int, epochs: int | None, compute: str) -> list[float]:
    """Train once; return the test accuracy after each epoch, in per cent."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        options = ["--dataset", dataset, "--seed", str(seed), "--output", str(place), "--quiet", "--compute", compute]
        code = cli.main(["train", *options, *(["--epochs", str(epochs)] if epochs else [])])
        if code:
            raise SystemExit(code)
        lines = (place / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [round(100 * json.loads(line)["test_accuracy"], 2) for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description="Test accuracies of the default training command, seed by seed.")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="instead of the default")
    parser.add_argument("--compute", choices=config.COMPUTE, default="float32", help="numbers that are multiplied")
    machine.add_results_option(parser)
    options = parser.parse_args()
    runs = {str(seed): history(options.dataset, seed, options.epochs, options.compute) for seed in range(options.seeds)}
    epochs = f"_{options.epochs}_epochs" if options.epochs else ""
    mode = "" if options.compute == "float32" else f"_{options.compute}"
    path = machine.save(f"accuracy_{options.dataset}{epochs}{mode}", {"test_accuracy_by_seed": runs}, options.results)
    print(f"\n{path}")
    for seed, accuracies in runs.items():
        print(f"seed {seed}: " + ", ".join(f"{accuracy:.2f} %" for accuracy in accuracies))


if __name__ == "__main__":
    main()
