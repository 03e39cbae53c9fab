"""What `import fastconv` costs beyond `import numpy`: whole processes, in turn. The bar is 150 ms.

python -m bench.import_time
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial

from . import machine
from .paired import paired, spread

BAR = 0.150  # seconds


def process(module: str) -> Callable[[], object]:
    """Return a step that imports ``module`` in a fresh interpreter."""
    return partial(subprocess.run, [sys.executable, "-c", f"import {module}"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="What `import fastconv` costs beyond `import numpy`.")
    parser.add_argument("--rounds", type=int, default=20)
    machine.add_results_option(parser)
    options = parser.parse_args()
    sides = {"numpy": process("numpy"), "fastconv": process("fastconv")}
    result = paired(sides, options.rounds, steps=1, lead=0, settle=0)
    extra = [b - a for a, b in zip(result.samples["numpy"], result.samples["fastconv"], strict=True)]
    machine.save("import_time", {"extra": spread(extra), "bar": BAR, "seconds": result.samples}, options.results)
    print("| import | median, ms | beyond NumPy, ms | bar, ms |\n|---|---|---|---|")
    milliseconds = 1e3 * result.median("fastconv"), 1e3 * spread(extra)["median"], 1e3 * BAR
    print("| fastconv | {:.0f} | {:.0f} | {:.0f} |".format(*milliseconds))


if __name__ == "__main__":
    main()
