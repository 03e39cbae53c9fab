"""tune: measure, on this machine, which way of running a convolution is fastest, and keep the verdicts in a file.

By default nothing here changes a result: the plan's rules decide from the shape alone, on every machine alike. Verdicts
count in a process that asks for them, by ``load()`` or FASTCONV_TUNED; then the last bits may differ from those of the
rules, as another algorithm rounds otherwise, and still do not depend on threads, batch or run. What a rule excludes for
its rounding, or by ``exact``, no verdict brings back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from . import backends, config
from .backends.cpu import plan, tuned, unit_plan
from .backends.cpu.backend import CpuBackend
from .data.files import write_atomic
from .errors import ArgumentError, DataError, mismatch
from .functional.conv import resolve_exact
from .geometry import ConvGeometry, conv_geometry, conv_transpose_geometry
from .nn import Module
from .nn.modes import in_mode
from .tensor import no_grad, tensor

GAIN = 0.97  # of the rule's choice: at least so much faster, or the rule stands
ROUNDS = 7
_OPERANDS = {
    "conv_forward": ("input", "weight", None),
    "conv_backward_input": ("output", "weight", None),
    "conv_backward_weight": ("output", "input"),
}


class Verdict(NamedTuple):
    """What was measured of one verb on one geometry: the fastest candidate, the rule's, and seconds of each."""

    verb: str
    geometry: ConvGeometry
    choice: str
    rule: str
    seconds: dict[str, float]


def tune(
    what: Module | Iterable[Sequence[Any]], input: Sequence[int] | None = None, *, dtype: str = "float32",
    path: str | Path | None = None, turn: float = 0.01, say: Callable[[str], None] | None = None,
) -> list[Verdict]:  # fmt: skip
    """Measure the convolutions of a model, or those given, in their three directions; write the verdicts to a file.

    They are added to those in the file and count where ``load`` or FASTCONV_TUNED asks for them, not before. Directions
    with one candidate are not measured. A layer is measured by itself, at the batch size and the number of threads of
    the call; the verdict is for all of them. It stands against the plan's rule only if it is 3 % faster.

    Args:
        what: a module, or convolutions as ``explain`` takes them: ``(op, input, weight)`` or
            ``(op, input, weight, options)``.
        input: shape of the module's input.
        dtype: 'float32' or 'float64'.
        path: the file (default: ``tuned.json`` in the cache folder).
        turn: least seconds of a candidate's turn; it has seven.
        say: called with a line a verdict.

    Raises:
        ArgumentError: no model and no convolutions, or a dtype that is none. DataError: the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     layer = ("conv2d", (1, 64, 16, 16), (64, 64, 3, 3), {"padding": 1})
    ...     verdicts = tune([layer], path=f"{folder}/tuned.json", turn=0)
    >>> sorted(verdicts[0].seconds)
    ['tiles', 'winograd']
    """
    if dtype not in ("float32", "float64"):
        raise ArgumentError(mismatch("tune", "dtype 'float32' or 'float64'", repr(dtype)))
    if isinstance(what, Module):
        if input is None:
            raise ArgumentError(mismatch("tune", "the shape of the model's input", "none"))
        geometries = _geometries_of(what, np.zeros(input, dtype))
    else:
        geometries = [_geometry_of(*convolution) for convolution in what]
    if not geometries:
        raise ArgumentError(mismatch("tune", "a model with convolutions, or convolutions", "none"))
    found = []
    for geometry in dict.fromkeys(geometries):
        for verb in _OPERANDS:
            verdict = _measure(verb, geometry, dtype, turn)
            if verdict:
                found.append(verdict)
                if say:
                    say(_line(verdict))
    _write(Path(path) if path else config.tuned_file(), found, np.dtype(dtype).itemsize)
    return found


def load(path: str | Path | None = None) -> int:
    """Let the verdicts in a file decide from now on; return how many there are for this machine.

    A file that is missing, damaged or of another version, instruction set or processor is a warning, and none count.

    Args:
        path: the file (default: FASTCONV_TUNED, else ``tuned.json`` in the cache folder).
    """
    verdicts = tuned.read(Path(path) if path else config.tuned() or config.tuned_file())
    _follow(verdicts)
    return len(verdicts)


def unload() -> None:
    """Let the rules decide again, and no verdict."""
    _follow({})


def _follow(verdicts: dict[str, str]) -> None:
    plan.follow(verdicts)
    unit_plan.choose.cache_clear()


