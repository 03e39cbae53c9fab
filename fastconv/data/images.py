"""Grey images as NumPy arrays: resampling, centring as MNIST did, and finding the digit in a photograph or drawing.

Decoding files is `read_grey`; everything under it is arithmetic on arrays.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, mismatch
from .files import HonestFile, is_bomb, write_atomic
from .npz import read_npy

SIZE, BOX = 28, 20  # MNIST: the digit fits a 20x20 box, its centre of mass at the middle of 28x28
_WORK = 320  # the longer side that digits are searched at
_LARGE = 64 << 20  # bytes of pixels: less is never a bomb
_MIN_CONTRAST = 0.12  # of the range black to white: less is paper, not ink


def resize(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return images (..., H, W) resampled to (..., height, width): bilinear, widened to a mean where it shrinks them.

    >>> resize(np.array([[0.0, 4.0]]), 1, 4)
    array([[0., 1., 3., 4.]])
    """
    return weights(images.shape[-2], height) @ images @ weights(images.shape[-1], width).T


def weights(old: int, new: int) -> np.ndarray:
    """(new, old), rows that sum to 1: a triangle around each new pixel's centre, as wide as the larger pixel."""
    ratio = old / new
    centres = (np.arange(new) + 0.5) * ratio
    distance = np.abs(np.arange(old) + 0.5 - centres[:, None]) / max(ratio, 1.0)
    weights = np.maximum(0.0, 1.0 - distance)
    return weights / weights.sum(axis=1, keepdims=True)


