"""The many ways in which MLflow fails, as the two that matter to a caller."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import ErrorCode
from sqlalchemy.exc import DBAPIError

from tuner.errors import RefusedError, TunerError, UnavailableError

# Answers that mean "not now" though HTTP counts them among the client's errors.
_NOT_NOW = {401, 403, 408, 409, 429, 499}
# Of what stands before the server, a proxy or an ingress: this request will never pass it.
_TOO_LARGE = {413, 414, 431}
# How MLflow's client words an answer that is not the server's JSON.
_NOT_JSON = re.compile(r"API request to endpoint \S+ failed with error code (\d{3}) ")


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raises what MLflow raises as one of our errors; `doing` completes "cannot ...".

    Raises:
        UnavailableError: the store, its database or its disk does not answer, or wants a
            login, or something else answers in its place; the same call may work later.
        RefusedError: the store understood and turned it down, as it always will, or the request
            is larger than what stands before the store lets pass.
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
    """As `translated`, around a call that the client itself may take to where artifacts lie.

    The clients of S3, Google's and Azure's stores, which may not be installed, raise errors that
    have nothing in common.

    Raises:
        UnavailableError: as `translated`, or such a client failed, which a login or the package
            that lacks may mend.
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
    """The status of an answer, and whether it is MLflow's own."""
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
