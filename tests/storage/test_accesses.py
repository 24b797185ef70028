"""The record of accesses to test sets: of all studies, for as long as the database lasts."""

import socket
from collections.abc import Callable
from dataclasses import replace
from threading import Thread

import pytest
from sqlalchemy import text

from tests.bench import Bench, small_study
from tests.storage.test_foreign_rows import damage
from tests.waiting import wait_until
from tuner.account import user
from tuner.errors import UsageError
from tuner.storage.opening import open_database
from tuner.storage.studies import Catalog
from tuner.storage.test_set_accesses import TestSetAccesses, find_accesses

ROWS, OTHER_ROWS = "d1" * 32, "d2" * 32
MODEL, OTHER_MODEL = "a1" * 32, "a2" * 32


@pytest.fixture
def accesses_of(each_bench: Bench) -> Callable[[str], TestSetAccesses]:
    """The accesses of the study with this name."""

    def opened(name: str) -> TestSetAccesses:
        return TestSetAccesses(each_bench.database, each_bench.record(small_study(name=name)))

    return opened


def test_all_studies_on_the_same_rows_share_the_numbers(
    each_bench: Bench, accesses_of: Callable[[str], TestSetAccesses]
) -> None:
    first, second = accesses_of("first"), accesses_of("second")
    first.begin(0, "promote", ROWS, MODEL)
    second.begin(3, "evaluate", OTHER_ROWS, MODEL)
    second.begin(3, "evaluate", ROWS, OTHER_MODEL)
    first.begin(0, "promote", ROWS, MODEL)

    found = find_accesses(each_bench.database)

    assert [(each.study, each.dataset, each.number, each.models) for each in found] == [
        ("first", ROWS, 1, 1),
        ("second", OTHER_ROWS, 1, 1),
        ("second", ROWS, 2, 2),
        ("first", ROWS, 3, 2),
    ]
    assert {(each.user, each.host) for each in found} == {(user(), socket.gethostname())}
    assert first.all() == [found[0], found[3]]
    assert second.newest(ROWS, MODEL) == found[3]
    assert first.newest(OTHER_ROWS, OTHER_MODEL) is None


def test_rows_that_a_deleted_study_has_seen_stay_seen(
    each_bench: Bench, accesses_of: Callable[[str], TestSetAccesses]
) -> None:
    before = accesses_of("small")
    before.complete(before.begin(2, "promote", ROWS, MODEL), {"test_accuracy": 0.9})
    (access,) = before.all()
    Catalog(each_bench.database).delete("small")

    again = accesses_of("small")

    assert again.all() == []
    assert find_accesses(each_bench.database) == [replace(access, deleted=True)]
    again.begin(0, "promote", ROWS, OTHER_MODEL)
    (later,) = again.all()
    assert (later.number, later.models, later.deleted) == (2, 2, False)


def test_the_accesses_to_a_data_set_are_found_by_its_name_its_digest_or_a_study(
    each_bench: Bench, accesses_of: Callable[[str], TestSetAccesses]
) -> None:
    small, other = accesses_of("small"), accesses_of("other")
    small.begin(0, "promote", each_bench.dataset.digest, MODEL)
    other.begin(0, "promote", ROWS, MODEL)
    ours, theirs = found = find_accesses(each_bench.database)

    def sought(wanted: str) -> object:
        return find_accesses(each_bench.database, wanted)

    assert sought("digits") == found
    assert sought(ROWS[:8]) == [theirs]
    assert sought("small") == [ours]
    assert sought("other") == found, "its study is on the same data set"
    accesses_of("later")
    assert sought("later") == [ours]
    with pytest.raises(UsageError, match="unknown data set or study 'smal'; did you mean 'small'"):
        sought("smal")
    with pytest.raises(UsageError, match="unknown"):
        sought(ROWS[:5])


def test_a_data_set_that_nobody_has_opened_has_no_accesses(bench: Bench) -> None:
    with pytest.raises(UsageError, match="'digits': this database holds none yet"):
        find_accesses(bench.database, "digits")
    bench.record(small_study())
    assert find_accesses(bench.database, "digits") == find_accesses(bench.database, "small") == []


def test_a_damaged_record_still_counts(bench: Bench) -> None:
    accesses = TestSetAccesses(bench.database, bench.record(small_study()))
    accesses.complete(accesses.begin(0, "promote", ROWS, MODEL), {"test_accuracy": 0.9})
    damage(bench, "tuner_looks", "evidence")
    accesses.begin(1, "promote", ROWS, OTHER_MODEL)

    newest = accesses.newest(ROWS, OTHER_MODEL)

    assert newest is not None
    assert newest.number == 2
    with pytest.raises(UsageError, match="the scores of an access to a test set in the database"):
        find_accesses(bench.database)


@pytest.mark.parametrize("storage", ["postgresql"], indirect=True)
def test_an_access_waits_for_one_that_is_being_recorded(
    each_bench: Bench, accesses_of: Callable[[str], TestSetAccesses]
) -> None:
    """Otherwise both are told the same number, and the numbers change afterwards."""
    first, told = accesses_of("small"), list[int]()
    record = Catalog(each_bench.database).get("small")

    def begin_another() -> None:
        with open_database(each_bench.home) as database:
            second = TestSetAccesses(database, record)
            second.begin(1, "evaluate", ROWS, OTHER_MODEL)
            newest = second.newest(ROWS, OTHER_MODEL)
            assert newest is not None
            told.append(newest.number)

    def is_held() -> bool:
        with open_database(each_bench.home) as database, database.engine.begin() as connection:
            waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            return bool(connection.execute(waiting).scalar_one())

    another = Thread(target=begin_another)

    def meanwhile(_: object) -> None:
        each_bench.database.remove_check(meanwhile)
        another.start()
        wait_until(lambda: told or is_held())

    each_bench.database.add_check(meanwhile)
    first.begin(0, "promote", ROWS, MODEL)
    another.join()
    assert [each.number for each in first.all()] == [1, 2]
    assert told == [2]
