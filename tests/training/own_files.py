"""Small sets of images, volumes and tables on disk, as users have them: bright discs (or balls) are class b."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def scene(seed: int, size: tuple[int, ...], bright: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return an image uint8 of ``size`` with noise and a disc, bright or dark, and its mask of 0 and 1."""
    draw = np.random.default_rng((7, seed))
    grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"))
    centre = draw.uniform(0.35, 0.65, len(size)) * size
    lift = (slice(None), *[None] * len(size))
    mask = ((grid - centre[lift]) ** 2).sum(0) < (0.25 * min(size)) ** 2
    image = draw.normal(100, 15, size) + mask * (90 if bright else -60)
    return image.clip(0, 255).astype(np.uint8), mask.astype(np.uint8)


def save(path: Path, array: np.ndarray, colour: bool = False) -> Path:
    """Write a .npy, or a picture by Pillow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        from PIL import Image

        Image.fromarray(np.stack([array] * 3, -1) if colour else array).save(path)
    return path


def class_folders(folder: Path, count: int = 8, size: tuple[int, ...] = (12, 10), kind: str = ".png") -> Path:
    """FOLDER/a and FOLDER/b with ``count`` images each."""
    for bright, label in ((False, "a"), (True, "b")):
        for i in range(count):
            save(folder / label / f"{label}{i}{kind}", scene(2 * i + bright, size, bright)[0])
    return folder


def pairs(folder: Path, count: int = 8, size: tuple[int, ...] = (12, 10), kind: str = ".png", value: int = 1) -> Path:
    """FOLDER/images and FOLDER/labels."""
    for i in range(count):
        image, mask = scene(i, size, True)
        save(folder / "images" / f"case{i}{kind}", image)
        save(folder / "labels" / f"case{i}{kind}", mask * np.uint8(value))
    return folder


def table(folder: Path, count: int = 16, **changes: str) -> Path:
    """FOLDER/cases.csv: images all alike, so class b is told by the age alone; two images a patient.

    ``changes`` replace the text of a line by its number, ``line5="..."``; "" leaves it out.
    """
    lines = ["path,label,patient,age,sex"]
    image = np.random.default_rng(3).integers(0, 255, (10, 12), dtype=np.uint8)
    for i in range(count):
        save(folder / "x" / f"{i}.png", image)
        old = i // 2 % 2
        lines.append(f"x/{i}.png,{'ab'[old]},p{i // 2},{30 + 40 * old + i % 3},{'fm'[i % 2]}")
    for name, text in changes.items():
        lines[int(name.removeprefix("line")) - 1] = text
    path = folder / "cases.csv"
    path.write_text("\n".join(line for line in lines if line) + "\n")
    return path
