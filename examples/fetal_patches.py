"""Fluid, stomach, vein or shadow? Dark patches of fetal ultrasound, told apart with the direction that sound came from.

    python examples/fetal_patches.py

A shadow lies along the beam, and fluid does not, but a patch alone does not say where the beam runs. The same network
learns from patches in four ways: without the direction; with it joined to the features before the classifier; with its
products with the features joined as well, because a sum cannot ask for a feature along the beam; and from patches that
are turned so that sound travels down. The last one labels what is dark in whole pictures, and an ellipse is fitted to
the abdomen where its outline shows (extras `plot` and `medical`, which brings SciPy), because its circumference is what
a physician measures.

The pictures are a phantom's (fastconv.data.phantom), turned any way, and those for testing show other bodies than
those for training. Its figures compare ways of using a direction; they say nothing of patients. The task is that of
Jang et al. 2018, https://arxiv.org/abs/1702.02741.
"""

import argparse
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from fastconv import Tensor, manual_seed, nn, training
from fastconv import functional as F
from fastconv.data import phantom

CLASSES = phantom.CLASSES[2:]
COLOURS = {  # ours
    "amniotic fluid": "#2b7bff", "stomach bubble": "#ff3b30", "umbilical vein": "#34c759", "shadow": "#ffcc00",
}  # fmt: skip
WAYS = ("without", "joined", "products", "turned")
SIZE = 32  # pixels an edge of a patch, 21 mm
STRIDE = 2  # pixels between the patches of a class map


class Network(nn.Module):
    """(N, 1, 32, 32), and directions (N, 2) where ``way`` takes them -> (N, 4)."""

    def __init__(self, way: str, width: int) -> None:
        self.way = way
        layers: list[nn.Module] = []
        for i, o in pairwise((1, width, 2 * width, 4 * width)):
            layers += [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2)]
        size = 4 * width * (SIZE // 8) ** 2
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, 64), nn.ReLU(), nn.Dropout(0.3))
        joined = {"joined": 64 + 2, "products": 5 * 64}.get(way, 64)
        self.classifier = nn.Sequential(nn.Linear(joined, 64), nn.ReLU(), nn.Linear(64, len(CLASSES)))

    def forward(self, patch: Tensor, direction: Tensor | None = None) -> Tensor:
        found = self.features(patch)
        if self.way == "joined":
            found = F.cat([found, direction], 1)
        elif self.way == "products":  # with cosine and sine of the direction, and of its double: an edge has two
            down, right = direction[:, :1], direction[:, 1:]
            harmonics = down, right, down * down - right * right, 2 * down * right
            found = F.cat([found, *(found * one for one in harmonics)], 1)
        return self.classifier(found)


def inputs(way: str, straight: np.ndarray, turned: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, ...]:
    """What a network of this way is given of patches."""
    patch = (turned if way == "turned" else straight) - np.float32(0.25)
    return (patch, direction) if way in ("joined", "products") else (patch,)


def vary(any_way: bool) -> Callable[..., tuple]:
    """Mirror images of patches, and their directions; and turns by right angles where pictures lie any way."""

    def augment(draw: np.random.Generator, patch: np.ndarray, *rest: np.ndarray) -> tuple:
        *direction, labels = rest
        for _ in range(draw.integers(4) if any_way else 0):
            patch = np.rot90(patch, axes=(2, 3))  # what pointed down points right
            direction = [one[:, ::-1] * np.array([-1, 1], np.float32) for one in direction]
        if draw.random() < 0.5:
            patch = patch[..., ::-1]
            direction = [one * np.array([1, -1], np.float32) for one in direction]
        return (np.ascontiguousarray(patch), *direction), labels

    return augment


