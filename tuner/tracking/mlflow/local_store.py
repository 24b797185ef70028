"""Creates the SQLite file of a local MLflow store, as a whole or not at all.

MLflow creates its tables in steps that SQLite does not roll back. A process that is killed in the
middle would leave a file that MLflow can never open again.
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
"""Files that SQLite keeps beside a database. A new database must not find an old journal."""
_BEGUN_WITH = ("alembic_version", "experiments", "workspaces")
"""Tables with one row in a new store: its version, its first experiment, its workspace."""
_REPLACED = "_alembic_tmp_"
"""The prefix of a table that is about to replace another one."""
_PATIENCE_S = 20


@contextmanager
def local_store_made(uri: str) -> Iterator[None]:
    """Creates the SQLite file at `uri` if there is none, under a lock that the block holds.

    Creates a half-made file anew if nothing is stored in it. Does nothing for a server or another
    kind of database.
    """
    database = None if is_server(uri) else sqlite_file(uri)
    if database is None:
        yield
        return
    database = database.absolute()
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # often the state folder
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
    """Opens MLflow's store, which creates missing tables.

    States the folder of the first experiment: MLflow would take the working folder, and put its
    name into SQL without escaping quotes.
    """
    return SqlAlchemyStore(uri, database.with_name("mlruns").as_uri())


def _remove(database: Path) -> None:
    """Removes the database, then its journal, which means nothing without it."""
    for companion in ("", *_COMPANIONS):
        database.with_name(f"{database.name}{companion}").unlink(missing_ok=True)


def _is_cut_short(database: Path) -> bool:
    """Whether tables of this version of MLflow are missing and nothing is stored in the others."""
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
