"""The one database that Optuna's tables and ours share, and patience with it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self, TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import (
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    stop_any,
    wait_exponential,
)
from tenacity.stop import stop_base

from tuner.errors import UnavailableError

_PATIENCE_S = 900.0
"""A database that is away for longer ends a driver; the next one goes on."""
_LONGEST_PAUSE_S = 2.0
_NO_PATIENCE = Retrying(stop=stop_after_attempt(1), reraise=True)

Answer = TypeVar("Answer")


class Database:
    """A connection pool, and Optuna's storage on it. Close it, or use it in a `with` block.

    Such a block ends in an `UnavailableError` where the database went away or turned
    something down in the middle of it.
    """

    def __init__(self, storage: RDBStorage) -> None:
        self.storage = storage
        self._retrying = _NO_PATIENCE

    @property
    def engine(self) -> Engine:
        """SQLAlchemy's engine; `engine.begin()` is one transaction."""
        engine: Engine = self.storage.engine
        return engine

    def transact(self, work: Callable[[Connection], Answer]) -> Answer:
        """Does `work` in one transaction, inside `patient` perhaps more than once."""

        def once() -> Answer:
            with self.engine.begin() as connection:
                return work(connection)

        return self.persevere(once)

    def persevere(self, work: Callable[[], Answer]) -> Answer:
        """Does `work`, and inside `patient` again where the database went away meanwhile.

        It may have been done, and only the answer lost: once more must change nothing.
        """
        try:
            return self._retrying(work)
        except (SQLAlchemyError, StorageInternalError) as error:
            if _is_away(error):
                self._retrying = _NO_PATIENCE  # who has waited in vain waits no more
            raise

    @contextmanager
    def patient(self, stopped: Callable[[], bool], say: Callable[[str], None]) -> Iterator[None]:
        """Waits in the block for a database that is away, a quarter of an hour at most.

        Args:
            stopped: whether waiting has become pointless.
            say: hears of every time that the database goes away.
        """

        def tell(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if error is not None and state.attempt_number == 1:
                say(f"waiting for the database: {what_it_said(error)}")

        self._retrying = Retrying(
            retry=retry_if_exception(_is_away),
            wait=wait_exponential(multiplier=0.1, max=_LONGEST_PAUSE_S),
            stop=stop_any(stop_after_delay(_PATIENCE_S), _Stopped(stopped)),
            before_sleep=tell,
            reraise=True,
        )
        try:
            yield
        finally:
            self._retrying = _NO_PATIENCE

    def close(self) -> None:
        """Gives the connections back."""
        self.storage.remove_session()
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()
        if isinstance(error, SQLAlchemyError | StorageInternalError):
            raise UnavailableError(
                f"the database failed: {what_it_said(error)}; run the same command to go on"
            ) from error


class _Stopped(stop_base):
    """Ends the waiting when its end was asked for."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped

    def __call__(self, retry_state: RetryCallState) -> bool:  # noqa: ARG002 - tenacity's
        return self._stopped()


def _is_away(error: BaseException) -> bool:
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, DBAPIError) and cause.connection_invalidated:
        return True
    return isinstance(cause, OperationalError | InterfaceError | DisconnectionError)


def what_it_said(error: BaseException) -> str:
    """What the driver itself said, without SQLAlchemy's statement and parameters."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    said = getattr(cause, "orig", None) or cause or error
    return str(said).strip().splitlines()[0] if str(said).strip() else type(said).__name__
