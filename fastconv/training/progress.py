"""What a run shows as it works: a bar on a terminal, else sparse lines, nothing if quiet. And how it hears Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
import time
from shutil import get_terminal_size
from types import FrameType, TracebackType
from typing import Any

_SPARSE = 15.0  # seconds between lines within an epoch, where there is no bar
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Progress:
    """Progress over ``total`` images, ``done`` of them before this run (a resumed one).

    Lines go to stdout; the bar and the lines within an epoch go to stderr.
    """

    def __init__(self, total: int, done: int = 0, *, quiet: bool = False) -> None:
        self.quiet, self.total, self.done = quiet, total, done
        self._started, self._first, self._spoke = time.monotonic(), done, time.monotonic()
        self._bar: Any = None
        if not quiet and sys.stderr.isatty():
            from tqdm import tqdm

            columns, lines = get_terminal_size()  # a terminal may not know its size; tqdm would then hide the bar
            self._bar = tqdm(
                total=total, initial=done, unit=" images", file=sys.stderr, leave=False, ncols=columns - 1, nrows=lines,
                bar_format="{desc} {percentage:3.0f} % |{bar}| {postfix[0]}, {rate_noinv_fmt}, {remaining} left",
                desc="starting", postfix=["loss -"],
            )  # fmt: skip

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def line(self, text: str) -> None:
        """Print a line, above the bar."""
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.write(text, file=sys.stdout)
        else:
            print(text, flush=True)

    def step(self, count: int, epoch: str, loss: float, accuracy: float) -> None:
        """Count a batch of ``count`` images; loss and accuracy are the epoch's so far."""
        self.done += count
        if self._bar is not None:
            self._bar.desc = epoch
            self._bar.postfix[0] = f"loss {loss:.4f}, {100 * accuracy:.2f} %"
            self._bar.update(count)
        elif not self.quiet and time.monotonic() - self._spoke > _SPARSE:
            self._spoke = time.monotonic()
            rate = (self.done - self._first) / (self._spoke - self._started)
            left = (self.total - self.done) / rate
            state = f"{epoch}  loss {loss:.4f}  train {100 * accuracy:.2f} %  {rate:,.0f} images/s  {left:.0f} s left"
            print(state, file=sys.stderr, flush=True)


class Stop:
    """While it is entered, the first Ctrl-C (or SIGTERM) only asks to stop: call it to know. The second interrupts.

    >>> with Stop() as stop:
    ...     stop()
    False
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self._asked

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python takes no handlers
            self._before = {number: signal.signal(number, self._hear) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        for each in _SIGNALS:
            signal.signal(each, signal.default_int_handler)
