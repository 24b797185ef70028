"""Which gates a promotion goes by when the study file has changed since the study was run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tuner.datasets.store import DatasetInfo
from tuner.errors import RefusedError, SpecError, UsageError
from tuner.promotion.terms import terms
from tuner.spec.text.reader import read_study
from tuner.storage.studies import DesiredState, StudyRecord

FILE = """
name: small
dataset: digits
model: dense
epochs: 1
validation: 300
promotion: {gates: {test_accuracy: 0.5}}
"""

Ran = Callable[..., StudyRecord]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def ran(file: Path, digits: DatasetInfo) -> Ran:
    """The record of a study that was run with the file as it is, and with overrides."""

    def run(*overrides: str) -> StudyRecord:
        return StudyRecord(
            uid="u",
            spec=read_study(file, overrides),
            source="anywhere/study.yaml",
            overrides=overrides,
            code_path=(file.parent, Path("elsewhere")),
            dataset=digits,
            created_ms=0,
            desired_state=DesiredState.RUN,
            epoch_s={},
        )

    return run


@pytest.fixture
def said() -> list[str]:
    return []


def edit(file: Path, before: str, after: str) -> None:
    file.write_text(file.read_text().replace(before, after))


def test_an_untouched_file_holds_without_a_word(ran: Ran, said: list[str]) -> None:
    record = ran("name=other", "epochs=2")
    assert terms(record, None, said.append).promotion == record.spec.promotion
    assert record.spec.promotion.model == "other"
    assert said == []


@pytest.mark.parametrize(
    ("before", "after", "difference"),
    [
        ("0.5", "0.99", "gates.test_accuracy: the file now says 0.99, .* last run with 0.5"),
        ("{test_accuracy: 0.5}", "{}", "gates.test_accuracy: the file now says nothing, .* 0.5"),
        ("0.5}", "0.5, train_time_s: 9}", "gates.train_time_s: the file now says 9.* nothing"),
        (
            "0.5}",
            "0.5, better_than_champion: true}",
            "gates.better_than_champion: the file now says true, .* last run with false",
        ),
        ("{gates", "{model: good, gates", "model: the file now says good, .* last run with small"),
        ("{gates", "{refit: false, gates", "refit: the file now says false, .* last run with true"),
    ],
)
def test_edited_terms_are_refused_with_the_difference_and_the_way_on(
    before: str, after: str, difference: str, ran: Ran, file: Path, said: list[str]
) -> None:
    record = ran("epochs=2")
    edit(file, before, after)
    with pytest.raises(RefusedError, match=f"(?s)promotion.{difference}.*--file {file}"):
        terms(record, None, said.append)
    assert terms(record, file, said.append).promotion == read_study(file).promotion


def test_an_edited_confirmation_is_refused_like_edited_gates(
    ran: Ran, file: Path, said: list[str]
) -> None:
    record = ran()
    edit(file, "epochs", "confirmation: off\nepochs")
    with pytest.raises(RefusedError, match=r'now says "off", .* with {finalists: 3, '):
        terms(record, None, said.append)
    assert terms(record, file, said.append).confirmation is None
    assert record.spec.confirmation is not None


def test_edits_that_say_the_same_or_concern_others_hold(
    ran: Ran, file: Path, said: list[str]
) -> None:
    record = ran()
    edit(file, "0.5", "5e-1")
    edit(file, "epochs: 1", "epochs: 7")
    assert terms(record, None, said.append).promotion == record.spec.promotion
    assert said == []


def test_an_override_of_the_terms_is_named_and_gives_way_to_a_named_file(
    ran: Ran, file: Path, said: list[str]
) -> None:
    record = ran("promotion.gates.test_accuracy=0.9", "name=other")
    assert terms(record, None, said.append).promotion.gates.test_accuracy == 0.9
    assert "--set promotion.gates.test_accuracy=0.9" in said[0]
    stated = terms(record, file, said.append).promotion
    assert (stated.model, stated.gates.test_accuracy) == ("other", 0.5)


def test_a_file_that_is_gone_or_is_another_studys_is_named(
    ran: Ran, file: Path, said: list[str]
) -> None:
    record = ran("epochs=2")
    edit(file, "name: small", "name: next")
    assert terms(record, None, said.append).promotion == record.spec.promotion
    with pytest.raises(UsageError, match="must be the file of 'small', got that of 'next'"):
        terms(record, file, said.append)
    file.unlink()
    assert terms(record, None, said.append).promotion == record.spec.promotion
    assert [str(file) in text for text in said] == [True, True]


def test_a_file_run_under_another_name_counts_though_its_record_does_not_tell_so(
    ran: Ran, file: Path, said: list[str]
) -> None:
    """Records of before overrides were kept."""
    record = replace(ran("name=other"), overrides=())
    assert terms(record, None, said.append).promotion == record.spec.promotion
    edit(file, "0.5", "0.99")
    with pytest.raises(RefusedError, match=r"now says 0.99, .* last run with 0.5"):
        terms(record, None, said.append)
    stated = terms(record, file, said.append).promotion
    assert (stated.model, stated.gates.test_accuracy) == ("other", 0.99)


def test_a_file_that_breaks_a_rule_is_refused(ran: Ran, file: Path, said: list[str]) -> None:
    record = ran()
    edit(file, "0.5", "50")
    with pytest.raises(SpecError, match="test_accuracy"):
        terms(record, None, said.append)
