"""DICOM series written by pydicom, right or wrong on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SERIES = "1.2.826.0.1.3680043.8.498.1"
TURNED = [0.96, 0.28, 0.0, -0.28, 0.96, 0.0]  # within the axial plane
OBLIQUE = [0.6, 0.8, 0.0, 0.0, 0.0, -1.0]
AXIAL = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def base(path: Path, pixels: np.ndarray, series: str = SERIES, syntax: str = ExplicitVRLittleEndian) -> FileDataset:
    """A data set with pixels (..., rows, columns) and no place yet."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    data = FileDataset(path, {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID = series
    data.Rows, data.Columns = pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    return data


def save(data: FileDataset, **fields: Any) -> Path:
    for name, value in fields.items():
        if value is None:
            del data[name]
        else:
            setattr(data, name, value)
    data.save_as(data.filename, enforce_file_format=True)
    return Path(data.filename)


def one(
    path: Path, pixels: np.ndarray, position: Any, orientation: Any = AXIAL, spacing: Any = (0.5, 0.75), **fields: Any
) -> Path:
    """A file of one slice; ``fields`` are set last, and taken away where they are None."""
    data = base(path, pixels, **{name: fields.pop(name) for name in ("series", "syntax") if name in fields})
    data.ImagePositionPatient, data.ImageOrientationPatient = [float(x) for x in position], list(orientation)
    data.PixelSpacing = list(spacing)
    return save(data, **fields)


def series(
    folder: Path, voxels: np.ndarray, orientation: Any = AXIAL, step: float = 2.0, tilt: float = 0.0, **fields: Any
) -> list[Path]:
    """Slices (K, rows, columns) along the normal, under names and numbers that say nothing about their order."""
    folder.mkdir(exist_ok=True)
    normal = np.cross(orientation[:3], orientation[3:])
    paths = []
    for k, pixels in enumerate(voxels):
        position = np.array([-100.0, 50.0, 20.0]) + k * step * normal + k * tilt * np.array(orientation[3:])
        name = f"{(k * 7 + 3) % 101:03d}.dcm"
        paths.append(one(folder / name, pixels, position, orientation, InstanceNumber=(k * 5) % 11, **fields))
    return paths


def enhanced(path: Path, voxels: np.ndarray, order: list[int], **fields: Any) -> Path:
    """One file of many frames, stored in ``order``, each with its place and slope."""
    data = base(path, voxels[order])
    data.NumberOfFrames = len(order)
    plane, size = Dataset(), Dataset()
    plane.ImageOrientationPatient = AXIAL
    size.PixelSpacing, size.SliceThickness = [0.5, 0.75], 2.0
    shared = Dataset()
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [size]
    data.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for k in order:
        place, scale, group = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [-100.0, 50.0, 20.0 + 2 * k]
        scale.RescaleSlope, scale.RescaleIntercept = 1.0 + k, -3.0
        group.PlanePositionSequence, group.PixelValueTransformationSequence = [place], [scale]
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = groups
    return save(data, **fields)


__all__ = ["AXIAL", "OBLIQUE", "SERIES", "TURNED", "Dataset", "base", "enhanced", "one", "pydicom", "save", "series"]
