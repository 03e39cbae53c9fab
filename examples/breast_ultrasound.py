"""Benign or malignant? A small network on the ultrasound images of BreastMNIST.

    python examples/breast_ultrasound.py [--data FOLDER]

Reads breastmnist.npz (FASTCONV_DATA, or --data); prints accuracy beside the majority class, and the area under the ROC
curve with its bootstrap interval, on the official test split; draws the images that it errs in.
"""

import argparse
from pathlib import Path

import numpy as np

from fastconv import manual_seed, nn, training
from fastconv.data import medmnist


def network(width: int) -> nn.Sequential:
    """(N, 1, 28, 28) -> (N, 2): three stages of two 3x3 convolutions with batch norm."""
    layers: list[nn.Module] = []
    planes = 1
    for stage in range(3):
        for _ in range(2):
            layers += [nn.Conv2d(planes, width << stage, 3, padding=1, bias=False), nn.BatchNorm2d(width << stage)]
            layers.append(nn.ReLU())
            planes = width << stage
        layers.append(nn.MaxPool2d(2) if stage < 2 else nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.4), nn.Linear(planes, 2))


def vary(draw: np.random.Generator, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mirror left and right (not up and down: sound comes from above), move, and change gain and contrast."""
    n = len(images)
    mirrored = np.where(draw.random((n, 1, 1, 1)) < 0.5, images[..., ::-1], images)
    moved = np.roll(mirrored, draw.integers(-2, 3, 2), (2, 3))
    gain = draw.uniform(0.8, 1.2, (n, 1, 1, 1)).astype(np.float32)
    return moved * gain + draw.uniform(-0.2, 0.2, (n, 1, 1, 1)).astype(np.float32), labels


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder that holds breastmnist.npz, itself or in medmnist/")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("runs/breast_ultrasound"))
    options = parser.parse_args(arguments)

    scans = medmnist.load("breastmnist", options.data)
    mean, std = scans.train.images.mean(), scans.train.images.std()
    train, test = ((part.images - mean).astype(np.float32) / np.float32(std) for part in (scans.train, scans.test))
    manual_seed(options.seed)
    net = network(options.width)
    print(f"{net.num_parameters():,} parameters, seed {options.seed}")
    training.fit(
        net, train, scans.train.labels, epochs=options.epochs, batch_size=32, lr=1e-3, augment=vary,
        seed=options.seed, say=print,
    )  # fmt: skip

    labels = scans.test.labels
    score = (training.probabilities(net, test)[:, 1] + training.probabilities(net, test[..., ::-1])[:, 1]) / 2
    _, accuracy = training.medmnist_scores(labels, score, scans.task)
    area = training.roc_auc_interval(labels, score)
    majority = max(labels.mean(), 1 - labels.mean())
    print(f"accuracy {100 * accuracy:.1f} % (majority class: {100 * majority:.1f} %)")
    print(f"AUC {area.value:.3f} (95 % interval {area.low:.3f} to {area.high:.3f})")
    draw_mistakes(scans.test.images[:, 0], labels, score, options.output / "mistakes.png")
    return {"accuracy": accuracy, "auc": area.value}


def draw_mistakes(images: np.ndarray, labels: np.ndarray, score: np.ndarray, path: Path) -> None:
    from matplotlib.figure import Figure

    names = ("malignant", "normal or benign")
    wrong = np.flatnonzero((score > 0.5) != labels)
    wrong = wrong[np.argsort(-np.abs(score[wrong] - 0.5), kind="stable")][:24]
    figure = Figure((9, 6), layout="constrained")
    for place, index in enumerate(wrong):
        axes = figure.add_subplot(4, 6, place + 1)
        axes.imshow(images[index], cmap="gray", vmin=0, vmax=255)
        axes.set_axis_off()
        axes.set_title(f"{names[labels[index]]}\n{score[index]:.2f}", fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"mistakes: {path}")


if __name__ == "__main__":
    main()
