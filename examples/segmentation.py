"""Which pixels are the digit? A U-Net tells handwriting from the clutter that was drawn over it.

    python examples/segmentation.py

The scenes are made from a seed: an embedded digit at a random place, and strokes and discs of the same brightness. The
example prints the Dice overlap on scenes with digits of other writers, beside that of calling every bright pixel digit,
and draws some of the masks.
"""

import argparse
from pathlib import Path

import numpy as np

from fastconv import data, manual_seed, models, training

SIZE = 48  # pixels an edge, a multiple of 8


def scenes(digits: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images float32 (N, 1, 48, 48) and masks int64 (N, 48, 48) of 1 where the digit is."""
    draw = np.random.default_rng((seed, count))
    rows, columns = np.mgrid[:SIZE, :SIZE]
    images, masks = np.zeros((count, 1, SIZE, SIZE), np.float32), np.zeros((count, SIZE, SIZE), np.int64)
    for image, mask in zip(images, masks, strict=True):
        top, left = draw.integers(0, SIZE - 28, 2, endpoint=True)
        digit = digits[draw.integers(len(digits))] / np.float32(255)
        image[0, top : top + 28, left : left + 28] = digit
        mask[top : top + 28, left : left + 28] = digit > 0.5
        for _ in range(6):
            (y, x), angle, length = draw.uniform(0, SIZE, 2), draw.uniform(0, np.pi), draw.uniform(4, 14)
            along = np.clip((rows - y) * np.sin(angle) + (columns - x) * np.cos(angle), -length / 2, length / 2)
            away = np.hypot(rows - y - along * np.sin(angle), columns - x - along * np.cos(angle))
            clutter = np.clip(draw.uniform(1.0, 2.5) - away, 0, 1)
            image[0] = np.maximum(image[0], clutter)
            mask[clutter > 0.5] = 0
        image += draw.normal(0, 0.1, image.shape)
    return images, masks


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=1000, help="to train on")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--width", type=int, default=12, help="maps of the first level")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("runs/segmentation"))
    options = parser.parse_args(arguments)

    digits = data.load("digits")
    images, masks = scenes(digits.train.images, options.scenes, options.seed)
    test_images, test_masks = scenes(digits.test.images, 200, options.seed)
    manual_seed(options.seed)
    net = models.unet2d(width=options.width, depth=3, batch_norm=True)
    print(f"{net.num_parameters():,} parameters, seed {options.seed}")
    training.fit(net, images, masks, epochs=options.epochs, batch_size=16, lr=2e-3, seed=options.seed, say=print)

    found = training.predict(net, test_images).argmax(1)
    overlap, bright = (training.dice(test_masks, mask) for mask in (found, test_images[:, 0] > 0.5))
    print(f"Dice {overlap:.3f} (every bright pixel: {bright:.3f})")
    draw_masks(test_images, test_masks, found, options.output / "masks.png")
    return {"dice": overlap, "bright": bright}


def draw_masks(images: np.ndarray, masks: np.ndarray, found: np.ndarray, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure((9, 5), layout="constrained")
    for row, pictures in enumerate((images[:, 0], masks, found)):
        for column in range(6):
            axes = figure.add_subplot(3, 6, row * 6 + column + 1)
            axes.imshow(pictures[column], cmap="gray", vmin=0, vmax=1)
            axes.set_axis_off()
            if column == 0:
                axes.set_title(("scene", "digit", "found")[row], fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"masks: {path}")


if __name__ == "__main__":
    main()
