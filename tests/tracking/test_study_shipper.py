"""Spools become the runs they tell of, in a real local store."""

import csv
import io
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.tracking.recorder import START_MS, Recorder, summary
from tests.tracking.store import Store, forget_progress, ship
from tuner.tracking.runs.figures import Figure
from tuner.tracking.settings import TrackingSettings
from tuner.tracking.shipping.study_shipper import StudyShipper
from tuner.tracking.spool.shipped import survey


def test_a_study_becomes_its_runs(recorder: Recorder, local: TrackingSettings) -> None:
    recorder.whole_study()
    assert ship(recorder.folder, local) == 0
    store = Store(local)
    assert store.runs.keys() == {"sweep", "trial 0", "trial 1"}
    assert store.experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    parent, trial, pruned = (store.runs[name] for name in ("sweep", "trial 0", "trial 1"))
    assert {run.info.status for run in store.runs.values()} == {"FINISHED"}
    assert parent.info.start_time == START_MS
    assert parent.info.end_time == START_MS + 99_000
    assert trial.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert trial.data.tags["tuner.version.keras"] == "3.15.1"
    assert (trial.data.tags["tuner.state"], pruned.data.tags["tuner.state"]) == (
        "completed",
        "pruned",
    )
    assert trial.data.params.keys() == pruned.data.params.keys()
    assert trial.data.metrics.keys() == pruned.data.metrics.keys()


def sibling(recorder: Recorder, role: str) -> Recorder:
    """Records a confirmation or refit of a study, with one trial."""
    own = Recorder(recorder.folder.parent / role, f"{recorder.study}-{role}")
    tags = {"tuner.study": recorder.study, "tuner.role": role, "tuner.study_uid": own.study_uid}
    below = {**own.opened().tags, **tags, "tuner.origin_uid": recorder.study_uid}
    own.parent(own.opened().model_copy(update={"tags": below}))
    started = own.started(0, name=f"{role}: point 3", tags=tags)
    own.attempt(0, 0, started, own.epoch(1), own.ended())
    retried = own.started(0, 1, name=f"{role}: point 3", tags=tags)
    own.attempt(0, 1, retried, own.epoch(1), own.ended())
    own.parent(own.progressed(summary(0)), own.closed())
    return own


