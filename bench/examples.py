"""What the examples print: each is run whole, as a user runs it, and its lines are kept.

    FASTCONV_DATA=... python -m bench.examples

README's table of examples is taken from here. The figures depend on the seed alone, not on threads or the machine's
load; the seconds do.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from . import machine

FOLDER = Path(__file__).parents[1] / "examples"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


def printed(name: str) -> dict[str, Any]:
    """Run an example in a process of its own; return its lines, but for those of single epochs, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(FOLDER / f"{name}.py"), "--output", folder]
        began = time.perf_counter()
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        seconds = time.perf_counter() - began
    lines = [line for line in run.stdout.splitlines() if not line.startswith("epoch ") and folder not in line]
    return {"seconds": round(seconds, 1), "lines": lines}


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the examples whole and keep what they print.")
    parser.add_argument("--names", nargs="+", choices=NAMES, default=NAMES)
    machine.add_results_option(parser)
    options = parser.parse_args()
    for name in options.names:
        result = printed(name)
        machine.save(f"example_{name}", result, options.results)
        print(f"{name}, {result['seconds']} s", *result["lines"], sep="\n  ", flush=True)


if __name__ == "__main__":
    main()
