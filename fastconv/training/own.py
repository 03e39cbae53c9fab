"""Training on, evaluating on and predicting for the user's own data: what job.py does with digits, for cases."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import config as environment
from ..data import cases as data
from ..data import mnist
from ..data.cases import Case, CaseBatches, CaseSet, Frame
from ..data.cases.case import PICTURES, VOLUMES, stem, suffix
from ..data.cases.frame import pad, restored
from ..data.cases.read import Picture, read_image
from ..data.cases.resample import resized
from ..data.cases.table import read_table
from ..data.images import write_indices
from ..data.nifti_write import write_nifti
from ..data.volume import Volume, reorient
from ..errors import ArgumentError, CheckpointError, DataError, mismatch
from ..nn import Module
from . import folder, inference, plots, results
from .config import BY_TASK, OWN, Config
from .inference import About
from .loop import Run

_OWN_OPTIONS = ("task", "size", "columns", "group_column", "missing", "classes", "val_share", "test_share", "width")


def suited(explicit: dict[str, Any], recipe: str | None = None) -> dict[str, Any]:
    """Return the options that suit the user's own data where they are meant, else nothing.

    They are meant by ``dataset="own"``, and by ``data`` alone where that is no folder with MNIST's files.

    Raises:
        ArgumentError: options of own data without them.
    """
    name, place = explicit.get("dataset", "auto"), explicit.get("data")
    mine = name == OWN or (name == "auto" and place is not None and not _is_mnist(place))
    if mine:
        if not place:
            raise ArgumentError(mismatch("train", "data PATH with dataset own", "none"))
        if explicit.get("classes") and explicit.get("task") != "segment":
            raise ArgumentError(
                mismatch("train", "classes with task segment", "them to classify, by folders or labels")
            )
        return {"dataset": OWN, **BY_TASK.get(str(explicit.get("task", "classify")), {})}
    given = [option for option in _OWN_OPTIONS if option in explicit]
    if given:
        found = f"{given[0]} with dataset {name}"
        raise ArgumentError(mismatch("train", f"{given[0]} with own data at data PATH alone", found))
    return {}


def _is_mnist(place: Any) -> bool:
    return mnist.find(mnist.SOURCES["mnist"], environment.folder("dataset", str(place))) is not None


def load(config: Config, say: Callable[[str], None]) -> CaseSet:
    """Return the user's data as the options say. Errors as ``fastconv.data.cases.load``."""
    return data.load(
        environment.folder("data", config.data), config.task, size=config.size, group_column=config.group_column,
        columns=config.columns, missing=config.missing, shares=(config.val_share, config.test_share), seed=config.seed,
        names=config.classes, say=say,
    )  # fmt: skip


def finish(run: Run, place: Path) -> None:
    """Test the trained network on the cases that it has not seen; print and write what comes out."""
    problem, device = run.problem, run.config.device
    about = problem.about()
    inference.save_model(place / folder.MODEL_FILE, run.model, about)
    part = "test" if "test" in run.dataset.parts else "val"
    found = results.answers(run.model, problem.part_batches(part), about, device)
    summary = results.summarise(run.dataset, part, found)
    results.show(summary, run.dataset, part, found)
    results.write(place, summary, run.dataset, part, found)
    if plots.available():
        plots.learning_curves(run.history, place / "learning_curves.png")


def evaluate(network: Module, about: About, source: str | None, say: Callable[[str], None]) -> None:
    """Print the figures of a network on its test cases; on all cases of other data, or those that they say to test on.

    Raises:
        DataError: as ``fastconv.data.cases.load``; its own data have changed since and name no split; none to test on.
    """
    own, frame = _restored(about)
    home = environment.folder("data", own["data"])
    place = environment.folder("data", source) if source else home
    shares = (own["val_share"], own["test_share"])
    found = data.load(
        place, frame.task, group_column=own["group_column"], shares=shares, seed=own["seed"], frame=frame,
        trained_on=own["listing"], same=place.resolve() == home.resolve(), only=("test", "val"), say=say,
    )  # fmt: skip
    if not found.parts:
        raise DataError(mismatch("evaluate", f"cases in {place} to test on", "a split that has training cases alone"))
    (part,) = found.parts
    batches = CaseBatches(found, part, 16, multiple=own["multiple"], shuffle=False, dtype=about.dtype)
    answers = results.answers(network, batches, about)
    results.show(results.summarise(found, part, answers), found, part, answers)


