"""A few images of a new class are enough, if someone else's network has learnt to see: fine-tuning by weights' names.

    python examples/fine_tuning.py

A network learns the digits 0 to 4 among clutter, and is saved. Another shall tell the digits 5 to 9 apart, and has a
handful of images of each: once it starts from random weights; once it takes its convolutions from the first one's file,
by name, trains new dense layers while they are frozen, then everything at a low learning rate. The example prints the
accuracy of both.
"""

import argparse
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from fastconv import data, manual_seed, nn, optim, training

SIZE = 36  # pixels an edge


def cluttered(split: data.Split, classes: range, count: int | None, copies: int, seed: int) -> tuple:
    """Return images (N, 1, 36, 36) and labels from 0: digits at random places under pieces of others, ``count`` of each
    class at most, each drawn ``copies`` times."""
    draw = np.random.default_rng(seed)
    members = [draw.permutation(np.flatnonzero(split.labels == label))[:count] for label in classes]
    chosen = np.tile(np.concatenate(members), copies)
    images = np.zeros((len(chosen), 1, SIZE, SIZE), np.float32)
    for image, index in zip(images[:, 0], chosen, strict=True):
        top, left = draw.integers(0, SIZE - 28, 2, endpoint=True)
        image[top : top + 28, left : left + 28] = split.images[index]
        for _ in range(6):
            (y, x), (top, left) = draw.integers(6, 16, 2), draw.integers(0, SIZE - 8, 2, endpoint=True)
            piece = split.images[draw.integers(len(split)), y : y + 8, x : x + 8]
            window = image[top : top + 8, left : left + 8]
            np.maximum(window, piece, out=window)
    return (images / 255 - 0.15) / 0.32, split.labels[chosen] - classes.start


class Network(nn.Module):
    """(N, 1, 36, 36) -> (N, 5): ``features`` that may serve others, and a ``classifier``."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for inside, outside in ((1, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(inside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.classifier = nn.Sequential(nn.Linear(64 * 16, 128), nn.ReLU(), nn.Linear(128, 5))

    def forward(self, input: object) -> object:
        return self.classifier(self.features(input))


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10, help="images of each new class")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--copies", type=int, default=4, help="clutters that the first network sees each digit under")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("runs/fine_tuning"))
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "first.safetensors"

    digits = data.load("digits")
    manual_seed(options.seed)
    first = Network()
    images, labels = cluttered(digits.train, range(5), None, options.copies, options.seed)
    training.fit(first, images, labels, epochs=max(options.epochs // 3, 1), lr=2e-3, seed=options.seed)
    save_file({name: array.copy() for name, array in first.state_dict().items()}, file)

    images, labels = cluttered(digits.train, range(5, 10), options.images, 1, options.seed + 1)
    test_images, test_labels = cluttered(digits.test, range(5, 10), None, 2, options.seed)
    result = {}
    for name, train in (("from nothing", from_nothing), ("fine-tuned", fine_tuned)):
        manual_seed(options.seed)
        net = Network()
        train(net, file, images, labels, options)
        result[name] = float((training.predict(net, test_images).argmax(1) == test_labels).mean())
        print(f"{name}: accuracy {100 * result[name]:.1f} % from {len(images)} images, seed {options.seed}")
    draw_result(result, options.output / "accuracy.png")
    return result


def from_nothing(net: Network, file: Path, images: np.ndarray, labels: np.ndarray, options: argparse.Namespace) -> None:
    training.fit(net, images, labels, epochs=2 * options.epochs, batch_size=8, lr=1e-3, seed=options.seed)


def fine_tuned(net: Network, file: Path, images: np.ndarray, labels: np.ndarray, options: argparse.Namespace) -> None:
    state = net.state_dict()
    seen = {name: array for name, array in load_file(file).items() if name.startswith("features.")}
    net.load_state_dict({**state, **seen})
    net.freeze("features")
    optimizer = optim.Adam(net.classifier.parameters(), lr=1e-3)
    training.fit(net, images, labels, optimizer=optimizer, epochs=options.epochs, batch_size=8, seed=options.seed)
    net.unfreeze("features")
    groups = optim.parameter_groups(net, {"features": {"lr": 2e-5}, "classifier": {"lr": 2e-4}})
    optimizer = optim.Adam(groups)
    training.fit(net, images, labels, optimizer=optimizer, epochs=options.epochs, batch_size=8, seed=options.seed)


def draw_result(result: dict[str, float], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure((4, 3), layout="constrained")
    axes = figure.add_subplot(ylabel="test accuracy", ylim=(0, 1))
    axes.bar_label(axes.bar(list(result), list(result.values())), fmt="%.3f")
    figure.savefig(path, dpi=120)
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
