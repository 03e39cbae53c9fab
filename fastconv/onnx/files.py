"""Reading: a path, bytes or a ModelProto -> a checked ModelProto and its tensors. Whatever is wrong is a DataError."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, DataError, mismatch

OP = "onnx.load"  # as messages name what is done here
DOMAINS = ("", "ai.onnx")  # two names of one
_PROTOBUF_LIMIT = 2**31


def need_onnx() -> Any:
    """Return the package ``onnx``.

    Raises:
        ImportError: it is missing; the message names the extra to install.
    """
    try:
        import onnx
        import onnx.checker
        import onnx.inliner
    except ImportError as error:
        raise ImportError(mismatch("onnx", "the package onnx (pip install 'fastconv[onnx]')", error)) from None
    return onnx


def read_model(source: Any) -> tuple[Any, str]:
    """Return a ModelProto with its data in it, its functions inlined, and how messages name it. See ``check``.

    Args:
        source: a path to a file, whose external data lie beside it, or a ModelProto with its data in it.

    Raises:
        DataError: no such file, no model, a damaged one, or external data that are missing or cut off.
    """
    onnx = need_onnx()
    if isinstance(source, onnx.ModelProto):
        name, model = "the model", source
    elif isinstance(source, str | os.PathLike):
        name = str(Path(source))
        model = _read(onnx, Path(source), name)
    else:
        raise ArgumentError(mismatch(OP, "a path or a ModelProto", type(source).__name__))
    if not model.HasField("graph") or not model.opset_import:
        raise DataError(mismatch(OP, f"{name} to be a model of ONNX", "no graph or no opset"))
    newest = onnx.defs.onnx_opset_version()
    for entry in model.opset_import:
        if entry.domain in DOMAINS and not 1 <= entry.version <= newest:
            expected = f"{name} of opset 1 to {newest} (the last that onnx {onnx.__version__} knows)"
            raise DataError(mismatch(OP, expected, entry.version))
    if len(model.functions):
        try:
            model = onnx.inliner.inline_local_functions(model)
        except Exception as error:
            raise DataError(mismatch(OP, f"{name} with functions that can be inlined", error)) from error
    return model, name


def check(model: Any, name: str) -> None:
    """Let ONNX's own checker look at a model, unless it is so large that protobuf cannot pass it on.

    Raises:
        DataError: it is not valid.
    """
    onnx = need_onnx()
    try:
        size = model.ByteSize()
    except Exception:  # what protobuf raises beyond its limit depends on its version
        return
    if size < _PROTOBUF_LIMIT:
        try:
            onnx.checker.check_model(model)
        except Exception as error:
            raise DataError(mismatch(OP, f"{name} to be a valid model", error)) from error


def _read(onnx: Any, path: Path, name: str) -> Any:
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise DataError(mismatch(OP, "a file that can be read", f"{name}: {error.strerror}")) from None
    except Exception as error:  # protobuf's DecodeError, whose place has moved over the years
        raise DataError(mismatch(OP, f"{name} to be a model of ONNX", error)) from None
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # ValidationError, OSError, ValueError: as versions go
        raise DataError(mismatch(OP, f"the external data of {name}", error)) from None
    return model
