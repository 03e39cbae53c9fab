"""One DICOM file: the slices that it describes, one or a frame each, and their pixels. pydicom parses; what a file
claims is held against its size first, and every refusal names the file. How slices make a volume: ``dicom.py``.

Standard: https://dicom.nema.org/medical/dicom/current, PS3.3 C.7.6.2 (planes), C.7.6.16 (frames), PS3.5 (encoding).
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, mismatch
from .files import HonestFile, is_bomb

_PLANE = (
    "SeriesInstanceUID", "SeriesDescription", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "RescaleSlope",
    "RescaleIntercept", "ModalityLUTSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
_PIXELS = ("PixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths")
_RLE_RATIO = 64  # PackBits: two bytes stand for 128 at most
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # the markers that begin a frame
_RLE = "1.2.840.10008.1.2.5"


@dataclass(frozen=True, slots=True)
class Slice:
    """A plane of pixels and where it lies: millimetres LPS+, DICOM's convention.

    ``along`` and ``down`` are the unit vectors from one column to the next and from one row to the next, ``steps`` the
    millimetres between columns and between rows, ``thickness`` that between slices, as far as the file says.
    """

    path: Path
    frame: int | None
    shape: tuple[int, int]  # rows, columns
    dtype: np.dtype
    position: np.ndarray
    along: np.ndarray
    down: np.ndarray
    steps: tuple[float, float]
    thickness: float
    slope: float
    intercept: float

    def __str__(self) -> str:
        return str(self.path) if self.frame is None else f"{self.path} (frame {self.frame})"


class _NotDeflated(HonestFile):
    """pydicom asks for all the rest of a file at once only to inflate it, whatever it grows to."""

    def read(self, count: int | None = -1) -> bytes:
        if count is None or count < 0:
            raise DataError(mismatch("DICOM", f"{self.name} to be in a transfer syntax that is read", "deflated"))
        return super().read(count)


def is_dicom(path: Path) -> bool:
    """Return whether a file begins as the files of DICOM do."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_header(path: Path) -> tuple[str, Any] | None:
    """Return a file's SeriesInstanceUID, and pydicom's data set of it without the pixels; None where its class has none
    (a report, contours)."""
    with _guarded(path):
        data = _parse(path, pixels=False)
        kind = data.file_meta.get("MediaStorageSOPClassUID")
        if "Rows" not in data and (kind is None or "Image" in kind.name):
            raise _refused(path, "Rows, as an image does", "none (cut off)")
        return (str(data.get("SeriesInstanceUID", "")), data) if "Rows" in data else None


def slices_of(path: Path, data: Any) -> list[Slice]:
    """Return the slices in a file, whose pixels' number is by then known to fit into it."""
    with _guarded(path):
        dtype = _number_format(path, data)
        count = int(data.get("NumberOfFrames") or 1)
        _check_claim(path, data, dtype, count)
        groups = data.get("PerFrameFunctionalGroupsSequence")
        if groups is None:
            if count != 1:
                raise _refused(path, "one frame, or a place for each (enhanced multi-frame)", f"{count} frames")
            return [_slice(path, None, data, dtype, [data])]
        if len(groups) != count:
            raise _refused(path, f"a place for each of its {count} frames", f"{len(groups)} places")
        shared = [item for group in data.get("SharedFunctionalGroupsSequence") or [] for item in _items(group)]
        return [_slice(path, i, data, dtype, [*_items(group), *shared]) for i, group in enumerate(groups)]


def read_pixels(path: Path, frames: list[int | None]) -> Iterator[np.ndarray]:
    """Give the stored values (rows, columns) of frames of a file, in the order asked for."""
    with _guarded(path):
        from pydicom.pixels import pixel_array

        data = _parse(path, pixels=True)
        _check_codestreams(path, data)
    for frame in frames:
        with _guarded(path):
            values = pixel_array(data, index=frame or 0)
            if values.shape != (data.Rows, data.Columns):
                raise _refused(path, f"{data.Rows} x {data.Columns} pixels", values.shape)
        yield values


