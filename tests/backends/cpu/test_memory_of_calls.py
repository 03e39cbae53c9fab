"""What calls of every kind take beyond arguments, results and packed weights: at most 4 MB a thread."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("memory_of_calls.py")
THREADS, LIMIT = 2, 4 << 20


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_call_takes_more(dtype):
    run = subprocess.run([sys.executable, PROGRAM, dtype], capture_output=True, text=True, check=True)
    calls = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(calls) > 100
    for call in calls:
        assert call["blocks"] - call["allowed"] + call["python"] <= THREADS * LIMIT, call
        assert call["workspaces"] <= THREADS * LIMIT, call
