"""Two result files of the same benchmark: what became slower, what faster. Exit status 1 where something did.

    python -m bench.compare bench/results/OLD.json bench/results/NEW.json
    python -m bench.compare --threshold 0.1 .benchmarks/OLD.json .benchmarks/NEW.json

Files are those of the scripts beside this one, or pytest-benchmark's. Where a result holds another engine's times from
the same rounds, our time is taken in units of the fastest of theirs, because an absolute time does not travel; else,
or with --absolute, times themselves are compared, which asks for one machine and quiet. A call is slower where its
median is worse by more than the threshold and its rounds do not overlap with the old ones: the best of the new is
worse than the worst of the old. (pytest-benchmark's worst round is any hiccup's: its quartiles are taken instead.)
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean, median

OURS = ("fastconv", "all", "denormal")  # our side's name, where there are others
NAMES = ("case", "net", "layer", "operation", "features", "input", "batch", "direction")  # what a row is called by


Samples = dict[str, list[float]]  # seconds of each side, round by round


@dataclass(frozen=True)
class Cost:
    """What a call took: seconds, or a multiple of the peer's in the same round. Less is better."""

    least: float
    median: float
    most: float
    relative: bool


def calls(path: Path) -> dict[str, Samples]:
    """Return the samples of each call of a result file, by its name.

    Raises:
        SystemExit: the file cannot be read, or holds nothing that can be compared.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"compare: expected a result file, got {path} ({error})") from None
    if not isinstance(result, dict):
        result = {}
    found: dict[str, Samples] = {}
    for entry in result.get("benchmarks", []):  # pytest-benchmark's
        found[entry["fullname"]] = {"time": [entry["stats"][key] for key in ("q1", "median", "q3")]}
    for row in result.get("rows", [result]):
        name = " ".join(str(row[key]) for key in NAMES if key in row) or "whole"
        for part in ("seconds", "alone", "beside"):
            if isinstance(row.get(part), dict):
                found[name if part == "seconds" else f"{name} {part}"] = row[part]
    for index in range(min((len(run["epochs"]) for run in result.get("runs", [])), default=0)):  # train_time's
        found[f"to the end of epoch {index + 1}"] = {"time": [run["epochs"][index]["at"] for run in result["runs"]]}
    if not found:
        raise SystemExit(f"compare: expected times in {path}, got none")
    return found


def pair(old: Samples, new: Samples, absolute: bool) -> tuple[Cost, Cost]:
    """Return what a call took in both files, in units of one peer, the fastest of the old file that the new one has."""
    ours = next((side for side in OURS if side in old), next(iter(old)))
    peers = [side for side in old if side != ours and side in new]
    peer = min(peers, key=lambda side: median(old[side])) if peers and not absolute else None
    return _cost(old, ours, peer), _cost(new, ours, peer)


def _cost(samples: Samples, ours: str, peer: str | None) -> Cost:
    values = samples[ours]
    if peer:
        values = [a / b for a, b in zip(values, samples[peer], strict=True)]
    return Cost(min(values), median(values), max(values), peer is not None)


def verdict(old: Cost, new: Cost, threshold: float) -> str:
    """Return 'slower', 'faster' or '': beyond the threshold, and beyond the noise of both.

    >>> verdict(Cost(0.9, 1.0, 1.1, False), Cost(1.2, 1.3, 1.4, False), 0.05)
    'slower'
    >>> verdict(Cost(0.9, 1.0, 1.1, False), Cost(1.05, 1.3, 1.4, False), 0.05)
    ''
    """
    if new.median > old.median * (1 + threshold) and new.least > old.most:
        return "slower"
    if old.median > new.median * (1 + threshold) and old.least > new.most:
        return "faster"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description="What became slower between two result files, beyond noise.")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--threshold", type=float, default=0.05, help="least change of a median (default: 0.05)")
    parser.add_argument("--absolute", action="store_true", help="times themselves, not in units of the fastest peer's")
    parser.add_argument("--all", action="store_true", help="list what did not change too")
    options = parser.parse_args()
    before, after = calls(options.old), calls(options.new)
    both = [name for name in before if name in after]
    if not both:
        raise SystemExit("compare: expected the files to have calls in common, got none")
    pairs = {name: pair(before[name], after[name], options.absolute) for name in both}
    verdicts = {name: verdict(*costs, options.threshold) for name, costs in pairs.items()}
    print("| call | old | new | old / new | |\n|---|---|---|---|---|")
    for name in sorted(both, key=lambda name: pairs[name][0].median / pairs[name][1].median):
        if verdicts[name] or options.all:
            a, b = pairs[name]
            print(f"| {name} | {_text(a)} | {_text(b)} | {a.median / b.median:.2f} | {verdicts[name]} |")
    change = geometric_mean(a.median / b.median for a, b in pairs.values())
    slower, faster = (sum(found == word for found in verdicts.values()) for word in ("slower", "faster"))
    alone = len(before) + len(after) - 2 * len(both)
    print(f"\n{len(both)} calls: {slower} slower, {faster} faster, geometric mean {change:.3f} times as fast"
          + (f"; {alone} in one file only" if alone else ""))  # fmt: skip
    sys.exit(1 if slower else 0)


def _text(cost: Cost) -> str:
    if cost.relative:
        return f"{cost.median:.3f} ({cost.least:.3f}, {cost.most:.3f})"
    return f"{1e3 * cost.median:.3g} ms ({1e3 * cost.least:.3g}, {1e3 * cost.most:.3g})"


if __name__ == "__main__":
    main()