def centre(digits: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Return images (N, H, W) on a black field (N, size, size), centre of mass at size / 2 or as near as they fit."""
    count, height, width = digits.shape
    mass = np.maximum(digits.sum(axis=(1, 2)), np.finfo(np.float64).tiny)
    free_y, free_x = size - height, size - width
    padded = np.pad(digits, ((0, 0), (free_y, free_y), (free_x, free_x)))
    starts = []
    for axis, free in ((1, free_y), (2, free_x)):
        moment = digits.sum(axis=3 - axis) @ np.arange(digits.shape[axis])  # (N,)
        before = np.clip(np.rint(size / 2 - moment / mass), 0, free).astype(int)
        starts.append(free - before)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    return windows[np.arange(count), starts[0], starts[1]]


def read_grey(path: str | os.PathLike[str]) -> np.ndarray:
    """Return an image file as grey values 0..1 (H, W). ``.npy`` needs nothing; other formats need Pillow.

    Raises:
        DataError: the file is missing, is no image, or Pillow is; the message names the file.
    """
    path = Path(path)
    with _reported(path):
        return _read_npy(path) if path.suffix == ".npy" else _read_pillow(path)


def read_picture(path: str | os.PathLike[str]) -> np.ndarray:
    """Return an image file's pixels as they are: uint8, or uint16, int32 or float32, (H, W), or uint8 (H, W, 3).

    A palette is looked up where it has colours; transparency is left out. Needs Pillow. Errors as ``read_grey``.
    """
    path = Path(path)
    with _reported(path):
        return _pixels(path)


def read_indices(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the values (H, W) of an image file that is a mask: grey values, or the places in its palette.

    Needs Pillow. Errors as ``read_grey``; also DataError where it has colours.
    """
    path = Path(path)
    with _reported(path):
        pixels = _pixels(path, indices=True)
        if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
            pixels = pixels[..., 0]
        if pixels.ndim == 3:
            raise DataError(mismatch("image", f"{path} to be a mask (one value a pixel)", "colours"))
        return pixels


def write_indices(path: str | os.PathLike[str], values: np.ndarray) -> None:
    """Write a mask of values 0..65535 (H, W) as a grey PNG file, of 8 bits where they do, whole or not at all.

    Needs Pillow.

    Raises:
        DataError: values beyond these, it cannot be written, or Pillow is missing.
    """
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise DataError(mismatch("image", f"values of 0 to 65535 for {path}", high if high > 65535 else low))
    buffer = io.BytesIO()
    try:
        from PIL import Image

        Image.fromarray(values.astype(np.uint8 if high < 256 else np.uint16)).save(buffer, format="PNG")
        write_atomic(path, buffer.getvalue())
    except ModuleNotFoundError:
        wanted = f"Pillow to write {path} (pip install 'fastconv[images]')"
        raise DataError(mismatch("image", wanted, "no Pillow")) from None
    except OSError as error:
        raise DataError(mismatch("image", f"{path} to be writable", error.strerror or error)) from None


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong as a file is read into a DataError that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of decoders: a large picture, odd metadata
            yield
    except FileNotFoundError:
        raise DataError(mismatch("image", f"a file {path}", "none there")) from None
    except ModuleNotFoundError:
        raise DataError(
            mismatch("image", f"Pillow to read {path} (pip install 'fastconv[images]')", "no Pillow")
        ) from None
    except DataError:
        raise
    except MemoryError:
        raise DataError(mismatch("image", f"{path} to fit into memory", "more than there is")) from None
    except Exception as error:  # decoders raise anything at all on damaged files
        reason = getattr(error, "strerror", None) or "one that cannot be decoded"
        raise DataError(mismatch("image", f"{path} to be a readable image", reason)) from None


def _read_npy(path: Path) -> np.ndarray:
    array = read_npy(path)
    if array.ndim == 3 and array.shape[2] in (3, 4):
        array = array[..., :3].mean(axis=2)
    if array.ndim != 2 or not array.size or array.dtype.kind not in "buif" or not np.isfinite(array).all():
        raise DataError(mismatch("image", f"{path} to hold finite numbers (H, W)", f"{array.dtype} {array.shape}"))
    return array / 255 if array.dtype == np.uint8 else _unit(array)


def _unit(values: np.ndarray) -> np.ndarray:
    """Values of any range as 0..1: the brightest is white where they do not fit."""
    values = values.astype(np.float64)
    values -= min(values.min(), 0.0)
    return values / max(values.max(), 1.0)


def _read_pillow(path: Path) -> np.ndarray:
    from PIL import Image, ImageOps

    with _opened(path) as image:
        image.draft("L", (2 * _WORK, 2 * _WORK))  # JPEG: decode at a fraction of the size
        picture = ImageOps.exif_transpose(image)
        if picture.mode.startswith("I") or picture.mode == "F":  # 16 or 32 bits
            return _unit(np.asarray(picture))
        picture = _reduced(picture.convert("RGBA"))
        paper = Image.new("RGBA", picture.size, "white")
        return np.asarray(Image.alpha_composite(paper, picture).convert("L"), np.float64) / 255


def _pixels(path: Path, indices: bool = False) -> np.ndarray:
    from PIL import ImageOps

    with _opened(path) as image:
        picture = ImageOps.exif_transpose(image)
        whole = picture.mode.startswith("I") or picture.mode in ("L", "F") or (indices and picture.mode == "P")
        if not whole:
            picture = picture.convert("L" if picture.mode in ("1", "LA") else "RGB")
        return np.array(picture)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from PIL import Image

    try:
        with HonestFile(path) as file, Image.open(file) as image:
            pixels, size = image.width * image.height * len(image.getbands()), path.stat().st_size
            if pixels > _LARGE and is_bomb(pixels, size, _LARGE):
                claimed = f"{image.width} x {image.height} pixels packed into {size:,} bytes"
                raise DataError(mismatch("image", f"{path} of a sensible size", claimed))
            yield image
    except Image.DecompressionBombError as error:
        raise DataError(mismatch("image", f"{path} of a sensible size", error)) from None


def _reduced(picture: Any) -> Any:
    """A picture much larger than digits are searched at, made smaller by a whole factor: it is less to hold."""
    factor = max(picture.size) // (2 * _WORK)
    return picture.reduce(factor) if factor > 1 else picture


def find_digit(grey: np.ndarray, name: str = "image") -> np.ndarray:
    """Return the digit in a grey image (H, W) of values 0..1 as MNIST would show it: uint8 (28, 28), white on black.

    The paper is a smooth surface fitted to the image, so that shadows across a photograph do not count as ink. Ink is
    what stands out from it, dark on light or light on dark; the digit is the connected part with the most ink.

    Raises:
        DataError: it is no such image, or nothing stands out; the message has ``name``.
    """
    grey = np.asarray(grey)
    if grey.ndim != 2 or not grey.size or grey.dtype.kind not in "buif" or not np.isfinite(grey).all():
        raise DataError(mismatch("image", f"{name} to be finite grey values (H, W)", f"{grey.dtype} {grey.shape}"))
    grey = _shrink(grey.astype(np.float64))
    difference = grey - _paper(grey)
    dark, light = -np.minimum(difference, 0), np.maximum(difference, 0)
    ink = dark if (dark**2).sum() > (light**2).sum() else light
    top = float(np.quantile(ink[ink > 0], 0.99)) if (ink > 0).any() else 0.0
    if max(top, ink.max() / 2) < _MIN_CONTRAST:
        raise DataError(mismatch("image", f"{name} to show a digit", "a blank image"))
    mask = ink > _otsu(ink)
    digit = np.where(_largest_part(mask, ink), ink, 0.0)
    rows, columns = np.flatnonzero(digit.any(axis=1)), np.flatnonzero(digit.any(axis=0))
    digit = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    longest = max(digit.shape)
    height, width = (max(1, round(side * BOX / longest)) for side in digit.shape)
    small = resize(digit, height, width)
    small = np.minimum(small / np.quantile(small[small > 0.05 * small.max()], 0.9), 1.0)  # thin strokes came out faint
    return np.rint(centre(small[None])[0] * 255).astype(np.uint8)


def _shrink(grey: np.ndarray) -> np.ndarray:
    ratio = max(grey.shape) / _WORK
    return grey if ratio <= 1 else resize(grey, *(max(1, round(side / ratio)) for side in grey.shape))


def _paper(grey: np.ndarray) -> np.ndarray:
    """Fit a surface of degree 2 to the image by least squares, leaving out in turn what lies far from it."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in grey.shape), indexing="ij")
    basis = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1).reshape(-1, 6)
    values = grey.reshape(-1)
    keep = np.abs(values - np.median(_border(grey))) < 0.35
    for _ in range(6):
        if keep.sum() < 6:
            break
        surface = basis @ np.linalg.lstsq(basis[keep], values[keep], rcond=None)[0]
        error = np.abs(values - surface)
        keep = error < max(2.5 * float(np.median(error[keep])), 0.02)
    else:
        return surface.reshape(grey.shape)
    return np.full_like(grey, np.median(_border(grey)))


def _border(grey: np.ndarray) -> np.ndarray:
    return np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])


def _otsu(ink: np.ndarray) -> float:
    """Otsu's threshold (1979): the cut that maximises the variance between the classes."""
    counts, edges = np.histogram(ink, 128)
    middle = (edges[1:] + edges[:-1]) / 2
    below = counts.cumsum()
    above = below[-1] - below
    first = (counts * middle).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (first / below - (first[-1] - first) / above) ** 2
    return float(edges[1:][np.nanargmax(between[:-1])])


def _largest_part(mask: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """The pixels of the part with the most ink; parts a small gap apart are one, those cut by the edge come last."""
    reach = max(1, max(mask.shape) // 60)
    labels, count = _parts(_spread(mask, reach))
    weight = np.bincount(labels.ravel(), (ink * mask).ravel(), count + 1)
    weight[0] = 0
    inner = weight.copy()
    inner[np.unique(_border(np.where(mask, labels, 0)))] = 0  # shadows, table edges
    chosen = int(np.argmax(inner if inner.max() > 0.1 * weight.max() else weight))
    return (labels == chosen) & _spread(mask, 1)


def _spread(mask: np.ndarray, reach: int) -> np.ndarray:
    """Dilate by a square of side 2 * reach + 1."""
    padded = np.pad(mask, reach)
    side = 2 * reach + 1
    wide = np.lib.stride_tricks.sliding_window_view(padded, side, axis=1).any(axis=-1)
    return np.lib.stride_tricks.sliding_window_view(wide, side, axis=0).any(axis=-1)


def _parts(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Label the connected parts (8 neighbours) 1, 2, ...: runs of each row joined by union-find."""
    labels = np.zeros(mask.shape, np.int64)
    parent = [0]

    def root(label: int) -> int:
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    for y, row in enumerate(mask):
        ends = np.flatnonzero(np.diff(row, prepend=False, append=False))
        for start, stop in zip(ends[::2], ends[1::2], strict=True):
            label = len(parent)
            parent.append(label)
            labels[y, start:stop] = label
            if y:
                for other in np.unique(labels[y - 1, max(0, start - 1) : stop + 1]):
                    if other:
                        parent[root(label)] = root(int(other))
    roots, compact = np.unique([root(label) for label in range(len(parent))], return_inverse=True)
    return compact[labels], len(roots) - 1