def class_map(net: Network, scan: phantom.Scan) -> np.ndarray:
    """Return 0 where a picture is bright, else 1 + the class, int64 (S, S), from a patch every few dark pixels."""
    from scipy.ndimage import gaussian_filter

    dark = (gaussian_filter(scan.image.astype(np.float32), 1.5) < otsu(scan.image[scan.sector])) & scan.sector
    centres = np.argwhere(dark[::STRIDE, ::STRIDE]) * STRIDE
    straight, turned = (phantom.cut(scan, centres, SIZE, along) for along in (False, True))
    found = training.predict(net, inputs(net.way, straight, turned, scan.direction[:, *centres.T].T), 256).argmax(1)
    coarse = np.zeros(dark[::STRIDE, ::STRIDE].shape, np.int64)
    coarse[tuple(centres.T // STRIDE)] = found + 1
    return np.kron(coarse, np.ones((STRIDE, STRIDE), np.int64))[: len(dark), : len(dark)] * dark


def otsu(values: np.ndarray) -> float:
    """The grey value that splits uint8 values into two classes of most variance between them (Otsu 1979)."""
    count = np.bincount(values, minlength=256)
    below, total = np.cumsum(count), np.cumsum(count * np.arange(256))
    above = below[-1] - below
    mean = total / np.maximum(below, 1), (total[-1] - total) / np.maximum(above, 1)
    return float((below * above * (mean[0] - mean[1]) ** 2).argmax()) + 0.5


def outline(scan: phantom.Scan, classes: np.ndarray) -> tuple[phantom.Ellipse, np.ndarray]:
    """Return the ellipse fitted to the abdomen, and the boundary points (N, 2) as x, y that it was fitted to.

    Rays leave from between stomach and vein. On each the boundary may be at any bright line, and the better the darker
    it is behind it, and best where fluid begins; in shadow nothing counts. The circle that most rays agree on chooses
    among the places of a ray, and an ellipse, fitted by least squares that forgive outliers, chooses again within a
    gate that narrows.
    """
    inside = np.argwhere((classes == 2) | (classes == 3))
    middle = np.median(inside if len(inside) else np.argwhere(scan.sector), axis=0)[::-1]
    found = None
    for gate in (8.0, 6.0, 4.0, 6.0, 4.0, 3.0):  # mm
        if gate >= 6:  # rays start anew from the ellipse's own centre
            x, y, strength = rays(scan, classes, middle if found is None else np.array([found.x, found.y]))
        if found is None:
            found = max(
                circles(middle, scan.spacing), key=lambda one: gated(x, y, strength, one, 5 / scan.spacing)[1].sum()
            )
        place, best = gated(x, y, strength, found, gate / scan.spacing)
        kept = np.flatnonzero(best > 0.02)
        points = np.stack([x[kept, place[kept]], y[kept, place[kept]]], 1)
        found = fit(points, found, scan.spacing)
    return found, points


def gated(
    x: np.ndarray, y: np.ndarray, strength: np.ndarray, near: phantom.Ellipse, gate: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return which place of each ray, no farther than ``gate`` from an ellipse, is best, and how good it is."""
    seen = np.where(np.abs(near.surface(x, y)[0]) < gate, strength, 0)
    return seen.argmax(1), seen.max(1)


def circles(middle: np.ndarray, spacing: float) -> list[phantom.Ellipse]:
    """Circles of a body's sizes around points near ``middle``."""
    shifts, radii = np.arange(-16, 17, 4) / spacing, np.arange(28, 50, 3) / spacing
    return [phantom.Ellipse(middle[0] + u, middle[1] + v, r, r) for u in shifts for v in shifts for r in radii]


def rays(scan: phantom.Scan, classes: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x, y and how much each place looks like the boundary, all (rays, places), along rays from ``centre``."""
    from scipy.ndimage import correlate1d, gaussian_filter, map_coordinates, minimum_filter

    theta = np.linspace(0, 2 * np.pi, 120, endpoint=False)[:, None]
    step = np.arange(8 / scan.spacing, 70 / scan.spacing)
    x, y = centre[0] + step * np.cos(theta), centre[1] + step * np.sin(theta)
    grey = map_coordinates(gaussian_filter(scan.image / 255.0, 1.0), [y, x], order=1)
    kind = map_coordinates(classes, [y, x], order=0)
    reach = round(3 / scan.spacing)
    side, gap = np.ones(reach) / reach, np.zeros(3)
    behind = np.r_[side, gap, -side]  # what lies before a place less what lies behind it
    line = np.r_[-side / 2, gap + 1 / 3, -side / 2]
    fluid = correlate1d((kind == 1).astype(float), -behind, axis=1)
    hidden = correlate1d((kind == 4).astype(float), np.r_[side, gap, side], axis=1) > 0.8
    seen = map_coordinates(minimum_filter(scan.sector, 2 * reach + 1), [y, x], order=0)
    weight = np.maximum(0.3 + correlate1d(grey, behind, axis=1) + 0.5 * fluid, 0)
    return x, y, np.where(seen & ~hidden, np.maximum(correlate1d(grey, line, axis=1), 0) * weight, 0)


def fit(points: np.ndarray, start: phantom.Ellipse, spacing: float) -> phantom.Ellipse:
    """Return the ellipse of least distances to points (N, 2), large ones counted less, within a body's sizes."""
    from scipy.optimize import least_squares

    def distances(values: np.ndarray) -> np.ndarray:
        return phantom.Ellipse(*values).surface(*points.T)[0]

    low, high = 25 / spacing, 60 / spacing
    axes = np.clip([start.a, start.b], low + 1, high - 1)
    bounds = [-np.inf, -np.inf, low, low, -np.inf], [np.inf, np.inf, high, high, np.inf]
    first = [start.x, start.y, *axes, start.angle]
    return phantom.Ellipse(*least_squares(distances, first, bounds=bounds, loss="soft_l1", f_scale=1 / spacing).x)


def train(way: str, patches: phantom.Patches, options: argparse.Namespace, seed: int) -> Network:
    manual_seed(seed)
    net = Network(way, options.width)
    given = inputs(way, patches.images, patches.along, patches.direction)
    any_way = way != "turned" and not options.upright
    training.fit(
        net, given, patches.labels, epochs=options.epochs, batch_size=64, lr=2e-3, augment=vary(any_way), seed=seed
    )
    return net


def spread(values: list[float]) -> str:
    """Mean and standard deviation over repeats, in per cent."""
    return f"{100 * np.mean(values):.1f} +- {100 * np.std(values, ddof=len(values) > 1):.1f} %"


def report(way: str, found: list[training.Metrics], first: list[training.Metrics]) -> float:
    """Print a way's figures, and what it gains over the ``first`` one, and return its mean accuracy in per cent."""
    print(f"{way}: accuracy {spread([one.accuracy for one in found])}, "
          f"shadow taken for fluid {spread([one.confusion[3, 0] / one.support[3] for one in found])}, "
          f"fluid for shadow {spread([one.confusion[0, 3] / one.support[0] for one in found])}")  # fmt: skip
    for label, name in enumerate(CLASSES):
        print(f"  {name}: sensitivity {spread([one.sensitivity[label] for one in found])}, "
              f"F1 {spread([one.f1[label] for one in found])}")  # fmt: skip
    if found is not first:  # the same phantoms: each repeat is a pair
        gains = [one.accuracy - other.accuracy for one, other in zip(found, first, strict=True)]
        print(f"  accuracy gained: {spread(gains)}")
    return float(100 * np.mean([one.accuracy for one in found]))


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, default=4000, help="to train on, 40 of a phantom")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--width", type=int, default=12, help="maps of the first stage")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="the last one labels the pictures")
    parser.add_argument("--repeats", type=int, default=3, help="how often, with new phantoms and new networks")
    parser.add_argument("--pictures", type=int, default=12, help="phantoms whose abdomen is measured")
    parser.add_argument("--upright", action="store_true", help="pictures with the probe on top, not turned any way")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("runs/fetal_patches"))
    options = parser.parse_args(arguments)

    turn = 0.0 if options.upright else None
    scores: dict[str, list[training.Metrics]] = {way: [] for way in options.ways}
    nets: dict[str, Network] = {}
    for repeat in range(options.repeats):
        first = 10_000 * (options.seed + repeat)  # phantoms of another repeat, or of the test, are others
        seeds = np.arange(first, first + 3 * max(options.patches // 40, 1) // 2)
        known, new = np.split(seeds, [2 * len(seeds) // 3])
        learn = phantom.draw_patches(known.tolist(), options.patches, SIZE, turn)
        test = phantom.draw_patches(new.tolist(), options.patches // 2, SIZE, turn)
        for way in options.ways:
            net = train(way, learn, options, options.seed + repeat)
            nets.setdefault(way, net)
            given = inputs(way, test.images, test.along, test.direction)
            scores[way].append(training.measure(test.labels, training.predict(net, given, 256).argmax(1), len(CLASSES)))
    print(f"seed {options.seed}: {options.repeats} x {options.patches} patches of {len(known)} phantoms to learn from, "
          f"{len(test.labels)} of {len(new)} others to test on")  # fmt: skip
    figures = {way: report(way, found, scores[options.ways[0]]) for way, found in scores.items()}

    scans = [phantom.scan(10_000 * options.seed + 9_000 + i, turn=turn) for i in range(options.pictures)]
    maps = [class_map(nets[options.ways[-1]], scan) for scan in scans]
    outlines = [outline(scan, classes) for scan, classes in zip(scans, maps, strict=True)]
    blind = [outline(scan, np.zeros_like(classes)) for scan, classes in zip(scans, maps, strict=True)]
    error, control = circumference_errors(scans, outlines), circumference_errors(scans, blind)
    print(f"circumference of {len(error)} abdomens: error {error.mean():.1f} % (median {np.median(error):.1f}, "
          f"worst {error.max():.1f}); without the class map {control.mean():.1f} %")  # fmt: skip
    draw_maps(scans, maps, outlines, options.output / "class_maps.png")
    return {**figures, "circumference error": float(np.median(error))}


def circumference_errors(scans: list[phantom.Scan], outlines: list[tuple[phantom.Ellipse, np.ndarray]]) -> np.ndarray:
    """In per cent of the truth, without sign."""
    pairs = zip(scans, outlines, strict=True)
    return np.array([100 * abs(found.circumference / scan.abdomen.circumference - 1) for scan, (found, _) in pairs])


def draw_maps(
    scans: list[phantom.Scan], maps: list[np.ndarray], outlines: list[tuple[phantom.Ellipse, np.ndarray]], path: Path
) -> None:
    """Four phantoms: the picture, its truth, and what was found, with both ellipses and the points of the fit."""
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    shades = np.array([(0, 0, 0), *map(to_rgb, COLOURS.values())])
    shown = list(zip(scans, maps, outlines, strict=True))[:4]
    figure = Figure((3 * len(shown), 9.6), layout="constrained")
    for column, (scan, classes, (found, points)) in enumerate(shown):
        grey = np.repeat(scan.image[..., None] / 255, 3, 2)
        truth = np.where(scan.labels > 1, scan.labels - 1, 0)
        for row, marks in enumerate((None, truth, classes)):
            picture = (
                grey if marks is None else np.where(marks[..., None] > 0, 0.45 * grey + 0.55 * shades[marks], grey)
            )
            axes = figure.add_subplot(3, len(shown), row * len(shown) + column + 1)
            axes.imshow(picture)
            axes.set_axis_off()
            t = np.linspace(0, 2 * np.pi, 200)
            if row:
                axes.plot(*scan.abdomen.at(t), "w--", linewidth=1)
            if row == 2:
                axes.plot(*points.T, "w.", markersize=2)
                axes.plot(*found.at(t), color="#ff2d95", linewidth=1.5)
            lengths = [ellipse.circumference * scan.spacing for ellipse in (scan.abdomen, found)]
            titles = "B-mode", f"truth: {lengths[0]:.0f} mm", f"found: {lengths[1]:.0f} mm"
            axes.set_title(titles[row], fontsize=9)
    keys = [Patch(color=colour, label=name) for name, colour in COLOURS.items()]
    lines = ("true outline", "black", "--"), ("fitted ellipse", "#ff2d95", "-")
    keys += [Line2D([], [], color=colour, linestyle=style, label=name) for name, colour, style in lines]
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"class maps: {path}")


if __name__ == "__main__":
    main()
