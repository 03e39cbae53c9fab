"""How bench.gpu watches what it starts: commands that get so many seconds, and processes that measure, of which each
that hangs or dies is followed by one that goes on with the next layer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from . import TREE

MEASURE = (sys.executable, "-m", "bench.gpu_measure")


class Work(NamedTuple):
    """What a process measures: a group from its layer number ``skip`` on, until the monotonic clock says ``until``;
    ``speak`` is the descriptor that takes what is told."""

    group: str
    skip: int
    until: float
    torch: str
    work: float
    compute: str
    least: float
    rounds: int
    speak: int = -1


def run_for(command: list[str], seconds: float) -> tuple[int | str, str]:
    """Run a command; return its exit code, or that it was stopped, and what it said. It is interrupted as by a user,
    so that pytest sums up."""
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=TREE, start_new_session=True,
            preexec_fn=_hear_interrupts,
        )  # fmt: skip
    except OSError as error:
        return "not started", str(error)
    try:
        return _code(process, seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        return f"stopped after {seconds:.0f} s", _code(process, 20)[1]
    except subprocess.TimeoutExpired:
        return f"killed after {seconds + 20:.0f} s", killed(process)


def _hear_interrupts() -> None:
    """In a new process: what a shell starts in the background ignores interrupts, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _code(process: subprocess.Popen, seconds: float) -> tuple[int, str]:
    said, _ = process.communicate(timeout=seconds)
    return process.returncode, said


def killed(process: subprocess.Popen) -> str:
    """Kill a process that leads a session, and its workers with it; return what it said. One that a driver holds may
    not end: it is not waited for."""
    with suppress(ProcessLookupError):  # it has ended by itself
        os.killpg(process.pid, signal.SIGKILL)
    try:
        return process.communicate(timeout=10)[0] or ""
    except subprocess.TimeoutExpired:
        return "(it did not end when it was killed)"


def heard(listen: Connection, patience: Callable[[], float]) -> Iterator[tuple[str, Any]]:
    """Yield what a process tells; at last ``silent`` where it is silent for too long, ``gone`` where it has ended."""
    while listen.poll(max(0.0, patience())):
        try:
            step = listen.recv()
        except EOFError:
            yield "gone", None
            return
        yield step
    yield "silent", None


def watched(work: Work, patience: float, end: float) -> Iterator[tuple[str, Any]]:
    """Yield ``device``, ``entry`` and at last ``ended`` or ``unfit`` of a group, as gpu_measure.py tells them.

    A process that is silent for ``patience`` seconds, or still there at the ``end`` of all time, is killed, which is an
    entry too. The layer in which a process came to its end is left, and a new process goes on with the next one.
    """
    while True:
        begun, name, why = work.skip, "start", ""
        process, listen = _started(work)
        try:
            for kind, value in heard(listen, lambda: min(patience, end - time.monotonic())):
                if kind == "layer":
                    work, name = work._replace(skip=value + 1), "arrays"
                elif kind == "case":
                    name = value
                elif kind in ("device", "entry"):
                    yield kind, value
                elif kind in ("ended", "unfit"):
                    yield kind, value
                    return
                elif kind == "silent":
                    late = time.monotonic() >= end
                    why = "killed: time was up" if late else f"killed: silent for {patience:.0f} s"
                elif kind == "gone":
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(10)
                    why = f"the process ended with code {process.poll()}"
                else:  # "broken"
                    why = value
                    break
        finally:
            listen.close()
            killed(process)
        yield "entry", {"group": work.group, "name": name, "amount": 0, "wrong": why}
        if work.skip == begun or time.monotonic() > work.until:
            yield "ended", why if work.skip == begun else "time is up"
            return


def _started(work: Work) -> tuple[subprocess.Popen, Connection]:
    ours, theirs = os.pipe()
    told = json.dumps(work._replace(speak=theirs)._asdict())
    process = subprocess.Popen([*MEASURE, told], cwd=TREE, pass_fds=[theirs], start_new_session=True)
    os.close(theirs)
    return process, Connection(ours, writable=False)
