"""The many ways in which MLflow fails, as the two that matter to a caller."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import DBAPIError

from tuner.errors import RefusedError, UnavailableError

# Answers that mean "not now" though HTTP counts them among the client's errors.
_NOT_NOW = {401, 403, 408, 409, 429, 499}


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raises what MLflow raises as one of our errors; `doing` completes "cannot ...".

    Raises:
        UnavailableError: the store, its database or its disk does not answer, or wants a
            login; the same call may work later.
        RefusedError: the store understood and turned it down, as it always will.
    """
    try:
        yield
    except MlflowException as error:
        raise _meaning(f"{doing}: {error.message}", error.get_http_status_code()) from error
    except OSError as error:
        # Includes the HTTP library's errors, which carry the response when there was one.
        status = getattr(getattr(error, "response", None), "status_code", 503)
        raise _meaning(f"{doing}: {error}", status) from error
    except DBAPIError as error:
        raise UnavailableError(f"MLflow: cannot {doing}: {error.orig}") from error


def _meaning(message: str, status: int) -> UnavailableError | RefusedError:
    if status == 403:
        message += " (does the server's --allowed-hosts admit the name in the address?)"
    final = 400 <= status < 500 and status not in _NOT_NOW
    return (RefusedError if final else UnavailableError)(f"MLflow: cannot {message}")
