"""The database that Optuna's tables and tuner's share, with retries while it is unavailable."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import BigInteger, Connection, Engine, event
from sqlalchemy.exc import (
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    OperationalError,
    PendingRollbackError,
    SQLAlchemyError,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
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

_RETRY_FOR_S = 900.0
"""A driver ends if the database is unavailable for longer. The next driver continues."""
_LONGEST_PAUSE_S = 2.0
_NO_RETRIES = Retrying(stop=stop_after_attempt(1), reraise=True)

Answer = TypeVar("Answer")
Check = Callable[[Connection], None]
"""Looks at a transaction that is about to be committed."""


class database_now_ms(FunctionElement[int]):  # noqa: N801 - reads as SQL
    """The database's own time in milliseconds, while the statement runs."""

    type = BigInteger()
    inherit_cache = True


@compiles(database_now_ms, "postgresql")
def _postgresql_now_ms(*_: Any, **_options: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"


@compiles(database_now_ms, "sqlite")
def _sqlite_now_ms(*_: Any, **_options: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


class Database:
    """A connection pool, and Optuna's storage on it. Close it, or use it in a `with` block.

    A database error inside the block leaves the block as an `UnavailableError`.
    """

    def __init__(self, storage: RDBStorage) -> None:
        self.storage = storage
        self._retrying = _NO_RETRIES
        self._checks: tuple[Check, ...] = ()
        """Never changed in place: other threads commit meanwhile."""
        event.listen(self.engine, "commit", self._check)

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine; `engine.begin()` is one transaction."""
        engine: Engine = self.storage.engine
        return engine

    def add_check(self, check: Check) -> None:
        """From now on every commit, of any thread, first calls `check` and fails if it raises."""
        self._checks = (*self._checks, check)

    def remove_check(self, check: Check) -> None:
        """Ends `add_check`. Does nothing if it has ended."""
        self._checks = tuple(each for each in self._checks if each != check)

    def _check(self, connection: Connection) -> None:
        for check in self._checks:
            check(connection)

    def transact(self, work: Callable[[Connection], Answer]) -> Answer:
        """Runs `work` in one transaction, with retries inside `retrying`.

        Raises:
            SQLAlchemyError: the database failed.
        """

        def once() -> Answer:
            with self.engine.begin() as connection:
                return work(connection)

        return self.with_retries(once)

    def with_retries(self, work: Callable[[], Answer]) -> Answer:
        """Runs `work`; inside `retrying` runs it again after the database was unavailable.

        Work whose answer was lost runs twice, so running it again must change nothing.

        Raises:
            SQLAlchemyError: the database failed.
            StorageInternalError: the same, reported by Optuna.
        """
        try:
            return self._retrying(work)
        except (SQLAlchemyError, StorageInternalError) as error:
            if _is_unavailable(error):
                self._retrying = _NO_RETRIES  # all retries are used up
            raise

    def together(self, calls: Iterable[Callable[[], object]]) -> None:
        """Makes these calls of Optuna's storage in one transaction: all of them hold, or none.

        Raises:
            SQLAlchemyError: the database failed.
            StorageInternalError: the same, reported by Optuna.
            UpdateFinishedTrialError: a trial that a call would change has ended.
        """
        sessions = self.storage.scoped_session
        sessions.remove()  # this thread's session, which has a transaction of its own
        with self.engine.begin() as connection:
            sessions(bind=connection, join_transaction_mode="create_savepoint")
            try:
                for call in calls:
                    call()
            finally:
                sessions.remove()

    @contextmanager
    def retrying(self, stopped: Callable[[], bool], say: Callable[[str], None]) -> Iterator[None]:
        """Inside the block, retries for up to 15 minutes while the database is unavailable.

        Args:
            stopped: whether to give up.
            say: is called each time the database becomes unavailable.
        """

        def tell(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if error is not None and state.attempt_number == 1:
                say(f"waiting for the database: {error_text(error)}")

        self._retrying = Retrying(
            retry=retry_if_exception(_is_unavailable),
            wait=wait_exponential(multiplier=0.1, max=_LONGEST_PAUSE_S),
            stop=stop_any(stop_after_delay(_RETRY_FOR_S), _Stopped(stopped)),
            before_sleep=tell,
            reraise=True,
        )
        try:
            yield
        finally:
            self._retrying = _NO_RETRIES

    def close(self) -> None:
        """Closes all connections."""
        self.storage.remove_session()
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()
        if isinstance(error, SQLAlchemyError | StorageInternalError):
            raise UnavailableError(
                f"the database failed: {error_text(error)}; run the same command to resume"
            ) from error


class _Stopped(stop_base):
    """Ends the retries when `stopped` says so."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped

    def __call__(self, retry_state: RetryCallState) -> bool:  # noqa: ARG002 - tenacity's
        return self._stopped()


def _is_unavailable(error: BaseException) -> bool:
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, PendingRollbackError) and cause.__context__ is not None:
        return _is_unavailable(cause.__context__)  # Optuna went on with a connection that was lost
    if isinstance(cause, DBAPIError) and cause.connection_invalidated:
        return True
    return isinstance(cause, OperationalError | InterfaceError | DisconnectionError)


def error_text(error: BaseException) -> str:
    """The first line of the database driver's own message, without SQLAlchemy's statement."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    original = getattr(cause, "orig", None) or cause or error
    text = str(original).strip()
    return text.splitlines()[0] if text else type(original).__name__
