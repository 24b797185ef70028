import gzip
import io
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.datasets.published import idx
from tuner.datasets.published.published_dataset import Published
from tuner.datasets.published.sources import IDX_FILES, Arrays, IdxAddress, NpzAddress, NpzFile
from tuner.errors import DataError, UnavailableError

Publish = Callable[..., Published]


def npz_bytes(arrays: Arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays._asdict())
    return buffer.getvalue()


@pytest.fixture
def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/tiny.npz"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/tiny.npz"


@pytest.mark.usefixtures("cache_home")
def test_the_first_source_that_has_it_is_used_and_named(
    web: Any,
    arrays: Arrays,
    closed_port: str,
    silent: str,
    make_published: Publish,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    changed = arrays._replace(x_test=255 - arrays.x_test)
    web.files = {"/tiny.npz": npz_bytes(arrays), "/changed.npz": npz_bytes(changed)}
    good = NpzAddress(web.address + "tiny.npz")
    dataset = make_published(
        NpzAddress(closed_port),
        NpzAddress(silent, timeout_s=0.2),
        NpzAddress(web.address + "absent.npz"),
        NpzAddress(web.address + "changed.npz"),
        good,
    ).load()
    assert np.array_equal(dataset.train.images, arrays.x_train)
    assert dataset.source == str(good)
    refused = [message for message in caplog.messages if "not from" in message]
    assert [reason.rpartition(": ")[2] for reason in refused[:3]] == [
        "Connection refused",
        "no answer within 0.2 s",
        "Not Found",
    ]
    assert "x_test must have SHA-256" in refused[3]
    assert f"tiny: read from {good}" in caplog.messages


@pytest.mark.usefixtures("cache_home")
def test_when_no_source_has_it_each_is_listed_with_its_reason(
    tmp_path: Path, closed_port: str, make_published: Publish
) -> None:
    published = make_published(NpzFile(tmp_path / "none.npz"), NpzAddress(closed_port))
    with pytest.raises(DataError) as raised:
        published.load()
    lines = str(raised.value).splitlines()
    assert lines[0] == "data set 'tiny': no source has it:"
    assert lines[1].endswith("none.npz: No such file or directory")
    assert lines[2].endswith("tiny.npz: Connection refused")
    assert str(published.cache) in lines[3]
    assert [path.name for path in published.cache.parent.iterdir()] == [".lock"]


def test_what_was_fetched_is_cached(
    cache_home: Path, web: Any, arrays: Arrays, make_published: Publish
) -> None:
    web.files = {"/tiny.npz": npz_bytes(arrays)}
    published = make_published(NpzAddress(web.address + "tiny.npz"))
    published.load()
    again = published.load()
    assert len(web.asked) == 1
    assert again.source == str(cache_home / "tuner/datasets/tiny/tiny.npz")
    assert np.array_equal(again.test.labels, arrays.y_test)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_text(path: Path) -> None:
    path.write_text("<html>not found</html>")


def change_a_label(path: Path) -> None:
    with np.load(path) as content:
        arrays = dict(content)
    arrays["y_train"][0] += 1
    np.savez(path, **arrays)


@pytest.mark.usefixtures("cache_home")
@pytest.mark.parametrize("damage", [cut, empty, replace_by_text, change_a_label])
def test_a_damaged_cache_is_fetched_again(
    damage: Callable[[Path], None], web: Any, arrays: Arrays, make_published: Publish
) -> None:
    web.files = {"/tiny.npz": npz_bytes(arrays)}
    published = make_published(NpzAddress(web.address + "tiny.npz"))
    published.load()
    damage(published.cache)
    assert np.array_equal(published.load().train.labels, arrays.y_train)
    assert len(web.asked) == 2
    assert published.load().source == str(published.cache)


def test_two_processes_at_once_fetch_once(
    cache_home: Path, web: Any, arrays: Arrays, make_published: Publish
) -> None:
    web.files = {"/tiny.npz": npz_bytes(arrays)}
    web.open.clear()
    address = web.address + "tiny.npz"
    published = make_published(NpzAddress(address))
    code = (
        "import logging\n"
        "from tuner.datasets.published.published_dataset import Digests, Published\n"
        "from tuner.datasets.published.sources import NpzAddress\n"
        "logging.basicConfig(level=logging.INFO, format='%(message)s')\n"
        f"source = NpzAddress({address!r}, timeout_s=60)\n"
        f"data = Published('tiny', ('a', 'b', 'c'), {published.digests}, (source,)).load()\n"
        "print(data.source)\n"
    )
    holder = start(code, cache_home)
    wait_for_line(holder, "trying")
    waiter = start(code, cache_home)
    wait_for_line(waiter, "waiting for another process")
    web.open.set()
    assert holder.communicate()[0].strip() == address
    assert waiter.communicate()[0].strip() == str(published.cache)
    assert web.asked == ["/tiny.npz"]


def start(code: str, cache_home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(cache_home)},
    )


def wait_for_line(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr
    assert any(text in line for line in process.stderr)


def test_a_cache_that_cannot_be_written_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_published: Publish
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UnavailableError, match=r"Not a directory.*set XDG_CACHE_HOME"):
        make_published().load()


@pytest.mark.usefixtures("cache_home")
def test_idx_files_are_read_from_an_address(
    web: Any, arrays: Arrays, make_published: Publish
) -> None:
    web.files = {
        f"/{IDX_FILES[name]}": gzip.compress(idx.encode(array))
        for name, array in arrays._asdict().items()
    }
    assert make_published(IdxAddress(web.address)).load().source == web.address


@pytest.mark.usefixtures("cache_home")
def test_damaged_idx_files_are_no_source(web: Any, make_published: Publish) -> None:
    web.files = {f"/{file}": b"not gzip" for file in IDX_FILES.values()}
    with pytest.raises(DataError, match="not a readable gzip file"):
        make_published(IdxAddress(web.address)).load()
