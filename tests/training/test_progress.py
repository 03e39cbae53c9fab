"""What a run shows on a terminal and elsewhere, and Ctrl-C."""

from __future__ import annotations

import io
import signal
import sys
import threading

import pytest

from fastconv.training import progress
from fastconv.training.progress import Progress, Stop


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(total: int = 400, done: int = 0, **options) -> None:
    with Progress(total, done, **options) as shown:
        for step in range(4):
            shown.step(100, "epoch 1/2", 0.5, 0.25)
            if step == 1:
                shown.line("a line")
            if shown._bar is not None:
                shown._bar.refresh()


def test_a_terminal_has_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    run(total=1000, done=600)
    shown = terminal.getvalue()
    assert " 70 %" in shown  # from what was done before
    assert "epoch 1/2" in shown
    assert "loss 0.5000, 25.00 %" in shown
    assert "images/s" in shown
    assert "left" in shown
    assert capsys.readouterr().out == "a line\n"


def test_elsewhere_there_are_lines_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    assert capsys.readouterr() == ("a line\n", "")  # too soon for a line within the epoch
    monkeypatch.setattr(progress, "_SPARSE", -1.0)
    run()
    out, err = capsys.readouterr()
    assert out == "a line\n"
    assert err.count("\n") == 4
    assert "\r" not in err
    assert "loss 0.5000  train 25.00 %" in err
    assert err.rstrip().endswith("images/s  0 s left")


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SPARSE", -1.0)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    run(quiet=True)
    assert capsys.readouterr().out == terminal.getvalue() == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_interrupts(number: int) -> None:
    before = signal.getsignal(number)
    with Stop() as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_other_threads_may_train_too() -> None:
    result = []

    def work() -> None:
        with Stop() as stop:
            result.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert result == [False]
