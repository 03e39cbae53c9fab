"""Every result in bench/results as Markdown tables: docs/results.md.

    python -m bench.report
    python -m bench.report --check    # exit status 1 where the document is not what the results say

Results of one command stand together, the newest first. Nothing is timed, and nothing but fastconv is imported.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.machine import RESULTS, write

DOCUMENT = Path(__file__).parents[1] / "docs" / "results.md"
INTRODUCTION = """# Results

Made by `python -m bench.report` from the raw results in [bench/results](../bench/results), which hold all samples,
versions and the load of the machine. What they mean, and which of them stand for the present kernels, is said in
[performance](performance.md). A ratio is PyTorch's time, or that of the side that is named, divided by ours, both timed
in turn in one run: the median over the rounds, and in brackets the least and the most. Of several layers or cases it is
the geometric mean of medians, and least is the least median.
"""
Result = dict[str, Any]


def results(folder: Path) -> list[tuple[str, Result]]:
    """Return the name and content of each result, by kind and from the newest to the oldest."""
    found = [(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in folder.glob("*.json")]
    found.sort(key=lambda item: item[1]["machine"]["date"], reverse=True)
    return sorted(found, key=lambda item: kind(item[0]))


def kind(name: str) -> tuple[str, int, str]:
    """Return what the results of one command have in common: the name's letters, the number behind them, the mode.

    >>> kind("lenet_step_b64_t2_exact_third")
    ('lenet_step_b', 64, 'exact')
    """
    common, _, variant = name.partition("_t2")
    letters = common.rstrip("0123456789")
    modes = [mode for mode in ("exact", "bf16", "avx2", "jax") if mode in variant]
    return letters, int(common[len(letters) :] or 0), "".join(modes)


def source(name: str, result: Result) -> str:
    """Return the first cells of each line: which result, and of when and what."""
    machine = result["machine"]
    return f"{name} | {machine['date'][:16].replace('T', ' ')} | {(machine['commit'] or 'unknown')[:7]}"


def ratio(spread: dict[str, float]) -> str:
    """Return a median, and in brackets the least and the most.

    >>> ratio({"min": 1.0, "median": 2.0, "max": 3.25})
    '2.00 (1.00, 3.25)'
    """
    return f"{spread['median']:.2f} ({spread['min']:.2f}, {spread['max']:.2f})"


def three_digits(value: float) -> str:
    """Return a positive number with three digits or all before the point.

    >>> three_digits(1234.5), three_digits(0.05678)
    ('1234', '0.0568')
    """
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def mean(values: Iterable[float]) -> float:
    """Return the geometric mean.

    >>> mean([1.0, 4.0])
    2.0
    """
    found = list(values)
    return math.exp(sum(map(math.log, found)) / len(found))


def steps(name: str, result: Result) -> Iterator[str]:
    """A line for a result of one thing that is done again and again, with its sides' times."""
    peer = result.get("best_peer") or next(side for side in result["summary"] if side != "fastconv")
    ours, theirs = (three_digits(1e3 * result["summary"][side]["median"]) for side in ("fastconv", peer))
    as_fast = ratio(result["times_as_fast"])
    if "times_as_fast_as_jax" in result:
        as_fast += f"; as JAX {ratio(result['times_as_fast_as_jax'])}"
    yield f"| {source(name, result)} | {ours} | {theirs} | {peer} | {as_fast} |"


def groups_of(row: Result) -> Iterator[str]:
    """Yield what a row is counted under."""
    direction = row.get("direction") or row.get("job")
    if "rank" in row:
        yield f"{'depthwise' if row['depthwise'] else str(row['rank']) + '-D'}, {direction}"
        yield f"{row['net']}, {direction}"
    elif "operation" in row:
        yield row["operation"]
    elif "task" in row:
        yield f"{row['task']}, {direction}"
    elif direction:
        yield direction
    else:
        yield row.get("net") or f"batch {row['batch']}"


