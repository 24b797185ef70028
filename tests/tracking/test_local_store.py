"""The file of a local store is made whole, whenever the process that makes it is killed."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tuner.errors import UnavailableError
from tuner.tracking.mlflow.experiments import open_store
from tuner.tracking.settings import sqlite_url

HALF_MADE = "_alembic_tmp_experiments"
"""A table that MLflow has while it makes its tables, and cannot do with when it begins again."""

DIES = f"""
import os, signal, sys
from sqlalchemy import Engine, event

@event.listens_for(Engine, "after_cursor_execute")
def die(connection, cursor, statement, *rest):
    if statement.strip().startswith("CREATE TABLE {HALF_MADE}"):
        os.kill(os.getpid(), signal.SIGKILL)

"""
BY_TUNER = "from tuner.tracking.mlflow.experiments import open_store; open_store(sys.argv[1])"
BY_MLFLOW = """
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
SqlAlchemyStore(sys.argv[1], "files")
"""


def kill_while_it_is_made(maker: str, database: Path) -> None:
    command = [sys.executable, "-c", DIES + maker, sqlite_url(database)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    (half,) = (path for path in database.parent.iterdir() if path.suffix in (".db", ".partial"))
    with closing(sqlite3.connect(half)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    assert (HALF_MADE,) in tables


@pytest.mark.slow
@pytest.mark.parametrize("maker", [BY_TUNER, BY_MLFLOW])
def test_a_store_whose_maker_was_killed_is_made_anew(tmp_path: Path, maker: str) -> None:
    database = tmp_path / "mlflow.db"
    kill_while_it_is_made(maker, database)
    client = open_store(sqlite_url(database))
    run = client.create_run("0")
    assert client.get_run(run.info.run_id).info.run_id == run.info.run_id
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.db.lock"}


def test_a_store_in_which_something_is_stored_is_never_made_anew(
    tmp_path: Path, empty_store: Path
) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes(empty_store.read_bytes())
    MlflowClient(sqlite_url(database)).create_experiment("a person's")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
        connection.commit()
    with pytest.raises(UnavailableError, match="out-of-date"):
        open_store(sqlite_url(database))
    with closing(sqlite3.connect(database)) as connection:
        assert ("a person's",) in connection.execute("SELECT name FROM experiments").fetchall()
