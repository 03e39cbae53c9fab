"""Is this adrenal gland normal or a mass? A 3-D network on the outlines of AdrenalMNIST3D.

    python examples/adrenal_3d.py [--data FOLDER]

Reads adrenalmnist3d.npz (FASTCONV_DATA, or --data); prints accuracy beside the majority class, and the area under the
ROC curve with its bootstrap interval, on the official test split; draws the curve.
"""

import argparse
from pathlib import Path

import numpy as np

from fastconv import manual_seed, models, training
from fastconv.data import medmnist


def flip(draw: np.random.Generator, volumes: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mirror the batch along random axes, and move it by up to two voxels: a gland has no preferred side."""
    for axis in (2, 3, 4):
        if draw.random() < 0.5:
            volumes = np.flip(volumes, axis)
    return np.roll(volumes, draw.integers(-2, 3, 3), (2, 3, 4)), labels


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder that holds adrenalmnist3d.npz, itself or in medmnist/")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--width", type=int, default=8, help="maps of the first stage")
    parser.add_argument("--limit", type=int, help="train on the first so many volumes only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("runs/adrenal_3d"))
    options = parser.parse_args(arguments)

    glands = medmnist.load("adrenalmnist3d", options.data)
    train, test = (part.images.astype(np.float32) / 255 - 0.1 for part in (glands.train, glands.test))
    manual_seed(options.seed)
    network = models.volume_classifier(width=options.width, dropout=0.3)
    print(f"{network.num_parameters():,} parameters, seed {options.seed}")
    chosen = slice(options.limit)
    training.fit(
        network, train[chosen], glands.train.labels[chosen], epochs=options.epochs, batch_size=32, lr=2e-3,
        augment=flip, seed=options.seed, say=print,
    )  # fmt: skip

    labels = glands.test.labels
    score = training.probabilities(network, test)[:, 1]
    _, accuracy = training.medmnist_scores(labels, score, glands.task)
    area = training.roc_auc_interval(labels, score)
    majority = max(labels.mean(), 1 - labels.mean())
    print(f"accuracy {100 * accuracy:.1f} % (majority class: {100 * majority:.1f} %)")
    print(f"AUC {area.value:.3f} (95 % interval {area.low:.3f} to {area.high:.3f})")
    draw_curve(labels, score, area.value, options.output / "roc.png")
    return {"accuracy": accuracy, "auc": area.value}


def draw_curve(labels: np.ndarray, score: np.ndarray, area: float, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure((4, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="1 - specificity", ylabel="sensitivity", title=f"AUC {area:.3f}")
    false_positive, true_positive, _ = training.roc_curve(labels, score)
    axes.plot(false_positive, true_positive, drawstyle="steps-post")
    axes.plot([0, 1], [0, 1], "k:", linewidth=0.8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"curve: {path}")


if __name__ == "__main__":
    main()
