"""Files that lie: each costs a few kilobytes or megabytes on disk and claims what no machine has. Small to make."""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_JPEG = "1.2.840.10008.1.2.4.50"
BLOCK = gzip.compress(bytes(16 << 20))  # a member; members follow each other in one file


def nifti(*sizes: int, version: int = 1, **fields: object) -> bytes:
    """A header of NIfTI with these sizes; ``fields`` are set last."""
    from nibabel import Nifti1Header, Nifti2Header

    header = (Nifti1Header if version == 1 else Nifti2Header)()
    header["datatype"], header["bitpix"] = 2, 8
    header["dim"][0], header["dim"][1 : len(sizes) + 1] = len(sizes), sizes
    header["vox_offset"], header["sform_code"] = header.single_vox_offset, 1
    header["srow_x"][0] = header["srow_y"][1] = header["srow_z"][2] = 1
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + bytes(4)


def niftis() -> Iterator[tuple[str, bytes]]:
    good = nifti(4, 4, 4) + bytes(64)
    yield "empty.nii", b""
    yield "short.nii", good[:200]
    yield "header-only.nii", good[:352]
    yield "cut.nii", good[:-1]
    yield "magic.nii", good[:344] + b"nope" + good[348:]
    yield "pair.nii", good[:344] + b"ni1\0" + good[348:]
    yield "terabytes.nii", nifti(30000, 30000, 30000) + bytes(64)
    yield "exabytes.nii", nifti(1 << 40, 1 << 20, 4, version=2) + bytes(64)
    yield "overflow.nii", nifti(1 << 62, 1 << 62, 4, version=2) + bytes(64)
    yield "overflow-to-0.nii", nifti(1 << 32, 1 << 32, 1, version=2) + bytes(64)
    yield "negative.nii", nifti(4, -4, 4) + bytes(64)
    yield "two-negatives.nii", nifti(-4, -4, 4) + bytes(64)
    yield "none.nii", nifti(4, 0, 4) + bytes(64)
    yield "rank-9.nii", nifti(4, 4, 4, dim=[9, 4, 4, 4, 1, 1, 1, 1]) + bytes(64)
    yield "rank-0.nii", nifti(4, 4, 4, dim=[0, 4, 4, 4, 1, 1, 1, 1]) + bytes(64)
    for name, offset in (("outside", 1e9), ("inside", 10), ("before", -352), ("nan", np.nan), ("inf", np.inf)):
        yield f"offset-{name}.nii", nifti(4, 4, 4, vox_offset=offset) + bytes(64)
    yield "affine-nan.nii", nifti(4, 4, 4, srow_x=[np.nan, 0, 0, 0]) + bytes(64)
    yield "affine-zero.nii", nifti(4, 4, 4, srow_x=0, srow_y=0, srow_z=0) + bytes(64)
    yield "spacing-zero.nii", nifti(4, 4, 4, sform_code=0, pixdim=0) + bytes(64)
    yield "quaternion.nii", nifti(4, 4, 4, sform_code=0, qform_code=1, quatern_b=5) + bytes(64)
    yield "intercept.nii", nifti(4, 4, 4, scl_slope=2, scl_inter=np.inf) + bytes(64)
    yield "slope.nii", nifti(4, 4, 4, scl_slope=3e38, scl_inter=3e38) + b"\xff" * 64
    yield "complex.nii", nifti(4, 4, 4, datatype=32) + bytes(512)
    yield "unknown.nii", nifti(4, 4, 4, datatype=9999) + bytes(64)
    extension = struct.pack("<II", 1 << 31, 6)
    yield "extension.nii", good[:348] + b"\1\0\0\0" + extension + bytes(400)
    yield "extension-2.nii", nifti(4, 4, 4, vox_offset=368)[:348] + b"\1\0\0\0" + extension + bytes(400)
    yield "cut.nii.gz", gzip.compress(good)[:-20]
    yield "damaged.nii.gz", gzip.compress(good)[:60] + bytes(20)
    yield "checksum.nii.gz", gzip.compress(good)[:-8] + bytes(8)
    yield "claim.nii.gz", gzip.compress(nifti(30000, 30000, 30000))
    yield "bomb.nii.gz", gzip.compress(nifti(16384, 16384, 8)) + BLOCK * 128
    yield "bomb-2.nii.gz", gzip.compress(nifti(1 << 24, 1024, version=2)) + BLOCK * 1024
    yield "bomb-in-header.nii.gz", gzip.compress(nifti(4, 4, 4, vox_offset=1 << 30)) + BLOCK * 64
    yield "cut-plane.nii.gz", gzip.compress(nifti(30000, 30000)) + np.random.default_rng(0).bytes(1 << 20)


def archives() -> Iterator[tuple[str, bytes]]:
    def npy(shape: str) -> bytes:
        text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(64)

    yield "terabytes.npy", npy("(10000, 10000, 10000)")
    yield "overflow.npy", npy("(4294967296, 4294967296, 1)")
    yield "negative.npy", npy("(-4, -4, 4)")
    yield "cut.npy", npy("(2, 2, 4)")
    yield "header.npy", b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535
    idx = bytes([0, 0, 8, 3]) + struct.pack(">III", 1 << 12, 1 << 10, 1 << 10)
    yield "bomb.idx.gz", gzip.compress(idx) + BLOCK * 256
    yield "claim.idx.gz", gzip.compress(bytes([0, 0, 8, 2]) + b"\xff" * 8)


