"""Databases that cannot be opened, or fail later."""

from pathlib import Path

import pytest

from tests.bench import Bench, small_study
from tuner.errors import UnavailableError, UsageError
from tuner.home import Home
from tuner.storage.opening import open_database
from tuner.study.study import load_study


def test_a_database_that_is_away_is_named_without_its_password(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNER_STORAGE_URL", "postgresql://ada:s3cret@127.0.0.1:1/studies")

    with pytest.raises(UnavailableError) as refused:
        open_database(home)

    assert "127.0.0.1:1/studies" in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_a_file_that_is_no_database_is_unavailable(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text("this is no database, however long it may be" * 50)
    for place in ("text", "missing/folder.db"):
        monkeypatch.setenv("TUNER_STORAGE_URL", f"sqlite:///{tmp_path / place}")
        with pytest.raises(UnavailableError, match="check TUNER_STORAGE_URL"):
            open_database(home)


@pytest.mark.parametrize("url", ["nonsense", "oracle9://x/y", "://"])
def test_an_address_that_names_no_database_is_a_usage_error(
    home: Home, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("TUNER_STORAGE_URL", url)

    with pytest.raises(UsageError, match="TUNER_STORAGE_URL: must look like"):
        open_database(home)


def test_a_database_that_fails_while_it_is_used_is_unavailable(bench: Bench) -> None:
    bench.record(small_study())
    study = load_study("small", bench.home)
    with bench.database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE tuner_attempts")

    with pytest.raises(UnavailableError, match=r"the database failed: .*no such table"), study:
        study.summary()