def test_the_runs_of_a_confirmation_and_a_refit_belong_to_their_study(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.parent(recorder.opened(), recorder.progressed(summary(0)), recorder.closed())
    ship(recorder.folder, local)
    for role in ("confirmation", "refit"):
        own = sibling(recorder, role)
        for _ in range(2):
            ship(own.folder, local)
            forget_progress(own.folder)
    store = Store(local)
    study = store.runs["sweep"]
    assert "mlflow.parentRunId" not in study.data.tags
    for role in ("confirmation", "refit"):
        parent = store.runs[f"sweep-{role}"]
        assert parent.data.tags["mlflow.parentRunId"] == study.info.run_id
        for trial in (f"{role}: point 3", f"{role}: point 3 attempt 1"):
            tags = store.runs[trial].data.tags
            assert tags["mlflow.parentRunId"] == parent.info.run_id
            assert (tags["tuner.study"], tags["tuner.role"]) == ("sweep", role)


def test_a_confirmation_whose_study_has_no_run_is_shipped_all_the_same(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.parent(recorder.opened(), recorder.closed())
    ship(recorder.folder, local)
    client, run = Store(local).client, Store(local).runs["sweep"]
    client.delete_run(run.info.run_id)
    own = sibling(recorder, "confirmation")
    told = own.progressed(summary(0)).model_copy(update={"verdict": ("point 3 is better",)})
    own.parent(told, own.closed())
    assert ship(own.folder, local) == 0
    assert "mlflow.parentRunId" not in Store(local).runs["sweep-confirmation"].data.tags
    assert client.get_run(run.info.run_id).info.lifecycle_stage == "deleted"


NOTE = "mlflow.note.content"


def test_the_run_of_a_study_is_described_until_a_person_describes_it(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.whole_study()
    ship(recorder.folder, local)
    store = Store(local)
    run_id, first = store.runs["sweep"].info.run_id, store.runs["sweep"].data.tags[NOTE]
    assert first.startswith("## Search\n\n**Best in the search:** point 0")
    assert "a run for each study" in store.experiment.tags[NOTE]

    told = recorder.progressed(summary(0), summary(1, value=0.99))
    recorder.parent(told, recorder.closed())
    ship(recorder.folder, local)
    second = Store(local).runs["sweep"].data.tags[NOTE]
    assert "**Best in the search:** point 1" in second

    for typed in ("all mine", second + "\n\nand I say: well done", " "):
        store.client.set_tag(run_id, NOTE, typed)
        recorder.parent(recorder.progressed(summary(1, value=0.5)), recorder.closed())
        ship(recorder.folder, local)
        left = Store(local).runs["sweep"].data.tags[NOTE]
        assert left == typed if typed.strip() else left.startswith("## Search")


def test_a_confirmation_answers_on_the_run_of_its_study_whatever_is_shipped_again(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.whole_study()
    ship(recorder.folder, local)
    own = sibling(recorder, "confirmation")
    told = own.progressed(summary(0)).model_copy(update={"verdict": ("point 3 is better",)})
    own.parent(told, own.closed())
    for each in (own, recorder, own):
        ship(each.folder, local)
        store = Store(local)
        page = store.runs["sweep"].data.tags[NOTE]
        assert page.startswith("## Confirmation\n\n**Answer:** point 3 is better\n\n## Search\n\n")
        assert page.count("**Best in the search:** point 0") == 1
        answer = store.runs["sweep-confirmation"].data.tags[NOTE]
        assert answer == "## Confirmation\n\n**Answer:** point 3 is better"
        forget_progress(each.folder)


def test_an_experiment_that_a_person_has_described_stays_so(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.whole_study()
    ship(recorder.folder, local)
    store = Store(local)
    for typed in ("my theses", ""):
        store.client.set_experiment_tag(store.experiment.experiment_id, NOTE, typed)
        ship(recorder.folder, local)
        assert Store(local).experiment.tags[NOTE] == typed


def test_the_summary_names_the_runs_that_came_to_be_known_after_it_was_told(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.trial(0)
    recorder.trial(1)
    told = [summary(slot).model_copy(update={"uid": recorder.uid(slot)}) for slot in range(2)]
    recorder.parent(recorder.opened(), recorder.progressed(*told), recorder.closed())
    assert ship(recorder.folder, local) == 0
    store = Store(local)
    rows = list(csv.DictReader(io.StringIO(store.text("sweep", "summary.csv"))))
    runs = [store.runs[name].info.run_id for name in ("trial 0", "trial 1")]
    assert [row["run_id"] for row in rows] == runs
    assert [each["run_id"] for each in json.loads(store.text("sweep", "summary.json"))] == runs


def test_curves_carry_the_times_at_which_they_happened(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.whole_study()
    ship(recorder.folder, local)
    store = Store(local)
    times = [(step, at_ms) for step, _, at_ms in store.points("trial 0", "val_accuracy")]
    assert times == [(epoch, START_MS + 1000 * epoch) for epoch in (1, 2, 3)]
    assert store.points("trial 0", "epoch_train_s")[0][1] == 2.0
    assert store.points("trial 0", "system/cpu_utilization_percentage") == [(0, 50.0, START_MS)]
    assert store.points("sweep", "trials_completed") == [(0, 0.0, START_MS), (2, 2.0, START_MS)]


def test_artifacts_and_data_set_are_there(recorder: Recorder, local: TrackingSettings) -> None:
    recorder.whole_study()
    ship(recorder.folder, local)
    store = Store(local)
    assert {"study.yaml", "uncommitted.diff", "summary.csv", "optimization_history.png"} <= (
        store.artifacts("sweep")
    )
    assert store.artifacts("trial 0", "model") == {"model/model.keras"}
    assert store.artifacts("trial 0", "source") == {"source/mine.py"}
    assert store.text("trial 0", "output.log") == "trained\n"
    assert json.loads(store.text("trial 0", "trial.json"))["plan"]["seed"] == 11
    (used,) = store.runs["trial 0"].inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("digits", "d1" * 18)
    assert json.loads(used.dataset.profile)["train_count"] == 100
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "training")]


def test_a_study_that_goes_on_keeps_its_run(recorder: Recorder, local: TrackingSettings) -> None:
    recorder.whole_study()
    ship(recorder.folder, local)
    recorder.parent(recorder.opened(trials="3"))
    ship(recorder.folder, local)
    reopened = Store(local).runs["sweep"]
    assert reopened.info.status == "RUNNING"
    assert reopened.data.params["trials"] == "2"
    assert reopened.data.tags["tuner.changed.trials"] == "3"
    recorder.parent(recorder.progressed(summary(0), summary(1), at_ms=1), recorder.closed())
    ship(recorder.folder, local)
    store = Store(local)
    assert store.runs["sweep"].info.status == "FINISHED"
    assert store.has_one_point_a_step()


def test_a_displaced_model_leaves_its_run(recorder: Recorder, local: TrackingSettings) -> None:
    recorder.parent(recorder.opened())
    recorder.trial(0)
    ship(recorder.folder, local)
    recorder.attempt(0, 0, recorder.displaced())
    ship(recorder.folder, local)
    store = Store(local)
    assert store.artifacts("trial 0", "model") == set()
    assert "tuner.model.sha256" not in store.runs["trial 0"].data.tags


def test_a_model_displaced_before_it_was_shipped_is_never_needed(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.parent(recorder.opened())
    kept = recorder.kept()
    recorder.attempt(0, 0, recorder.started(0), kept, recorder.displaced())
    kept.path.unlink()
    ship(recorder.folder, local)
    assert not {
        key for key in Store(local).runs["trial 0"].data.tags if key.startswith("tuner.model")
    }


def test_a_retry_leads_back_to_the_lost_attempt(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.parent(recorder.opened())
    recorder.attempt(0, 0, recorder.started(0), recorder.epoch(1), recorder.ended("lost"))
    recorder.attempt(0, 1, recorder.started(0, 1), recorder.epoch(1), recorder.epoch(2))
    ship(recorder.folder, local)
    runs = Store(local).runs
    lost, again = runs["trial 0"], runs["trial 0 attempt 1"]
    assert (lost.info.status, again.info.status) == ("KILLED", "RUNNING")
    assert again.data.tags["tuner.predecessor_run_id"] == lost.info.run_id


def test_a_retry_waits_for_the_run_of_the_attempt_before(
    recorder: Recorder, local: TrackingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow drops one call: other slots are shipped, and the retry still names the run before."""
    recorder.parent(recorder.opened())
    recorder.attempt(0, 0, recorder.started(0), recorder.ended("lost"))
    recorder.attempt(0, 1, recorder.started(0, 1), recorder.epoch(1))
    recorder.attempt(1, 0, recorder.started(1), recorder.epoch(1))
    create = MlflowClient.create_run
    dropped: list[object] = []

    def drop_once(client: MlflowClient, *arguments: Any, **named: Any) -> Any:
        if "trial 0" in arguments and not dropped:
            dropped.append(arguments)
            raise ConnectionError("nobody listens")
        return create(client, *arguments, **named)

    monkeypatch.setattr(MlflowClient, "create_run", drop_once)
    with closing(StudyShipper(recorder.folder, local, lambda: True)) as shipper:
        shipper.ship()
        before = set(Store(local).runs)
        shipper.ship()

    runs = Store(local).runs
    assert before == {"sweep", "trial 1"}
    tags = runs["trial 0 attempt 1"].data.tags
    assert tags["tuner.predecessor_run_id"] == runs["trial 0"].info.run_id


def test_a_child_waits_for_its_parent_from_another_machine(
    recorder: Recorder, local: TrackingSettings, tmp_path: Path
) -> None:
    elsewhere = Recorder(tmp_path / "elsewhere")
    recorder.trial(0)
    assert ship(recorder.folder, local) == 7
    elsewhere.parent(elsewhere.opened())
    ship(elsewhere.folder, local)
    assert ship(recorder.folder, local) == 0
    runs = Store(local).runs
    assert runs["trial 0"].data.tags["mlflow.parentRunId"] == runs["sweep"].info.run_id


def trials_drawn(settings: TrackingSettings) -> int:
    return len(json.loads(Store(settings).text("sweep", "optimization_history.json")))


def test_figures_are_drawn_now_and_then_and_at_the_end(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.parent(recorder.opened(), recorder.progressed(summary(0)))
    with closing(StudyShipper(recorder.folder, local, lambda: True)) as shipper:
        shipper.ship()
        assert trials_drawn(local) == 1
        recorder.parent(recorder.progressed(summary(1)))
        assert shipper.ship() == 0
        assert shipper.survey().pending == 1
        recorder.trial(0)
        assert shipper.ship(finishing=True) == 8
        assert shipper.survey().pending == 0
    assert trials_drawn(local) == 2


def test_figures_that_a_killed_shipper_had_not_drawn_are_drawn_by_the_next(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.parent(recorder.opened(), recorder.progressed(summary(0)))
    asked = iter([True, True, True, False])  # the spool, two batches, no figures
    with closing(StudyShipper(recorder.folder, local, lambda: next(asked))) as killed:
        assert killed.ship() == 2
    assert survey(recorder.folder).pending == 1
    with closing(StudyShipper(recorder.folder, local, lambda: True)) as shipper:
        shipper.ship()
    assert survey(recorder.folder).pending == 0
    assert trials_drawn(local) == 1


def test_epochs_wait_for_one_another_until_something_happens(
    recorder: Recorder, local: TrackingSettings
) -> None:
    recorder.parent(recorder.opened())
    recorder.attempt(0, 0, recorder.started(0), recorder.epoch(1))
    with closing(StudyShipper(recorder.folder, local, lambda: True)) as shipper:
        assert shipper.ship() == 3
        recorder.attempt(0, 0, recorder.epoch(2))
        assert shipper.ship() == 0
        recorder.attempt(0, 0, recorder.epoch(3), recorder.ended())
        assert shipper.ship() == 3
        recorder.attempt(0, 0, recorder.kept())
        assert shipper.ship(finishing=True) == 1
    assert [step for step, _, _ in Store(local).points("trial 0", "loss")] == [1, 2, 3]


@pytest.mark.slow
def test_nothing_is_drawn_for_attempts_that_cannot_go_yet(
    recorder: Recorder, local: TrackingSettings
) -> None:
    """They may be thousands, whose figures would be kept, and drawn anew by each shipper."""
    begun: list[Figure] = []

    def begin(figure: Figure) -> Figure:
        begun.append(figure)
        return figure

    for slot in range(20):
        recorder.trial(slot)
    with closing(StudyShipper(recorder.folder, local, lambda: True, begin)) as shipper:
        assert shipper.ship(finishing=True) == 0
        assert len(begun) < 20
        recorder.parent(recorder.opened())
        while shipper.ship(finishing=True):
            pass
    assert len(Store(local).runs) == 21
