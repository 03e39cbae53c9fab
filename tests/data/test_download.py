"""Downloads from a server on this machine: good, wrong, cut off, stalled, missing; nothing half-written stays."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from idx_files import write_set

from fastconv import data
from fastconv.data import choose, mnist
from fastconv.data.download import Remote, download, reachable
from fastconv.errors import DataError

CONTENT = bytes(range(256)) * 1000
REMOTE = Remote("a.gz", len(CONTENT), hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def web(server):
    server.files["a.gz"] = CONTENT
    return server


def test_a_good_mirror_delivers(web, tmp_path: Path) -> None:
    path = download(REMOTE, [web.url + "good"], tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "a.gz"
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == ["a.gz"]


@pytest.mark.parametrize(
    "manner, reason",
    [
        ("missing", "Not Found"),
        ("wrong", "SHA-256"),
        ("short", "128,000 bytes instead of 256,000"),
        ("stall", "timed out"),
    ],
)
def test_the_next_mirror_is_tried_and_the_reason_kept(web, tmp_path: Path, manner: str, reason: str) -> None:
    timeout = 2.0 if manner == "stall" else 10.0  # long enough for a busy machine
    path = download(REMOTE, [web.url + manner, web.url + "good"], tmp_path, timeout=timeout)
    assert path.read_bytes() == CONTENT
    assert [request.split("/")[1] for request in web.requests] == [manner, "good"]
    path.unlink()
    with pytest.raises(DataError, match=reason) as caught:
        download(REMOTE, [web.url + manner, web.url + "missing"], tmp_path, timeout=timeout)
    assert "a.gz" in str(caught.value)
    assert "2 mirrors" in str(caught.value)
    assert list(tmp_path.glob("*a.gz*")) == []


def test_a_mirror_that_is_down_or_too_slow(web, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"refused.*too slow"):
        download(REMOTE, ["http://127.0.0.1:9/", web.url + "good"], tmp_path, timeout=10, limit=-1.0)


def test_the_md5_is_checked_too(web, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="MD5"):
        download(replace(REMOTE, md5="0" * 32), [web.url + "good"], tmp_path)


def test_an_unwritable_folder_is_named(web, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"file/a\.gz to be writable"):
        download(REMOTE, [web.url + "good"], tmp_path / "file")


def test_reachable_waits_no_longer_than_it_says(web) -> None:
    assert reachable([web.url + "missing/a.gz", web.url + "good/a.gz"], 3)
    assert not reachable([web.url + "missing/a.gz", "http://127.0.0.1:9/a.gz"], 3)


# ------------------------------------------------------------------------------------ the data sets by name


@pytest.fixture
def tiny(server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Let `mnist` stand for a set of 12 + 5 images on the server. Returns what makes its mirrors behave so."""
    folder = write_set(tmp_path / "published")
    remotes = []
    for remote in mnist.MNIST.files:
        content = server.files[remote.name] = (folder / remote.name).read_bytes()
        checksums = hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()
        remotes.append(Remote(remote.name, len(content), *checksums))

    def behave(*manners: str) -> mnist.Source:
        mirrors = tuple(server.url + manner for manner in manners)
        source = replace(mnist.MNIST, files=tuple(remotes), mirrors=mirrors)
        monkeypatch.setitem(mnist.SOURCES, "mnist", source)
        return source

    return behave


def load(name: str, **options) -> tuple[data.Dataset, list[str]]:
    lines: list[str] = []
    return data.load(name, say=lines.append, **options), lines


@pytest.mark.parametrize("name", ["auto", "mnist"])
def test_downloads_once_into_the_cache(tiny, server, name: str) -> None:
    source = tiny("missing", "good")
    dataset, lines = load(name)
    assert (len(dataset.train), len(dataset.test)) == (12, 5)
    assert lines == [f"data: MNIST, downloaded to {mnist.cache(source)}, because it is not on disk"]
    count = len(server.requests)
    again, lines = load(name)
    np.testing.assert_array_equal(again.train.images, dataset.train.images)
    assert lines == [f"data: MNIST from {mnist.cache(source)} (found through cache)"]
    assert len(server.requests) == count


def test_a_damaged_cache_is_fetched_again(tiny) -> None:
    source = tiny("good")
    load("mnist")
    path = mnist.cache(source) / source.files[0].name
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    dataset, lines = load("mnist")
    assert path.read_bytes() == good
    assert len(dataset.train) == 12
    assert len(lines) == 1


def test_a_broken_download_goes_on_where_it_stopped(tiny, server) -> None:
    tiny("good")
    missing = mnist.MNIST.files[2].name
    content = server.files.pop(missing)
    with pytest.raises(DataError, match=missing):
        load("mnist")
    server.requests.clear()
    server.files[missing] = content
    assert len(load("mnist")[0].train) == 12
    assert [request.split("/")[2] for request in server.requests] == [missing, mnist.MNIST.files[3].name]


def test_auto_without_a_mirror_takes_the_embedded_digits(tiny) -> None:
    tiny("missing")
    dataset, lines = load("auto")
    assert dataset.name == "digits"
    assert lines == ["data: embedded digits, because MNIST is neither on disk nor reachable within 3 seconds"]


def test_auto_whose_download_fails_takes_the_embedded_digits(tiny) -> None:
    tiny("wrong")  # answers, but with rubbish
    dataset, lines = load("auto")
    assert dataset.name == "digits"
    assert len(lines) == 2
    assert "SHA-256" in lines[1]


def test_auto_gives_up_on_a_silent_network_within_its_patience(tiny, server, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny("good")
    monkeypatch.setattr(choose, "_PATIENCE", 0.2)
    monkeypatch.setattr("fastconv.data.download._ask", lambda *_: server.closing.wait(10))
    began = time.monotonic()
    assert load("auto")[0].name == "digits"
    assert time.monotonic() - began < 9  # it did not wait for the silence to end


def test_mnist_that_cannot_be_had_says_what_to_do(tiny) -> None:
    tiny("missing")
    with pytest.raises(DataError, match=r"--data FOLDER or set FASTCONV_DATA.*--dataset digits"):
        load("mnist")
