"""Deletes a study's runs, as MLflow deletes: they can be restored until they are purged."""

from tuner.tracking.settings import TrackingSettings, prepare_mlflow_environment


def delete_runs(settings: TrackingSettings, study_uid: str) -> int:
    """Deletes the study's parent run and every run below it; returns how many there were."""
    prepare_mlflow_environment()
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=settings.uri)
    experiment = client.get_experiment_by_name(settings.experiment)
    if experiment is None:
        return 0
    search = [experiment.experiment_id]
    parents = client.search_runs(search, f"tags.`tuner.uid` = '{study_uid}'")
    deleted = 0
    for parent in parents:
        below = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
        while runs := client.search_runs(search, below):
            for run in runs:
                client.delete_run(run.info.run_id)
            deleted += len(runs)
        client.delete_run(parent.info.run_id)
        deleted += 1
    return deleted
