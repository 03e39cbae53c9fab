"""save and load: a model's weights by name, in safetensors files or out of PyTorch's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import CheckpointError, mismatch
from ..tensor import Tensor
from . import pytorch, safetensors


def save(what: Any, path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
    """Write the state dict of a model, or any mapping of names to arrays, as a safetensors file.

    The write is atomic: a crash or a full disk leaves the old file or the new one. The file carries a checksum, which
    ``load`` verifies, and is an ordinary one for every reader of the format.

    Args:
        what: a module, or a mapping of names to arrays or Tensors of floats, integers or booleans.
        path: the file; the usual name ends in ``.safetensors``.
        metadata: strings to store beside the arrays.

    Raises:
        CheckpointError: ``what`` is neither, something in it cannot be stored, or the file cannot be written.

    >>> import tempfile
    >>> from fastconv import nn
    >>> model, twin = nn.Linear(3, 2), nn.Linear(3, 2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(model, f"{folder}/linear.safetensors")
    ...     loaded = twin.load_state_dict(load(f"{folder}/linear.safetensors"))
    >>> bool((twin.weight.numpy() == model.weight.numpy()).all())
    True
    """
    op, strings = "save", dict(metadata or {})
    state = what.state_dict() if hasattr(what, "state_dict") else what
    if not isinstance(state, Mapping):
        raise CheckpointError(mismatch(op, "a module or a mapping of names to arrays", type(what).__name__))
    if not all(isinstance(text, str) for item in strings.items() for text in item) or safetensors.CHECKSUM in strings:
        raise CheckpointError(mismatch(op, "metadata of strings, the key fastconv.sha256 apart", metadata))
    arrays = {}
    for name, value in state.items():
        if not isinstance(name, str) or name == "__metadata__":
            raise CheckpointError(mismatch(op, "names that are strings, '__metadata__' apart", repr(name)))
        arrays[name] = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
    safetensors.write(op, path, arrays, strings)


def load(path: str | os.PathLike[str], key: str | None = None) -> dict[str, np.ndarray]:
    """Return the arrays in a weight file by name, for ``model.load_state_dict``; float16 and bfloat16 as float32.

    The contents, not the name, say what the file is: safetensors, or what ``torch.save`` wrote of a state dict (a zip
    file since PyTorch 1.6, or the older kind). Such a file is a program in Python's pickle language; it is not run, and
    PyTorch is not needed: the few instructions that build a dict of tensors are understood, all else is refused.

    Args:
        path: the file.
        key: where a PyTorch file holds a dict of several things, the entry that is the state dict; dots lead further
            down.

    Raises:
        CheckpointError: the file is missing, truncated, altered, of another format, or holds what is no array; the
            message names the file and what is wrong.
    """
    data = safetensors.contents("load", path)
    if pytorch.recognises(data):
        return pytorch.parse("load", path, data, key)
    if key is not None:
        raise CheckpointError(mismatch("load", f"{path} to be a PyTorch file, since there is a key", "another one"))
    arrays, _ = safetensors.parse("load", path, data)
    return {name: safetensors.widened(array) for name, array in arrays.items()}


def metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the strings that a safetensors file holds beside its arrays.

    Raises:
        CheckpointError: as ``load``.
    """
    return safetensors.parse("metadata", path, safetensors.contents("metadata", path))[1]
