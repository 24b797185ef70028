"""The history of a registered model: records of acts, rollback, and acts that were killed."""

import socket
from contextlib import suppress
from pathlib import Path

import pytest

from tests.promotion.conftest import MakeCandidate, Publish
from tuner.account import user
from tuner.errors import ModelError, RefusedError, UsageError
from tuner.home import Home
from tuner.promotion.candidate import Candidate, Grounds
from tuner.promotion.registry import history
from tuner.promotion.registry.history import PastAct, move_alias, read_history, rollback
from tuner.promotion.registry.registered import registered_models
from tuner.promotion.registry.versions import ALIAS, CHALLENGER, aliased_version, champion_version
from tuner.tracking.mlflow.connection import connected
from tuner.tracking.settings import TrackingSettings

WHY = "point 4 is better than the baseline"


@pytest.fixture
def two(make_candidate: MakeCandidate, publish: Publish) -> Candidate:
    """A registered model with two versions; the second is the champion."""
    first = make_candidate()
    grounds = Grounds(study=first.study, point=4, lines=(WHY, "the best single training was lucky"))
    publish(first.model_copy(update={"grounds": grounds}))
    second = make_candidate(number=5)
    publish(second)
    return second


def acts(settings: TrackingSettings, name: str) -> tuple[PastAct, ...]:
    with connected(settings) as client:
        return read_history(client, name).acts


def champion(settings: TrackingSettings, name: str) -> int:
    with connected(settings) as client:
        version = champion_version(client, name)
    assert version is not None
    return int(version.version)


def test_each_promotion_is_one_record(settings: TrackingSettings, two: Candidate) -> None:
    name = two.promotion.model
    first, second = acts(settings, name)
    assert (first.kind, first.version, first.before, first.why) == ("promote", 1, None, WHY)
    assert (second.version, second.before) == (2, 1)
    assert {(act.user, act.host) for act in (first, second)} == {(user(), socket.gethostname())}
    assert first.completed
    assert second.completed
    (model,) = (each for each in registered_models(settings) if each.name == name)
    assert (model.champion, model.previous) == (2, 1)
    assert [each.version for each in model.versions] == [2, 1]
    oldest = model.version(1)
    assert oldest is not None
    assert (oldest.study, oldest.trial, oldest.test_accuracy) == (two.study, "3", 0.9)
    assert oldest.verdict == f"{WHY}; the best single training was lucky"


def test_a_rollback_returns_to_the_champion_before_and_forth(
    settings: TrackingSettings, two: Candidate, tmp_path: Path
) -> None:
    name, home = two.promotion.model, Home(tmp_path)
    act = rollback(settings, name, home, why="worse in the shop")
    assert act is not None
    assert (act.kind, act.version, act.before, act.completed) == ("rollback", 1, 2, True)
    assert champion(settings, name) == 1
    assert acts(settings, name)[-1].why == "worse in the shop"
    assert rollback(settings, name, home, to=1) is None, "it is the champion already"
    rollback(settings, name, home)
    assert champion(settings, name) == 2
    assert [act.version for act in acts(settings, name)] == [1, 2, 1, 2]


