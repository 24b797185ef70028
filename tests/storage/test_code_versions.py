"""Which code trained which trials."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import insert, update

from tests.bench import Bench, small_study
from tuner.code import digest
from tuner.errors import UsageError
from tuner.recovery.sync import sync
from tuner.storage.code_versions import CodeVersions
from tuner.storage.studies import Catalog, DesiredState
from tuner.storage.tables import code

OLD, NEW, NEWER = ({"networks.py": f"units = {number}\n"} for number in (1, 2, 3))


def test_other_code_is_refused_until_it_is_accepted(each_bench: Bench) -> None:
    """A study without a version, such as one of before there were any, takes what comes first."""
    spec = small_study()
    each_bench.record(spec)
    versions = CodeVersions(each_bench.database, spec.name)
    versions.check(NEW)
    assert not versions.update(OLD, trials=2, accepts=False)
    assert not versions.update(OLD, trials=3, accepts=True)
    for refuse in (versions.check, lambda code: versions.update(code, trials=3, accepts=False)):
        with pytest.raises(UsageError, match=r"-units = 1\n\+units = 2\n.*--accept-new-code"):
            refuse(NEW)
    before = Catalog(each_bench.database).in_state(DesiredState.RUN)
    assert versions.update(NEWER, trials=3, accepts=True)
    assert versions.update(NEW, trials=3, accepts=True)  # the other has trained nothing
    versions.check(NEW)
    assert [(each.from_trial, each.files) for each in versions.all()] == [(0, OLD), (3, NEW)]
    old, new = versions.all()
    assert versions.that_trained(2, "") == versions.that_trained(4, digest(OLD)) == old
    assert versions.that_trained(3, "") == versions.that_trained(0, digest(NEW)) == new
    assert versions.that_trained(0, digest(NEWER)) is None
    assert Catalog(each_bench.database).in_state(DesiredState.RUN) != before, "workers look again"


def test_one_of_two_drivers_that_start_a_study_with_different_code_is_refused(
    each_bench: Bench,
) -> None:
    spec = small_study()
    each_bench.record(spec)

    def begin(code: dict[str, str]) -> bool:
        try:
            CodeVersions(each_bench.database, spec.name).update(code, trials=0, accepts=False)
        except UsageError:
            return False
        return True

    with ThreadPoolExecutor(8) as drivers:
        begun = list(drivers.map(begin, [OLD, NEW] * 4))
    assert begun in ([True, False] * 4, [False, True] * 4)


@pytest.mark.parametrize("path", ["../evil.py", "a/../../evil.py", "/evil.py", "a//b.py", "\0"])
def test_code_in_the_database_with_a_path_outside_the_folder_is_refused(
    bench: Bench, path: str
) -> None:
    """A writer of the database may name any path; MLflow gets the files by theirs."""
    spec = small_study()
    bench.record(spec)
    files = {path: "evil = 1\n"}
    row = {"study": spec.name, "from_trial": 0, "digest": digest(files), "files": files, "at_ms": 0}
    with bench.database.engine.begin() as connection:
        connection.execute(insert(code).values(row))
    with pytest.raises(UsageError, match=rf"not what tuner wrote.*tuner delete {spec.name}"):
        CodeVersions(bench.database, spec.name).all()
    told: list[str] = []
    assert sync(bench.home, None, 1.0, told.append) == []
    assert "is left out" in told[0]


def test_code_that_was_changed_in_the_database_is_refused(bench: Bench) -> None:
    spec = small_study()
    bench.record(spec)
    versions = CodeVersions(bench.database, spec.name)
    versions.update(OLD, trials=0, accepts=False)
    with bench.database.engine.begin() as connection:
        connection.execute(update(code).values(files=NEW))
    with pytest.raises(UsageError, match="its digest differs"):
        versions.check(OLD)
