"""An HTTP proxy before a real MLflow server that answers in its place, as an ingress may."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, bytes]
_LONGEST_S = 60.0


@contextmanager
def ingress(server_port: int, answer: Callable[[bytes], Answer | None]) -> Iterator[int]:
    """Yields its port. `answer` is given a request's body; None passes the request on.

    It answers 502 where the server does not answer.
    """

    class Ingress(BaseHTTPRequestHandler):
        def handle(self) -> None:
            with suppress(ConnectionError):  # of a client that was killed
                super().handle()

        def handle_any(self) -> None:
            body = self._body()
            try:
                status, content = answer(body) or self._upstream(body)
            except (OSError, HTTPException):
                status, content = 502, b"<html>502 Bad Gateway</html>"
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            chunks = []
            while size := int(self.rfile.readline() or b"0", 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def _upstream(self, body: bytes) -> Answer:
            upstream = HTTPConnection("127.0.0.1", server_port, timeout=_LONGEST_S)
            del self.headers["Transfer-Encoding"], self.headers["Content-Length"]
            upstream.request(self.command, self.path, body, dict(self.headers))
            response = upstream.getresponse()
            content = response.read()
            upstream.close()
            return response.status, content

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Ingress) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy.server_port
        finally:
            proxy.shutdown()
            thread.join()
