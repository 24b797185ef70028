"""Rows that something else than tuner wrote: a database may be shared, and names become folders."""

from pathlib import Path

import pytest
from sqlalchemy import insert, text, update

from tests.bench import Bench, small_study
from tuner.errors import UsageError
from tuner.recovery.sync import sync
from tuner.spec.text.writer import to_yaml
from tuner.storage.code_versions import CodeVersions
from tuner.storage.studies import Catalog
from tuner.storage.tables import studies, submissions
from tuner.study.submissions import Submissions

OUTSIDE = "../../../outside"


@pytest.mark.parametrize("changed", [{"uid": OUTSIDE}, {"uid": "A" * 32}, {"name": OUTSIDE}])
def test_a_study_whose_row_names_another_folder_is_refused(
    bench: Bench, tmp_path: Path, changed: dict[str, str]
) -> None:
    spec = small_study()
    bench.record(spec)
    with bench.database.engine.begin() as connection:
        connection.execute(update(studies).values(changed))
    (name,) = Catalog(bench.database).names()
    with pytest.raises(UsageError, match="is not what tuner wrote there"):
        Catalog(bench.database).get(name)
    told: list[str] = []
    assert sync(bench.home, None, 1.0, told.append) == []
    assert f"{name} is left out" in told[0]
    assert not [path for path in tmp_path.rglob("*") if path.name == "outside"]


def test_a_submission_whose_name_differs_from_its_file_is_refused(bench: Bench) -> None:
    row = {"name": OUTSIDE, "spec": to_yaml(small_study()), "source": "", "code_path": []}
    with bench.database.engine.begin() as connection:
        connection.execute(insert(submissions).values(**row, submitted_ms=0, refusal=""))
    (submission,) = Submissions(bench.database).all()
    with pytest.raises(UsageError, match=r"its file is that of the study .* tuner delete"):
        submission.read()


def damage(bench: Bench, table: str, column: str) -> None:
    """Eight bytes of all rows are zero, as after a power cut."""
    change = f"UPDATE {table} SET {column} = :zeroes || substr({column}, 9)"  # noqa: S608
    with bench.database.engine.begin() as connection:
        connection.execute(text(change), {"zeroes": "\0" * 8})


@pytest.mark.parametrize("column", ["overrides", "code_path", "dataset", "epoch_s", "spec"])
def test_other_studies_are_read_beside_a_damaged_row(bench: Bench, column: str) -> None:
    bench.record(small_study())
    with bench.database.engine.begin() as connection:
        connection.execute(text("UPDATE tuner_studies SET epoch_s = '{}'"))
    damage(bench, "tuner_studies", column)
    bench.record(small_study(name="sound"))
    records, unreadable = Catalog(bench.database).readable()
    assert [record.name for record in records] == ["sound"]
    assert unreadable.keys() == {"small"}


def test_damaged_code_is_named(bench: Bench) -> None:
    bench.record(small_study())
    CodeVersions(bench.database, "small").update({"net.py": "x"}, trials=0, accepts=False)
    damage(bench, "tuner_code", "files")
    with pytest.raises(UsageError, match="its code in the database is no JSON"):
        CodeVersions(bench.database, "small").all()


@pytest.mark.parametrize("column", ["overrides", "code_path"])
def test_other_submissions_are_read_beside_a_damaged_one(bench: Bench, column: str) -> None:
    row = {"spec": to_yaml(small_study()), "source": "", "code_path": [], "submitted_ms": 0}
    with bench.database.engine.begin() as connection:
        connection.execute(insert(submissions).values(name="small", refusal="", **row))
    damage(bench, "tuner_submissions", column)
    with bench.database.engine.begin() as connection:
        connection.execute(insert(submissions).values(name="other", refusal="", **row))
    found = {each.name: each for each in Submissions(bench.database).all()}
    with pytest.raises(UsageError, match=rf"its {column} in the database is no JSON"):
        found["small"].read()
    assert found["other"].overrides == ()
