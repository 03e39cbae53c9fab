"""Which data set a name means, here and now: on disk, downloaded or embedded; and the sentence that says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .. import config
from ..errors import ArgumentError, DataError, mismatch
from . import digits, mnist
from .dataset import Dataset

NAMES = ("auto", *mnist.SOURCES, "digits")
_PATIENCE = 3.0  # seconds that `auto` waits for a mirror to answer


def load(
    name: str = "auto", folder: Path | str | None = None, *, say: Callable[[str], None] = lambda line: None,
    progress: bool | None = None,
) -> Dataset:  # fmt: skip
    """Return a data set by name; ``say`` is told which and why before anything else is printed.

    ``mnist`` and ``fashion-mnist`` come from ``folder`` where it is given, else from FASTCONV_DATA, the cache or a
    download. ``auto`` is MNIST where it is on disk or a mirror answers within seconds, else the embedded digits.

    Raises:
        ArgumentError: a name that is not known, or a folder for the digits, which are embedded.
        DataError: the set cannot be had, or a file of it is damaged; the message says what to do.

    >>> load("digits", say=print).name
    data: embedded digits, as asked for
    'digits'
    """
    if name not in NAMES:
        raise ArgumentError(mismatch("dataset", f"one of {', '.join(NAMES)}", repr(name)))
    if name == "digits":
        if folder:
            raise ArgumentError(mismatch("dataset", "no folder for the embedded digits (or another dataset)", folder))
        say("data: embedded digits, as asked for")
        return digits.load()
    source = mnist.SOURCES["mnist" if name == "auto" else name]
    folder = config.folder("dataset", folder) if folder else None
    found = mnist.find(source, folder)
    if found:
        place, how = found
        say(f"data: {source.title} from {place} (found through {how})")
        return mnist.read(source, place)
    if folder:
        raise DataError(
            mismatch("dataset", f"the four {source.title} files in {folder} or {folder / source.name}", "none")
        )
    if name == "auto" and not mnist.is_reachable(source, _PATIENCE):
        say(f"data: embedded digits, because MNIST is neither on disk nor reachable within {_PATIENCE:g} seconds")
        return digits.load()
    say(f"data: {source.title}, downloaded to {mnist.cache(source)}, because it is not on disk")
    try:
        return mnist.read(source, mnist.fetch(source, progress))
    except DataError as error:
        if name == "auto":
            say(f"data: embedded digits after all ({error})")
            return digits.load()
        raise DataError(
            f"{error}. To use {source.title}, put its four IDX files into a folder and pass --data FOLDER or set "
            "FASTCONV_DATA; or train on the embedded digits with --dataset digits"
        ) from None
