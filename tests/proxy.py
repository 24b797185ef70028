"""A TCP proxy on loopback that passes, refuses, delays, swallows and cuts, as it is told."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close sends RST


class Proxy:
    """Stands before the server that `connect` reaches; clients connect to `port`."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._passing = threading.Event()
        self.delay_s = 0.0
        """How long every piece of data waits before it goes on."""
        self.answers_dropped = False
        """Whether what the server says is lost."""
        self.longest: int | None = None
        """A connection on which a client has sent more bytes is cut."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]

    def pass_on(self) -> None:
        """Lets everything through from now on."""
        self.delay_s, self.answers_dropped, self.longest = 0.0, False, None
        self._passing.set()
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def swallow(self) -> None:
        """Takes connections and data, and lets nothing through."""
        self._passing.clear()

    def refuse(self) -> None:
        """Turns new connections away and cuts those that are open."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def cut(self) -> None:
        """Resets every open connection, in the middle of whatever they carry."""
        self._passing.set()
        with self._lock:
            victims, self._open = self._open, set()
        for victim in victims:
            with contextlib.suppress(OSError):
                victim.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                victim.shutdown(socket.SHUT_RDWR)
            victim.close()

    @property
    def postgresql_url(self) -> str:
        """The address of the database, for a proxy in front of the tests' PostgreSQL."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres?sslmode=disable"

    def __enter__(self) -> Self:
        self.pass_on()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.refuse()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = self._connect()
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, server}
            for source, sink, is_answer in ((client, server, False), (server, client, True)):
                threading.Thread(
                    target=self._pump, args=(source, sink, is_answer), daemon=True
                ).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                passed += len(data) * (not is_answer)
                if self.longest is not None and passed > self.longest:
                    break
                time.sleep(self.delay_s)
                self._passing.wait()
                if not (is_answer and self.answers_dropped):
                    sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open -= {source, sink}
        source.close()


def before_postgresql(url: str) -> Proxy:
    """One in front of the server of that URL, which listens on a socket in a folder."""
    (folder,) = parse_qs(urlsplit(url).query)["host"]

    def connect() -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(Path(folder) / ".s.PGSQL.5432"))
        return server

    return Proxy(connect)
