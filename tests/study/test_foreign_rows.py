"""Rows that something else than tuner wrote: a database may be shared, and names become folders."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import insert, update

from tests.study.conftest import Bench
from tuner.errors import UsageError
from tuner.spec.study import StudySpec
from tuner.spec.writer import to_yaml
from tuner.study.catalog import Catalog
from tuner.study.submissions import Submissions
from tuner.study.sync import sync
from tuner.study.tables import studies, submissions

OUTSIDE = "../../../outside"


@pytest.mark.parametrize("changed", [{"uid": OUTSIDE}, {"uid": "A" * 32}, {"name": OUTSIDE}])
def test_a_study_whose_row_names_another_folder_is_left_alone(
    bench: Bench, study_spec: Callable[..., StudySpec], tmp_path: Path, changed: dict[str, str]
) -> None:
    spec = study_spec()
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


def test_a_submission_under_another_name_than_its_files_is_not_begun(
    bench: Bench, study_spec: Callable[..., StudySpec]
) -> None:
    row = {"name": OUTSIDE, "spec": to_yaml(study_spec()), "source": "", "code_path": []}
    with bench.database.engine.begin() as connection:
        connection.execute(insert(submissions).values(**row, submitted_ms=0, refusal=""))
    (submission,) = Submissions(bench.database).all()
    with pytest.raises(UsageError, match=r"holds the file of .* tuner delete"):
        submission.read()
