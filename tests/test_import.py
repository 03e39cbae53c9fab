"""What ``import fastconv`` offers and what it must not load."""

import subprocess
import sys

import pytest

import fastconv

HEAVY = ("torch", "matplotlib", "PIL", "safetensors", "numba", "onnx", "tqdm", "urllib.request")


def test_importing_loads_nothing_heavy():
    code = f"import sys, numpy; old = set(sys.modules); import fastconv; print({set(HEAVY)} & (set(sys.modules) - old))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_public_names():
    assert callable(fastconv.tensor)
    from fastconv.tensor import Tensor

    assert fastconv.Tensor is Tensor
    assert callable(fastconv.tensor)
    assert fastconv.nn.functional is fastconv.functional
    assert {"manual_seed", "nn", "optim", "Tensor"} <= set(dir(fastconv))
    with pytest.raises(AttributeError, match="module 'fastconv' has no attribute 'nothing'"):
        _ = fastconv.nothing
