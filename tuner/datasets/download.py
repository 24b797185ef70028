"""Fetches a file over HTTP without ever waiting long for a silent server."""

import http.client
import io
import urllib.request

from tuner.errors import DataError

TIMEOUT_S = 10.0
"""How long connecting, and each read, may take."""

_CHUNK = 1 << 20
_MOST = 256 << 20


def download(address: str, timeout_s: float = TIMEOUT_S) -> bytes:
    """Returns the content at `address`, at most 256 MiB.

    Raises:
        DataError: it cannot be had, with the reason.
    """
    try:
        # The addresses are constants of this package, not a user's.
        with urllib.request.urlopen(address, timeout=timeout_s) as response:  # noqa: S310
            return _read(response)
    except TimeoutError as error:
        raise DataError(f"no answer within {timeout_s:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise DataError(_reason(error)) from error


def _reason(error: Exception) -> str:
    """What went wrong, without the wrapping that urllib puts around it."""
    cause = getattr(error, "reason", None)
    told = cause if isinstance(cause, OSError) else error
    return getattr(told, "strerror", None) or str(told) or type(told).__name__


def _read(response: http.client.HTTPResponse) -> bytes:
    content = io.BytesIO()
    while chunk := response.read1(_CHUNK):
        content.write(chunk)
        if content.tell() > _MOST:
            raise DataError(f"must hold at most {_MOST >> 20} MiB, got more")
    return content.getvalue()
