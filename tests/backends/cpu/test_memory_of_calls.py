"""What calls of every kind take beyond arguments, results and packed weights: at most 4 MB a thread."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("memory_of_calls.py")
THREADS, LIMIT = 2, 4 << 20


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_call_takes_more(dtype):
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # where fastconv was found from
    run = subprocess.run([sys.executable, PROGRAM, dtype], env={**os.environ, "PYTHONPATH": path},
                         capture_output=True, text=True)  # fmt: skip
    assert run.returncode == 0, run.stderr
    calls = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(calls) > 100
    for call in calls:
        assert call["blocks"] - call["allowed"] + call["python"] <= THREADS * LIMIT, call
        assert call["workspaces"] <= THREADS * LIMIT, call