class _Recorder(CpuBackend):
    """The cpu backend, and the geometries of the convolutions that it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.geometries: list[ConvGeometry] = []


def _recording(name: str) -> Callable:
    def method(self: _Recorder, *arguments: Any, **options: Any) -> Any:
        self.geometries += [a for a in (*arguments, *options.values()) if isinstance(a, ConvGeometry)]
        return getattr(super(_Recorder, self), name)(*arguments, **options)

    return method


def _geometries_of(model: Module, x: np.ndarray) -> list[ConvGeometry]:
    """Run the model once, in inference mode, and return what it asked for."""
    recorder = _Recorder()
    with in_mode(model, False), backends.use(recorder), no_grad():
        model(tensor(x))
    return recorder.geometries


def _geometry_of(
    op: str, input: Sequence[int], weight: Sequence[int], options: dict[str, Any] | None = None
) -> ConvGeometry:
    makers = {"conv": conv_geometry, "conv_transpose": conv_transpose_geometry}
    if not isinstance(op, str) or op[:-2] not in makers or op[-2:] not in ("1d", "2d", "3d"):
        raise ArgumentError(mismatch("tune", "op to be a convolution such as 'conv2d'", repr(op)))
    options = dict(options or {})
    options["exact"] = resolve_exact(op, options.get("exact"))
    return makers[op[:-2]](op, int(op[-2]), tuple(input), tuple(weight), **options)


def _measure(verb: str, geometry: ConvGeometry, dtype: str, turn: float) -> Verdict | None:
    """Time the candidates that do not decline, in turn; None where there is no choice."""
    itemsize = np.dtype(dtype).itemsize
    runs = {c.name: c.run for c in plan.CANDIDATES[verb][:-1] if c.declines(geometry, itemsize) is None}
    if len(runs) < 2 or not geometry.n:
        return None
    rng = np.random.default_rng(0)
    operands = [_array(geometry, name, dtype, rng) if name else None for name in _OPERANDS[verb]]

    def seconds(run: Callable, steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            run(*operands, geometry)
        return (time.perf_counter() - began) / steps

    slowest = max(min(seconds(run, 1) for _ in range(2)) for run in runs.values())
    steps = max(1, round(turn / slowest))
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            samples[name].append(seconds(run, steps))
    medians = {name: median(values) for name, values in samples.items()}
    rule, fastest = next(iter(runs)), min(medians, key=medians.__getitem__)
    choice = fastest if medians[fastest] < GAIN * medians[rule] else rule
    return Verdict(verb, geometry, choice, rule, medians)


def _array(geometry: ConvGeometry, which: str, dtype: str, rng: np.random.Generator) -> np.ndarray:
    """Numbers of a shape of the geometry; activations with channels side by side in memory, as layers hand them on."""
    shape = getattr(geometry, f"{which}_shape")
    if which == "weight":
        return rng.standard_normal(shape).astype(dtype)
    return np.moveaxis(rng.standard_normal((shape[0], *shape[2:], shape[1])).astype(dtype), -1, 1)


def _line(verdict: Verdict) -> str:
    g = verdict.geometry
    sizes = f"{g.ic}->{g.oc}, {'x'.join(map(str, g.input))}, kernel {'x'.join(map(str, g.kernel))}"
    times = ", ".join(f"{name} {1e6 * value:.0f} us" for name, value in verdict.seconds.items())
    return f"{verdict.verb} {sizes}: {verdict.choice} ({times})"


def _write(path: Path, found: list[Verdict], itemsize: int) -> None:
    """Add verdicts to those of this machine in the file, and drop other versions'; what is damaged is replaced."""
    here = tuned.machine()
    try:
        before = [e for e in tuned.entries(path) if e["machine"].get("fastconv") == here["fastconv"]]
    except (OSError, ValueError):
        before = []
    own = next((e for e in before if e["machine"] == here), {"machine": here, "verdicts": {}})
    for verdict in found:
        times = {name: round(1e6 * value, 2) for name, value in verdict.seconds.items()}
        entry = {"choice": verdict.choice, "rule": verdict.rule, "microseconds": times}
        own["verdicts"][tuned.key(verdict.verb, verdict.geometry, itemsize)] = entry
    content = {"format": tuned.FORMAT, "entries": [*(e for e in before if e is not own), own]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, (json.dumps(content, indent=1) + "\n").encode())
    except OSError as error:
        raise DataError(mismatch("tune", f"{path} to be writable", error.strerror or error)) from None


for _name in ("conv_forward", "conv_backward_input", "conv_act_forward", "conv_act_pool_forward"):
    setattr(_Recorder, _name, _recording(_name))