def predict(network: Module, about: About, paths: Sequence[str], output: str | None) -> list[dict[str, Any]]:
    """Return for each image or volume, and each row of a .csv, its file, and its class with the probabilities of all;
    for a network that segments the file of the mask, which is written, and each class's share of the image.

    A mask goes beside its image, or into the folder ``output``, as NAME_mask in the format of the image (a picture's as
    PNG; that of DICOM and .npz as NIfTI), with the affine of a volume.

    Raises:
        DataError: a file is not usable, or a mask would take the place of a file.
        ArgumentError: images without the demographic numbers that the network takes.
    """
    own, frame = _restored(about)
    cases = _cases(paths, frame)
    targets = _targets(cases, output) if frame.task == "segment" else []
    answers = []
    for i, case in enumerate(cases):
        picture = read_image(case)
        image = frame.normalised(frame.image(case, picture, strict=frame.task == "classify"), about.dtype)
        inputs = [pad(image, own["multiple"], image.ndim - 1, 0)[None]]
        if frame.scores:
            inputs.append(np.array([frame.numbers(case)], about.dtype))
        output_ = inference.outputs(network, [(tuple(inputs), np.zeros(1))])
        chance = inference.probabilities(output_, about.loss)[0]
        if frame.task == "segment":
            answers.append(_segmented(case, chance, image, picture, frame, targets[i]))
            continue
        best = int(chance.argmax())
        answers.append({
            "file": str(case.image), "class": about.classes[best], "probability": round(float(chance[best]), 4),
            "probabilities": {n: round(float(p), 4) for n, p in zip(about.classes, chance, strict=True)},
        })  # fmt: skip
    return answers


def _restored(about: About) -> tuple[dict[str, Any], Frame]:
    try:
        wanted = {"data", "seed", "group_column", "val_share", "test_share", "multiple", "listing", "frame"}
        return {name: about.own[name] for name in wanted}, restored(about.own["frame"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(mismatch("load_model", "a description of the data it was trained on", error)) from None


def _cases(paths: Sequence[str], frame: Frame) -> list[Case]:
    names = [column.name for column in frame.columns]
    cases: list[Case] = []
    for path in paths:
        if suffix(path) == ".csv":
            cases += read_table(Path(path), None, columns=names).cases
        elif names:
            wanted = f"a .csv with the columns path, {', '.join(names)} for this network"
            raise ArgumentError(mismatch("predict", wanted, path))
        else:
            cases.append(Case(path, Path(path), path))
    return cases


def _targets(cases: Sequence[Case], output: str | None) -> list[Path]:
    targets: dict[Path, Case] = {}
    for case in cases:
        image = Path(os.path.abspath(case.image)) if case.image.name in ("", "..") else case.image
        kind = ".png" if suffix(image) in PICTURES else suffix(image)
        if image.is_dir() or kind not in (".png", *VOLUMES):  # DICOM, .npz
            kind = ".nii.gz"
        name = image.name if image.is_dir() else stem(image)
        target = (Path(output) if output else image.parent) / f"{name}_mask{kind}"
        if target.exists() or target in targets:
            wanted = f"{target} for the mask of {case.image} to be free (--output FOLDER elsewhere)"
            raise DataError(mismatch("predict", wanted, "a file of that name"))
        targets[target] = case
    if output:
        Path(output).mkdir(parents=True, exist_ok=True)
    return list(targets)


def _segmented(
    case: Case, chance: np.ndarray, image: np.ndarray, picture: Picture, frame: Frame, target: Path
) -> dict[str, Any]:
    chance = chance[(slice(None), *map(slice, image.shape[1:]))]
    size = picture.data.shape[1:]
    places = (resized(chance, size) if chance.shape[1:] != size else chance).argmax(axis=0)
    _write_mask(target, np.asarray(frame.values)[places], picture)
    shares = np.bincount(places.ravel(), minlength=len(frame.classes)) / places.size
    named = {name: round(float(share), 6) for name, share in zip(frame.classes, shares, strict=True)}
    return {"file": str(case.image), "mask": str(target), "shares": named}


def _write_mask(target: Path, values: np.ndarray, picture: Picture) -> None:
    low, high = int(values.min()), int(values.max())
    kind = next(k for k in ("u1", "i2", "i4", "i8") if np.iinfo(k).min <= low and high <= np.iinfo(k).max)
    if picture.volume is not None and picture.source is not None:  # back to the axes of its file
        mask = reorient(Volume(values.astype(kind), picture.volume.affine), picture.source.orientation)
        write_nifti(target, mask.data, picture.source)
    elif suffix(target) == ".npy":
        folder.write_array(target, values.astype(kind))
    else:
        write_indices(target, values)
