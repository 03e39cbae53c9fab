"""Fetching one file over HTTP: mirrors in turn, time-outs, a progress bar, checksums, an atomic write. What is fetched
stands in the catalogue of each data set, not here."""

from __future__ import annotations

import hashlib
import http.client
import queue
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, mismatch
from .files import write_atomic

_CHUNK = 1 << 16
_AGENT = {"User-Agent": "fastconv"}


@dataclass(frozen=True, slots=True)
class Remote:
    """A file as its publisher made it: name, size in bytes, checksums in hexadecimal."""

    name: str
    size: int
    md5: str
    sha256: str

    def verify(self, data: bytes) -> str | None:
        """Return what is wrong with ``data``, or None."""
        if len(data) != self.size:
            return f"{len(data):,} bytes instead of {self.size:,}"
        if hashlib.sha256(data).hexdigest() != self.sha256:
            return "the wrong SHA-256 checksum"
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != self.md5:
            return "the wrong MD5 checksum"
        return None


def download(
    remote: Remote, mirrors: Sequence[str], folder: Path, *, timeout: float = 15.0, limit: float = 900.0,
    progress: bool | None = None,
) -> Path:  # fmt: skip
    """Fetch ``remote`` from the first mirror that delivers it intact, and return its path in ``folder``.

    ``timeout`` bounds each wait for the network, ``limit`` the seconds a mirror may take in all. ``progress`` shows a
    bar on stderr (None: where stderr is a terminal).

    Raises:
        DataError: no mirror delivered it, or it cannot be written; the message says why for each.
    """
    failures = []
    for mirror in mirrors:
        url = mirror.rstrip("/") + "/" + remote.name
        try:
            data = _fetch(url, remote, timeout, time.monotonic() + limit, progress)
        except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
            failures.append(f"{url}: {getattr(error, 'reason', None) or error or type(error).__name__}")
            continue
        wrong = remote.verify(data)
        if wrong is None:
            return _store(folder / remote.name, data)
        failures.append(f"{url}: {wrong}")
    raise DataError(mismatch("download", f"{remote.name} from one of {len(mirrors)} mirrors", "; ".join(failures)))


def _fetch(url: str, remote: Remote, timeout: float, deadline: float, progress: bool | None) -> bytes:
    from tqdm import tqdm

    data = bytearray()
    request = urllib.request.Request(url, headers=_AGENT)
    with (
        urllib.request.urlopen(request, timeout=timeout) as response,
        tqdm(
            total=remote.size, desc=remote.name, unit="B", unit_scale=True, file=sys.stderr, leave=False,
            disable=None if progress is None else not progress,
        ) as bar,
    ):  # fmt: skip
        while len(data) <= remote.size:  # one byte too many is enough to know
            piece = response.read1(_CHUNK)
            if not piece:
                break
            data += piece
            bar.update(len(piece))
            if time.monotonic() > deadline:
                raise TimeoutError("too slow")
    return bytes(data)


def _store(path: Path, data: bytes) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
    except OSError as error:
        raise DataError(mismatch("download", f"{path} to be writable", error.strerror or error)) from None
    return path


def reachable(urls: Sequence[str], seconds: float = 3.0) -> bool:
    """Whether one of ``urls`` answers within ``seconds``. Asked in threads: a name server can hang for longer."""
    answers: queue.Queue[bool] = queue.Queue()
    for url in urls:
        threading.Thread(target=_ask, args=(url, seconds, answers.put), daemon=True).start()
    deadline = time.monotonic() + seconds
    for _ in urls:
        try:
            if answers.get(timeout=max(0.0, deadline - time.monotonic())):
                return True
        except queue.Empty:
            return False
    return False


def _ask(url: str, seconds: float, answer: Callable[[bool], None]) -> None:
    try:
        request = urllib.request.Request(url, headers=_AGENT, method="HEAD")
        with urllib.request.urlopen(request, timeout=seconds) as response:
            answer(response.status == 200)
    except Exception:
        answer(False)
