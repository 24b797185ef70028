"""Downloads a file over HTTP, with a short limit for a silent network."""

import http.client
import io
import queue
import threading
import urllib.error
import urllib.request
from typing import cast

from tuner.errors import DataError

TIMEOUT_S = 10.0
"""The limit for the start of the answer, and for each further piece."""

_CHUNK = 1 << 20
_MOST = 256 << 20


def download(address: str, timeout_s: float = TIMEOUT_S) -> bytes:
    """Returns the content at `address`, at most 256 MiB.

    Raises:
        DataError: it cannot be had, with the reason.
    """
    try:
        with _opened_within(address, timeout_s) as response:
            return _read(response)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(_reason(error, timeout_s)) from error


def _opened_within(address: str, timeout_s: float) -> http.client.HTTPResponse:
    """Waits `timeout_s` for name, connection and headers together.

    `urlopen` alone waits that long for each of a host's addresses in turn, of which a large
    one has dozens, and as long as the resolver likes for the name. The thread is left behind.
    """
    outcomes: queue.SimpleQueue[http.client.HTTPResponse | Exception] = queue.SimpleQueue()

    def attempt() -> None:
        try:
            # The addresses are constants of this package, not a user's.
            response = urllib.request.urlopen(address, timeout=timeout_s)  # noqa: S310
            outcomes.put(cast("http.client.HTTPResponse", response))
        except urllib.error.HTTPError as error:
            error.close()  # it is an open response too
            outcomes.put(error)
        except (OSError, http.client.HTTPException) as error:
            outcomes.put(error)

    threading.Thread(target=attempt, daemon=True).start()
    try:
        outcome = outcomes.get(timeout=timeout_s)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _reason(error: Exception, timeout_s: float) -> str:
    """The reason of an error, without the wrapping of urllib."""
    cause = getattr(error, "reason", None)
    reason = cause if isinstance(cause, OSError) else error
    if isinstance(reason, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__


def _read(response: http.client.HTTPResponse) -> bytes:
    content = io.BytesIO()
    while chunk := response.read1(_CHUNK):
        content.write(chunk)
        if content.tell() > _MOST:
            raise DataError(f"must hold at most {_MOST >> 20} MiB, got more")
    return content.getvalue()
