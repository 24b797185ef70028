"""The SQLite file of a local MLflow store, which appears whole or not at all.

MLflow makes its tables in steps that SQLite does not take back: a process that is killed in the
middle leaves a file that MLflow itself can never open again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from alembic.script import ScriptDirectory
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import Connection, NullPool, create_engine, inspect, text

from tuner.files import exclusive
from tuner.tracking.settings import is_server, sqlite_file, sqlite_url

_COMPANIONS = ("-journal", "-wal", "-shm")
"""What SQLite keeps beside a file; a journal would be taken for that of the next file there."""
_BEGUN_WITH = ("alembic_version", "experiments", "workspaces")
"""Tables of which a new store has one row: its version, its first experiment, its workspace."""
_REPLACED = "_alembic_tmp_"
"""What the name of a table begins with that is to take another one's place."""
_PATIENCE_S = 20


@contextmanager
def made(uri: str) -> Iterator[None]:
    """Makes the file of the store at `uri` unless it is there, while no other process does.

    A file whose making was cut short is made anew, as long as nothing is stored in it. The address
    of a server, or of a database of another kind, is left alone.
    """
    database = None if is_server(uri) else sqlite_file(uri)
    if database is None:
        yield
        return
    database = database.absolute()
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # the state folder, most often
    with exclusive(database.with_name(f"{database.name}.lock")):
        if not database.exists() or _is_cut_short(database):
            _make(database)
        _open(uri, database)
        yield


def _make(database: Path) -> None:
    partial = database.with_name(f".{database.name}.partial")
    _remove(partial)
    _open(sqlite_url(partial), database).engine.dispose()
    _remove(database)
    partial.replace(database)


def _open(uri: str, database: Path) -> SqlAlchemyStore:
    """MLflow's store, whose tables are made where they lack.

    Its first experiment lies below the working folder otherwise, whose name, put into SQL as it is,
    may hold a quote.
    """
    return SqlAlchemyStore(uri, database.with_name("mlruns").as_uri())


def _remove(database: Path) -> None:
    """The file goes first: a journal without one means nothing."""
    for companion in ("", *_COMPANIONS):
        database.with_name(f"{database.name}{companion}").unlink(missing_ok=True)


def _is_cut_short(database: Path) -> bool:
    """Whether it has not all tables of this MLflow, and nobody has stored anything in it."""
    options = {"timeout": _PATIENCE_S}
    engine = create_engine(sqlite_url(database), poolclass=NullPool, connect_args=options)
    with engine.connect() as connection:
        tables = set(inspect(connection).get_table_names())
        if any(_is_used(connection, table) for table in sorted(tables)):
            return False
        versions = text("SELECT version_num FROM alembic_version")
        known = connection.execute(versions).scalars().all() if "alembic_version" in tables else []
        return list(known) != [_newest_version()]


def _is_used(connection: Connection, table: str) -> bool:
    kept = 1 if table.removeprefix(_REPLACED) in _BEGUN_WITH else 0
    return bool(connection.execute(text(f'SELECT 1 FROM "{table}" LIMIT 1 OFFSET {kept}')).all())  # noqa: S608


def _newest_version() -> str | None:
    return ScriptDirectory(str(files("mlflow") / "store/db_migrations")).get_current_head()
