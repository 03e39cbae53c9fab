"""MNIST and Fashion-MNIST: the catalogue (files, homes, checksums), where they may lie on disk, and reading them.

LeCun, Cortes, Burges, http://yann.lecun.com/exdb/mnist; Xiao, Rasul, Vollgraf 2017, https://arxiv.org/abs/1708.07747.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from .. import config
from ..errors import DataError, mismatch
from .dataset import Dataset, Split
from .download import Remote, download, reachable
from .idx import read_idx


@dataclass(frozen=True, slots=True)
class Source:
    """One data set of the family. ``files``: training images and labels, test images and labels."""

    name: str
    title: str
    files: tuple[Remote, Remote, Remote, Remote]
    mirrors: tuple[str, ...]
    folders: tuple[str, ...]  # sub-folders that may hold it, the data folder itself apart
    classes: tuple[str, ...]
    mean: float  # of the training pixels, scaled to 0..1
    std: float


MNIST = Source(
    name="mnist",
    title="MNIST",
    files=(
        Remote(
            "train-images-idx3-ubyte.gz", 9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        Remote(
            "train-labels-idx1-ubyte.gz", 28_881, "d53e105ee54ea40749a09fcbcd1e9432",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        Remote(
            "t10k-images-idx3-ubyte.gz", 1_648_877, "9fb629c4189551a2d022fa330f9573f3",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        Remote(
            "t10k-labels-idx1-ubyte.gz", 4_542, "ec29112dd5afa0611ce80d1b7f02629c",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    folders=("mnist", "MNIST", "MNIST/raw"),
    classes=tuple("0123456789"),
    mean=0.1307,
    std=0.3081,
)  # fmt: skip

FASHION_MNIST = Source(
    name="fashion-mnist",
    title="Fashion-MNIST",
    files=(
        Remote(
            "train-images-idx3-ubyte.gz", 26_421_880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        Remote(
            "train-labels-idx1-ubyte.gz", 29_515, "25c81989df183df01b3e8a0aad5dffbe",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        Remote(
            "t10k-images-idx3-ubyte.gz", 4_422_102, "bef4ecab320f06d8554ea6380940ec79",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        Remote(
            "t10k-labels-idx1-ubyte.gz", 5_148, "bb300cfdad3c16e7a12a480ee83cd310",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ),
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    folders=("fashion-mnist", "fashion_mnist", "FashionMNIST", "FashionMNIST/raw"),
    classes=(
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    mean=0.2860,
    std=0.3530,
)  # fmt: skip

SOURCES = {source.name: source for source in (MNIST, FASHION_MNIST)}


def find(source: Source, folder: Path | None = None) -> tuple[Path, str] | None:
    """Return the folder that holds the four files, and how it was found; None where there is none.

    Looked through: ``folder`` alone where it is given, else FASTCONV_DATA, then the cache (where the checksums must
    hold); in each the sub-folder of the set's name, then the folder itself.

    Raises:
        DataError: a folder or file is there and cannot be read.
    """
    places = [(folder, "--data")] if folder else [(config.data_dir(), "FASTCONV_DATA"), (cache(source).parent, "cache")]
    for place, how in places:
        if place is None:
            continue
        for candidate in (*(place / name for name in source.folders), place):
            try:
                if _is_here(source, candidate) and (how != "cache" or _is_intact(source, candidate)):
                    return candidate, how
            except OSError as error:
                reason = error.strerror or error
                raise DataError(mismatch(source.name, f"{candidate} to be readable", reason)) from None
    return None


def cache(source: Source) -> Path:
    """Return the folder that downloads of this set are kept in."""
    return config.cache_dir() / source.name


def fetch(source: Source, progress: bool | None = None) -> Path:
    """Download what the cache lacks or holds damaged, and return the cache folder.

    Raises:
        DataError: no mirror delivered, or the cache cannot be written.
    """
    for remote in source.files:
        path = cache(source) / remote.name
        if not path.is_file() or remote.verify(path.read_bytes()) is not None:
            download(remote, source.mirrors, path.parent, progress=progress)
    return cache(source)


def is_reachable(source: Source, seconds: float = 3.0) -> bool:
    """Whether a mirror of this set answers within ``seconds``."""
    return reachable([mirror.rstrip("/") + "/" + source.files[0].name for mirror in source.mirrors], seconds)


def read(source: Source, folder: Path) -> Dataset:
    """Read the set from ``folder``. Files need not be the published ones, only sound.

    Raises:
        DataError: a file is damaged, or does not have the shape it should.
    """
    paths = [_variant(folder, remote) for remote in source.files]
    train_images, train_labels, test_images, test_labels = (read_idx(path) for path in paths)
    for path, images in ((paths[0], train_images), (paths[2], test_images)):
        if images.shape[1:] != (28, 28):
            raise DataError(mismatch(source.name, f"{path} to hold images (N, 28, 28)", f"shape {images.shape}"))
    splits = []
    for images, labels, path in ((train_images, train_labels, paths[1]), (test_images, test_labels, paths[3])):
        try:
            splits.append(Split(images, labels))
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
    return Dataset(source.name, *splits, source.classes, source.mean, source.std)


def _variant(folder: Path, remote: Remote) -> Path:
    """Return the file under one of the names it goes by: packed or not, ``-idx3`` or ``.idx3``."""
    plain = remote.name.removesuffix(".gz")
    names = (remote.name, plain, plain.replace("-idx", ".idx"), remote.name.replace("-idx", ".idx"))
    return next((folder / name for name in names if (folder / name).is_file()), folder / remote.name)


def _is_here(source: Source, folder: Path) -> bool:
    """Whether the four files are there and are not those of a sister set, which has the same names."""
    paths = [_variant(folder, remote) for remote in source.files]
    if not all(path.is_file() for path in paths):
        return False
    sisters = {other.files[1].sha256 for other in SOURCES.values() if other is not source}
    return hashlib.sha256(paths[1].read_bytes()).hexdigest() not in sisters


def _is_intact(source: Source, folder: Path) -> bool:
    """Whether every file is as it was published."""
    return all(remote.verify(_variant(folder, remote).read_bytes()) is None for remote in source.files)
