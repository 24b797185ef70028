"""Translates MLflow's errors into two: unavailable, so try again later; or refused for good."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import ErrorCode
from sqlalchemy.exc import DBAPIError

from tuner.errors import RefusedError, TunerError, UnavailableError

# Client errors of HTTP that may be gone at the next try.
_NOT_NOW = {401, 403, 408, 409, 429, 499}
# Sent by a proxy or an ingress too: this request will never pass.
_TOO_LARGE = {413, 414, 431}
# The message of MLflow's client for an answer that is not the server's JSON.
_NOT_JSON = re.compile(r"API request to endpoint \S+ failed with error code (\d{3}) ")


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raises MLflow's errors in the block as errors of tuner.

    Args:
        doing: completes the message "cannot ...".

    Raises:
        UnavailableError: the store, its database or its disk does not answer, wants a login, or
            something else answers in its place. The same call may work later.
        RefusedError: the store refused the request and always will, or a proxy found it too large.
    """
    try:
        yield
    except MlflowException as error:
        raise _meaning(f"{doing}: {error.message}", *_answer(error)) from error
    except OSError as error:
        # Includes the HTTP library's errors, which carry the response when there was one.
        raise _meaning(f"{doing}: {error}", *_http_answer(error)) from error
    except DBAPIError as error:
        raise UnavailableError(f"MLflow: cannot {doing}: {error.orig}") from error


@contextmanager
def of_artifacts(doing: str) -> Iterator[None]:
    """Does as `translated`, for calls that may go to an artifact store directly.

    The clients of S3, Google's and Azure's stores may not be installed, and their errors have
    nothing in common.

    Raises:
        UnavailableError: as `translated`; or such a client failed, for example for lack of a login
            or of a package.
        RefusedError: as `translated`.
    """
    try:
        with translated(doing):
            yield
    except TunerError:
        raise
    except Exception as error:
        raise UnavailableError(
            f"MLflow: cannot {doing}: the artifact store says {type(error).__name__}: {error}"
        ) from error


def _answer(error: MlflowException) -> tuple[int, bool]:
    """The HTTP status of an answer, and whether MLflow itself sent it."""
    foreign = _NOT_JSON.match(error.message)
    if foreign is not None:
        return int(foreign[1]), False
    own = not isinstance(error, RestException) or _is_own(error.json)
    return error.get_http_status_code(), own


def _http_answer(error: OSError) -> tuple[int, bool]:
    response = getattr(error, "response", None)
    if response is None:
        return 503, True
    try:
        return response.status_code, _is_own(response.json())
    except ValueError:
        return response.status_code, False


def _is_own(answer: object) -> bool:
    return isinstance(answer, dict) and answer.get("error_code") in ErrorCode.keys()  # noqa: SIM118 - protobuf's


def _meaning(message: str, status: int, own: bool) -> UnavailableError | RefusedError:
    if status == 403:
        message += " (does the server's --allowed-hosts admit the name in the address?)"
    final = own and 400 <= status < 500 and status not in _NOT_NOW
    kind = RefusedError if final or status in _TOO_LARGE else UnavailableError
    return kind(f"MLflow: cannot {message}")
