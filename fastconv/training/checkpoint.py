"""Checkpoints: a tree of arrays and plain values in one safetensors file, written atomically, verified when read.

Never pickle. The file's metadata has one entry, ``fastconv``: JSON of the kind of file, the tree with its arrays
replaced by their names, and a SHA-256 over both and the arrays. The rest: https://huggingface.co/docs/safetensors.
A key of "" adds nothing to the names of the arrays under it: so a model's keep the names of its state dict.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..data.files import write_atomic
from ..errors import CheckpointError, mismatch

_KEY = "fastconv"


def save(path: str | os.PathLike[str], kind: str, tree: dict[str, Any]) -> None:
    """Write ``tree``, nested dicts, lists and tuples of arrays and plain values, as a file of this ``kind``.

    Raises:
        CheckpointError: it cannot be written (disk full, no permission); the file that stood there is intact.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Path(folder) / "a.safetensors", "example", {"w": np.zeros(2), "steps": 3})
    ...     load(Path(folder) / "a.safetensors", "example")
    {'w': array([0., 0.]), 'steps': 3}
    """
    from safetensors.numpy import save as pack

    tensors: dict[str, np.ndarray] = {}
    plain = _flatten(tree, "", tensors)
    head = {"kind": kind, "tree": plain}
    head["sha256"] = _digest(head, tensors)
    data = pack(tensors, {_KEY: json.dumps(head, sort_keys=True)})
    try:
        write_atomic(path, data)
    except OSError as error:
        raise CheckpointError(
            mismatch("checkpoint", f"{path} to be writable", f"{error.strerror or error}; nothing was overwritten")
        ) from None


def load(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Return the tree in a file of this ``kind``.

    Raises:
        CheckpointError: the file is missing, unreadable, truncated, altered, or not a file of this kind.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as unpack

    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise CheckpointError(mismatch("checkpoint", f"a file {path}", "none there")) from None
    except OSError as error:
        raise CheckpointError(mismatch("checkpoint", f"{path} to be readable", error.strerror or error)) from None
    except MemoryError:
        raise CheckpointError(mismatch("checkpoint", f"{path} to fit into memory", "more than there is")) from None
    try:
        tensors = unpack(data)
        head = json.loads(_metadata(data)[_KEY])
        stated = head.pop("sha256")
        found, tree = head["kind"], _restore(head["tree"], tensors)
        digest = _digest(head, tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
        tree = None
    if not isinstance(tree, dict):
        raise CheckpointError(
            mismatch("checkpoint", f"{path} to be written by fastconv and whole", "a damaged or foreign file")
        )
    if digest != stated:
        raise CheckpointError(mismatch("checkpoint", f"{path} to match its SHA-256", "altered contents"))
    if found != kind:
        raise CheckpointError(mismatch("checkpoint", f"{path} to hold a {kind}", f"a {found}"))
    return tree


def _metadata(data: bytes) -> dict[str, str]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length])["__metadata__"]


def _digest(head: dict[str, Any], tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"\0{name}\0{array.dtype.str}{array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _flatten(node: Any, name: str, tensors: dict[str, np.ndarray]) -> Any:
    """Return ``node`` as JSON can hold it, with marks for what JSON lacks; its arrays go to ``tensors``."""
    if isinstance(node, np.ndarray):
        tensors[name] = np.ascontiguousarray(node).reshape(node.shape)
        return {"$array": name}
    if isinstance(node, np.generic):
        return node.item()
    if isinstance(node, dict):
        items = [[key, _flatten(value, f"{name}.{key}".strip("."), tensors)] for key, value in node.items()]
        return {"$dict": items}
    if isinstance(node, list | tuple):
        values = [_flatten(value, f"{name}.{i}", tensors) for i, value in enumerate(node)]
        return {"$tuple": values} if isinstance(node, tuple) else values
    if node is None or isinstance(node, bool | int | float | str):
        return node
    raise CheckpointError(mismatch("checkpoint", f"{name} to be an array or a plain value", type(node).__name__))


def _restore(node: Any, tensors: dict[str, np.ndarray]) -> Any:
    if isinstance(node, list):
        return [_restore(value, tensors) for value in node]
    if isinstance(node, dict):
        ((mark, value),) = node.items()
        if mark == "$array":
            return tensors[value].copy()  # unpacked arrays are read-only views of the file's bytes
        if mark == "$tuple":
            return tuple(_restore(item, tensors) for item in value)
        return {key: _restore(item, tensors) for key, item in value}
    return node
