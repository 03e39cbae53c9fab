"""Using a trained network: its outputs, its probabilities, the file that carries it and all that predicting needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import models, nn
from ..data import Dataset
from ..data.cases import frame
from ..errors import CheckpointError, mismatch
from ..nn.modes import in_mode
from ..tensor import Tensor, converted, no_grad
from . import checkpoint
from .folder import MODEL_FILE


@dataclass(frozen=True, slots=True)
class About:
    """What a trained network is and expects: to rebuild it, to normalise for it, to name its answers."""

    model: str
    arguments: dict[str, Any]
    dataset: str
    classes: list[str]
    mean: float
    std: float
    loss: str
    dtype: str
    own: dict[str, Any] | None = None  # of the user's own data: the frame, and how they were read and divided


def save_model(path: str | os.PathLike[str], model: nn.Module, about: About) -> None:
    """Write a model with what it expects; its tensors keep the state dict's names.

    Raises:
        CheckpointError: it cannot be written.
    """
    description = {name: getattr(about, name) for name in About.__slots__}
    checkpoint.save(path, "model", {"": model.state_dict(), "about": description})


def load_model(path: str | os.PathLike[str]) -> tuple[nn.Module, About]:
    """Return the model in a file (or in the folder of a run), ready to predict, and what it expects.

    Raises:
        CheckpointError: the file is missing, damaged, or does not fit the network it names.
    """
    path = Path(path)
    path = path / MODEL_FILE if path.is_dir() else path
    tree = checkpoint.load(path, "model")
    try:
        about = About(**tree["about"])
        model = models.create(about.model, **about.arguments)
        model.to(about.dtype)
        if about.own:
            frame.restored(about.own["frame"])
        model.load_state_dict(tree[""])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(mismatch("load_model", f"{path} to fit the network it names", error)) from None
    model.eval()
    return model, about


def outputs(
    model: nn.Module, batches: Iterable[tuple[Any, np.ndarray]], device: str = "cpu",
    kept: Callable[[np.ndarray], np.ndarray] = lambda output: output,
) -> np.ndarray:  # fmt: skip
    """Return the model's outputs (N, classes, ...) for all batches, or what is ``kept`` of each."""
    return np.concatenate([kept(output) for output, _ in results(model, batches, device)])


def results(
    model: nn.Module, batches: Iterable[tuple[Any, np.ndarray]], device: str = "cpu"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the model's output for each batch, in inference mode, and the batch's target."""
    for x, target in batches:
        with in_mode(model, False), no_grad():
            output = model(*inputs(x, device)).numpy()
        yield output, target


def inputs(x: Any, device: str) -> list[Any]:
    """Return a batch's input, an array or a tuple of them, as the arguments of a model on a device."""
    return [Tensor(converted(each, device)) for each in (x if isinstance(x, tuple) else (x,))]


def probabilities(output: np.ndarray, loss: str) -> np.ndarray:
    """Return outputs (N, classes, ...) as probabilities: softmax, or each one's share where the target was one-hot.

    >>> probabilities(np.array([[0.5, 1.5]]), "half-sse").tolist()
    [[0.25, 0.75]]
    """
    if loss != "half-sse":
        exponential = np.exp(output - output.max(axis=1, keepdims=True))
        return exponential / exponential.sum(axis=1, keepdims=True)
    positive = np.maximum(output, 1e-12)
    return positive / positive.sum(axis=1, keepdims=True)


def arguments(config: Any, classes: int) -> dict[str, Any]:
    """Return what ``models.create`` needs besides the name, for digits."""
    return {"num_classes": classes, **({"output_relu": True} if config.output_relu else {})}


def about(config: Any, dataset: Dataset, mean: float, std: float) -> About:
    """Return the description of a network trained with this configuration on this data set."""
    return About(
        model=config.model, arguments=arguments(config, len(dataset.classes)), dataset=dataset.name,
        classes=list(dataset.classes), mean=mean, std=std, loss=config.loss, dtype=config.dtype,
    )  # fmt: skip
