"""Where are the digits, and which? A single-shot detector finds handwriting in scenes.

    python examples/detection.py

The scenes are made from a seed: one to four embedded digits of random size on a noisy ground. The example prints the
mean average precision at an overlap of one half on scenes with digits of other writers, and draws what was found.
"""

import argparse
from pathlib import Path

import numpy as np

from fastconv import data, functional, manual_seed, models, training
from fastconv.detection import Detections, box_iou, mean_average_precision

SIZE = 96  # pixels an edge, a multiple of 16


def scenes(digits: data.Split, count: int, seed: int) -> tuple[np.ndarray, list[Detections]]:
    """Return images float32 (N, 1, 96, 96), and the boxes and classes of their digits, which hardly overlap."""
    draw = np.random.default_rng((seed, count))
    images = draw.normal(0, 0.1, (count, 1, SIZE, SIZE)).astype(np.float32)
    truth = []
    for image in images:
        boxes, labels = [], []
        for _ in range(draw.integers(1, 5)):
            index, edge = draw.integers(len(digits)), int(draw.integers(20, 41))
            digit = functional.interpolate(
                digits.images[None, index : index + 1].astype(np.float32) / 255, (edge, edge), mode="bilinear"
            )[0, 0]
            top, left = draw.integers(0, SIZE - edge, 2, endpoint=True)
            ink = np.argwhere(digit > 0.3)
            (y0, x0), (y1, x1) = ink.min(0), ink.max(0) + 1
            y0, x0, y1, x1 = y0 + top, x0 + left, y1 + top, x1 + left
            if boxes and box_iou([[x0, y0, x1, y1]], boxes).max() > 0.05:
                continue
            window = image[0, top : top + edge, left : left + edge]
            np.maximum(window, digit, out=window)
            boxes.append([x0, y0, x1, y1])
            labels.append(digits.labels[index])
        truth.append(Detections(np.array(boxes, np.float64), np.array(labels), np.ones(len(labels))))
    return images, truth


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=2000, help="to train on")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--width", type=int, default=16, help="maps of the first stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("runs/detection"))
    options = parser.parse_args(arguments)

    digits = data.load("digits")
    images, truth = scenes(digits.train, options.scenes, options.seed)
    test_images, test_truth = scenes(digits.test, 200, options.seed)
    manual_seed(options.seed)
    net = models.grid_detector(10, anchors=((14, 22), (8, 28)), in_channels=1, width=options.width)
    print(f"{net.num_parameters():,} parameters, seed {options.seed}")
    training.fit(
        net, images, truth, loss=net.loss, epochs=options.epochs, batch_size=16, lr=2e-3, seed=options.seed, say=print
    )

    logits = training.predict(net, test_images)
    value, _ = mean_average_precision(net.decode(logits, score_threshold=0.05), test_truth, 10)
    print(f"mAP at an overlap of 0.5: {value:.3f}")
    draw_found(test_images, net.decode(logits[:8]), options.output / "found.png")
    return {"map": value}


def draw_found(images: np.ndarray, found: list[Detections], path: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure((10, 5.2), layout="constrained")
    for place, (boxes, labels, scores) in enumerate(found):
        axes = figure.add_subplot(2, 4, place + 1)
        axes.imshow(images[place, 0], cmap="gray", vmin=0, vmax=1)
        axes.set_axis_off()
        for (x0, y0, x1, y1), label, score in zip(boxes, labels, scores, strict=True):
            axes.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, color="tab:orange"))
            axes.text(x0, y0 - 2, f"{label} {score:.2f}", color="tab:orange", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"found: {path}")


if __name__ == "__main__":
    main()
