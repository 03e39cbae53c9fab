"""``predict_volume``: a network over a volume that need not fit into memory, from a source to a target."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from math import prod
from typing import Any

import numpy as np

from .. import backends
from ..arguments import integer, number
from ..backends.cpu.runtime import empty_cache
from ..errors import ArgumentError, DeviceError, FastconvError, ShapeError, mismatch
from ..functional import softmax
from ..graph import outline
from ..nn import Module
from ..nn.modes import in_mode
from ..tensor import no_grad
from .memory import budget
from .plans import MULTIPLES, BlendPlan, ExactPlan, Plan, one_array
from .sources import Source, open_source
from .targets import Target, open_target

_OP = "predict_volume"
BLENDS = ("gaussian", "average", "exact")
ACTIVATIONS = (None, "softmax", "argmax")


def predict_volume(
    model: Callable, source: Any, target: Any = None, *, max_memory: int | str = "1GB", blend: str = "gaussian",
    tile: int | Sequence[int] | None = None, overlap: float = 0.25, activation: str | None = None,
    progress: bool | None = None,
) -> np.ndarray | None:  # fmt: skip
    """Run a network over a whole volume in tiles, from disk to disk, within a budget of memory.

    With ``blend='gaussian'`` and ``'average'`` tiles overlap; the network is asked about each by itself, and what it
    says of a voxel is averaged, with weights that fall off towards a tile's border (a Gaussian of an eighth of its
    size, Isensee et al. 2021, https://doi.org/10.1038/s41592-020-01008-z) or with equal ones. Beyond the volume a tile
    is zero. The answer of a network that sees further than a tile depends on the tiles.

    With ``blend='exact'`` each tile is computed from all that it sees. The answer is bit for bit ``model(volume)``,
    whatever the tiles, for weights that are finite and but for the sign of zeros. That is so for convolutions of every
    kind, pools, resizing, padding (but circular), what works on each element or over channels, and batch norm with
    known statistics. Sizes and strides need not divide each other. A network with an operation that sees the whole
    volume or takes statistics (instance, group and layer norm, batch norm of a batch, a linear layer over space, a sum
    over space) is refused by name.

    Neither the number of threads nor the source's or target's kind changes a bit. Where values of all tiles agree, as
    for an identity, blending does not change them either.

    Args:
        model: a Module, run in inference mode, or a function of a Tensor; on the cpu. It takes (1, C, spatial...) and
            returns one array of as many axes; with overlapping tiles the sizes are the same.
        source: (C, spatial...) with one to three spatial axes, as an array or an .npy file; a NIfTI file, open or by
            its path; a ``Volume``; what else ``read_volume`` takes by path (which is then read whole). Or a list of
            these, the modalities, whose arrays have no axis for channels. Numbers are converted to the model's dtype.
            Files are read by windows.
        target: None, or a path: .npy, or .nii or .nii.gz with the affine and header of the source. The file appears
            when it is complete: after an error or an interrupt there is none, or the old one.
        max_memory: bytes, or '512MB', by which the process may grow, an answer that is returned included. It decides
            the size of tiles. The buffers and packed weights that fastconv keeps for later are given up first.
        blend: 'gaussian', 'average' or 'exact'.
        tile: the size of tiles, an int or one for each axis; None takes the largest that fits (exact: tiles of the
            answer). Where the network wants multiples of a power of two, they are.
        overlap: of neighbouring tiles, as a share of their size, at least; not used by 'exact'.
        activation: None; 'softmax' over channels; or 'argmax', the labels as uint8 (uint16 for more than 256 classes),
            without an axis for channels.
        progress: show a bar on stderr; None does on a terminal.

    Returns:
        (C, spatial...), or (spatial...) for labels; None where a target was given.

    Raises:
        ArgumentError: an option that is none, a model that cannot be run so, or a budget that is too small: the message
            says how much is needed. ShapeError: sizes that do not fit. DataError: files. DeviceError: a model that is
            not on the cpu. GraphError: a model that ``trace`` cannot follow.

    >>> from fastconv import nn
    >>> net, scan = nn.Conv3d(1, 2, 3, padding=1), np.ones((1, 20, 30, 25), np.float32)
    >>> answer = predict_volume(net, scan, blend="exact", tile=8)
    >>> answer.shape, bool((answer == net(scan[None]).numpy()[0]).all())
    ((2, 20, 30, 25), True)
    """
    _check_options(blend, activation, progress)
    overlap = number(_OP, "overlap", overlap, 0, 0.9)
    most = budget(_OP, max_memory)
    _check_device(model)
    with closing(open_source(_OP, source)) as volume, in_mode(model, False), no_grad():
        rank, slow = len(volume.shape) - 1, _slow(target, len(volume.shape) - 1)
        dtype = _dtype(model, volume)
        empty_cache()

        def held(outputs: tuple[int, ...]) -> int:
            shape, kind = _answer(outputs, dtype, activation)
            return volume.held + (prod(shape) * kind.itemsize if target is None else 0)

        try:
            options = _OP, model, volume, dtype, _tile(tile, rank), most, held
            plan = ExactPlan(*options) if blend == "exact" else BlendPlan(*options, blend, overlap, slow)
        except FastconvError as error:
            if isinstance(source, (list, tuple)) or not _lacks_channels(model, volume, dtype):
                raise
            expected = "source (C, spatial...) with the axes that model takes (source[None] is one channel)"
            raise ShapeError(mismatch(_OP, expected, f"shape {volume.shape}")) from error
        shape, kind = _answer(plan.outputs, dtype, activation)
        answer = open_target(_OP, target, shape, kind, rank, volume.like)
        try:
            return _fill(answer, plan, volume, slow, activation, kind, progress)
        finally:
            empty_cache()


def _fill(
    target: Target, plan: Plan, source: Source, slow: int, activation: str | None, dtype: np.dtype,
    progress: bool | None,
) -> Any:  # fmt: skip
    with target, _bar(plan.count, progress) as bar:
        for window, values, complete in plan.run(source, slow):
            if values.size:
                target.write(window, _activated(values, activation, dtype))
            if complete and bar is not None:
                bar.update()
    return target.result()


def _activated(values: np.ndarray, activation: str | None, dtype: np.dtype) -> np.ndarray:
    """(channels, spatial...), or labels (spatial...)."""
    if activation == "softmax":
        return softmax(values[None], 1)[0]
    if activation == "argmax":
        labels = np.empty(values.shape[1:], dtype)
        for plane, row in zip(np.moveaxis(values, 1, 0), labels, strict=True):
            row[...] = plane.argmax(axis=0)
        return labels
    return values


def _answer(outputs: tuple[int, ...], dtype: np.dtype, activation: str | None) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of the answer for the network's (channels, spatial...)."""
    if activation != "argmax":
        return outputs, dtype
    return outputs[1:], np.dtype(np.uint8 if outputs[0] <= 256 else np.uint16)


