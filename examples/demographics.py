"""A lesion that is harmless at one age and not at another: scores joined to what a 3-D network sees.

    python examples/demographics.py

The set is made from a seed. A volume shows a lesion in two modalities (bright in T1, dark in T2) of random size and
place; the patient's age decides from which size on it counts as suspicious. Without the age the best anyone can do is
to guess from the size alone, and the example prints that limit beside the accuracy of the same network with and
without the scores.
"""

import argparse
from pathlib import Path

import numpy as np

from fastconv import manual_seed, models, training

SIZE = 16  # voxels an edge
YOUNGEST, OLDEST = 20.0, 80.0
SMALLEST, LARGEST = 2.0, 6.0  # radius in voxels


def make(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return volumes (N, 2, 16, 16, 16), scores (N, 2) of age and an unrelated one, labels (N,), radii (N,)."""
    draw = np.random.default_rng((seed, count))
    radius, age = draw.uniform(SMALLEST, LARGEST, count), draw.uniform(YOUNGEST, OLDEST, count)
    labels = (radius > threshold(age)).astype(np.int64)
    grid = np.stack(np.meshgrid(*[np.arange(SIZE)] * 3, indexing="ij"))
    centre = draw.uniform(LARGEST, SIZE - LARGEST, (count, 3))
    distance = np.sqrt(((grid[None] - centre[:, :, None, None, None]) ** 2).sum(1))
    lesion = np.clip(radius[:, None, None, None] - distance + 0.5, 0, 1)
    volumes = np.stack([lesion, -lesion], 1) + draw.normal(0, 0.5, (count, 2, SIZE, SIZE, SIZE))
    scores = np.stack([(age - 50) / 17.3, draw.normal(size=count)], 1)
    return volumes.astype(np.float32), scores.astype(np.float32), labels, radius


def threshold(age: np.ndarray) -> np.ndarray:
    """The radius from which on a lesion is suspicious: the older the patient, the smaller."""
    return SMALLEST + (LARGEST - SMALLEST) * (OLDEST - age) / (OLDEST - YOUNGEST)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("runs/demographics"))
    options = parser.parse_args(arguments)

    volumes, scores, labels, _ = make(options.samples, options.seed)
    test_volumes, test_scores, test_labels, test_radius = make(1000, options.seed)
    accuracy = {}
    answers = {}
    for name, width, inputs, test_inputs in (
        ("without scores", 0, volumes, test_volumes),
        ("with scores", 2, (volumes, scores), (test_volumes, test_scores)),
    ):
        manual_seed(options.seed)
        net = models.volume_classifier(modalities=2, scores=width, width=8, dropout=0.1)
        training.fit(net, inputs, labels, epochs=options.epochs, batch_size=32, lr=2e-3, seed=options.seed)
        answers[name] = training.predict(net, test_inputs).argmax(1)
        accuracy[name] = float((answers[name] == test_labels).mean())
        print(f"{name}: accuracy {100 * accuracy[name]:.1f} %")
    by_size = (test_radius > (SMALLEST + LARGEST) / 2) == test_labels
    print(f"size alone, known exactly: accuracy {100 * by_size.mean():.1f} % (seed {options.seed})")
    draw_answers(test_scores[:, 0] * 17.3 + 50, test_radius, answers, options.output / "answers.png")
    return {**accuracy, "size alone": float(by_size.mean())}


def draw_answers(age: np.ndarray, radius: np.ndarray, answers: dict[str, np.ndarray], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure((8, 3.6), layout="constrained")
    for place, (name, answer) in enumerate(answers.items()):
        axes = figure.add_subplot(1, 2, place + 1, xlabel="age", ylabel="radius", title=name)
        axes.scatter(age, radius, c=answer, cmap="coolwarm", s=6)
        ages = np.array([YOUNGEST, OLDEST])
        axes.plot(ages, threshold(ages), "k--", linewidth=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"answers: {path}")


if __name__ == "__main__":
    main()
