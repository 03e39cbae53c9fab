"""Deeper is not better, unless layers are skipped: plain against residual networks of the same parameters.

    python examples/residual_or_plain.py

Trains a shallow and a deep plain network, and the deep one with residual additions, on the embedded digits, and prints
the loss that each reaches on the images that it was trained with: the deep plain one optimises worse than the shallow
one, the residual one does not (He et al. 2016, https://arxiv.org/abs/1512.03385, section 4.2).
"""

import argparse
from pathlib import Path

import numpy as np

from fastconv import data, manual_seed, models, training


def halved(images: np.ndarray) -> np.ndarray:
    """(N, 28, 28) of bytes -> (N, 1, 14, 14) of about zero mean and unit variance."""
    small = images.reshape(len(images), 1, 14, 2, 14, 2).mean((3, 5))
    return ((small - small.mean()) / small.std()).astype(np.float32)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shallow", type=int, default=8, help="layers, 6n + 2")
    parser.add_argument("--deep", type=int, default=56, help="layers, 6n + 2")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--limit", type=int, default=None, help="train on the first so many images only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("runs/residual_or_plain"))
    options = parser.parse_args(arguments)

    digits = data.load("digits")
    images, labels = halved(digits.train.images[: options.limit]), digits.train.labels[: options.limit]
    test = halved(digits.test.images)
    histories, result = {}, {}
    for depth, residual in ((options.shallow, False), (options.deep, False), (options.deep, True)):
        name = f"{'residual' if residual else 'plain'}, {depth} layers"
        manual_seed(options.seed)
        net = models.cifar_net(depth, residual, in_channels=1)
        histories[name] = training.fit(
            net, images, labels, epochs=options.epochs, batch_size=64, lr=1e-3, seed=options.seed
        )
        accuracy = (training.predict(net, test).argmax(1) == digits.test.labels).mean()
        result[name] = histories[name][-1]
        print(f"{name}: training loss {histories[name][-1]:.4f}, test accuracy {100 * accuracy:.1f} %", flush=True)
    print(f"seed {options.seed}")
    draw_losses(histories, options.output / "losses.png")
    return result


def draw_losses(histories: dict[str, list[float]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure((5, 3.6), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="training loss", yscale="log")
    for name, history in histories.items():
        axes.plot(range(1, len(history) + 1), history, marker="o", markersize=3, label=name)
    axes.legend()
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"losses: {path}")


if __name__ == "__main__":
    main()
