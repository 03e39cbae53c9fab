"""Pictures of what is inside a network, where matplotlib is installed (the extra ``plot``): filters and feature maps.

What every picture shares stands here as well: the figure, and writing it whole or not at all. Pictures of a training
run are in ``training/plots.py``.
"""

from __future__ import annotations

import io
import os
from importlib.util import find_spec
from math import ceil, sqrt
from typing import Any

import numpy as np

from .arguments import integer
from .data.files import write_atomic
from .errors import ArgumentError, DataError, mismatch
from .inspection import features
from .nn import Module
from .tensor import Tensor

HINT = "no pictures: matplotlib is not installed (pip install 'fastconv[plot]')"
_INCHES, _DPI = 8.0, 120  # of the longer side
_GAP = (0.8, 0.87, 1.0)  # between tiles: neither black nor white is a weight


def available() -> bool:
    """Whether matplotlib can be imported."""
    return find_spec("matplotlib") is not None


def filters(
    model: Module, name: str, path: str | os.PathLike[str], most: int = 64, most_channels: int = 16
) -> np.ndarray:
    """Draw the filters of the convolution called ``name`` to a PNG file at ``path``.

    Filters of one channel are grey and filters of three are in colour, in a square; else each row is a filter and its
    tiles are the channels. Each filter is scaled to its own range, over all its channels. Of a kernel in three
    dimensions the middle slice is shown, of one in one dimension a line.

    Args:
        most, most_channels: how many filters, and channels of each, are shown at most: the first ones.

    Returns the picture as an array, (height, width) or (height, width, 3), a number a weight, NaN between the tiles.

    Raises:
        ArgumentError: there is no such layer, or it has no kernels.
        DataError: the file cannot be written.
    """
    op = "filters"
    integer(op, "most", most, 1)
    weight = getattr(model.get_submodule(name), "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim < 3:
        raise ArgumentError(mismatch(op, "the name of a convolution", repr(name)))
    every = weight.numpy()
    kernels = _planes(every[:most, : integer(op, "most_channels", most_channels, 1)], 2)  # (filters, channels, h, w)
    if every.shape[1] == 3 <= most_channels:
        picture = _mosaic(_scaled(np.moveaxis(kernels, 1, -1)))
    elif every.shape[1] == 1:
        picture = _mosaic(_scaled(kernels[:, 0]))
    else:
        picture = _mosaic(_scaled(kernels).reshape(-1, *kernels.shape[2:]), columns=kernels.shape[1])
    size = " x ".join(map(str, every.shape[1:]))
    _draw(picture, f"{name}: {len(kernels)} of {len(every)} filters of {size}", path, "gray")
    return picture


def bases(weight: Any, shape: tuple[int, int], path: str | os.PathLike[str], most: int = 64) -> np.ndarray:
    """Draw what the units of a dense layer or of a restricted Boltzmann machine look for, to a PNG file at ``path``.

    Args:
        weight: (units, height * width), ``BernoulliRBM.components_`` or the weight of an ``nn.Linear``: each row is
            an image, scaled to its own range.
        shape: (height, width) of the images.
        most: how many are shown at most: the first ones.

    Returns the picture as an array (height, width), a number a weight, NaN between the tiles.

    Raises:
        ArgumentError: the rows are no images of this shape.
        DataError: the file cannot be written.
    """
    op = "bases"
    rows = weight.numpy() if isinstance(weight, Tensor) else np.asarray(weight)
    height, width = (integer(op, "shape", size, 1) for size in shape)
    if rows.ndim != 2 or not len(rows) or rows.shape[1] != height * width:
        raise ArgumentError(mismatch(op, f"weight (units, {height * width})", f"shape {rows.shape}"))
    picture = _mosaic(_scaled(rows[: integer(op, "most", most, 1)].reshape(-1, height, width)))
    _draw(picture, f"{min(most, len(rows))} of {len(rows)} bases of {height} x {width}", path, "gray")
    return picture


def feature_maps(
    model: Module, inputs: Any, name: str, path: str | os.PathLike[str], sample: int = 0, most: int = 64
) -> np.ndarray:
    """Draw what the layer called ``name`` makes of an input to a PNG file at ``path``: a tile a map.

    The model runs once, in inference mode, and is left as it was. Each map is scaled to its own range. Of volumes the
    middle slice is shown; maps in one dimension are lines, one below the other; the units of a dense layer are one
    line.

    Args:
        inputs: as of ``fastconv.features``.
        sample: which sample of the batch is shown.
        most: how many maps are shown at most: the first ones.

    Returns the picture as an array (height, width), a number a pixel of a map, NaN between the tiles.

    Raises:
        ArgumentError: there is no such layer or sample, or the layer does not put out one array of maps.
        DataError: the file cannot be written.
    """
    op = "feature_maps"
    integer(op, "most", most, 1)
    maps = features(model, inputs, [name])[name]
    if not isinstance(maps, np.ndarray) or maps.ndim < 2:
        raise ArgumentError(mismatch(op, "the name of a layer that puts out (N, C, ...)", repr(name)))
    chosen = maps[integer(op, "sample", sample, 0, len(maps) - 1)]
    if chosen.ndim == 1:
        tiles = chosen[None, None]  # all units in one tile
    else:
        tiles = _planes(chosen[:most], 1)
    picture = _mosaic(_scaled(tiles), columns=1 if chosen.ndim <= 2 else None)
    size = " x ".join(map(str, chosen.shape[1:]))
    shown = f"{len(tiles)} of {len(chosen)} maps of {size}" if size else f"{len(chosen)} units"
    _draw(picture, f"{name or type(model).__name__}: {shown}", path, "viridis")
    return picture


def _planes(array: np.ndarray, lead: int) -> np.ndarray:
    """Return (..., h, w) for an array with ``lead`` axes before its space: of three axes of space the middle of the
    first, of one a line."""
    if array.ndim - lead == 1:
        return array[..., None, :]
    return array.take(array.shape[lead] // 2, lead) if array.ndim - lead == 3 else array


def _scaled(tiles: np.ndarray) -> np.ndarray:
    """Return each of ``tiles`` (count, ...) in [0, 1]; one of equal numbers is 1/2, and what is not finite is NaN."""
    tiles = np.where(np.isfinite(tiles), tiles, np.nan).astype(np.float64)
    scaled = np.full_like(tiles, 0.5)
    for tile, out in zip(tiles, scaled, strict=True):
        known = tile[~np.isnan(tile)]
        low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
        if high > low:
            out[...] = (tile - low) / (high - low)
        out[np.isnan(tile)] = np.nan
    return scaled


def _mosaic(tiles: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Return ``tiles`` (count, h, w) or (count, h, w, 3) side by side, NaN between them; in a square by default."""
    count, height, width = tiles.shape[:3]
    columns = ceil(sqrt(count)) if columns is None else columns
    rows = ceil(count / columns)
    canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, *tiles.shape[3:]), np.nan)
    for i, tile in enumerate(tiles):
        row, column = divmod(i, columns)
        top, left = row * (height + 1), column * (width + 1)
        canvas[top : top + height, left : left + width] = tile
    return canvas


def _draw(picture: np.ndarray, title: str, path: str | os.PathLike[str], colours: str) -> None:
    """Write a picture of numbers in [0, 1]; what is NaN has a colour of its own."""
    height, width = picture.shape[:2]
    longest = max(height, width)
    drawn = figure(max(2.0, _INCHES * width / longest), max(1.0, _INCHES * height / longest) + 0.4)
    from matplotlib import colormaps

    axes = drawn.add_subplot()
    shown = np.where(np.isnan(picture), _GAP, picture) if picture.ndim == 3 else picture
    axes.imshow(shown, cmap=colormaps[colours].with_extremes(bad=_GAP), vmin=0, vmax=1,
                interpolation="nearest", aspect="equal" if longest < 8 * min(height, width) else "auto")  # fmt: skip
    axes.set_axis_off()
    axes.set_title(title, fontsize=8)
    write(drawn, path)


def figure(width: float, height: float) -> Any:
    """Return an empty figure of this size in inches.

    Raises:
        DataError: matplotlib is not installed.
    """
    if not available():
        raise DataError(mismatch("plots", "matplotlib (pip install 'fastconv[plot]')", "none"))
    from matplotlib.figure import Figure  # not pyplot: no window, no global state

    return Figure((width, height), layout="constrained")


def write(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a figure as a PNG file, whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    picture = io.BytesIO()
    figure.savefig(picture, dpi=_DPI, format="png")
    try:
        write_atomic(path, picture.getvalue())
    except OSError as error:
        raise DataError(mismatch("plots", f"{path} to be writable", error.strerror or error)) from None
