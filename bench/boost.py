"""AdaBoost with decision stumps against scikit-learn's in the same process and run.

    FASTCONV_DATA=FOLDER python -m bench.boost

Two tasks, ``fit`` and ``predict`` apart: MNIST's 0 against 1, pixels as they are, and all ten digits from the 256
features before the last layer of the tutorial's network after an epoch; without the data, of the embedded digits.
Verified before anything is timed: both sides have the same test accuracy to 0.5 per cent, and on pixels, whose values
all have a bin of their own, the same alphas.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn.ensemble import AdaBoostClassifier as Peer

import fastconv
from fastconv import config, data, models, nn, training
from fastconv.boost import AdaBoostClassifier

from . import machine
from .paired import paired, spread

Task = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # features and labels to learn from, and to test on


def digits() -> tuple[Any, Any]:
    """Return the training and the test part of MNIST, or of the embedded digits."""
    found = data.load("mnist" if config.data_dir() else "digits")
    return found.train, found.test


def zero_or_one(count: int) -> Task:
    """Return pixels of the digits 0 and 1."""
    parts = []
    for part in digits():
        chosen = np.flatnonzero(part.labels < 2)[:count]
        parts += [part.images[chosen].reshape(len(chosen), -1), part.labels[chosen]]
    return tuple(parts)


def features(count: int) -> Task:
    """Return what the tutorial's network, trained for an epoch, gives to its last layer."""
    fastconv.manual_seed(0)
    net, parts = models.tutorial_net(), []
    scaled = [(part.images[:count, None] / np.float32(255), part.labels[:count]) for part in digits()]
    training.fit(net, *scaled[0], epochs=1)
    body = nn.Sequential(*list(net)[:-1])
    for images, labels in scaled:
        parts += [training.predict(body, images, 250), labels]
    return tuple(parts)


def verified(task: Task, rounds: int) -> tuple[AdaBoostClassifier, Peer]:
    """Return both sides fitted, after a check that they agree."""
    x, y, test, labels = task
    ours, theirs = AdaBoostClassifier(n_estimators=rounds), Peer(n_estimators=rounds, random_state=0)
    accuracy = [side.fit(x, y).score(test, labels) for side in (ours, theirs)]
    assert abs(accuracy[0] - accuracy[1]) <= 0.005, accuracy
    if x.dtype == np.uint8:
        np.testing.assert_allclose(2 * ours.estimator_weights_, theirs.estimator_weights_, rtol=1e-3)
    return ours, theirs


TASKS: dict[str, Callable[[int], Task]] = {"0 against 1": zero_or_one, "CNN features": features}


def main() -> None:
    parser = argparse.ArgumentParser(description="AdaBoost with stumps, fastconv and scikit-learn in turn.")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--samples", type=int, default=60_000, help="training samples at most")
    parser.add_argument("--estimators", type=int, default=10, help="stumps")
    parser.add_argument("--rounds", type=int, default=3)
    machine.add_results_option(parser)
    options = parser.parse_args()
    print("| task | samples x features | job | fastconv, s | scikit-learn, s | times as fast (min, median, max) |")
    print("|---|---|---|---|---|---|")
    rows = []
    for name in options.tasks:
        task = TASKS[name](options.samples)
        x, y, test, _ = task
        pair = dict(zip(("fastconv", "scikit-learn"), verified(task, options.estimators), strict=True))
        for job, arguments in (("fit", (x, y)), ("predict", (test,))):
            sides = {side: partial(getattr(one, job), *arguments) for side, one in pair.items()}
            result = paired(sides, options.rounds, 1, lead=0)
            ratio = spread(result.ratios("fastconv", "scikit-learn"))
            rows.append({"task": name, "job": job, "times_as_fast": ratio, "seconds": result.samples})
            times = " | ".join(f"{result.median(side):.3f}" for side in sides)
            print(f"| {name} | {len(x):,} x {x.shape[1]} | {job} | {times} "
                  f"| {ratio['min']:.1f}, **{ratio['median']:.1f}**, {ratio['max']:.1f} |", flush=True)  # fmt: skip
    machine.save(f"boost_t{fastconv.get_num_threads()}", {"rows": rows}, options.results)


if __name__ == "__main__":
    main()
