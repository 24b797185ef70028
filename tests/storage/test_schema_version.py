"""Databases that other versions of tuner made."""

import sqlite3
from contextlib import closing
from dataclasses import asdict, replace

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Boolean, column, table, text, update

from tests.bench import Bench, small_study
from tuner.errors import SpecError, UnavailableError
from tuner.home import Home
from tuner.spec.text.reader import parse_study
from tuner.spec.text.writer import to_yaml
from tuner.storage import schema_version, tables
from tuner.storage.opening import open_database, upgrade_database
from tuner.storage.studies import Catalog
from tuner.storage.test_set_accesses import find_accesses
from tuner.study.study import load_study

OURS = (
    "tuner_code",
    "tuner_submissions",
    "tuner_looks",
    "tuner_queued_points",
    "tuner_attempts",
    "tuner_drivers",
    "tuner_studies",
)
LATER = ("wish", "epoch_s", "overrides")
"""Columns of studies that the first version had not."""
OPEN = (0, 0, "a" * 32, None)
DONE = (1, 0, "b" * 32, "completed")
ACCESS = {"study": "small", "trial": 1, "command": "promote", "at_ms": 5}


def as_the_first_version_left_it(bench: Bench) -> None:
    with bench.database.engine.begin() as connection:
        study = connection.execute(text("SELECT * FROM tuner_studies")).mappings().one()
        for name in (*OURS, schema_version.VERSION_TABLE):
            connection.execute(text(f"DROP TABLE {name}"))
        command.upgrade(schema_version._config(connection), "0001")
        connection.execute(text(f"DROP TABLE {schema_version.VERSION_TABLE}"))
        kept = [column(each.name, each.type) for each in tables.studies.c if each.name not in LATER]
        studies = table("tuner_studies", *kept, column("stop_requested", Boolean))
        row = {name: value for name, value in study.items() if name not in LATER}
        row |= {"code_path": [], "dataset": bench.dataset.model_dump(mode="json")}
        connection.execute(studies.insert().values(**row, stop_requested=True))
        for slot, number, uid, outcome in (OPEN, DONE):
            connection.execute(
                text(
                    "INSERT INTO tuner_attempts (study, slot, number, uid, host, boot, pid, "
                    "pid_started, started_ms, outcome) VALUES "
                    "('small', :slot, :number, :uid, 'gone', 'boot', 1, 1, 1, :outcome)"
                ),
                {"slot": slot, "number": number, "uid": uid, "outcome": outcome},
            )
        connection.execute(
            text(
                "INSERT INTO tuner_looks (study, trial, command, at_ms, evidence) "
                "VALUES (:study, :trial, :command, :at_ms, '{\"test_accuracy\": 0.5}')"
            ),
            ACCESS,
        )


def test_the_schema_version_is_that_of_the_last_migration(each_bench: Bench) -> None:
    with each_bench.database.engine.begin() as connection:
        assert schema_version.current(connection) == schema_version.NEWEST
        steps = ScriptDirectory.from_config(schema_version._config(connection))
    assert steps.get_current_head() == schema_version.NEWEST


def test_an_older_database_is_refused_until_it_is_upgraded(each_bench: Bench) -> None:
    spec = small_study(lease_s=2)
    each_bench.record(spec)
    as_the_first_version_left_it(each_bench)
    with pytest.raises(UnavailableError, match="tuner db upgrade"):
        open_database(each_bench.home)

    assert upgrade_database(each_bench.home)

    assert not upgrade_database(each_bench.home)
    with open_database(each_bench.home) as database:
        with database.engine.begin() as connection:
            context = MigrationContext.configure(connection)
            changes = compare_metadata(context, tables.metadata)
        assert [change for change in changes if _concerns_us(change)] == []
        bench = Bench(each_bench.home, database, each_bench.dataset)
        attempts = bench.ledger(spec).attempts()
        assert [(each.uid, each.outcome) for each in attempts] == [OPEN[2:], DONE[2:]]
        assert Catalog(database).desired_state("small") == "stop"
        (access,) = find_accesses(database)
        assert ACCESS.items() <= asdict(access).items()
        assert (access.number, access.models, access.deleted) == (1, 1, False)
        assert (access.dataset, access.dataset_name) == (bench.dataset.digest, "digits")
        assert access.evidence == {"test_accuracy": 0.5}
        assert (access.user, access.host, access.model_sha256) == (None, None, None)
        Catalog(database).delete("small")
        assert find_accesses(database) == [replace(access, deleted=True)]


def _concerns_us(change: object) -> bool:
    return "tuner_" in repr(change) and schema_version.VERSION_TABLE not in repr(change)


def test_an_access_of_a_study_that_cannot_be_read_is_kept(bench: Bench) -> None:
    bench.record(small_study())
    as_the_first_version_left_it(bench)
    with bench.database.engine.begin() as connection:
        connection.execute(text("UPDATE tuner_studies SET dataset = '{'"))

    assert upgrade_database(bench.home)

    with open_database(bench.home) as database:
        (access,) = find_accesses(database)
    assert (access.study, access.dataset, access.dataset_name) == ("small", None, None)


def test_a_newer_database_is_refused(each_bench: Bench) -> None:
    def set_version(version: str) -> None:
        statement = text("UPDATE tuner_schema SET version_num = :version")
        each_bench.database.transact(lambda one: one.execute(statement, {"version": version}))

    set_version("9999")
    with pytest.raises(UnavailableError, match="newer than"):
        open_database(each_bench.home)
    set_version(schema_version.NEWEST)


def test_a_study_that_breaks_a_newer_rule_can_still_be_read(bench: Bench) -> None:
    bench.record(small_study())
    text_then = (
        to_yaml(small_study())
        .replace("model: paper-cnn", f"model: nets:{'m' * 600}")
        .replace("model: small", f"model: {'r' * 300}")
        .replace(
            "search_space:\n",
            f"search_space:\n  width: {{type: int, low: 0, high: {2**60}}}\n"
            f"  {'n' * 300}: 1\n  note: {'v' * 6001}\n",
        )
    )
    with bench.database.engine.begin() as connection:
        connection.execute(update(tables.studies).values(spec=text_then))
    with pytest.raises(SpecError):
        parse_study(text_then, "study.yaml")

    spec = Catalog(bench.database).get("small").spec
    assert to_yaml(spec) == text_then
    with load_study("small", bench.home) as study:
        study.delete()
    assert Catalog(bench.database).names() == []


def test_an_unreadable_study_is_named_without_its_text(bench: Bench) -> None:
    bench.record(small_study())
    with bench.database.engine.begin() as connection:
        connection.execute(update(tables.studies).values(spec="name: small\nlater: 1\n"))
    with pytest.raises(SpecError, match="later") as refused:
        Catalog(bench.database).get("small")
    assert refused.value.source == "study small"


def test_a_new_home_needs_no_upgrade(home: Home) -> None:
    assert not upgrade_database(home)


def test_an_access_whose_study_was_removed_by_hand_is_upgraded_too(bench: Bench) -> None:
    bench.record(small_study())
    as_the_first_version_left_it(bench)
    # SQLite's own client checks no foreign keys.
    with closing(sqlite3.connect(bench.home.root / "tuner.db")) as database, database:
        database.execute("UPDATE tuner_looks SET study = 'gone'")

    assert upgrade_database(bench.home)

    (access,) = find_accesses(bench.database)
    assert (access.study, access.deleted, access.trial) == ("gone", True, ACCESS["trial"])
