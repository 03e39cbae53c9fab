"""Benchmarks: one pytest-benchmark suite of the primitives, and paired comparisons with other engines as scripts.

Scripts write what they measured to results/, raw, with the machine and the commit. Nothing here is part of the package.
"""

import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

TREE = Path(__file__).parents[1]
BUILT_HERE = any((TREE / "fastconv/backends/cpu" / f"dispatch{suffix}").is_file() for suffix in EXTENSION_SUFFIXES)

if not BUILT_HERE:  # ``python -m`` looks here first, but what was installed is meant
    sys.path.sort(key=lambda folder: Path(folder or ".").resolve() == TREE)
