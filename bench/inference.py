"""Whole networks, planned ahead, against onnxruntime and PyTorch in the same process: the latency of one image.

    python -m bench.inference
    python -m bench.inference --nets resnet50 --batch 1 16 --profile

Our side is ``fastconv.freeze``; onnxruntime runs the same network, with the same weights, on as many threads; PyTorch
runs torchvision's in inference mode, as NCHW and channels-last. Outputs are compared before anything is timed, then the
sides run in turn. ``--profile`` prints where our time goes.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import fastconv
from fastconv import init, models

from . import machine
from .paired import paired, spread

NETS = ("resnet50", "googlenet", "vgg16", "densenet121")
TOLERANCE = 1e-4  # of the largest output
_libraries: list[torch.library.Library] = []  # declarations live as long as these do


def weights(net: fastconv.nn.Module) -> dict[str, np.ndarray]:
    """Values under which each layer of a deep network sees numbers of about unit size."""
    rng = np.random.default_rng(0)
    state = {}
    for key, value in net.state_dict().items():
        if value.ndim > 1:
            state[key] = rng.standard_normal(value.shape, np.float32) * np.float32(np.sqrt(2 / value[0].size))
        elif value.ndim == 1:
            centre = 1.0 if key.endswith(("weight", "var")) else 0.0
            state[key] = rng.uniform(centre - 0.1, centre + 0.1, value.shape).astype(np.float32)
        else:
            state[key] = value
    return state


def torchvision() -> Any:
    """The package; where its compiled operators do not load (a build for another PyTorch), with stand-ins for them."""
    try:
        return import_module("torchvision")
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for op in ("nms", "qnms"):
            library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _libraries.append(library)
        return import_module("torchvision")


def torch_net(name: str, state: dict[str, np.ndarray]) -> torch.nn.Module:
    options = {"init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        net = torchvision().models.get_model(name, **options)
    net.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in state.items()}, assign=True)
    return net.eval()


def onnx_session(net: torch.nn.Module, x: torch.Tensor, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """onnxruntime with all its optimisations on the network that PyTorch exports."""
    import onnxruntime

    file = io.BytesIO()
    torch.onnx.export(net, (x,), file, input_names=["input"], dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    return lambda array: session.run(None, {"input": array})[0]


def sides(name: str, n: int, size: int, threads: int) -> tuple[dict[str, Callable[[], Any]], Any]:
    """Return a callable for each side, and our frozen network."""
    with init.skip():
        ours = models.create(name)
    state = weights(ours)
    ours.load_state_dict(state)
    x = np.random.default_rng(1).standard_normal((n, 3, size, size), np.float32)
    frozen = fastconv.freeze(ours.eval(), x)
    del ours
    theirs = torch_net(name, state)
    tx = torch.from_numpy(x)
    with torch.no_grad():
        run = onnx_session(theirs, tx, threads)
        last = torch_net(name, state).to(memory_format=torch.channels_last)
    tx_last = tx.contiguous(memory_format=torch.channels_last)

    def torch_run(net: torch.nn.Module, image: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            return net(image).numpy()

    return {
        "fastconv": lambda: frozen(x),
        "onnxruntime": lambda: run(x),
        "torch": lambda: torch_run(theirs, tx),
        "torch channels-last": lambda: torch_run(last, tx_last),
    }, frozen


def verify(name: str, found: dict[str, Callable[[], Any]]) -> float:
    """Return our largest difference from onnxruntime, over the largest output; raise where it is no rounding."""
    wanted = found["onnxruntime"]()
    worst = 0.0
    for side, step in found.items():
        error = float(np.abs(step() - wanted).max() / np.abs(wanted).max())
        if not error <= TOLERANCE:
            raise SystemExit(f"{name}: {side} differs from onnxruntime by {error:.1e} of the largest output")
        worst = error if side == "fastconv" else worst
    return worst


def report_profile(frozen: Any, x: np.ndarray, most: int = 25) -> None:
    """Print the slowest nodes, and each verb's share."""
    taken = frozen.profile(x, runs=15)
    total = sum(seconds for _, seconds in taken)
    verbs: dict[str, float] = {}
    for node, seconds in taken:
        verbs[node.verb] = verbs.get(node.verb, 0.0) + seconds
    shares = ", ".join(f"{verb} {1e3 * s:.2f}" for verb, s in sorted(verbs.items(), key=lambda item: -item[1]))
    print(f"nodes {1e3 * total:.2f} ms: {shares}")
    for node, seconds in sorted(taken, key=lambda pair: -pair[1])[:most]:
        geometry = node.arguments.get("geometry")
        work = f"{1e-9 * geometry.flops / seconds:6.1f} GFLOP/s" if hasattr(geometry, "flops") else ""
        print(f"{1e6 * seconds:8.0f} us  {work:15} {node.module:30} {str(node)[:150]}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Latency of whole networks, in turn with onnxruntime and PyTorch.")
    parser.add_argument("--nets", nargs="+", default=NETS, help="of torchvision's names")
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--size", type=int, default=224, help="height and width")
    parser.add_argument("--threads", type=int, default=fastconv.get_num_threads())
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="print our slowest nodes instead of timing in turn")
    machine.add_results_option(parser)
    options = parser.parse_args()
    fastconv.set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    rows = []
    for name, n in tqdm([(name, n) for name in options.nets for n in options.batch], unit="network"):
        found, frozen = sides(name, n, options.size, options.threads)
        error = verify(name, found)
        if options.profile:
            report_profile(frozen, np.random.default_rng(1).standard_normal((n, 3, options.size, options.size), "f"))
            continue
        result = paired(found, options.rounds, options.steps)
        rows.append({
            "net": name, "batch": n, "size": options.size, "error": error, "seconds": result.samples,
            "summary": result.summary(),
            "times_as_fast": {peer: spread(result.ratios("fastconv", peer)) for peer in found if peer != "fastconv"},
        })  # fmt: skip
    if rows:
        machine.save(f"inference_t{options.threads}", {"rows": rows}, options.results)
        report(rows)


def report(rows: list[dict[str, Any]]) -> None:
    """Print the medians as a Markdown table."""
    peers = list(rows[0]["times_as_fast"])
    print(f"| network | batch | fastconv, ms | {' | '.join(f'times as fast as {peer}' for peer in peers)} |")
    print(f"|---|---|---|{'---|' * len(peers)}")
    for row in rows:
        ratios = [row["times_as_fast"][peer] for peer in peers]
        cells = " | ".join(f"{r['min']:.2f}, **{r['median']:.2f}**, {r['max']:.2f}" for r in ratios)
        print(f"| {row['net']} | {row['batch']} | {1e3 * row['summary']['fastconv']['median']:.1f} | {cells} |")


if __name__ == "__main__":
    main()