def _parse(path: Path, pixels: bool) -> Any:
    from pydicom import dcmread

    with _NotDeflated(path) as file:
        return dcmread(file, stop_before_pixels=not pixels, specific_tags=[*_PLANE, *(_PIXELS if pixels else ())])


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """What goes wrong with a file names it: pydicom raises anything at all on damaged ones, and warns of the rest."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DataError:
        raise
    except ModuleNotFoundError as error:
        if error.name != "pydicom":
            raise
        wanted = f"pydicom to read {path} (pip install 'fastconv[medical]')"
        raise DataError(mismatch("DICOM", wanted, "no pydicom")) from None
    except FileNotFoundError:
        raise DataError(mismatch("DICOM", f"a file {path}", "none there")) from None
    except MemoryError:
        raise DataError(mismatch("DICOM", f"{path} to fit into memory", "more than there is")) from None
    except Exception as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(mismatch("DICOM", f"{path} to be an intact file that can be decoded", reason)) from None


def _number_format(path: Path, data: Any) -> np.dtype:
    samples, colours = data.get("SamplesPerPixel", 1), data.get("PhotometricInterpretation", "MONOCHROME2")
    if samples != 1 or not colours.startswith("MONOCHROME"):
        raise _refused(path, "grey values (MONOCHROME1 or MONOCHROME2)", f"{colours}, {samples} samples a pixel")
    if data.BitsAllocated not in (8, 16, 32):
        raise _refused(path, "8, 16 or 32 bits a pixel", data.BitsAllocated)
    if "ModalityLUTSequence" in data:
        raise _refused(path, "values rescaled by slope and intercept", "a table of values (ModalityLUTSequence)")
    return np.dtype(f"{'i' if data.PixelRepresentation else 'u'}{data.BitsAllocated // 8}")


def _check_claim(path: Path, data: Any, dtype: np.dtype, count: int) -> None:
    syntax = data.file_meta.get("TransferSyntaxUID")
    packed = syntax is not None and syntax.is_compressed
    need, size = data.Rows * data.Columns * dtype.itemsize * count, path.stat().st_size
    if not packed or syntax == _RLE:
        too_much = need > size * (_RLE_RATIO if packed else 1)
    else:
        too_much = is_bomb(need, size)
    if min(data.Rows, data.Columns, count) < 1 or too_much:
        claimed = f"{count} x {data.Rows} x {data.Columns} pixels, {need:,} bytes{' unpacked' if packed else ''}"
        raise _refused(path, f"what fits into its {size:,} bytes", claimed)


def _check_codestreams(path: Path, data: Any) -> None:
    """Decoders make room for what a packed frame says of itself, whatever the data set says of it."""
    from pydicom.encaps import generate_frames

    syntax = data.file_meta.get("TransferSyntaxUID")
    if syntax is None or not syntax.is_compressed or syntax == _RLE:
        return
    for stream in generate_frames(data.PixelData, number_of_frames=int(data.get("NumberOfFrames") or 1)):
        if (size := coded_size(stream)) and size != (data.Rows, data.Columns):
            packed = f"a frame of {size[0]} x {size[1]}"
            raise _refused(path, f"{data.Rows} x {data.Columns} pixels", packed)


def coded_size(stream: bytes) -> tuple[int, int] | None:
    """Return the rows and columns that the header of a JPEG, JPEG-LS or JPEG 2000 stream claims; None of another.

    ISO 10918-1 B.2.2 (and 14495-1 C.2.2): a marker, its length, the precision, rows, columns. 15444-1 A.5.1: the
    marker SIZ, its length, capabilities, the corners of the image.

    >>> coded_size(bytes.fromhex("ffd8 ffe0 0004 0000 ffc0 000b 08 0010 0020"))
    (16, 32)
    """
    if stream[:4] == b"\xff\x4f\xff\x51" and len(stream) >= 24:
        right, bottom, left, top = struct.unpack(">4I", stream[8:24])
        return bottom - top, right - left
    place = 2
    while stream[:2] == b"\xff\xd8" and place + 9 <= len(stream) and stream[place] == 0xFF:
        marker, length = stream[place + 1], int.from_bytes(stream[place + 2 : place + 4])
        if marker in _FRAMES:
            rows, columns = struct.unpack(">HH", stream[place + 5 : place + 9])
            return rows, columns
        place += 1 if marker == 0xFF else 2 + length  # 0xff before a marker fills
    return None


def _items(group: Any) -> list[Any]:
    """The first item of each of a frame's sequences: its plane, its pixels' size, its scaling."""
    return [element.value[0] for element in group if element.VR == "SQ" and element.value]


def _slice(path: Path, frame: int | None, data: Any, dtype: np.dtype, places: list[Any]) -> Slice:
    def find(name: str, count: int, default: float | None = None) -> np.ndarray:
        found = next((place.get(name) for place in places if place.get(name) not in (None, "")), default)
        where = "" if frame is None else f" of frame {frame}"
        values = np.atleast_1d(np.array([] if found is None else found, np.float64))
        if len(values) != count or not np.isfinite(values).all():
            raise _refused(path, f"{count} finite number(s) as {name}{where}", "none" if found is None else found)
        return values

    along, down = np.split(find("ImageOrientationPatient", 6), 2)
    if abs(along @ down) > 1e-3 or max(abs(along @ along - 1), abs(down @ down - 1)) > 1e-3:
        raise _refused(path, "an ImageOrientationPatient of two unit vectors at right angles", [*along, *down])
    between_rows, between_columns = find("PixelSpacing", 2).tolist()
    if min(between_rows, between_columns) <= 0:
        raise _refused(path, "a PixelSpacing over 0", [between_rows, between_columns])
    thickness = float(find("SpacingBetweenSlices", 1, 0)[0]) or float(find("SliceThickness", 1, 0)[0])
    return Slice(
        path, frame, (data.Rows, data.Columns), dtype,
        find("ImagePositionPatient", 3), along, down, (between_columns, between_rows), abs(thickness),
        float(find("RescaleSlope", 1, 1)[0]), float(find("RescaleIntercept", 1, 0)[0]),
    )  # fmt: skip


def _refused(path: Path, expected: str, found: object) -> DataError:
    return DataError(mismatch("DICOM", f"{path} to have {expected}", found))