def _check_options(blend: str, activation: str | None, progress: bool | None) -> None:
    for name, value, known in (("blend", blend, BLENDS), ("activation", activation, ACTIVATIONS),
                               ("progress", progress, (None, True, False))):  # fmt: skip
        if not any(value is one or (isinstance(one, str) and value == one) for one in known):
            expected = f"{name} to be one of {', '.join(map(repr, known))}"
            raise ArgumentError(mismatch(_OP, expected, repr(value)))
    if blend == "exact" and backends.for_numpy().name != "cpu":
        raise DeviceError(mismatch(_OP, "the cpu backend with blend='exact'", repr(backends.for_numpy().name)))


def _check_device(model: Callable) -> None:
    if not callable(model):
        raise ArgumentError(mismatch(_OP, "model to be a Module or a function of a Tensor", type(model).__name__))
    for name, parameter in model.named_parameters() if isinstance(model, Module) else ():
        if not isinstance(parameter.data, np.ndarray):
            where = backends.of(parameter.data).name
            raise DeviceError(mismatch(_OP, "model on the cpu (model.to('cpu'))", f"{name} on {where!r}"))


def _dtype(model: Callable, source: Source) -> np.dtype:
    """That of the model's parameters, or else of the source."""
    parameters = list(model.parameters()) if isinstance(model, Module) else []
    dtype = parameters[0].data.dtype if parameters else source.dtype
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def _lacks_channels(model: Callable, volume: Source, dtype: np.dtype) -> bool:
    """Whether the model takes the source as one channel alone: (D, H, W) was given in place of (1, D, H, W)."""

    def taken(shape: tuple[int, ...]) -> bool:
        try:
            one_array(_OP, outline(model, (1, *shape), dtype=dtype))
        except FastconvError:
            return False
        return True

    sizes = tuple(-(-size // MULTIPLES[-1]) * MULTIPLES[-1] for size in volume.shape)
    return len(sizes) < 4 and not taken((volume.shape[0], *sizes[1:])) and taken((1, *sizes))


def _tile(tile: Any, rank: int) -> tuple[int, ...] | None:
    if tile is None:
        return None
    sizes = tuple(tile) if isinstance(tile, Sequence) and not isinstance(tile, str) else (tile,) * rank
    if len(sizes) != rank:
        raise ArgumentError(mismatch(_OP, f"tile to be an int or {rank} ints", repr(tile)))
    return tuple(integer(_OP, "tile", size, 1) for size in sizes)


def _slow(target: Any, rank: int) -> int:
    """The axis along which a target lies in slabs: the last one of a NIfTI file, the first one of others."""
    return rank - 1 if str(target).endswith((".nii", ".nii.gz")) else 0


def _bar(count: int, progress: bool | None) -> Any:
    if progress is False or (progress is None and not sys.stderr.isatty()):
        return nullcontext()
    from tqdm import tqdm

    return tqdm(total=count, unit=" tiles", file=sys.stderr, leave=False)