@pytest.mark.slow
def test_a_rollback_that_was_killed_is_finished_and_not_turned_back(
    settings: TrackingSettings, two: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, home = two.promotion.model, Home(tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
        patched.setattr(history, "crown", killed)
        rollback(settings, name, home)
    assert champion(settings, name) == 2
    assert [act.completed for act in acts(settings, name)] == [True, True, False]
    rollback(settings, name, home)
    assert champion(settings, name) == 1
    assert [act.completed for act in acts(settings, name)] == [True, True, True]


def test_a_promotion_that_was_killed_at_its_alias_is_recorded_once(
    settings: TrackingSettings, two: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = two.promotion.model

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with connected(settings) as client:
        first = client.get_model_version(name, "1")
        with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
            patched.setattr(history, "crown", killed)
            move_alias(client, first, "promote", WHY)
        move_alias(client, first, "promote", WHY)
    assert [act.version for act in acts(settings, name)] == [1, 2, 1]


@pytest.mark.slow
def test_a_damaged_record_is_left_out_and_holds_nothing_up(
    settings: TrackingSettings, two: Candidate, tmp_path: Path
) -> None:
    name = two.promotion.model
    with connected(settings) as client:
        client.set_registered_model_tag(name, "tuner.act.0.damaged", "{")
        found = read_history(client, name)
    assert found.unreadable == ("tuner.act.0.damaged",)
    assert [act.version for act in found.acts] == [1, 2]
    assert rollback(settings, name, Home(tmp_path)) is not None


@pytest.mark.slow
def test_records_of_a_clock_that_is_ahead_stay_in_order(
    settings: TrackingSettings, two: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, home = two.promotion.model, Home(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(history, "now_ms", lambda: 10**13 - 1000)
        rollback(settings, name, home)
    rollback(settings, name, home)
    assert [act.version for act in acts(settings, name)] == [1, 2, 1, 2]
    assert all(act.completed for act in acts(settings, name))


@pytest.mark.slow
def test_the_way_back_is_known_where_a_promotion_was_killed_between_its_aliases(
    settings: TrackingSettings, two: Candidate, tmp_path: Path
) -> None:
    name = two.promotion.model
    with connected(settings) as client:
        client.set_registered_model_alias(name, "previous", "2")
    act = rollback(settings, name, Home(tmp_path))
    assert act is not None
    assert (act.version, act.before) == (1, 2)


def test_a_challenger_stands_beside_the_champion(
    settings: TrackingSettings, two: Candidate
) -> None:
    name = two.promotion.model
    with connected(settings) as client:
        move_alias(client, client.get_model_version(name, "1"), "promote", WHY, CHALLENGER)
        assert aliased_version(client, name, CHALLENGER) is not None
    assert champion(settings, name) == 2
    last = acts(settings, name)[-1]
    assert (last.alias, last.version, last.before, last.completed) == ("challenger", 1, None, True)
    assert all(act.completed for act in acts(settings, name))
    (model,) = (each for each in registered_models(settings) if each.name == name)
    assert (model.champion, model.challenger) == (2, 1)


def test_an_alias_that_was_moved_by_hand_is_told_apart_from_an_act_that_was_killed(
    settings: TrackingSettings, two: Candidate
) -> None:
    name = two.promotion.model
    with connected(settings) as client:
        assert read_history(client, name).moved == ()
        source = client.get_model_version(name, "1").source
        by_hand = client.create_model_version(name, source, run_id=two.run_id)
        client.set_registered_model_alias(name, ALIAS, by_hand.version)

        found = read_history(client, name)

    assert found.moved == (ALIAS,)
    assert all(act.completed for act in found.acts)


@pytest.mark.slow
def test_a_tag_that_was_changed_by_hand_hides_no_version(
    settings: TrackingSettings, two: Candidate
) -> None:
    name = two.promotion.model
    with connected(settings) as client:
        client.set_model_version_tag(name, "1", "tuner.test_accuracy", "very good")
    (model,) = (each for each in registered_models(settings) if each.name == name)
    newest, oldest = model.versions
    assert (oldest.test_accuracy, oldest.unreadable) == (None, ("tuner.test_accuracy",))
    assert (newest.test_accuracy, newest.unreadable) == (0.9, ())


def test_no_store_is_made_to_see_that_nothing_is_registered(tmp_path: Path) -> None:
    assert registered_models(TrackingSettings.from_environment(tmp_path, {})) == []
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_rolled_back_is_refused(
    settings: TrackingSettings, make_candidate: MakeCandidate, publish: Publish, tmp_path: Path
) -> None:
    only, home = make_candidate(), Home(tmp_path)
    name = only.promotion.model
    for unknown in (lambda: rollback(settings, name, home), lambda: acts(settings, name)):
        with pytest.raises(UsageError, match="no registered model is called"):
            unknown()
    with connected(settings) as client:
        client.create_registered_model(name)
    with pytest.raises(RefusedError, match="nothing promoted yet"):
        rollback(settings, name, home)
    publish(only)
    with pytest.raises(RefusedError, match="there was no champion before version 1"):
        rollback(settings, name, home)
    with pytest.raises(UsageError, match="has no version 7"):
        rollback(settings, name, home, to=7)
    with connected(settings) as client:
        source = client.get_model_version(name, "1").source
        client.create_model_version(name, source, run_id=only.run_id)
    with pytest.raises(ModelError, match="was not registered by `tuner promote`"):
        rollback(settings, name, home, to=2)
    assert champion(settings, name) == 1
