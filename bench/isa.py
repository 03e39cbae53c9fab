"""--isa: hold every side of a comparison to one instruction set.

Libraries read their caps when they are loaded, so a script that was asked for one starts itself anew with all of them
set: ours, oneDNN's (PyTorch's convolutions), ATen's own kernels', MKL's and XLA's.
"""

from __future__ import annotations

import argparse
import os
import sys

CAPS = {
    "avx2": {
        "FASTCONV_MAX_ISA": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    },
}


def add_isa_option(parser: argparse.ArgumentParser) -> None:
    """Let a script's user cap the instruction set of all sides."""
    parser.add_argument("--isa", choices=tuple(CAPS), help="no wider instruction set, for any side")


def settle(isa: str | None) -> str:
    """Return what the result's name ends with; start the script anew where the caps are not set yet.

    Call it first, right after the options are parsed.

    >>> settle(None)
    ''
    """
    if isa is None:
        return ""
    caps = CAPS[isa]
    if any(os.environ.get(name) != value for name, value in caps.items()):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **caps})
    return f"_{isa}"