def cases(row: Result) -> Iterator[tuple[str, Result]]:
    """Yield each comparison of a row: one, or one for each peer."""
    if "median" in row["times_as_fast"]:
        yield "", row
    else:
        for peer, spread in row["times_as_fast"].items():
            yield f", {peer}", {**row, "times_as_fast": spread}


def layers(name: str, result: Result) -> Iterator[str]:
    """A line for each group of layers or cases."""
    groups: dict[str, list[Result]] = {}
    for row in result["rows"]:
        for suffix, case in cases(row):
            for group in groups_of(row):
                groups.setdefault(group + suffix, []).append(case)
    distinct = {tuple(map(id, members)): group for group, members in reversed(groups.items())}  # the first of a name
    for group, members in groups.items():
        if distinct[tuple(map(id, members))] != group:
            continue
        medians = [row["times_as_fast"]["median"] for row in members]
        line = f"| {source(name, result)} | {group} | {len(members)} | {mean(medians):.2f} | {min(medians):.2f} |"
        for more in ("times_as_fast_as_NCHW", "share_of_copy"):
            line += f" {mean(row[more]['median'] for row in members):.2f} |" if more in members[0] else " |"
        yield line


def single(name: str, result: Result) -> Iterator[str]:
    """Lines for results of a few numbers."""
    found: dict[str, str] = {}
    if "slowdown" in result:
        found = {f"{side}, times as long beside a busy process": f"{v:.2f}" for side, v in result["slowdown"].items()}
    elif "to_target" in result:
        found = {"seconds to the target": ratio(result["to_target"]), "a later epoch, s": ratio(result["epoch"])}
    elif "limits" in result:
        for threads, limit in result["limits"].items():
            found |= {f"{key} a second, threads: {threads}": three_digits(value) for key, value in limit.items()}
    elif "test_accuracy_by_seed" in result:
        for seed, epochs in result["test_accuracy_by_seed"].items():
            found[f"test accuracy of each epoch, %, seed {seed}"] = ", ".join(map(str, epochs))
    elif "extra" in result:
        found = {"ms beyond NumPy's import": ratio({key: 1e3 * value for key, value in result["extra"].items()})}
    for what, value in found.items():
        yield f"| {source(name, result)} | {what} | {value} |"


TABLES: list[tuple[str, str, Callable[[Result], bool], Callable[[str, Result], Iterator[str]]]] = [
    ("Steps", "ms | the other, ms | which | times as fast", lambda r: "summary" in r and "rows" not in r, steps),
    (
        "Layers, operations and single images",
        "of | number | times as fast | least | against NCHW | share of a copy's speed",
        lambda r: "rows" in r and "times_as_fast" in r["rows"][0],
        layers,
    ),
    ("Single numbers", "what | value", lambda r: "summary" not in r and "rows" not in r, single),
]


def tables(folder: Path) -> Iterator[str]:
    """Yield each table of a folder's results, with its title."""
    found = results(folder)
    for title, columns, belongs, lines in TABLES:
        body = [line for name, result in found if belongs(result) for line in lines(name, result)]
        if body:
            head = f"| result | date | commit | {columns} |"
            yield "\n".join([f"### {title}", "", head, "|---" * (head.count("|") - 1) + "|", *body])


def document(folder: Path = RESULTS) -> str:
    """Return the whole document: a section for each folder of results, which are of one processor."""
    parts = [INTRODUCTION]
    for place in [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]:
        machines = {result["machine"]["cpu"] for _, result in results(place)}
        parts += [f"\n## {', '.join(sorted(machines))}\n", "\n\n".join(tables(place)), ""]
    return "\n".join(parts).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Every result as Markdown tables.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail where the document is out of date")
    if not parser.parse_args().check:
        write(DOCUMENT, document())
    elif DOCUMENT.read_text(encoding="utf-8") != document():
        raise SystemExit(f"{DOCUMENT.name} is not what the results say: python -m bench.report")


if __name__ == "__main__":
    main()
