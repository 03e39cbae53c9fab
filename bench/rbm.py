"""Updates of a restricted Boltzmann machine a second, against scikit-learn's BernoulliRBM in the same process and run.

    python -m bench.rbm

784 visible and 256 hidden units in float32, contrastive divergence of one step, batches of 10 and 100. scikit-learn
offers persistent chains only, so both sides have them. Verified before anything is timed: from the same weights both
give the same features and free energies.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
from sklearn.neural_network import BernoulliRBM as Peer

import fastconv
from fastconv.rbm import BernoulliRBM

from . import machine
from .paired import paired, spread


def pair(batch: int) -> tuple[BernoulliRBM, Peer, np.ndarray]:
    """Return both machines with the same weights, and a batch, after a check that they agree."""
    x = (np.random.default_rng(0).random((batch, 784)) < 0.2).astype(np.float32)
    options = {"learning_rate": 0.01, "batch_size": batch, "random_state": 0}
    ours, theirs = BernoulliRBM(256, persistent=True, **options), Peer(256, **options)
    ours.partial_fit(x)
    theirs.partial_fit(x)
    theirs.components_ = ours.components_.copy()
    theirs.intercept_hidden_, theirs.intercept_visible_ = ours.intercept_hidden_, ours.intercept_visible_
    np.testing.assert_allclose(ours.transform(x), theirs.transform(x), rtol=1e-4)
    np.testing.assert_allclose(ours.free_energy(x), theirs._free_energy(x), rtol=1e-4)
    return ours, theirs, x


def main() -> None:
    parser = argparse.ArgumentParser(description="Updates of an RBM, fastconv and scikit-learn in turn.")
    parser.add_argument("--batch", type=int, nargs="+", default=[10, 100], help="batch sizes")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=50, help="timed updates a turn")
    machine.add_results_option(parser)
    options = parser.parse_args()
    print("| batch | fastconv, updates/s | scikit-learn, updates/s | times as fast (min, median, max) |")
    print("|---|---|---|---|")
    rows = []
    for batch in options.batch:
        ours, theirs, x = pair(batch)
        machines = {"fastconv": ours, "scikit-learn": theirs}
        sides = {name: partial(one.partial_fit, x) for name, one in machines.items()}
        result = paired(sides, options.rounds, options.steps)
        ratio = spread(result.ratios("fastconv", "scikit-learn"))
        rows.append({"batch": batch, "times_as_fast": ratio, "seconds": result.samples})
        rates = [f"{1 / result.median(side):,.0f}" for side in sides]
        print(f"| {batch} | {rates[0]} | {rates[1]} "
              f"| {ratio['min']:.1f}, **{ratio['median']:.1f}**, {ratio['max']:.1f} |")  # fmt: skip
    machine.save(f"rbm_t{fastconv.get_num_threads()}", {"rows": rows}, options.results)


if __name__ == "__main__":
    main()