def pngs() -> Iterator[tuple[str, bytes]]:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    def png(side: int, *parts: bytes) -> bytes:
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + head + b"".join(parts) + chunk(b"IEND", b"")

    packer = zlib.compressobj()
    zeros = b"".join(packer.compress(bytes(1 << 20)) for _ in range(96)) + packer.flush()
    yield "bomb.png", png(10_000, chunk(b"IDAT", zeros))
    yield "claim.png", png(100_000, chunk(b"IDAT", zlib.compress(b"")))
    yield "text.png", png(64, chunk(b"zTXt", b"a\0\0" + zeros), chunk(b"IDAT", zlib.compress(bytes(65 * 64))))
    yield "length.png", png(64, struct.pack(">I", 0x7FFFFFFF) + b"IDAT")
    yield "cut.png", png(64, chunk(b"IDAT", zlib.compress(np.random.default_rng(0).bytes(65 * 64))))[:-2000]


def dicoms() -> Iterator[tuple[str, bytes]]:
    def element(group: int, number: int, kind: bytes, value: bytes, length: int | None = None) -> bytes:
        size = len(value) if length is None else length
        long = kind in (b"OB", b"OW", b"UN", b"SQ", b"UT")
        return struct.pack("<HH", group, number) + kind + (b"\0\0" + struct.pack("<I", size) if long else
                                                          struct.pack("<H", size)) + value  # fmt: skip

    def even(text: str) -> bytes:
        return text.encode() + b"\0" * (len(text) % 2)

    def dicom(*extra: bytes, rows: int = 4, frames: str = "1", syntax: str = "1.2.840.10008.1.2.1") -> bytes:
        meta = element(2, 2, b"UI", even("1.2.840.10008.5.1.4.1.1.2")) + element(2, 0x10, b"UI", even(syntax))
        head = bytes(128) + b"DICM" + element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta
        number = [(0x10, rows), (0x11, rows), (0x100, 16), (0x101, 16), (0x102, 15), (0x103, 0)]
        body = element(0x28, 2, b"US", b"\1\0") + element(0x28, 4, b"CS", b"MONOCHROME2 ")
        body += element(0x28, 8, b"IS", even(frames).replace(b"\0", b" "))
        body += b"".join(element(0x28, tag, b"US", struct.pack("<H", value)) for tag, value in number)
        place = element(0x20, 0x32, b"DS", b"0\\0\\0 ") + element(0x20, 0x37, b"DS", b"1\\0\\0\\0\\1\\0 ")
        thick = element(0x18, 0x50, b"DS", b"1 ")
        spacing = element(0x28, 0x30, b"DS", b"1\\1 ")
        return head + thick + place + body + spacing + b"".join(extra)

    pixels = element(0x7FE0, 0x10, b"OW", bytes(32))
    yield "rows.dcm", dicom(pixels, rows=65535)
    yield "frames.dcm", dicom(pixels, frames="2000000000")
    yield "cut.dcm", dicom(pixels)[:-10]
    yield "length.dcm", dicom(element(0x7FE0, 0x10, b"OW", bytes(32), length=0xFFFFFFF0))
    yield "other-length.dcm", dicom(element(0x29, 0x1010, b"UN", b"", length=0xFFFFFFF0))
    packed = element(0x7FE0, 0x10, b"OB", b"\xfe\xff\0\xe0\0\0\0\0\xfe\xff\0\xe0" + struct.pack("<I", 64) + bytes(64))
    yield "rle.dcm", dicom(packed + b"\xfe\xff\xdd\xe0\0\0\0\0", rows=20000, syntax="1.2.840.10008.1.2.5")
    whole = dicom(syntax="1.2.840.10008.1.2.1.99")
    deflater = zlib.compressobj(wbits=-15)
    bomb = b"".join(deflater.compress(bytes(1 << 20)) for _ in range(200)) + deflater.flush()
    yield "deflated.dcm", whole[: whole.index(b"1.2.840.10008.1.2.1.99") + 22] + bomb
    yield "jpeg.dcm", dicom(packed + b"\xfe\xff\xdd\xe0\0\0\0\0" + bytes(200_000), rows=9000, syntax=_JPEG)
    nested = (struct.pack("<HH", 0x5200, 0x9230) + b"SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff") * 5000
    yield "nested.dcm", dicom(nested)


def write(folder: Path) -> list[Path]:
    """Write them all."""
    paths = []
    for name, content in (*niftis(), *archives(), *pngs(), *dicoms()):
        (folder / name).write_bytes(content)
        paths.append(folder / name)
    with zipfile.ZipFile(folder / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", bytes(100 << 20))
    return [*paths, folder / "bomb.npz"]


def run(paths: list[str]) -> None:
    """Read each with 64 MB more of address space than the readers have taken; print what became of it."""
    import json
    import resource
    import time

    from fastconv.data import read_grey, read_idx, read_volume
    from fastconv.errors import DataError

    def read(path: str) -> None:
        {"idx": read_idx, "png": read_grey}.get(Path(path).name.split(".")[1], read_volume)(path)

    good, *hostile = paths
    for path in good.split(":"):  # imports, and whatever is made once
        read(path)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (64 << 20),) * 2)
    for path in hostile:
        start = time.process_time()
        try:
            read(path)
            found = "read"
        except DataError as error:
            found = str(error)
        except BaseException as error:
            found = f"{type(error).__name__}: {error}"
        print(json.dumps([path, found, time.process_time() - start]), flush=True)


if __name__ == "__main__":
    import sys

    run(sys.argv[1:])
