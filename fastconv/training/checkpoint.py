"""Checkpoints: a tree of arrays and plain values in one safetensors file, written atomically, verified when read.

Never pickle. The file's metadata has an entry ``fastconv``: JSON of the kind of file, and the tree with its arrays
replaced by their names; and the checksum of ``interop.safetensors``, over it and the arrays.
A key of "" adds nothing to the names of the arrays under it: so a model's keep the names of its state dict.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from ..errors import CheckpointError, mismatch
from ..interop import safetensors

_KEY = "fastconv"


def save(path: str | os.PathLike[str], kind: str, tree: dict[str, Any]) -> None:
    """Write ``tree``, nested dicts, lists and tuples of arrays and plain values, as a file of this ``kind``.

    Raises:
        CheckpointError: it cannot be written (disk full, no permission); the file that stood there is intact.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/a.safetensors", "example", {"w": np.zeros(2), "steps": 3})
    ...     load(f"{folder}/a.safetensors", "example")
    {'w': array([0., 0.]), 'steps': 3}
    """
    arrays: dict[str, np.ndarray] = {}
    head = {"kind": kind, "tree": _flatten(tree, "", arrays)}
    safetensors.write("checkpoint", path, arrays, {_KEY: json.dumps(head, sort_keys=True)})


def load(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Return the tree in a file of this ``kind``.

    Raises:
        CheckpointError: the file is missing, unreadable, truncated, altered, or not a file of this kind.
    """
    arrays, strings = safetensors.parse("checkpoint", path, safetensors.contents("checkpoint", path), verified=True)
    try:
        head = json.loads(strings[_KEY])
        found, tree = head["kind"], _restore(head["tree"], arrays)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        tree = None
    if not isinstance(tree, dict):
        raise CheckpointError(
            mismatch("checkpoint", f"{path} to be written by fastconv and whole", "a damaged or foreign file")
        )
    if found != kind:
        raise CheckpointError(mismatch("checkpoint", f"{path} to hold a {kind}", f"a {found}"))
    return tree


def _flatten(node: Any, name: str, tensors: dict[str, np.ndarray]) -> Any:
    """Return ``node`` as JSON can hold it, with marks for what JSON lacks; its arrays go to ``tensors``."""
    if isinstance(node, np.ndarray):
        tensors[name] = node
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
            return tensors[value]
        if mark == "$tuple":
            return tuple(_restore(item, tensors) for item in value)
        return {key: _restore(item, tensors) for key, item in value}
    return node
